"""Whatever a study file or `--set` holds, the answer is a plan or a message; never a traceback."""

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medrec.errors import MedrecError
from sweeps.errors import SweepError
from sweeps.plan import make_plan
from sweeps.study import load_study
from tests.sweeps import tiny

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**12),
    st.floats(allow_nan=True),
    st.sampled_from(["", "gamenet", "all", "../x", "jaccard", "no_memory", "training.epochs"]),
    st.text(max_size=5),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["model", "low", "high", "choices", "log", "dim", "name", "x"]),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=5,
)
FULL = {**tiny.STUDY, "searches": [{**tiny.SEARCH, "early_stopping": {}}]}
PLACES = [
    "name", "question", "seeds", "seeds.0", "protocol", "protocol.threshold", "knowledge",
    "training", "training.epochs", "resources", "arms", "arms.0", "arms.1.model", "arms.1.config",
    "arms.1.config.dim", "arms.1.ablations", "arms.1.title", "arms.1.training", "reference",
    "searches", "searches.0", "searches.0.model", "searches.0.objective", "searches.0.trials",
    "searches.0.space", "searches.0.space.dropout", "searches.0.space.dropout.low",
    "searches.0.space.dim.choices", "searches.0.space.training.clip_norm",
    "searches.0.early_stopping", "searches.0.ddi_ceiling", "tables", "resamples", "unknown",
]  # fmt: skip
MODEST = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def plan_or_message(path, *changes: str) -> None:
    try:
        make_plan(load_study(str(path), changes), tiny.data())
    except (SweepError, MedrecError) as error:
        assert len(str(error)) > 10  # noqa: PT017  either outcome is right


@MODEST
@given(place=st.sampled_from(PLACES), value=VALUES)
def test_any_value_in_any_field_is_a_plan_or_a_message(tmp_path, place, value):
    path = tiny.write_study(tmp_path, **FULL)
    plan_or_message(path, f"{place}={yaml.safe_dump(value, default_flow_style=True)}")


@MODEST
@given(setting=st.one_of(st.text(max_size=20), st.sampled_from(PLACES).map(lambda p: p + "=[")))
def test_any_setting_is_a_plan_or_a_message(tmp_path, setting):
    plan_or_message(tiny.write_study(tmp_path, **FULL), setting)


@MODEST
@given(content=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_any_file_is_a_plan_or_a_message(tmp_path, content):
    path = tmp_path / "study.yaml"
    path.write_bytes(content)
    plan_or_message(path)
