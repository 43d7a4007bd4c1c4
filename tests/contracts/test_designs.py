"""What every kind of design promises."""

import pytest

from medrec import plugins
from sweeps.designs._base import DesignKind, DesignRequest
from sweeps.errors import StudyError
from sweeps.study import parse

KNOWN = ("e", "d", "c", "b", "a", "unused")
# Of each kind: its fields, and how parts are named in them.
SAMPLES = {
    "add_one_in": {"parts": ["a", "b", "c"]},
    "cumulative": {"order": ["c", "a", "b"]},
    "factorial": {"parts": ["a", "b", "c"]},
    "fractional_factorial": {"parts": ["a", "b", "c", "d", "e"]},
    "groups": {"groups": {"two": ["a", "b"], "one": ["c"]}},
    "leave_one_out": {"parts": ["a", "b"]},
    "pairwise": {"parts": ["a", "b", "c"]},
}
NAMES = plugins.names("sweeps.designs")


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture
def kind(name) -> DesignKind:
    return plugins.load("sweeps.designs", name, "DESIGN")


def laid_out(kind, name, content):
    request = parse(kind.request, {"kind": name, **content}, "study", "arms.0.designs.0")
    return kind.lay_out(request, KNOWN, "arms.0.designs.0")


def renamed(content, old, new):
    if isinstance(content, dict):
        return {key: renamed(value, old, new) for key, value in content.items()}
    return [new if part == old else part for part in content]


def test_it_is_tested_here(name):
    assert name in SAMPLES


def test_it_has_a_title_and_fields_with_a_meaning(kind):
    assert kind.title[0].isupper()
    assert issubclass(kind.request, DesignRequest)
    own = set(kind.request.model_fields) - {"kind", "name"}
    assert own
    assert all(kind.request.model_fields[field].description for field in own)


def test_its_runs_are_distinct_and_change_its_factors_alone(kind, name):
    layout = laid_out(kind, name, SAMPLES[name])
    cells = [run.parts for run in layout.runs]
    assert cells
    assert len(set(cells)) == len(cells)
    assert all(cells)  # the full model is an arm of every design, and asked for by none
    assert set().union(*cells) == set(layout.factors) <= set(KNOWN) - {"unused"}
    assert len(set(layout.factors)) == len(layout.factors)


def test_laying_it_out_twice_gives_the_same(kind, name):
    assert laid_out(kind, name, SAMPLES[name]) == laid_out(kind, name, SAMPLES[name])


def test_an_unknown_part_is_named_with_the_nearest_one(kind, name):
    content = renamed(SAMPLES[name], "a", "unusedd")
    with pytest.raises(StudyError, match=r"arms\.0\.designs\.0\.\w+.*'unusedd'.*mean 'unused'"):
        laid_out(kind, name, content)


def test_a_part_given_twice_is_refused(kind, name):
    content = renamed(SAMPLES[name], "b", "a")
    with pytest.raises(StudyError, match=r"arms\.0\.designs\.0\.\w+.*must be distinct"):
        laid_out(kind, name, content)


def test_an_unknown_field_is_refused(kind, name):
    with pytest.raises(StudyError, match=r"designs\.0\.partz"):
        laid_out(kind, name, {**SAMPLES[name], "partz": ["a"]})
