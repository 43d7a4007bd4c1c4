"""`medsweep compare A B`: what changed between two runs of a study, from their records alone.

Question, protocol, seeds, data, code, arms and their settings, and results: each arm's estimates
as the tables of its own directory have them, and, on the same test patients, the difference B - A
with its interval (A's and B's arms side by side in one array, so that draws of patients are
shared). An arm whose trials are the same in both has a difference of exactly 0.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from jaxtyping import Float64

from sweeps.arguments import ResultsDirectory
from sweeps.evaluate import Scores
from sweeps.record import Arm, StudyRecord
from sweeps.statistics.inference import Inference, Value
from sweeps.statistics.results import StudyResults, gather
from sweeps.store import ResultsStore

_STUDY = {"name", "question", "reference", "protocol", "analysis", "seeds", "tables", "resamples",
          "bootstrap_seed"}  # fmt: skip
_SEARCH = {"model", "trials", "objectives", "ddi_ceiling", "medication_floor", "config", "space",
           "early_stopping", "sampler_seed"}  # fmt: skip
_ARM = {"title", "model", "ablation", "full", "parts", "design", "tuned_by"}


RECOMPUTED = "same settings, other predictions"
OVERLAPPING = "other seeds"


@dataclass(frozen=True)
class Change:
    """One field that differs; None stands for a field that is not there."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Result:
    """An arm's metric in both runs; None where no trial is stored, or nothing may be said."""

    before: Value | None
    after: Value | None
    difference: Value | None


@dataclass(frozen=True)
class ArmChange:
    """An arm that both runs have.

    Attributes:
        name: of the arm, in both.
        title: in B.
        state: identical trials, the same settings with other predictions, other seeds or other
            settings.
        changes: its settings and facts that differ.
        seeds: stored seeds in A and in B.
        results: by metric.
    """

    name: str
    title: str
    state: str
    changes: tuple[Change, ...]
    seeds: tuple[tuple[str, ...], tuple[str, ...]]
    results: dict[str, Result]


@dataclass(frozen=True)
class Comparison:
    """What changed from A to B.

    Attributes:
        study: question, protocol, seeds, searches, designs.
        data: cohort and knowledge.
        code: packages, machine and whatever else trials say of where they ran.
        added: arms that B alone has.
        removed: arms that A alone has.
        arms: those of both, in B's order.
        metrics: title of each metric by name, in the order of tables.
        decimals: of each metric.
        why_no_difference: empty where runs have the same test patients.
        notes: what a reader must know to read the differences rightly.
    """

    study: tuple[Change, ...]
    data: tuple[Change, ...]
    code: tuple[Change, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    arms: tuple[ArmChange, ...]
    metrics: dict[str, str]
    decimals: dict[str, int]
    why_no_difference: str
    notes: tuple[str, ...]


def compare(before: ResultsStore, after: ResultsStore) -> Comparison:
    """Returns what changed between two results directories.

    Raises:
        StoreError: one of them holds no study, or trials with different test visits.
    """
    one, two = gather(before), gather(after)
    first, second = (list(found.record.arms) for found in (one, two))
    names = [{arm.name for arm in arms} for arms in (first, second)]
    shared = [arm for arm in second if arm.name in names[0]]
    why_not = _why_not(one, two)
    gaps = {} if why_not or not shared else _differences(one, two, [arm.name for arm in shared])
    metrics = one.scores["all"].metrics
    return Comparison(
        study=(
            *_changes(_study_facts(one.record), _study_facts(two.record)),
            *_named(one.record, two.record),
        ),
        data=_changes(_data_facts(one.record), _data_facts(two.record)),
        code=_changes(_code_facts(one), _code_facts(two)),
        added=tuple(arm.name for arm in second if arm.name not in names[0]),
        removed=tuple(arm.name for arm in first if arm.name not in names[1]),
        arms=tuple(_arm(one, two, arm, gaps) for arm in shared),
        metrics={name: two.metrics[name].title for name in metrics},
        decimals={name: two.metrics[name].decimals for name in metrics},
        why_no_difference=why_not,
        notes=_notes(one, two),
    )


def _why_not(one: StudyResults, two: StudyResults) -> str:
    """Returns why differences between the runs mean nothing; empty if they do."""
    prints = [results.record.cohort.fingerprint for results in (one, two)]
    if prints[0] != prints[1]:
        return (
            f"The runs have different cohorts ({prints[0][:12]} and {prints[1][:12]}), so "
            "different test patients: differences between their results are not paired, and none "
            "is given."
        )
    if not all(results.scores["all"].present.any() for results in (one, two)):
        return "One of the runs has no stored trial, so there are no differences."
    return ""


def _notes(one: StudyResults, two: StudyResults) -> tuple[str, ...]:
    notes = [
        f"Damaged trials count as missing in {side}: {', '.join(sorted(results.damaged))}."
        for side, results in (("A", one), ("B", two))
        if results.damaged
    ]
    before, after = one.record, two.record
    if before.ddi.pairs != after.ddi.pairs:
        notes.append("DDI rates of A and B are measured on different interaction graphs.")
    draws = [(record.resamples, record.bootstrap_seed) for record in (before, after)]
    if draws[0] != draws[1]:
        notes.append("Intervals of A and B rest on different resamples; differences on B's.")
    return tuple(notes)


# ---------------------------------------------------------------------- facts


def _study_facts(record: StudyRecord) -> dict[str, Any]:
    return dict(_flat(record.model_dump(mode="json", include=_STUDY)))


def _named(one: StudyRecord, two: StudyRecord) -> tuple[Change, ...]:
    """Returns what changed in searches and designs; of one that was added or removed, its name."""
    changes: list[Change] = []
    for kind, include in (("searches", _SEARCH), ("designs", None)):
        before, after = (
            {each.name: each.model_dump(mode="json", include=include) for each in listed}
            for listed in (getattr(one, kind), getattr(two, kind))
        )
        for name in [*before, *(name for name in after if name not in before)]:
            place = f"{kind}.{name}"
            if name in before and name in after:
                pair = (dict(_flat(each[name], place)) for each in (before, after))
                changes += _changes(*pair)
            else:
                there = [("present" if name in each else None) for each in (before, after)]
                changes.append(Change(place, *there))
    return tuple(changes)


def _data_facts(record: StudyRecord) -> dict[str, Any]:
    vocabulary = {kind: len(codes) for kind, codes in record.vocabulary.items()}
    return {
        **dict(_flat(record.cohort.model_dump(mode="json"), "cohort")),
        **{f"cohort.vocabulary.{kind}": size for kind, size in vocabulary.items()},
        "knowledge.name": record.ddi.name,
        "knowledge.fingerprint": record.ddi.fingerprint,
        "knowledge.interacting_pairs": len(record.ddi.pairs),
        "true_prescriptions.ddi_rate": record.true_ddi_rate,
        "true_prescriptions.medications": record.true_medications,
    }


def _code_facts(results: StudyResults) -> dict[str, Any]:
    """Returns what trials say of where they ran; of several different values all, sorted."""
    found: dict[str, set[str]] = {}
    for summary in results.summaries.values():
        for name, value in _flat(summary.get("environment") or {}):
            found.setdefault(name, set()).add(_text(value))
    return {name: ", ".join(sorted(values)) for name, values in found.items()}


def _arm_facts(results: StudyResults, arm: Arm) -> dict[str, Any]:
    facts = dict(_flat(arm.model_dump(mode="json", include=_ARM)))
    for key in arm.trials.values():
        if key in results.summaries:
            spec = results.summaries[key]["spec"]
            parts = {part: spec.get(part) or {} for part in ("config", "training", "resources")}
            return {**facts, **dict(_flat(parts))}
    return facts


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted field and value; lists are values.

    Example:
        >>> list(_flat({"a": {"b": 1}, "c": [2]}))
        [('a.b', 1), ('c', [2])]
    """
    for name, value in content.items():
        place = f"{prefix}.{name}" if prefix else str(name)
        if isinstance(value, Mapping):
            yield from _flat(value, place)
        else:
            yield place, value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    fields = [*before, *(name for name in after if name not in before)]
    return tuple(
        Change(name, before.get(name), after.get(name))
        for name in fields
        if before.get(name) != after.get(name)
    )


# ---------------------------------------------------------------------- results


def _arm(
    one: StudyResults, two: StudyResults, arm: Arm, gaps: Mapping[str, Mapping[str, Value | None]]
) -> ArmChange:
    old = one.arm(arm.name)
    state = _state(one, two, old, arm)
    found = dict(gaps.get(arm.name, {}))
    if found and state in (RECOMPUTED, OVERLAPPING):
        # Trials of both runs are the same trainings: they do not vary independently.
        found = _recomputed(one, two, arm.name)
    return ArmChange(
        name=arm.name,
        title=arm.title,
        state=state,
        changes=_changes(_arm_facts(one, old), _arm_facts(two, arm)),
        seeds=(_seeds(one, old), _seeds(two, arm)),
        results={
            metric: Result(
                one.estimate(metric, arm.name),
                two.estimate(metric, arm.name),
                found.get(metric),
            )
            for metric in one.scores["all"].metrics
        },
    )


def _recomputed(one: StudyResults, two: StudyResults, arm: str) -> dict[str, Value | None]:
    """Returns B - A of the same trials: nothing was drawn anew, so there are no intervals."""
    found: dict[str, Value | None] = {}
    before, after = _terms(one, one.arm(arm)), _terms(two, two.arm(arm))
    for at, metric in enumerate(one.scores["all"].metrics):
        left, right = one.estimate(metric, arm), two.estimate(metric, arm)
        if np.array_equal(before[:, at], after[:, at]):
            found[metric] = Value(0.0, 0.0, 0.0)
        elif left is not None and right is not None:
            found[metric] = Value(right.estimate - left.estimate)
    return found


def _seeds(results: StudyResults, arm: Arm) -> tuple[str, ...]:
    stored = [seed for seed, key in arm.trials.items() if key in results.summaries]
    return tuple(sorted(stored, key=int))


def _state(one: StudyResults, two: StudyResults, old: Arm, new: Arm) -> str:
    stored = [
        {arm.trials[seed] for seed in _seeds(results, arm)}
        for results, arm in ((one, old), (two, new))
    ]
    if not all(stored):
        return "not stored in A" if not stored[0] else "not stored in B"
    if stored[0] == stored[1]:
        same = np.array_equal(_terms(one, old), _terms(two, new))
        return "identical" if same else RECOMPUTED
    if stored[0] & stored[1]:
        return OVERLAPPING
    return "other settings, data or seeds"


def _terms(results: StudyResults, arm: Arm) -> Float64[np.ndarray, "2 metrics seeds patients"]:
    """Returns numerators and denominators of the arm's stored trials, seeds ascending."""
    scores = results.scores["all"]
    at = scores.arms.index(arm.name)
    kept = scores.present[at]
    return np.stack([scores.numerator[:, at, kept], scores.denominator[:, at, kept]])


def _differences(
    one: StudyResults, two: StudyResults, arms: list[str]
) -> dict[str, dict[str, Value | None]]:
    """Returns B - A by arm and metric, with intervals; None where one of them has no trial."""
    scores = _side_by_side(one.scores["all"], two.scores["all"], arms)
    record = two.record
    found = Inference(
        scores,
        two.metrics,
        [f"A {arm}" for arm in arms] * 2,
        record.analysis,
        record.resamples,
        record.bootstrap_seed,
    )
    return {
        arm: {metric: found.difference(metric, f"B {arm}") for metric in scores.metrics}
        for arm in arms
    }


def _side_by_side(left: Scores, right: Scores, arms: list[str]) -> Scores:
    """Returns both runs' scores of these arms as those of one study, with all seeds of both."""
    seeds = sorted({*left.seeds, *right.seeds})
    shape = (len(left.metrics), 2 * len(arms), len(seeds), len(left.patients))
    numerator, denominator = np.zeros(shape), np.zeros(shape)
    present = np.zeros(shape[1:3], dtype=bool)
    seeded = []
    for side, scores in enumerate((left, right)):
        columns = [seeds.index(seed) for seed in scores.seeds]
        for place, arm in enumerate(arms, side * len(arms)):
            row = scores.arms.index(arm)
            numerator[:, place, columns] = scores.numerator[:, row]
            denominator[:, place, columns] = scores.denominator[:, row]
            present[place, columns] = scores.present[row]
            seeded.append(scores.seeded[row])
    return Scores(
        metrics=left.metrics,
        arms=tuple(f"{side} {arm}" for side in "AB" for arm in arms),
        seeds=tuple(seeds),
        patients=left.patients,
        visits=left.visits,
        numerator=numerator,
        denominator=denominator,
        present=present,
        expected=present,
        seeded=np.array(seeded, dtype=bool),
    )


@click.command("compare")
@click.argument("before", metavar="DIR_A", type=ResultsDirectory())
@click.argument("after", metavar="DIR_B", type=ResultsDirectory())
@click.option(
    "--format", "form", type=click.Choice(["md"]), help="Markdown instead of tables for a screen."
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def command(before: Path, after: Path, form: str | None, as_json: bool) -> None:
    """Shows what changed between two runs of a study: settings, data, code and results.

    Differences are B - A on the same test patients, with 95 % intervals over seeds and patients.

    Example: medsweep compare results/monday results/tuesday
    """
    from sweeps.compare_pages import to_json, to_markdown, to_screen

    found = compare(ResultsStore(before), ResultsStore(after))
    if as_json:
        click.echo(to_json(found))
    elif form == "md":
        click.echo(to_markdown(found), nl=False)
    else:
        to_screen(found)
