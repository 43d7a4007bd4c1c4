"""Every failure in its short form: few tries, real processes, real signals.

At length, with a table and a figure: `make chaos`.
"""

import pytest

from tests.chaos.suite import SCENARIOS, run_scenario

pytestmark = [pytest.mark.slow, pytest.mark.chaos]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("chaos")  # undisturbed studies in it are shared


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_nothing_is_lost_doubled_or_leaked(scenario, folder):
    outcome = run_scenario(scenario, folder, scenario.short, seed=1)
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    assert outcome.faults == []
    assert outcome.tries >= scenario.short
