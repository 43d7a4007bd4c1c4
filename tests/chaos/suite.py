"""All scenarios, and running one of them."""

import importlib
import traceback
from collections.abc import Callable
from pathlib import Path

from medrec import plugins
from tests.chaos.bench import Bench
from tests.chaos.outcome import Outcome, Scenario, Unavailable

_ORDER = (
    "trial_killed", "node_lost", "rank_killed", "driver_killed", "head_killed", "notice",
    "bad_trials", "full_disks", "object_store", "damage", "clocks", "twice",
)  # fmt: skip


def _all() -> list[Scenario]:
    package = "tests.chaos.scenarios"
    there = plugins.names(package)
    modules = [name for name in _ORDER if name in there]
    modules += [name for name in there if name not in _ORDER]
    return [s for name in modules for s in importlib.import_module(f"{package}.{name}").SCENARIOS]


SCENARIOS = _all()


def run_scenario(
    scenario: Scenario,
    folder: Path,
    tries: int,
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Runs a scenario; whatever goes wrong in it counts as a fault of it.

    Args:
        scenario: the failure.
        folder: for its files; undisturbed studies in it are shared with other scenarios.
        tries: how often the failure is brought about.
        seed: of moments and choices.
        tell: takes a line of progress.
    """
    place = folder / scenario.name
    with Bench(place, tries, seed, tell, undisturbed=folder / "undisturbed") as bench:
        try:
            scenario.run(bench)
        except Unavailable as reason:
            bench.outcome.skipped = str(reason)
        except Exception:  # the other scenarios go on
            bench.outcome.broken.append(traceback.format_exc(limit=-3))
        else:
            enough = bench.outcome.tries >= tries
            bench.outcome.promise(enough, f"{bench.outcome.tries} of {tries} tries came about")
    return bench.outcome
