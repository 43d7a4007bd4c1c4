"""`medsweep run`: whatever of a study is missing, and nothing that is stored."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

from rich.console import Console
from rich.markup import escape

from medrec.spec import TrialSpec
from sweeps.budgets import told as limits_told
from sweeps.cohorts import StudyData, study_data
from sweeps.engine import EngineOptions, check_address, engine, executor_module
from sweeps.errors import (
    DamagedTrialError,
    InterruptedStudyError,
    StoreError,
    TrialsFailedError,
)
from sweeps.gate import Gate, Told
from sweeps.job import Job
from sweeps.locks import exclusive
from sweeps.plan import Plan, make_plan
from sweeps.plan_diff import plan_diff, told
from sweeps.progress import Progress
from sweeps.reach import published, working_folder
from sweeps.record import StudyRecord
from sweeps.rehearse import known_seconds, rehearse_plan
from sweeps.retuned import follow_ups, settle
from sweeps.search import Search
from sweeps.session import Session
from sweeps.store import ResultsStore
from sweeps.study import Study
from sweeps.visits import facts_of

_OURS = {".lock", "cache", "cases.html", "cohort", "damaged", "data", "failed", "figures",
         "lease.json", "rehearsals", "report.html", "running", "searches", "sessions",
         "superseded", "tables", "tensorboard", "trees", "trials", "visits.parquet"}  # fmt: skip


def run_study(
    study: Study,
    out: Path | str,
    console: Console,
    options: EngineOptions | None = None,
    *,
    check: bool = True,
    rerun_stale: bool = False,
    wait: bool = False,
) -> StudyRecord:
    """Runs what is missing of a study and returns its record. Safe to repeat, also after a kill.

    Args:
        study: the study.
        out: results directory: a folder, or a place that pyarrow reaches, such as s3://….
        console: where progress goes.
        options: what trials run on; by default a Ray instance of our own.
        check: whether every arm that lacks trials takes a step first; see `sweeps.rehearse`.
        rerun_stale: whether stored trials that other code made are set aside and run again.
        wait: whether to wait while another driver works on `out`.

    Raises:
        BusyError: another driver works on `out`.
        StudyError: the study is wrong, or an arm cannot be trained or ablates nothing.
        StoreError: `out` holds another study, or results cannot be written.
        MachineError: the cluster does not answer, or lacks something.
        InterruptedStudyError: the study was told to stop; trials go on another time.
        TrialsFailedError: the study ended, but trials failed.
    """
    store = ResultsStore(out)

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    options = options or EngineOptions()
    check_address(options)
    told_to_stop = Told()
    with (
        exclusive(store.place, wait, say, told_to_stop.notice),
        told_to_stop.heeding_signals(),
    ):
        data = study_data(study, store.place.local or working_folder(store.place))
        plan = make_plan(study, data)
        _same_study(store, plan.record)
        data.materialise()
        _set_aside_damaged(store, console)
        with store.at_a_glance():
            plan = settle(plan, store)
        if rerun_stale:
            _supersede_stale(plan, store)
        with store.at_a_glance():
            _announce(plan, store, say, check)
        store.write_study(plan.record)
        store.write_visits(facts_of(data.cohort))
        before = _failed_suggestions(plan, store)
        work = _Work(study, data, store, console, say, options, told_to_stop)
        plan, gate = _execute(work, plan)
        with store.at_a_glance():
            ended = gate.reason is None or not _left(plan, store)
            failures = _failed(plan, store, ended)
    failures += (_failed_suggestions(plan, store) - before).elements()
    lines = "\n".join(f"  {label}: {reason}" for label, reason in failures)
    if not ended and not gate.budget_spent:
        also = f"\n{len(failures)} trials failed:\n{lines}" if failures else ""
        raise InterruptedStudyError(
            f"Stopped before the end: {gate.reason}. Trials that ran wrote a checkpoint; the same "
            f"command goes on from there.{also}"
        )
    if failures:
        rest = "the rest is stored" if ended else "the budget is spent before the rest ran"
        raise TrialsFailedError(
            f"{len(failures)} trials failed; {rest}. Mend the cause and run the same command "
            f"again:\n{lines}"
        )
    return plan.record


def labels(record: StudyRecord) -> dict[str, str]:
    """Returns what a person calls each trial: arm and seed."""
    named: dict[str, str] = {}
    for arm in record.arms:
        for seed, key in arm.trials.items():
            named.setdefault(key, f"{arm.name} seed {seed}")
    return named


def _supersede_stale(plan: Plan, store: ResultsStore) -> None:
    """Sets trials aside that other code made."""
    for arm in plan_diff(plan, store, {}).arms:
        for key in arm.other_code:
            if store.has(key):  # arms with the same settings share their trials
                store.supersede(key)


def _announce(plan: Plan, store: ResultsStore, say: Callable[[str], None], check: bool) -> None:
    """Says what will be done and what it may cost, once every arm has shown that it can run."""
    checked = rehearse_plan(plan, store) if check else None
    lines = told(plan_diff(plan, store, known_seconds(store)))
    lines += [f"  {remark}" for remark in checked.remarks] if checked else []
    for line in lines:
        say(line)


@dataclass(frozen=True)
class _Work:
    """What running needs to know."""

    study: Study
    data: StudyData
    store: ResultsStore
    console: Console
    say: Callable[[str], None]
    options: EngineOptions
    told: Told


def _execute(work: _Work, plan: Plan) -> tuple[Plan, Gate]:
    """Runs what is missing; returns the plan with the trials that searches led to."""
    study, data, store, console = work.study, work.data, work.store, work.console
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
        return plan, Gate(store)
    progress = Progress(
        total, total - left - later, labels(plan.record), console, plan.record.protocol.select
    )
    module = executor_module(work.options)
    example = missing[0] if missing else open_searches[0].plan.base
    with Session(store, progress, work.options.executor, study.budget) as session:
        gate = Gate(store, session.id, study.budget, session.spent, work.told)
        progress.limits = partial(_limits, study, session)
        with engine(work.options, example, store, session, work.told, work.say) as allowed:
            job = Job(store, progress, gate, allowed, partial(published, store=store))
            with progress:
                plan = _run_all(module, missing, open_searches, plan, job)
        _told_end(gate, session, console)
    return plan, gate


def _run_all(
    module: ModuleType,
    missing: list[TrialSpec],
    searches: list[Search],
    plan: Plan,
    job: Job,
) -> Plan:
    """Runs plan, searches, and the trials of re-tuned arms, whose settings are known only then."""
    module.run_plan(missing, job)
    for search in searches:
        search.on_suggested = partial(job.progress.suggested, search.plan.name)
        module.run_search(search, job)
    settled = settle(plan, job.store)
    if settled == plan:
        return plan
    job.store.write_study(settled.record)
    new = [spec for key, spec in settled.trials.items() if key not in plan.trials]
    tuned = [spec for spec in new if not job.store.has(spec.key)]
    job.progress.labels.update(labels(settled.record))
    job.progress.cached += follow_ups(plan) - follow_ups(settled) - len(tuned)
    module.run_plan(tuned, job)
    return settled


def _limits(study: Study, session: Session) -> str:
    return limits_told(study.budget, session.spent())


def _told_end(gate: Gate, session: Session, console: Console) -> None:
    """Says why the study stopped before its end, if it did."""
    gate.open_again()
    if gate.reason is None:
        return
    session.end("budget" if gate.budget_spent else "interrupted", gate.reason)
    if gate.budget_spent:
        text = f"{gate.reason} What is missing runs when the study's `budget` allows more."
        console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _same_study(store: ResultsStore, record: StudyRecord) -> None:
    if not store.place.exists("study.json"):
        names = {name for name in store.place.names() if not name.startswith(".lease.json-")}
        foreign = sorted(names - _OURS)
        if foreign:
            raise StoreError(
                f"{store.place} holds no study but other things ({', '.join(foreign[:3])}). "
                "Choose an empty or new folder as --out."
            )
        return
    try:
        stored = store.study()
    except StoreError:
        return  # unreadable: written anew; trials are told apart by their keys
    if stored.name != record.name:
        raise StoreError(
            f"{store.place} holds the study {stored.name!r}, not {record.name!r}. "
            "Use another --out."
        )
    if stored.cohort.fingerprint != record.cohort.fingerprint:
        raise StoreError(
            f"{store.place} holds results on cohort {stored.cohort.name} "
            f"({stored.cohort.fingerprint[:12]}), but the study now names {record.cohort.name} "
            f"({record.cohort.fingerprint[:12]}). Use another --out, or that cohort."
        )
    earlier = {search.name: search for search in stored.searches}
    for search in record.searches:
        for field in ("objectives", "ddi_ceiling", "medication_floor"):
            was = getattr(earlier.get(search.name, search), field)
            if was != getattr(search, field):
                raise StoreError(
                    f"{store.place}: the search {search.name!r} was started with {field} {was}, "
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


def _failed(plan: Plan, store: ResultsStore, ended: bool) -> list[tuple[str, str]]:
    """Returns label and reason of failed trials; where the study ended, of missing ones too."""
    names = labels(plan.record)
    failures = store.failures()
    found = [
        (names[key], failures.get(key, {}).get("reason", "not run"))
        for key in plan.trials
        if not store.has(key) and (ended or key in failures)
    ]
    if not ended:
        return found
    for arm in plan.record.arms:
        if arm.is_waiting:
            reason = (
                f"its search {arm.tuned_by} found no complete trial within its bounds; give it "
                "more trials, or loosen them"
            )
            found.append((f"{arm.name} (every seed)", reason))
    return found


def _left(plan: Plan, store: ResultsStore) -> bool:
    """Returns whether trials have neither been stored nor failed, of arms or of searches."""
    failures = store.failures()
    ended = {
        search.name: sum(note["state"] != "running" for note in store.search_records(search.name))
        for search in plan.record.searches
    }
    return any(not store.has(key) and key not in failures for key in plan.trials) or any(
        ended[search.name] < search.trials for search in plan.record.searches
    )


def _failed_suggestions(plan: Plan, store: ResultsStore) -> Counter[tuple[str, str]]:
    """Returns label and reason of each trial of a search that failed.

    They are a search's own business, and not tried again; the run in which they failed says so.
    """
    return Counter(
        (f"{search.name} {note['number']}", str(note.get("reason")))
        for search in plan.record.searches
        for note in store.search_records(search.name)
        if note["state"] == "failed"
    )
