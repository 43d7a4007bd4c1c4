"""`medsweep export best`: the best model of a study, to keep, to share and to apply.

The folder holds a study file that `medsweep run` accepts, the weights, and a card (see
`sweeps.exported`). What is best is chosen on validation (see `sweeps.choice`).
"""

import json
from pathlib import Path
from typing import Any

import click
import yaml

from medrec.cohort import Cohort
from medrec.datasets._base import Dataset
from medrec.errors import CohortError, MedrecError
from medrec.exports._base import whole
from medrec.light import model_facts
from medrec.plugins import load
from medrec.spec import TrialSpec
from sweeps import exported
from sweeps.arguments import ResultsDirectory
from sweeps.choice import Choice, best_arm, best_of_search
from sweeps.errors import StoreError
from sweeps.model_card import model_card
from sweeps.record import StudyRecord
from sweeps.store import ResultsStore


def export_best(
    root: Path,
    out: Path,
    arm: str | None = None,
    search: str | None = None,
    cohort: Path | None = None,
) -> Choice:
    """Writes the folder, whole or not at all; an earlier export in it is replaced.

    Args:
        root: a results directory.
        out: folder to write.
        arm: take this arm instead of the best one.
        search: take this search's best trial.
        cohort: that the study ran on; its codes are written with the model.

    Raises:
        StoreError: there is no such study, arm or search, or it has no weights.
        DamagedTrialError: a stored trial does not match its manifest.
        InputError: `out` holds something else, or the cohort is another.
    """
    store = ResultsStore(root)
    record = store.study()
    choice = best_of_search(store, record, search) if search else best_arm(store, record, arm)
    _check_settings(choice.spec)
    own = _cohort(root, record, cohort)
    weights = store.weights(choice.spec.key)
    codes = json.dumps(exported.codes_of(record, own), ensure_ascii=False).encode()
    text = study_text(record, choice, own)
    vouched = {exported.WEIGHTS: weights, exported.CODES: codes}
    head = exported.spec_text(choice.spec, record.name, vouched)
    card = model_card(store, record, choice)
    with whole(out, exported.LAYOUT) as fresh:
        (fresh / exported.WEIGHTS).write_bytes(weights)
        (fresh / exported.CODES).write_bytes(codes)
        for name, content in (
            (exported.STUDY, text),
            (exported.SPEC, head),
            (exported.CARD, card),
        ):
            (fresh / name).write_text(content, encoding="utf-8")
    return choice


def _check_settings(spec: TrialSpec) -> None:
    """Raises an error unless this version builds the model from its stored settings."""
    try:
        same = model_facts(spec.model).config(**spec.config).model_dump(mode="json")
    except (MedrecError, ValueError) as error:
        raise StoreError(f"{spec.model} cannot be built by this version: {error}") from error
    if same != spec.config:
        fields = sorted(k for k in same if same[k] != spec.config.get(k))
        raise StoreError(
            f"This version of medsweep has other settings of {spec.model} than the trial "
            f"({', '.join(fields)}), so it cannot run again. Use the version that ran it."
        )


# ---------------------------------------------------------------------- the study file


def _cohort(root: Path, record: StudyRecord, given: Path | None) -> Cohort | None:
    """Returns the study's cohort: the one given, or the one it made for itself, if any."""
    if given is None:
        try:
            own = Cohort.open(root / "cohort")
        except CohortError:
            return None
        return own if own.fingerprint == record.cohort.fingerprint else None
    found = Cohort.open(given)
    if found.fingerprint != record.cohort.fingerprint:
        raise CohortError(
            f"{given} has fingerprint {found.fingerprint[:12]}, but the study ran on "
            f"{record.cohort.fingerprint[:12]}. Give that cohort, or leave --cohort out."
        )
    return found


def study_text(record: StudyRecord, choice: Choice, cohort: Cohort | None) -> str:
    """Returns the configuration as a study file; a run of it on the cohort has the same keys."""
    arm, spec = choice.arm, choice.spec
    request = None if cohort is None else _request(cohort)
    tables = spec.knowledge.model_dump(exclude={"fingerprint"}, exclude_defaults=True)
    seeds = [int(seed) for seed in arm.trials] if arm.seeded else list(record.seeds)
    content: dict[str, Any] = {
        "name": f"{record.name[:75]}-best",
        "question": record.question,
        "cohort": request or record.cohort.name,
        "seeds": sorted(seeds),
        "protocol": spec.protocol.model_dump(),
        "resources": spec.resources.model_dump(),
        "arms": [
            {
                "model": spec.model,
                "name": arm.name,
                "title": arm.title,
                "config": spec.config,
                "training": spec.training.model_dump(),
            }
        ],
        "reference": arm.name,
        "analysis": record.analysis.model_dump(),
        "resamples": record.resamples,
        "bootstrap_seed": record.bootstrap_seed,
    }
    lines = [f"# {arm.title}, from the study {record.name}: {choice.reason}."]
    if request is None:
        lines.append("# The cohort is a name: say where it is with --set cohort=FOLDER.")
    if spec.augment is not None:
        content["arms"][0]["augment"] = spec.augment.model_dump()
    if tables:
        content["knowledge"] = tables
    if places := sorted(tables.keys() - {"ontology"}):
        lines.append(f"# So is the knowledge: --set knowledge.{places[0]}=PLACE.")
    lines.append("# Run it with: medsweep run study.yaml --out FOLDER")
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=88)
    return "\n".join([*lines, text])


def _request(cohort: Cohort) -> dict[str, Any] | None:
    """Returns what a study asks for to get this cohort; None where raw files are needed."""
    source = cohort.provenance
    try:
        dataset: Dataset = load("medrec.datasets", source.dataset, "DATASET")
    except MedrecError:
        return None
    if dataset.needs_source:
        return None
    return {"dataset": source.dataset, "options": source.options}


@click.command("best")
@click.argument("directory", type=ResultsDirectory(weights=True))
@click.option("--arm", metavar="NAME", help="This arm instead of the best one.")
@click.option("--search", metavar="NAME", help="The best trial of this search.")
@click.option(
    "--cohort",
    type=click.Path(path_type=Path),
    help="Cohort of the study, for its codes; found by itself where the study made it.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
def command(
    directory: Path, arm: str | None, search: str | None, cohort: Path | None, out: Path
) -> None:
    """Writes the best model of a study: its study file, weights, codes and a model card.

    Validation chooses arm and seed; the test split only reports. `medsweep run` accepts the study
    file, `medsweep predict` applies the weights.

    Example: medsweep export best results/demo --out best
    """
    if arm and search:
        raise click.UsageError("Give --arm or --search, not both.")
    choice = export_best(directory, out, arm, search, cohort)
    metric = choice.spec.protocol.select
    value = choice.validation[choice.spec.seed][metric]
    click.echo(
        f"{out}: {choice.arm.title}, seed {choice.spec.seed}, validation {metric} {value:.4f}"
    )
    click.echo(f"  {choice.reason}")
