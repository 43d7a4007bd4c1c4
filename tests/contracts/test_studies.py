"""What every shipped study promises."""

import pytest
import yaml

from medrec import plugins
from medrec.light import model_facts
from sweeps.cohorts import study_data
from sweeps.plan import Plan, make_plan
from sweeps.study import SHIPPED, Study, load_study, shipped
from sweeps.tasks import for_task, task_of


@pytest.fixture(scope="module", params=shipped())
def study(request) -> Study:
    """The study at its small scale, where it has one: its arms are the same, its cohort quick."""
    small = "small" in load_study(request.param).scales
    return load_study(request.param, ("scale=small",) if small else ())


@pytest.fixture(scope="module")
def plan(study, tmp_path_factory) -> Plan:
    return make_plan(study, study_data(study, tmp_path_factory.mktemp("out")))


def test_every_scale_is_a_valid_study(study):
    for scale in study.scales:
        assert load_study(study.name, (f"scale={scale}",)).scale == scale


def test_there_is_a_study_to_start_from():
    assert "demo" in shipped()


def test_it_is_named_as_its_file_and_asks_a_question(study):
    assert study.name in shipped()
    assert study.question.strip().endswith("?")


def test_it_plans(study, plan):
    assert len(plan.record.arms) >= len(study.arms)
    assert plan.trials
    assert {key for arm in plan.record.arms for key in arm.trials.values()} == set(plan.trials)
    assert all(spec.key == key for key, spec in plan.trials.items())


def test_every_arm_has_the_same_protocol_data_and_seeds(study, plan):
    protocol = for_task(study, task_of(study)).protocol
    for spec in plan.trials.values():
        assert spec.protocol == protocol
        assert spec.cohort.fingerprint == plan.record.cohort.fingerprint
    for arm in plan.record.arms:
        if arm.is_waiting:
            assert arm.tuned_by in {search.name for search in plan.record.searches}
            continue
        assert list(arm.trials) == [str(s) for s in study.seeds[: None if arm.seeded else 1]]


def test_its_settings_are_complete(plan):
    for spec in plan.trials.values():
        assert set(spec.config) == set(model_facts(spec.model).config.model_fields)


def test_its_tables_exist(plan):
    assert set(plan.record.tables) <= set(plugins.names("sweeps.tables"))


def test_its_file_needs_no_field_twice(study):
    text = (SHIPPED / f"{study.name}.yaml").read_text()
    top = [line.split(":")[0] for line in text.splitlines() if line[:1].isalpha()]
    assert len(top) == len(set(top)) == len(yaml.safe_load(text))
