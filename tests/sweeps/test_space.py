"""Narrowed ranges: what a study writes is what the search gets, and it reads back."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from sweeps.errors import StudyError
from sweeps.space import from_json, narrowed, to_json

OWN = {
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "dropout": FloatDistribution(0.0, 0.5),
    "dim": CategoricalDistribution([32, 64]),
    "depth": IntDistribution(1, 8, step=1),
}


def test_without_a_wish_the_models_own_space_holds():
    assert narrowed(OWN, None, "space") == OWN


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({"rate": {}}, OWN["rate"]),
        ({"rate": {"low": 1e-3, "high": 1e-2}}, FloatDistribution(1e-3, 1e-2, log=True)),
        (
            {"rate": {"low": 0.0, "high": 0.1, "log": False}},
            FloatDistribution(0.0, 0.1),
        ),
        ({"dropout": {"low": 0, "high": 1}}, FloatDistribution(0.0, 1.0)),
        ({"dropout": {"low": 0.0, "high": 0.4, "step": 0.1}}, FloatDistribution(0, 0.4, step=0.1)),
        ({"depth": {"low": 2, "high": 4}}, IntDistribution(2, 4)),
        ({"dim": {"choices": [8, 16]}}, CategoricalDistribution([8, 16])),
        ({"dim": {"low": 8, "high": 64}}, IntDistribution(8, 64)),
        ({"new": {"low": 1, "high": 3}}, IntDistribution(1, 3)),
        ({"new": {"low": 1.0, "high": 3.0}}, FloatDistribution(1.0, 3.0)),
    ],
    ids=str,
)
def test_a_wish_narrows_a_dimension_and_leaves_out_the_others(wish, expected):
    assert narrowed(OWN, wish, "space") == {next(iter(wish)): expected}


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"new": {}},
        {"rate": {"low": 1.0, "high": 0.1}},
        {"rate": {"low": 0.0, "high": 0.1}},  # a logarithmic range cannot start at 0
        {"rate": {"from": 0.1}},
        {"dim": {"choices": []}},
        {"dim": {"choices": 3}},
        {"dim": {"choices": [1], "low": 1}},
    ],
    ids=str,
)
def test_a_malformed_range_is_refused_with_its_field(wish):
    with pytest.raises(StudyError, match=r"field searches\.0\.space"):
        narrowed(OWN, wish, "searches.0.space")


def test_a_space_reads_back_from_what_study_json_holds():
    assert from_json(to_json(OWN)) == OWN
    assert list(from_json(to_json(OWN))) == list(OWN)
