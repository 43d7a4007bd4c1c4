"""What a plan will do to a results directory and cost, told before it starts.

The hash of a plan covers what decides its results: the trials by arm and seed, the searches and
the protocol; neither titles, places and resources, nor tables and how they are computed.
"""

import hashlib
import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from medrec.spec import TrialSpec
from sweeps.errors import DamagedTrialError, StoreError
from sweeps.plan import Plan
from sweeps.provenance import code_digest, trial_seconds
from sweeps.record import Arm, SearchPlan
from sweeps.store import ResultsStore

Source = Literal["stored", "rehearsed"]
_ABSENT = "absent"


@dataclass(frozen=True)
class ArmDiff:
    """What becomes of an arm's trials, by key; every trial is in one of the first three.

    Attributes:
        name: of the arm.
        cached: stored; not run again.
        new: to be run; neither stored nor taking the place of a stored one.
        changed: to be run; the arm has a stored trial of this seed with other settings.
        settings: how these differ, a line each: `training.epochs: 2 → 1`.
        other_code: of the cached ones, those made by other code than there is now.
        seconds: estimate for one trial; None where nothing is known.
        source: where the estimate is from.
    """

    name: str
    cached: tuple[str, ...]
    new: tuple[str, ...]
    changed: tuple[str, ...]
    settings: tuple[str, ...]
    other_code: tuple[str, ...]
    seconds: float | None
    source: Source | None

    @property
    def to_run(self) -> int:
        """How many trials are to be run."""
        return len(self.new) + len(self.changed)


@dataclass(frozen=True)
class PlanDiff:
    """The whole plan; of searches, the trials left and the estimate for one."""

    hash: str
    seeds: int
    arms: tuple[ArmDiff, ...]
    searches: tuple[tuple[str, int, float | None], ...]

    @property
    def seconds(self) -> float:
        """Estimate for all that is to be run, one trial after another; the unknown left out."""
        arms = sum(arm.to_run * (arm.seconds or 0.0) for arm in self.arms)
        return arms + sum(left * (seconds or 0.0) for _, left, seconds in self.searches)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Arms and searches with work to do whose cost is not known.

        Of an arm whose settings a search is still to find nothing is known.
        """
        arms = [
            arm.name
            for arm in self.arms
            if (arm.to_run and arm.seconds is None) or not (arm.to_run or arm.cached)
        ]
        return (*arms, *(f"search {n}" for n, left, s in self.searches if left and s is None))


def plan_hash(plan: Plan) -> str:
    """Returns 12 hex digits over what decides the plan's results."""
    record = plan.record
    decisive = {
        "seeds": record.seeds,
        # Trials of a re-tuned arm follow from its search; the plan is the same before and after.
        "arms": {
            arm.name: [arm.full, arm.tuned_by, {} if arm.tuned_by else arm.trials]
            for arm in record.arms
        },
        "searches": [
            {**search.model_dump(mode="json", exclude={"base"}), "base": search.base.key}
            for search in sorted(record.searches, key=lambda search: search.name)
        ],
        "protocol": record.protocol.model_dump(mode="json"),
    }
    text = json.dumps(decisive, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def plan_diff(plan: Plan, store: ResultsStore, rehearsed: Mapping[str, float]) -> PlanDiff:
    """Returns what the plan would do to the results directory as it is.

    Args:
        plan: the plan.
        store: the results directory; it need not exist.
        rehearsed: estimated seconds by key of rehearsed trials.
    """
    try:
        earlier = store.study()
    except StoreError:
        earlier = None
    old: Mapping[str, Arm] = {}
    if earlier is not None and earlier.name == plan.record.name:
        old = {arm.name: arm for arm in earlier.arms}
    arms = tuple(_arm(arm, old.get(arm.name), plan, store, rehearsed) for arm in plan.record.arms)
    searches = tuple(_search(search, store, rehearsed) for search in plan.record.searches)
    return PlanDiff(plan_hash(plan), len(plan.record.seeds), arms, searches)


def _arm(
    arm: Arm, old: Arm | None, plan: Plan, store: ResultsStore, rehearsed: Mapping[str, float]
) -> ArmDiff:
    stored = {key: found for key in arm.trials.values() if (found := _summary(store, key))}
    new: list[str] = []
    changed: list[str] = []
    settings: list[str] = []
    for seed, key in arm.trials.items():
        if key in stored:
            continue
        before = old.trials.get(seed) if old else None
        made = _summary(store, before) if before is not None and before != key else None
        (new if made is None else changed).append(key)
        if made is not None:
            settings += changed_settings(made.get("spec", {}), plan.trials[key])
    other = [key for key, made in stored.items() if _other_code(made, arm.model)]
    seconds, source = _estimate(arm, stored.values(), rehearsed)
    return ArmDiff(
        name=arm.name,
        cached=tuple(stored),
        new=tuple(new),
        changed=tuple(changed),
        settings=tuple(dict.fromkeys(settings)),
        other_code=tuple(other),
        seconds=seconds,
        source=source,
    )


def _search(
    search: SearchPlan, store: ResultsStore, rehearsed: Mapping[str, float]
) -> tuple[str, int, float | None]:
    """Returns name, trials left, and the seconds of a trial with the settings it starts from."""
    records = store.search_records(search.name)
    ended = sum(record.get("state") != "running" for record in records)
    made = _summary(store, search.base.key)
    seconds = trial_seconds(made) if made else rehearsed.get(search.base.key)
    return search.name, max(0, search.trials - ended), seconds


def _estimate(
    arm: Arm, stored: Iterable[Mapping[str, Any]], rehearsed: Mapping[str, float]
) -> tuple[float | None, Source | None]:
    known = [seconds for made in stored if (seconds := trial_seconds(made)) is not None]
    if known:
        return statistics.fmean(known), "stored"
    found = [rehearsed[key] for key in arm.trials.values() if key in rehearsed]
    return (found[0], "rehearsed") if found else (None, None)


def _other_code(summary: Mapping[str, Any], model: str) -> bool:
    """Returns whether a trial says that other code made it; one that says nothing is believed."""
    code = (summary.get("environment") or {}).get("code")
    return code is not None and code != code_digest(model)


def _summary(store: ResultsStore, key: str) -> dict[str, Any] | None:
    """Returns `trial.json`; None if the trial is not stored whole."""
    if not store.has(key):
        return None
    try:
        return store.summary(key)
    except DamagedTrialError:
        return None


def changed_settings(old: Mapping[str, Any], new: TrialSpec) -> list[str]:
    """Returns the settings that decide the result and differ, a line each: `field: old → new`.

    Args:
        old: a spec as stored, perhaps by another version.
        new: a spec.
    """
    one, other = _decisive(old), _decisive(new.model_dump(mode="json"))
    fields = [name for name in {**other, **one} if _shown(one, name) != _shown(other, name)]
    return [f"{name}: {_shown(one, name)} → {_shown(other, name)}" for name in fields]


def _decisive(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings as one mapping of dotted fields; of data, their fingerprints."""
    found = {"model": spec.get("model"), "seed": spec.get("seed")}
    for part in ("config", "training", "protocol"):
        found |= {f"{part}.{name}": value for name, value in (spec.get(part) or {}).items()}
    for part in ("cohort", "knowledge"):
        found[part] = ((spec.get(part) or {}).get("fingerprint") or "")[:12]
    return found


def _shown(settings: Mapping[str, Any], name: str) -> str:
    if name not in settings:
        return _ABSENT
    value = settings[name]
    return value if isinstance(value, str) else json.dumps(value)


def told(diff: PlanDiff) -> list[str]:
    """Returns the lines that a person reads before a run starts."""
    to_run = sum(arm.to_run for arm in diff.arms)
    stored = sum(len(arm.cached) for arm in diff.arms)
    left = sum(left for _, left, _ in diff.searches)
    lines = [
        f"plan {diff.hash}: {len(diff.arms)} arms × {diff.seeds} seeds, {to_run} trials to run, "
        f"{stored} stored" + (f", {left} trials of searches left" if diff.searches else "")
    ]
    if to_run or left:
        lines.append(_cost(diff))
    if any(arm.cached or arm.changed for arm in diff.arms):
        lines += _changes(diff)
    return lines


def _cost(diff: PlanDiff) -> str:
    if not diff.seconds:
        return "cost not known before arms took a first step (medsweep plan --check)"
    text = f"about {duration(diff.seconds)}, one trial after another"
    if any(arm.source == "rehearsed" and arm.to_run for arm in diff.arms):
        text += "; arms without a stored trial by their training steps on this CPU alone"
    return text + (f"; not known: {', '.join(diff.unknown)}" if diff.unknown else "")


def _changes(diff: PlanDiff) -> list[str]:
    lines = []
    for arm in diff.arms:
        if arm.new:
            lines.append(f"  new     {arm.name}: {len(arm.new)} trials")
        if arm.changed:
            lines.append(
                f"  stale   {arm.name}: {len(arm.changed)} trials with other settings "
                f"({'; '.join(arm.settings)})"
            )
        if arm.other_code:
            lines.append(
                f"  stale   {arm.name}: {len(arm.other_code)} trials made by other code; they "
                "are used (--rerun-stale computes them again)"
            )
        if len(arm.cached) > len(arm.other_code):
            lines.append(f"  cached  {arm.name}: {len(arm.cached) - len(arm.other_code)} trials")
    return lines


def duration(seconds: float) -> str:
    """Returns a time as people say it.

    Example:
        >>> [duration(s) for s in (0.2, 50, 600, 5400)]
        ['1 s', '50 s', '10 min', '1.5 h']
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
