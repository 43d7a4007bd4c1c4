"""The card of an exported model: what it is, how it was chosen, what it does, what it is not for.

Markdown, made from the results directory alone; it names no person, machine or place.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medrec.light import model_facts
from medrec.measures import Measure
from medrec.spec import Task
from sweeps.archive import without_places
from sweeps.choice import Choice
from sweeps.evaluate import evaluate_arms
from sweeps.record import Arm, StudyRecord
from sweeps.statistics.inference import Inference, Value
from sweeps.statistics.intervals import LEVEL
from sweeps.statistics.results import INCOMPARABLE, INCOMPARABLE_TEXT, comparable
from sweeps.store import ResultsStore
from sweeps.tasks import measures_of

_USE: Mapping[Task, str] = {
    "recommendation": """This is research software. The model recommends sets of drug classes
(ATC level 3) for recorded hospital visits, to be compared with what was prescribed. It is meant
for comparing models and for reproducing the numbers of its study.

* It gives no treatment advice and must not be used to choose a patient's medication. It was not
  examined as a medical device, and no clinician reviewed its recommendations.
* It learned what was prescribed, mistakes and habits included, not what would have helped.
* It knows drug classes, not drugs, doses, routes or durations, and of interactions only the pairs
  of its table. A low DDI rate does not make a recommendation safe.""",
    "generation": """This is research software. The model draws records of patients who do not
exist: sets of diagnoses, procedures and drug classes of visits in a row.

* No drawn record is a patient's, and no finding about drawn patients is one about real ones until
  it has been found in real ones.
* It repeats the frequencies and habits of the hospital it learned from, and blurs what is rare.
* Drawn records can give away training patients. Its study's table of privacy measures some
  attacks; that none of them succeeds does not make the records anonymous.""",
    "hierarchy": """This is research software. The model arranges codes in a tree by which occur
together and by their titles.

* The tree is a statement about one cohort's records, no medical classification, and no clinician
  reviewed it. Inner nodes are named after a code below them.
* Matches between codes of two institutions are guesses, some of them wrong.""",
}
_LIMITS = """
* Its numbers are of the test patients of one cohort. On other hospitals, years, codings or groups
  of patients they may be worse; codes it does not know are left out.
* Weights can carry traces of the patients they were trained on. Where these came under a data use
  agreement, the weights come under it too."""


def model_card(store: ResultsStore, record: StudyRecord, choice: Choice) -> str:
    """Returns the card of the chosen model.

    Raises:
        StoreError: trials of the arm were tested on different visits.
        DamagedTrialError: a stored trial does not match its manifest.
    """
    arm, spec = choice.arm, choice.spec
    facts = model_facts(spec.model)
    sections = [
        f"# Model card: {_plain(arm.title)}",
        f"{facts.title} ({facts.source}), arm `{arm.name}` of the study `{record.name}`, weights "
        f"of seed {spec.seed}. The study asks: {_plain(record.question)}",
        "## Intended use and limits",
        _USE[record.task] + _LIMITS,
        "## How it was chosen",
        f"On validation alone: {_plain(choice.reason)}. The test split was not read for it.",
        "## Results",
        _results(store, record, choice),
        "## Cohort",
        _cohort(record),
        "## Protocol",
        _table(("field", "value"), spec.protocol.model_dump().items()),
        "## Model and settings",
        _table(
            ("setting", "value"),
            [
                ("model", spec.model),
                *spec.config.items(),
                *((f"training.{k}", v) for k, v in spec.training.model_dump().items()),
                ("seed", spec.seed),
                ("best epoch", choice.summary.get("best_epoch", "unknown")),
            ],
        ),
        "## Provenance",
        _provenance(record, choice),
    ]
    return "\n\n".join(sections) + "\n"


def _results(store: ResultsStore, record: StudyRecord, choice: Choice) -> str:
    known = measures_of(record.task)
    test = on_test(store, record, choice.arm)
    own = choice.validation[choice.spec.seed]
    count = len(choice.validation)
    mean = {
        name: float(np.mean([each[name] for each in choice.validation.values()])) for name in own
    }
    rows = [
        (
            known[name].title + ("" if comparable(known[name], choice.arm) else INCOMPARABLE),
            _one(own, name, known),
            _one(mean, name, known),
            _with(test[name], known[name].decimals),
        )
        for name in known
        if test.get(name) is not None or name in own
    ]
    seeds = f"{count} seeds" if count > 1 else "one seed"
    interval = (
        f"Test values are means over {seeds} of the arm, with {LEVEL:.0%} intervals over training "
        "seeds and test patients: they are of the configuration, not of these weights alone."
        if count > 1
        else f"Test values have {LEVEL:.0%} intervals over test patients, conditional "
        "on this trained model: how much another training seed would change them is not known."
    )
    header = (
        "metric",
        f"validation, seed {choice.spec.seed}",
        f"validation, mean of {seeds}",
        f"test, {seeds}",
    )
    selected = "Validation values are of the epoch that validation chose, so they are optimistic."
    return _table(header, rows) + f"\n\n{interval} {selected}{_remarks(choice.arm)}"


def _remarks(arm: Arm) -> str:
    """Returns what one must know of the model before reading its numbers."""
    text = "" if arm.comparable_scores else f" {INCOMPARABLE_TEXT}"
    if arm.first_visit:
        text += f" It predicts no first visit; the answer there: {arm.first_visit}."
    if arm.leak:
        text += f" **It reads what is not known when prescribing ({arm.leak}): no results.**"
    return text


def on_test(store: ResultsStore, record: StudyRecord, arm: Arm) -> dict[str, Value | None]:
    """Returns the arm's estimate on the test split with its interval, by metric."""
    scores = evaluate_arms(store, record.model_copy(update={"arms": (arm,)}), "all")
    known = measures_of(record.task)
    draws = (record.resamples, record.bootstrap_seed)
    found = Inference(scores, known, [arm.name], record.analysis, *draws)
    return {name: found.estimate(name, arm.name) for name in scores.metrics}


def _one(values: dict[str, float], name: str, known: Mapping[str, Measure]) -> str:
    return f"{values[name]:.{known[name].decimals}f}" if name in values else "–"


def _with(value: Value | None, decimals: int) -> str:
    if value is None:
        return "–"
    low, high = value.low, value.high
    interval = "" if low is None else f" [{low:.{decimals}f}, {high:.{decimals}f}]"
    return f"{value.estimate:.{decimals}f}{interval}"


def _cohort(record: StudyRecord) -> str:
    facts = record.cohort
    rows: list[tuple[str, Any]] = [("name", facts.name), ("fingerprint", facts.fingerprint)]
    rows += [(name.replace("_", " "), f"{value:,g}") for name, value in facts.counts.items()]
    rows += [("split", facts.split), ("order of visits", facts.visit_order)]
    rows += [("open data", "yes" if facts.open_data else "no: shared under its own terms")]
    rows += [
        ("DDI rate as prescribed, test", f"{record.true_ddi_rate:.4f}"),
        ("medications a visit as prescribed, test", f"{record.true_medications:.2f}"),
    ]
    return _table(("fact", "value"), rows)


def _provenance(record: StudyRecord, choice: Choice) -> str:
    spec = choice.spec
    rows: list[tuple[str, Any]] = [
        ("trial", spec.key),
        ("knowledge", f"{record.ddi.name}, {spec.knowledge.fingerprint}"),
    ]
    environment = without_places(choice.summary.get("environment") or {})
    rows += sorted(environment.items())
    applies = {"generation": "generate", "recommendation": "predict"}.get(record.task)
    text = "`medsweep run study.yaml --out FOLDER` trains it again"
    text += f", `medsweep {applies}` applies it." if applies else "."
    return _table(("what", "value"), rows) + f"\n\n{text}"


def _table(header: Sequence[str], rows: Any) -> str:
    lines = [f"| {' | '.join(header)} |", "|" + ":---|" * len(header)]
    lines += [f"| {' | '.join(_plain(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def _plain(value: Any) -> str:
    """Returns a value as text of one line that cannot end a table's cell."""
    return " ".join(str(value).split()).replace("|", "\\|")
