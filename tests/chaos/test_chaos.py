"""Every failure in its short form: few tries, real processes, real signals.

Those of the gate take a minute each at most; the others, and many tries, are for `make chaos`.
"""

import pytest

from tests.chaos.suite import SCENARIOS, run_scenario

pytestmark = pytest.mark.chaos
GATE = {"trial-killed"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("chaos")  # undisturbed studies in it are shared


def test_the_gate_knows_its_scenarios():
    assert {scenario.name for scenario in SCENARIOS} >= GATE


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(s, id=s.name, marks=[] if s.name in GATE else pytest.mark.slow)
        for s in SCENARIOS
    ],
)
def test_nothing_is_lost_doubled_or_leaked(scenario, folder):
    tries = 1 if scenario.name in GATE else scenario.short
    outcome = run_scenario(scenario, folder, tries, seed=1)
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    assert outcome.faults == []
    assert outcome.tries >= tries
