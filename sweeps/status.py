"""`medsweep status`: what a results directory holds, what is missing, and what its driver does."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from sweeps.budgets import Spent, spent, told
from sweeps.record import Arm, SearchPlan
from sweeps.session_notes import SessionNote, live, sessions
from sweeps.store import ResultsStore

_STATES = ("stored", "running", "failed", "missing", "damaged")


@dataclass(frozen=True)
class ArmStatus:
    """An arm's trials by state; a running one has begun and is not stored."""

    name: str
    title: str
    stored: int
    running: int
    failed: int
    missing: int
    damaged: int


@dataclass(frozen=True)
class SearchStatus:
    """A search's trials by state, and why those failed that did, by number."""

    name: str
    asked: int
    states: dict[str, int]
    failures: dict[int, str]


@dataclass(frozen=True)
class DriverStatus:
    """The last driver: whether it lives, and what it told last.

    Attributes:
        live: whether it works now.
        drivers: how many worked on the study so far, this one included.
        note: what it told last.
    """

    live: bool
    drivers: int
    note: SessionNote


@dataclass(frozen=True)
class StudyStatus:
    """The whole study.

    Attributes:
        failures: reason of each trial of an arm that failed and is not stored, by key.
        driver: the last one; None where none has left a note.
        spent: over all drivers; None where none has left a note.
    """

    name: str
    arms: tuple[ArmStatus, ...]
    searches: tuple[SearchStatus, ...]
    failures: dict[str, str]
    driver: DriverStatus | None
    spent: Spent | None

    @property
    def complete(self) -> bool:
        """Whether nothing is left to run; a search's failed trials are not tried again."""
        arms = all(arm.missing + arm.failed + arm.running + arm.damaged == 0 for arm in self.arms)
        ended = (sum(s.states.values()) - s.states.get("running", 0) for s in self.searches)
        return arms and all(n >= s.asked for n, s in zip(ended, self.searches, strict=True))

    @property
    def verdict(self) -> str:
        """What to say last: whether the study is complete, and what of it failed."""
        if not self.complete:
            working = self.driver is not None and self.driver.live
            return "incomplete: a driver works on it" if working else (
                "incomplete: run the same study again"
            )  # fmt: skip
        failed = [
            f"{count} failed trial{'s' * (count > 1)} of search {search.name}"
            for search in self.searches
            if (count := search.states.get("failed", 0))
        ]
        return f"complete, but for {', '.join(failed)}" if failed else "complete"

    @property
    def limits(self) -> str:
        """What is spent of each limit of the study's budget; empty where it has none."""
        if self.driver is None or self.spent is None:
            return ""
        return told(self.driver.note.budget, self.spent)


def study_status(root: Path | str, earlier: StudyStatus | None = None) -> StudyStatus:
    """Returns the state of every arm and search, and of the last driver.

    Args:
        root: the results directory.
        earlier: what was returned before, by which a driver with a wrong clock is seen to live.

    Raises:
        StoreError: the directory holds no study.
    """
    store = ResultsStore(root)
    record = store.study()
    whole = store.scan()
    notes = sessions(store)
    driver = _driver(notes, earlier.driver if earlier else None)
    running = store.begun()
    if driver and driver.live:
        running |= {trial.key for trial in driver.note.running}
    failures = store.failures()
    wanted = {key for arm in record.arms for key in arm.trials.values()}
    return StudyStatus(
        record.name,
        tuple(_arm(arm, len(record.seeds), whole, failures, running) for arm in record.arms),
        tuple(_search(store, search) for search in record.searches),
        {k: str(v.get("reason")) for k, v in failures.items() if k in wanted - whole.keys()},
        driver,
        spent(store, whole) if notes else None,
    )


def _arm(
    arm: Arm,
    seeds: int,
    whole: Mapping[str, bool],
    failures: Collection[str],
    running: Collection[str],
) -> ArmStatus:
    if arm.is_waiting:
        return ArmStatus(arm.name, arm.title, 0, 0, 0, seeds if arm.seeded else 1, 0)
    states = Counter(
        ("stored" if whole[key] else "damaged") if key in whole
        else "failed" if key in failures
        else "running" if key in running
        else "missing"
        for key in arm.trials.values()
    )  # fmt: skip
    return ArmStatus(arm.name, arm.title, *(states[state] for state in _STATES))


def _search(store: ResultsStore, search: SearchPlan) -> SearchStatus:
    records = store.search_records(search.name)
    states = Counter(str(record["state"]) for record in records)
    failures = {
        int(record["number"]): str(record.get("reason") or "no reason was recorded")
        for record in records
        if record["state"] == "failed"
    }
    return SearchStatus(search.name, search.trials, dict(sorted(states.items())), failures)


def _driver(notes: list[SessionNote], earlier: DriverStatus | None) -> DriverStatus | None:
    if not notes:
        return None
    alive = live(notes[-1], earlier.note if earlier else None)
    return DriverStatus(alive, len(notes), notes[-1])
