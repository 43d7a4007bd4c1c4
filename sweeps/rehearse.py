"""Every arm takes one step before anything runs; an ablation must show that it takes something.

An ablation that a first step shows nothing of may still be one: pre-training comes before the
first step, and a DDI controller may leave untrained scores alone. So such an arm and its full
model are looked at once more, later in training. What does not differ even there is refused: it
would spend hours on trials that are those of the full model, and a table would call the part
harmless. A part that no patient of the cohort calls for is refused by the same rule.

What was found is kept in `rehearsals/` of the results directory, and made again when broken or
made by other code or on another machine.
"""

import importlib.metadata
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from medrec.errors import MedrecError
from medrec.spec import TrialSpec
from sweeps.cohorts import StudyData
from sweeps.errors import StoreError, StudyError
from sweeps.plan import Plan
from sweeps.provenance import code_digest, hardware
from sweeps.reach import derived_folder
from sweeps.record import Arm
from sweeps.store import ResultsStore

if TYPE_CHECKING:
    from medrec.rehearsal import Rehearsal

FOLDER = "rehearsals"
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Checked:
    """What rehearsals say of a plan.

    Attributes:
        seconds: estimate for one trial on a CPU, by key of each rehearsed trial that has one.
        remarks: a line for each ablation: what its first step shows of it.
    """

    seconds: dict[str, float]
    remarks: tuple[str, ...]


def rehearse_plan(plan: Plan, store: ResultsStore, notes: ResultsStore | None = None) -> Checked:
    """Rehearses the first trial of every arm that lacks trials, and compares the ablations.

    Args:
        plan: the plan; its cohort lies where its trials say.
        store: holds the trials.
        notes: where rehearsals are kept; default: with the trials.

    Raises:
        StudyError: arms that cannot be built, whose loss is not finite, or that ablate nothing.
        StoreError: rehearsals cannot be written.
    """
    stage = _Stage(plan, notes or store)
    arms = {arm.name: arm for arm in plan.record.arms}
    remarks, problems = [], []
    for arm in arms.values():
        if all(store.has(key) for key in arm.trials.values()):
            continue
        try:
            stage.first_step(arm)
            if arm.full is not None and arm.tuned_by is None and arms[arm.full].trials:
                remarks += stage.compared(arm, arms[arm.full])
        except StudyError as error:
            problems.append(str(error))
    if problems:
        raise StudyError("\n".join(dict.fromkeys(problems)))
    return Checked(stage.seconds, tuple(remarks))


def rehearse_aside(plan: Plan, data: StudyData, store: ResultsStore) -> Checked:
    """Does the same without writing to the results directory, which need not exist.

    Raises:
        StudyError: as above.
    """
    with tempfile.TemporaryDirectory(prefix="medsweep-check-") as folder:
        trials = plan.trials
        if data.made:
            place = Path(folder) / "cohort"
            data.cohort.save(place)
            trials = {key: _at(spec, place) for key, spec in trials.items()}
        return rehearse_plan(replace(plan, trials=trials), store, ResultsStore(Path(folder)))


def known_seconds(store: ResultsStore) -> dict[str, float]:
    """Returns the estimates of rehearsals made before, by key of the trial."""
    found = {}
    for key, note in store.read_all(FOLDER).items():
        told = note.get("rehearsal") if isinstance(note, dict) else None
        seconds = told.get("seconds") if isinstance(told, dict) else None
        if isinstance(seconds, int | float):
            found[key] = float(seconds)
    return found


def difference(arm: str, full: str, ablated: "Rehearsal", whole: "Rehearsal") -> str:
    """Returns what the steps of two arms say of the ablation."""
    fewer = whole.weights - ablated.weights
    if fewer:
        return f"{arm}: {abs(fewer):,} parameters {'fewer' if fewer > 0 else 'more'} than {full}"
    if ablated.parameters != whole.parameters:
        return f"{arm}: other parameters than {full}, as many in all"
    what = "another loss" if ablated.loss != whole.loss else "other gradients"
    return f"{arm}: the parameters of {full}, {what}"


class _Stage:
    """Rehearsals of one plan, each made once."""

    def __init__(self, plan: Plan, notes: ResultsStore) -> None:
        self.plan, self.notes = plan, notes
        self.seconds: dict[str, float] = {}

    def first_step(self, arm: Arm) -> "Rehearsal":
        """Returns the rehearsal of the arm's first trial.

        Raises:
            StudyError: it cannot be built, or its loss is not finite.
        """
        from medrec.rehearsal import Rehearsal

        spec = self._spec(arm)
        note = self._note(spec)
        try:
            found = Rehearsal.model_validate(note.get("rehearsal"))
        except ValidationError:
            from medrec import trial  # imports torch

            found = _tried(arm, lambda: trial.rehearse(spec, derived_folder(self.notes.place)))
            self._write(spec, {"rehearsal": found.model_dump(mode="json")})
        if found.seconds is not None:
            self.seconds[spec.key] = found.seconds
        return found

    def compared(self, arm: Arm, full: Arm) -> list[str]:
        """Returns what the arm's step shows of its ablation; nothing for fitted models.

        Raises:
            StudyError: it shows none, now or later.
        """
        ablated, whole = self.first_step(arm), self.first_step(full)
        if ablated.loss is None or whole.loss is None:
            return []
        if not ablated.same_step(whole):
            return [difference(arm.name, full.name, ablated, whole)]
        if self._later(arm) != self._later(full):
            return [f"{arm.name}: the first step of {full.name}, but not those after it"]
        raise StudyError(
            f"field arms: {arm.name} does what {full.name} does: parameters, loss and gradients "
            "are the same, also after pre-training, at the last epoch and with few or many drugs "
            "recommended. What it takes away is without effect under the other settings, or on "
            f"this cohort. Take the arm out, or change the settings of {full.name}; `--no-check` "
            "runs it all the same."
        )

    def _later(self, arm: Arm) -> str:
        from medrec import trial

        spec = self._spec(arm)
        note = self._note(spec)
        if not isinstance(note.get("later"), str):
            later = _tried(arm, lambda: trial.look_later(spec, derived_folder(self.notes.place)))
            note = self._write(spec, {**note, "later": later})
        return str(note["later"])

    def _spec(self, arm: Arm) -> TrialSpec:
        return self.plan.trials[next(iter(arm.trials.values()))]

    def _note(self, spec: TrialSpec) -> dict[str, Any]:
        """Returns what is kept of a trial's rehearsal; empty if nothing that can be used."""
        note = self.notes.note(f"{FOLDER}/{spec.key}.json") or {}
        return note if note.get("made_by") == _made_by(spec) else {}

    def _write(self, spec: TrialSpec, note: dict[str, Any]) -> dict[str, Any]:
        full = {**note, "made_by": _made_by(spec)}
        text = json.dumps(full, indent=2, sort_keys=True) + "\n"
        self.notes.write_text(f"{FOLDER}/{spec.key}.json", text)
        return full


def _made_by(spec: TrialSpec) -> dict[str, str]:
    """Returns what the bits of a step depend on besides the spec."""
    return {
        "code": code_digest(spec.model),
        "torch": importlib.metadata.version("torch"),
        "cpu": hardware().get("cpu", ""),
        "threads": str(max(1, int(spec.resources.cpus))),
    }


def _at(spec: TrialSpec, path: Path) -> TrialSpec:
    cohort = spec.cohort.model_copy(update={"path": str(path)})
    return spec.model_copy(update={"cohort": cohort})


def _tried(arm: Arm, step: Callable[[], _Found]) -> _Found:
    """Returns what `step` returns; an error names the arm."""
    try:
        return step()
    except StoreError:
        raise
    except MedrecError as error:
        reason = str(error)
    except Exception as error:  # a defect of the model: told before hours are spent on the others
        from sweeps.worker import explained  # plans that take no step do without it

        reason = explained(error)
    raise StudyError(f"field arms: {arm.name} cannot take its first step: {reason}")
