"""What every search space promises; and the helpers that spaces are made of."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from medrec import plugins
from medrec.light import ModelFacts, model_facts
from search_spaces._base import contains, extremes

NAMES = plugins.names("search_spaces")


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture
def facts(name) -> ModelFacts:
    return model_facts(name)


def defaults(facts: ModelFacts) -> dict:
    loop = {f"training.{k}": v for k, v in facts.training.model_dump().items()}
    return {**facts.config().model_dump(), **loop}


def test_every_file_belongs_to_a_model(name):
    assert name in plugins.models()


def test_every_dimension_is_a_setting_whose_default_lies_in_its_range(name, facts):
    own = defaults(facts)
    for dimension, distribution in plugins.load("search_spaces", name, "SPACE").items():
        assert dimension in own
        assert contains(distribution, own[dimension]), (dimension, own[dimension], distribution)


def test_both_ends_of_every_range_are_settings_the_model_accepts(name, facts):
    for dimension, distribution in plugins.load("search_spaces", name, "SPACE").items():
        assert len(extremes(distribution)) >= 2
        for value in extremes(distribution):
            loop = dimension.startswith("training.")
            kind = type(facts.training) if loop else facts.config
            field = dimension.removeprefix("training.")
            assert getattr(kind(**{field: value}), field) == value


def test_every_ablation_is_a_valid_change_with_a_title_of_its_own(name, facts):
    ablations = plugins.load("search_spaces", name, "ABLATIONS")
    full = facts.config().model_dump()
    made = []
    for ablation in ablations.values():
        assert ablation.changes
        changed = facts.config(**ablation.changes).model_dump()
        assert {k for k in full if full[k] != changed[k]} >= set(ablation.changes)
        made.append(tuple(sorted(changed.items())))
    assert len(set(made)) == len(made)  # no two ablations are one
    assert len({a.title for a in ablations.values()}) == len(ablations)


@pytest.mark.parametrize(
    ("distribution", "value", "expected"),
    [
        (FloatDistribution(0.1, 0.5), 0.1, True),
        (FloatDistribution(0.1, 0.5), 0.5, True),
        (FloatDistribution(0.1, 0.5), 0.51, False),
        (FloatDistribution(0.1, 0.5), None, False),
        (FloatDistribution(0.1, 0.5), "0.3", False),
        (IntDistribution(1, 3), 2, True),
        (IntDistribution(1, 3), 2.5, False),
        (IntDistribution(1, 3), 4, False),
        (CategoricalDistribution(["sum", "mean"]), "mean", True),
        (CategoricalDistribution(["sum", "mean"]), "max", False),
        (CategoricalDistribution([None, 1.0]), None, True),
    ],
)
def test_whether_a_range_holds_a_value(distribution, value, expected):
    assert contains(distribution, value) is expected
