"""What a comparison of models has by default, and what its tables say of models that differ."""

import pytest

from sweeps.errors import StudyError
from sweeps.plan import make_plan
from sweeps.regenerate import build_tables
from sweeps.statistics.results import gather
from sweeps.store import ResultsStore
from sweeps.study import CONTROLS, Study
from sweeps.tables._render import to_latex, to_markdown
from tests.sweeps import tiny
from tests.sweeps.fabricate import fabricate


def planned(models, **changes):
    arms = [{"model": model} for model in models]
    content = {**tiny.STUDY, "arms": arms, "reference": models[-1], **changes}
    return make_plan(Study.model_validate(content), tiny.data()).record


# ------------------------------------------------------------------ controls


def test_controls_stand_in_a_comparison_without_being_asked_for():
    record = planned(["gamenet", "safedrug"])
    assert [arm.name for arm in record.arms] == [*CONTROLS, "gamenet", "safedrug"]


def test_a_control_that_is_an_arm_is_not_added_again():
    record = planned(["knn", "gamenet", "safedrug"])
    assert [arm.name for arm in record.arms].count("knn") == 1
    assert {arm.model for arm in record.arms} == {*CONTROLS, "gamenet", "safedrug"}


def test_a_study_of_one_model_is_no_comparison():
    assert [arm.name for arm in planned(["gamenet"]).arms] == ["gamenet"]
    assert [arm.name for arm in planned(["knn", "gamenet"]).arms] == ["knn", "gamenet"]


def test_a_study_may_choose_its_controls():
    assert [a.name for a in planned(["gamenet", "safedrug"], controls=[]).arms] == [
        "gamenet",
        "safedrug",
    ]
    assert planned(["gamenet"], controls=["nearest"]).arms[0].model == "nearest"


# ------------------------------------------------------------------ one search for all


def test_entries_without_a_search_of_their_own_take_the_studys():
    arms = [
        {"model": "gamenet", "settings": "retuned"},
        {"model": "safedrug", "settings": "retuned", "tuning": {"trials": 7}},
        {"model": "retain"},
    ]
    record = planned(["retain"], arms=arms, tuning={"trials": 3}, controls=[])
    assert {plan.model: plan.trials for plan in record.searches} == {"gamenet": 3, "safedrug": 7}
    assert [arm.tuned_by for arm in record.arms] == ["retune-gamenet", "retune-safedrug", None]


@pytest.mark.parametrize(
    ("arm", "epochs"),
    [
        ({"model": "gbert", "config": {"round_epochs": 4}}, 4),
        ({"model": "leap", "config": {"fine_tuning": "reinforce", "fine_tune_from": 4}}, 4),
    ],
)
def test_a_trial_too_short_for_its_own_settings_is_refused(arm, epochs):
    changes = {"arms": [arm], "controls": []}
    with pytest.raises(StudyError, match=rf"trained for {epochs} epochs, but .* 4 epochs"):
        planned([arm["model"]], **changes, training={"epochs": epochs})
    assert planned([arm["model"]], **changes, training={"epochs": epochs + 1})


def test_a_control_named_twice_is_refused_as_such():
    with pytest.raises(StudyError, match=r"field controls: .*knn"):
        planned(["gamenet"], controls=["knn", "knn"])


def test_a_model_with_nothing_to_search_cannot_be_tuned():
    arms = [{"model": "most_popular", "settings": "retuned"}]
    with pytest.raises(StudyError, match=r"nothing to search.*Leave out"):
        planned(["most_popular"], arms=arms, tuning={"trials": 2}, controls=[])


# ------------------------------------------------------------------ what tables say


def test_the_record_says_what_a_model_does_not_do():
    arms = [
        {"model": "gbert", "config": {"variant": "released", "round_epochs": 1}, "name": "leaking"}
    ]
    arms += [{"model": model} for model in ("leap", "retain", "gamenet")]
    record = planned(["gamenet"], arms=arms, controls=[])
    assert [arm.title[-1] == "§" for arm in record.arms] == [True, False, False, False]
    told = {a.name: (bool(a.first_visit), a.comparable_scores, bool(a.leak)) for a in record.arms}
    assert told == {
        "leaking": (True, True, True),
        "leap": (False, False, False),
        "retain": (True, True, False),
        "gamenet": (False, True, False),
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results in which one arm writes sequences and another predicts no first visit."""
    root = tmp_path_factory.mktemp("marked")
    record = fabricate(root)
    changes = {
        "gamenet": {"comparable_scores": False},
        "full": {"first_visit": "the most popular drugs"},
        "no_graph": {"leak": "the target", "title": "Full model without graph §"},
    }
    arms = tuple(arm.model_copy(update=changes.get(arm.name, {})) for arm in record.arms)
    tune, pareto = record.searches
    tune = tune.model_copy(update={"objectives": ("prauc",), "comparable_scores": False})
    store = ResultsStore(root)
    store.write_study(record.model_copy(update={"arms": arms, "searches": (tune, pareto)}))
    return gather(store)


@pytest.fixture(scope="module")
def tables(results):
    return {table.name: table for group in build_tables(results).values() for table in group}


def row_of(text, title):
    return next(line for line in text.splitlines() if line.startswith(f"| {title}"))


def test_prauc_of_a_sequence_decoder_is_marked_wherever_it_is_printed(tables):
    for name, marks in {"baselines": 1, "baselines_transitions": 1, "legacy": 2}.items():
        text = to_markdown(tables[name])
        assert row_of(text, "GAMENet").count("‡") == marks, name
        assert row_of(text, "Most popular").count("‡") == 0
        assert "‡ Not comparable" in text
    # A difference is no more comparable than what it is taken from.
    assert row_of(to_markdown(tables["exploratory"]), "GAMENet").count("‡") == 1
    assert "0.5000‡" in to_markdown(tables["search"])


def test_a_table_without_such_a_number_says_nothing_of_it(tables):
    assert "‡" not in to_markdown(tables["ablation_full"])


def test_unpredicted_first_visits_are_marked_where_there_are_first_visits(tables):
    text = to_markdown(tables["baselines"])
    assert row_of(text, "Full model (reference) ◊")
    assert "Full model: the most popular drugs" in text
    assert "compare over transitions only" in text
    assert "◊" not in to_markdown(tables["baselines_transitions"])


def test_a_leak_is_marked_and_told(tables):
    text = to_markdown(tables["ablation_full"])
    assert "Full model without graph §" in text
    assert "Full model without graph §: the target" in text


def test_a_leak_has_no_verdict(results, tables):
    assert results.verdict("no_ddi") is not None
    assert results.verdict("no_graph") is None
    row = row_of(to_markdown(tables["verdicts"]), "Full model without graph §")
    assert "none: it reads its target" in row
    assert "▲" not in row
    assert "▼" not in row


def test_marks_have_a_letter_in_latex(tables):
    assert r"\textdaggerdbl{}" in to_latex(tables["baselines"])
    assert r"$\diamond$" in to_latex(tables["baselines"])
