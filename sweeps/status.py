"""`medsweep status`: what a results directory holds, and what is missing."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sweeps.store import ResultsStore


@dataclass(frozen=True)
class ArmStatus:
    """An arm's trials by state."""

    name: str
    title: str
    stored: int
    running: int
    failed: int
    missing: int
    damaged: int


@dataclass(frozen=True)
class SearchStatus:
    """A search's trials by state."""

    name: str
    asked: int
    states: dict[str, int]


@dataclass(frozen=True)
class StudyStatus:
    """The whole study."""

    name: str
    arms: tuple[ArmStatus, ...]
    searches: tuple[SearchStatus, ...]
    failures: dict[str, str]

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        arms = all(arm.missing + arm.failed + arm.running + arm.damaged == 0 for arm in self.arms)
        ended = (sum(s.states.values()) - s.states.get("running", 0) for s in self.searches)
        return arms and all(n >= s.asked for n, s in zip(ended, self.searches, strict=True))


def study_status(root: Path) -> StudyStatus:
    """Returns the state of every arm and search.

    Raises:
        StoreError: the directory holds no study.
    """
    store = ResultsStore(root)
    record = store.study()
    stored, failures = set(store.trial_keys()), store.failures()
    running = {path.parent.name for path in (root / "running").glob("*/checkpoint.safetensors")}
    arms = []
    for arm in record.arms:
        if arm.is_waiting:
            waiting = len(record.seeds) if arm.seeded else 1
            arms.append(ArmStatus(arm.name, arm.title, 0, 0, 0, waiting, 0))
            continue
        states = Counter(
            "damaged" if key in stored and not store.intact(key)
            else "stored" if key in stored
            else "failed" if key in failures
            else "running" if key in running
            else "missing"
            for key in arm.trials.values()
        )  # fmt: skip
        arms.append(
            ArmStatus(
                arm.name,
                arm.title,
                *(states[s] for s in ("stored", "running", "failed", "missing", "damaged")),
            )
        )
    searches = []
    for search in record.searches:
        records = store.search_records(search.name)
        states = Counter(str(r.get("state")) for r in records)
        searches.append(SearchStatus(search.name, search.trials, dict(sorted(states.items()))))
    wanted = {key for arm in record.arms for key in arm.trials.values()}
    reasons = {k: str(v.get("reason")) for k, v in failures.items() if k in wanted - stored}
    return StudyStatus(record.name, tuple(arms), tuple(searches), reasons)
