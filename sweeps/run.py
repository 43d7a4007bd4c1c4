"""`medsweep run`: whatever of a study is missing, and nothing that is stored."""

import fcntl
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Literal

from rich.console import Console
from rich.markup import escape

from medrec.spec import Resources, TrialSpec
from sweeps.cohorts import StudyData, study_data
from sweeps.errors import (
    BusyError,
    DamagedTrialError,
    StoreError,
    StudyError,
    TrialsFailedError,
)
from sweeps.plan import Plan, make_plan
from sweeps.plan_diff import plan_diff, told
from sweeps.progress import Progress
from sweeps.record import StudyRecord
from sweeps.rehearse import known_seconds, rehearse_plan
from sweeps.retuned import follow_ups, settle
from sweeps.search import Search
from sweeps.store import ResultsStore
from sweeps.study import Study
from sweeps.visits import facts_of

Executor = Literal["ray", "inline"]
_OURS = {".lock", "cache", "cases.html", "cohort", "damaged", "failed", "figures", "rehearsals",
         "report.html", "running", "searches", "superseded", "tables", "tensorboard", "trials",
         "visits.parquet"}  # fmt: skip
_EXECUTORS = {"ray": "sweeps.executors.ray_tune", "inline": "sweeps.executors.inline"}


def run_study(
    study: Study,
    out: Path,
    console: Console,
    executor: Executor = "ray",
    cpus: int | None = None,
    *,
    check: bool = True,
    rerun_stale: bool = False,
) -> StudyRecord:
    """Runs what is missing of a study and returns its record. Safe to repeat, also after a kill.

    Args:
        study: the study.
        out: results directory.
        console: where progress goes.
        executor: `ray`, or `inline` for one trial after another in this process.
        cpus: cores that Ray may use; all of them by default.
        check: whether every arm that lacks trials takes a step first; see `sweeps.rehearse`.
        rerun_stale: whether stored trials that other code made are set aside and run again.

    Raises:
        BusyError: another driver works on `out`.
        StudyError: the study is wrong, or an arm cannot be trained or ablates nothing.
        StoreError: `out` holds another study, or results cannot be written.
        TrialsFailedError: the study ended, but trials failed.
    """
    store = ResultsStore(out.resolve())
    with _exclusive(store.root):
        data = study_data(study, store.root)
        plan = make_plan(study, data)
        _same_study(store, plan.record)
        data.materialise()
        _set_aside_damaged(store, console)
        plan = settle(plan, store)
        _announce(plan, store, console, check, rerun_stale)
        store.write_study(plan.record)
        store.write_visits(facts_of(data.cohort))
        plan = _execute(plan, data, store, console, executor, cpus)
    failures = _failed(plan, store)
    if failures:
        lines = "\n".join(f"  {label}: {reason}" for label, reason in failures)
        raise TrialsFailedError(
            f"{len(failures)} trials failed; the rest is stored. Mend the cause and run the same "
            f"command again:\n{lines}"
        )
    return plan.record


def labels(record: StudyRecord) -> dict[str, str]:
    """Returns what a person calls each trial: arm and seed."""
    named: dict[str, str] = {}
    for arm in record.arms:
        for seed, key in arm.trials.items():
            named.setdefault(key, f"{arm.name} seed {seed}")
    return named


def _announce(
    plan: Plan, store: ResultsStore, console: Console, check: bool, rerun_stale: bool
) -> None:
    """Says what will be done and what it may cost, once every arm has shown that it can run."""
    if rerun_stale:
        for arm in plan_diff(plan, store, {}).arms:
            for key in arm.other_code:
                if store.has(key):  # arms with the same settings share their trials
                    store.supersede(key)
    checked = rehearse_plan(plan, store) if check else None
    lines = told(plan_diff(plan, store, known_seconds(store)))
    lines += [f"  {remark}" for remark in checked.remarks] if checked else []
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _execute(
    plan: Plan,
    data: StudyData,
    store: ResultsStore,
    console: Console,
    executor: Executor,
    cpus: int | None,
) -> Plan:
    """Runs what is missing; returns the plan with the trials that searches led to."""
    missing = [spec for key, spec in plan.trials.items() if not store.has(key)]
    searches = [Search(search, store) for search in plan.record.searches]
    open_searches = [s for s in searches if s.remaining()]
    later = follow_ups(plan)
    total = len(plan.trials) + sum(search.plan.trials for search in searches) + later
    left = len(missing) + sum(search.remaining() for search in open_searches)
    console.print(
        f"[bold]{plan.record.name}[/]: {total} trials on {escape(data.name)} "
        f"({data.cohort.patients:,} patients, {data.cohort.visits.sum():,} visits), "
        f"{total - left - later} stored before",
        highlight=False,
    )
    if not left:
        return plan
    progress = Progress(
        total, total - left - later, labels(plan.record), console, plan.record.protocol.select
    )
    module = importlib.import_module(_EXECUTORS[executor])
    with _engine(executor, cpus, plan.resources), progress:
        _run_all(module, missing, open_searches, store.root, progress)
        settled = settle(plan, store)
        if settled != plan:
            _run_retuned(module, plan, settled, store, progress)
    return settled


def _run_all(
    module: ModuleType,
    missing: list[TrialSpec],
    searches: list[Search],
    root: Path,
    progress: Progress,
) -> None:
    module.run_plan(missing, root, progress)
    for search in searches:
        search.on_suggested = partial(progress.suggested, search.plan.name)
        module.run_search(search, root, progress)


def _run_retuned(
    module: ModuleType, before: Plan, settled: Plan, store: ResultsStore, progress: Progress
) -> None:
    """Runs the trials of re-tuned arms, whose settings are known now."""
    store.write_study(settled.record)
    new = [spec for key, spec in settled.trials.items() if key not in before.trials]
    missing = [spec for spec in new if not store.has(spec.key)]
    progress.labels.update(labels(settled.record))
    progress.cached += follow_ups(before) - follow_ups(settled) - len(missing)
    module.run_plan(missing, store.root, progress)


@contextmanager
def _engine(executor: Executor, cpus: int | None, needed: Resources) -> Iterator[None]:
    if executor == "inline":
        yield
        return
    from cluster.connection import available, local_ray

    with local_ray(cpus):
        there = available()
        for field, asked, has in (
            ("cpus", needed.cpus, there.get("CPU", 0.0)),
            ("gpus", needed.gpus, there.get("GPU", 0.0)),
        ):
            if asked > has:
                raise StudyError(
                    f"field resources.{field}: a trial asks for {asked:g}, but there are {has:g} "
                    "here, so it could never start. Ask for less, or run it elsewhere."
                )
        yield


@contextmanager
def _exclusive(root: Path) -> Iterator[None]:
    """Holds the directory's lock, which the system frees when this process ends in any way."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(root / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreError(
            f"Cannot write to {root}: {error.strerror}. Choose another --out, or mend it."
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise BusyError(
            f"Another medsweep run works on {root}. Wait for it, or use another --out."
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


def _same_study(store: ResultsStore, record: StudyRecord) -> None:
    if not (store.root / "study.json").is_file():
        foreign = sorted({path.name for path in store.root.iterdir()} - _OURS)
        if foreign:
            raise StoreError(
                f"{store.root} holds no study but other things ({', '.join(foreign[:3])}). "
                "Choose an empty or new folder as --out."
            )
        return
    try:
        stored = store.study()
    except StoreError:
        return  # unreadable: written anew; trials are told apart by their keys
    if stored.name != record.name:
        raise StoreError(
            f"{store.root} holds the study {stored.name!r}, not {record.name!r}. "
            "Use another --out."
        )
    if stored.cohort.fingerprint != record.cohort.fingerprint:
        raise StoreError(
            f"{store.root} holds results on cohort {stored.cohort.name} "
            f"({stored.cohort.fingerprint[:12]}), but the study now names {record.cohort.name} "
            f"({record.cohort.fingerprint[:12]}). Use another --out, or that cohort."
        )
    earlier = {search.name: search for search in stored.searches}
    for search in record.searches:
        for field in ("objectives", "ddi_ceiling", "medication_floor"):
            was = getattr(earlier.get(search.name, search), field)
            if was != getattr(search, field):
                raise StoreError(
                    f"{store.root}: the search {search.name!r} was started with {field} {was}, "
                    f"not {getattr(search, field)}. Give it another name in the study."
                )


def _set_aside_damaged(store: ResultsStore, console: Console) -> None:
    for key in store.trial_folders():
        try:
            store.check(key)
        except DamagedTrialError as error:
            target = store.set_aside(key)
            text = f"{error} Kept in {target}."
            console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _failed(plan: Plan, store: ResultsStore) -> list[tuple[str, str]]:
    names = labels(plan.record)
    failures = store.failures()
    found = [
        (names[key], failures.get(key, {}).get("reason", "not run"))
        for key in plan.trials
        if not store.has(key)
    ]
    for arm in plan.record.arms:
        if arm.is_waiting:
            reason = (
                f"its search {arm.tuned_by} found no complete trial within its bounds; give it "
                "more trials, or loosen them"
            )
            found.append((f"{arm.name} (every seed)", reason))
    return found
