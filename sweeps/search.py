"""A hyper-parameter search as ask and tell over Optuna; Ray-free, and rebuilt from the store.

Each suggestion is a small file, `searches/<name>/<number>.json`, written before its trial starts
and again when it ends. On start the Optuna study is made anew from those files, so resuming,
extending, and never running one configuration twice are one mechanism. The journal beside them
lets `optuna-dashboard` read the search; it is written by the driver alone and never read here.

The sampler of suggestion n is seeded by (sampler_seed, n): what is suggested depends on what was
told before, not on whether the driver was restarted in between.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from medrec.spec import TrialSpec
from search_spaces._base import contains
from sweeps.errors import StoreError
from sweeps.reach import working_folder
from sweeps.record import SearchPlan
from sweeps.space import from_json, suggest_from
from sweeps.specs import configured, dimension_value
from sweeps.store import ResultsStore
from sweeps.suggestions import Row
from sweeps.tasks import known_measures

Record = dict[str, Any]


class Search:
    """One search: what to try next, and what became of each try."""

    def __init__(self, plan: SearchPlan, store: ResultsStore) -> None:
        self.plan = plan
        self.store = store
        self.folder = f"searches/{plan.name}"
        self.space = from_json(plan.space)
        self.records: dict[int, Record] = {}
        # Told of each suggestion: its number, its key, and whether its result is known already.
        self.on_suggested: Callable[[int, str, bool], None] = lambda number, key, known: None
        self._live: dict[int, optuna.Trial] = {}
        self._waiting: list[int] = []
        self._twins: dict[str, list[int]] = {}  # suggestions that wait for a running equal
        self._journal = self._new_journal()
        self._study = self._create_study()
        self._rebuild()
        self._send_journal()

    # ------------------------------------------------------------------ asking

    def suggest(self) -> tuple[int, TrialSpec] | None:
        """Returns the next number and its trial, or None when the budget is spent.

        A configuration that was already run, here or as an arm, is told again without running;
        one that runs now shares the result when it ends.
        """
        while (number := self._next_number()) is not None:
            if number in self._live:  # it was given back
                return number, self.spec(self._live[number].params)
            trial = self._ask(number, self._given(number))
            spec = self.spec(trial.params)
            state = self._state_of(spec.key)
            self._live[number] = trial
            self._write({"number": number, "key": spec.key, "params": trial.params})
            self.on_suggested(number, spec.key, state is not None)
            if state is None:
                self._twins[spec.key] = []
                return number, spec
            if state == "running":
                self._twins[spec.key].append(number)
            else:
                self.finish(number, [])
        return None

    def give_back(self, number: int) -> None:
        """Takes back a trial that stopped before its end, to be suggested again."""
        self._waiting.insert(0, number)

    def _next_number(self) -> int | None:
        """Returns what to try next: first what an earlier run left unfinished."""
        if self._waiting:
            return self._waiting.pop(0)
        if len(self.records) >= self.plan.trials:
            return None
        return max(self.records, default=-1) + 1

    def _given(self, number: int) -> dict[str, Any] | None:
        """Returns parameters that are fixed already: of an unfinished try, or of the first."""
        if number in self.records:
            params: dict[str, Any] = self.records[number]["params"]
            return params
        return self._start() if number == 0 else None

    def _state_of(self, key: str) -> str | None:
        """Returns whether a configuration runs or has ended; None if it is new."""
        if key in self._twins:
            return "running"
        ended = any(r["key"] == key and r["state"] != "running" for r in self.records.values())
        return "ended" if ended or self.store.has(key) else None

    def remaining(self) -> int:
        """Returns how many suggestions are still to be tried."""
        ended = sum(record["state"] != "running" for record in self.records.values())
        return self.plan.trials - ended

    def _minimises(self, objective: str) -> bool:
        """Returns whether lower values of a metric are better."""
        return known_measures()[objective].higher_is_better is False

    def spec(self, params: dict[str, Any]) -> TrialSpec:
        """Returns the base trial with these settings."""
        return configured(self.plan, params)

    def _ask(self, number: int, params: dict[str, Any] | None) -> optuna.Trial:
        if params is not None:
            self._study.enqueue_trial(params)
        seed = int(np.random.SeedSequence([self.plan.sampler_seed, number]).generate_state(1)[0])
        startup = max(4, min(10, self.plan.trials // 3))
        self._study.sampler = TPESampler(seed=seed, n_startup_trials=startup)
        free = {n: d for n, d in self.space.items() if n not in self.plan.conditions}
        trial = self._study.ask(free)
        for name in self._active(trial.params):
            if name not in free:
                suggest_from(trial, name, self.space[name])
        return trial

    def _start(self) -> dict[str, Any]:
        """Returns the settings that the search starts from: the published ones, or the study's."""
        start = {name: dimension_value(self.plan.base, name) for name in self.space}
        return {name: start[name] for name in self._active(start)}

    def _active(self, params: dict[str, Any]) -> list[str]:
        """Returns the dimensions that matter under these settings, in the order of the space."""
        free = {n: v for n, v in params.items() if n not in self.plan.conditions}
        settings = self.spec(free).config
        return [
            name
            for name in self.space
            if name in free
            or settings[self.plan.conditions[name][0]] in self.plan.conditions[name][1]
        ]

    # ------------------------------------------------------------------ telling

    def finish(self, number: int, rows: list[Row], *, lost: str | None = None) -> Record:
        """Notes how a suggestion ended, as the store tells it.

        Args:
            number: of the suggestion.
            rows: the epochs it reported; used where it was stopped early.
            lost: why its process died without a word, if it did.
        """
        record = self.records[number]
        outcome = self._outcome(record["key"], rows, lost)
        self._write({**record, **outcome})
        if outcome["state"] == "pruned":
            self.store.forget_running(record["key"])
        self._tell(self.records[number], self._live.pop(number, None))
        self._send_journal()
        for twin in self._twins.pop(record["key"], []):
            self.finish(twin, [])
        return self.records[number]

    def _outcome(self, key: str, rows: list[Row], lost: str | None) -> Record:
        if self.store.has(key):
            history = self.store.history(key)
            columns = list(history)
            epochs = [
                dict(zip(columns, row, strict=True)) for row in zip(*history.values(), strict=True)
            ]
            return {"state": "complete", **self._measured(epochs)}
        reason = lost or self.store.failures().get(key, {}).get("reason")
        if reason is not None:
            return {"state": "failed", "reason": reason}
        earlier = [
            r
            for r in self.records.values()
            if r["key"] == key and r["state"] in ("pruned", "failed")
        ]
        if earlier and not rows:
            return {
                k: earlier[0][k] for k in ("state", "values", "epochs", "curve", "reason", "held")
            }
        times = [row["seconds"] for row in rows if "seconds" in row]
        return {
            "state": "pruned",
            **self._measured(rows),
            **({"seconds": sum(times)} if times else {}),
        }

    def _measured(self, rows: list[Row]) -> Record:
        if not rows:
            return {}
        last = rows[-1]
        first = self.plan.objectives[0]
        held = {}
        if self.plan.ddi_ceiling is not None:
            held["ddi_ceiling"] = last["best_ddi_rate"] - self.plan.ddi_ceiling
        if self.plan.medication_floor is not None:
            held["medication_floor"] = self.plan.medication_floor - last["best_medications"]
        return {
            "values": [last[f"best_{name}"] for name in self.plan.objectives],
            "epochs": len(rows),
            "curve": [row[f"best_{first}"] for row in rows],
            "held": held,
        }

    def _write(self, record: Record) -> None:
        full: Record = {"state": "running", "values": None, "epochs": None, "curve": [],
                        "held": {}, "reason": None, **record}  # fmt: skip
        self.records[full["number"]] = full
        self.store.write_text(
            f"{self.folder}/{full['number']:05d}.json", json.dumps(full, indent=2, sort_keys=True)
        )

    def _tell(self, record: Record, trial: optuna.Trial | None) -> None:
        """Passes a finished record to Optuna; `trial` is None for records of an earlier run."""
        single = len(self.plan.objectives) == 1
        state = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(
            record["state"], TrialState.FAIL
        )
        if state == TrialState.PRUNED and not single:
            state = TrialState.FAIL  # a truncated trial must not enter the Pareto front
        values = record["values"] if state == TrialState.COMPLETE else None
        curve = dict(enumerate(record["curve"], start=1)) if single else {}
        if trial is None:
            self._study.add_trial(
                create_trial(
                    state=state,
                    values=values,
                    params=record["params"],
                    distributions={name: self.space[name] for name in record["params"]},
                    intermediate_values=curve,
                    constraints=record["held"] if state == TrialState.COMPLETE else None,
                )
            )
            return
        for epoch, value in curve.items():
            trial.report(value, epoch)
        if state == TrialState.COMPLETE:
            for name, excess in record["held"].items():
                trial.set_constraint(name, excess)
        self._study.tell(trial, values, state=state)

    # ------------------------------------------------------------------ rebuilding

    def _create_study(self) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directions = [
            StudyDirection.MINIMIZE if self._minimises(name) else StudyDirection.MAXIMIZE
            for name in self.plan.objectives
        ]
        return optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(self._journal))),
            study_name=self.plan.name,
            directions=directions,
        )

    def _new_journal(self) -> Path:
        """Returns an empty journal: in the results directory, or one that is sent there."""
        name = f"{self.folder}/journal.log"
        if self.store.place.local is not None:
            journal = self.store.write_text(name, "")
        else:
            journal = working_folder(self.store.place) / name
            journal.parent.mkdir(parents=True, exist_ok=True)
            journal.write_text("")
        # Left by a driver that was killed; this one holds the directory's lock.
        journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
        return journal

    def _send_journal(self) -> None:
        if self.store.place.local is None:
            self.store.write_bytes(f"{self.folder}/journal.log", self._journal.read_bytes())

    def _rebuild(self) -> None:
        for record in self.store.search_records(self.plan.name):
            self.records[record["number"]] = record
        for number, record in sorted(self.records.items()):
            self._check_same_search(record)
            stored = self.store.has(record["key"])
            if record["state"] in ("running", "complete") and not stored:
                self._write({k: record[k] for k in ("number", "key", "params")})
                self._waiting.append(number)
            elif record["state"] == "running":
                self.finish(number, [])
            else:
                self._tell(record, None)

    def _check_same_search(self, record: Record) -> None:
        params, values = record["params"], record["values"]
        same = (
            params.keys() <= self.space.keys()
            and params.keys() == set(self._active(params))
            and all(contains(self.space[name], value) for name, value in params.items())
            and len(values or self.plan.objectives) == len(self.plan.objectives)
            and self.spec(params).key == record["key"]
        )
        if not same:
            raise StoreError(
                f"{self.store.place.at(self.folder)} holds a search with other settings, space or "
                f"objectives than {self.plan.name!r} has now (its trial {record['number']}). "
                "Give the search another name in the study."
            )
