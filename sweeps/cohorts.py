"""A study's cohort: opened, or made for the study; and what plans need of it."""

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from pydantic import ValidationError

from medrec import plugins, splits
from medrec.card.pages import pages
from medrec.cohort import Cohort
from medrec.datasets._base import Dataset, prepare
from medrec.errors import CohortError, MedrecError
from medrec.evaluation import evaluate
from medrec.knowledge.base import interaction_matrix, read_tables
from medrec.predictions import Predictions
from medrec.records import CohortOptions
from medrec.spec import KnowledgeSpec
from sweeps.errors import StudyError
from sweeps.reach import fetched_bundle, fetched_cohort, fetched_table, is_uri
from sweeps.study import CohortRequest, Study, parse


@dataclass(frozen=True)
class StudyData:
    """What planning reads.

    Attributes:
        name: of the cohort, for captions.
        path: its folder, absolute.
        made: whether the study asks for it to be made there.
        cohort: the cohort.
        interacts: drug classes that interact.
        knowledge: the knowledge tables, with absolute paths and their fingerprint.
        truth: metrics of the true prescriptions of the test split (DDI rate, medications); for
            tables alone.
    """

    name: str
    path: Path
    made: bool
    cohort: Cohort
    interacts: np.ndarray
    knowledge: KnowledgeSpec
    truth: dict[str, float]

    def training_medications(self) -> float:
        """Returns the drugs per visit that training patients were prescribed."""
        rows = self.cohort.visits_of(self.cohort.members(splits.TRAIN))
        return float(self.cohort.codes["medications"].counts[rows].mean())

    def interacting_pairs(self) -> list[tuple[int, int]]:
        """Returns interacting drug classes as index pairs, i < j."""
        rows, columns = np.nonzero(np.triu(self.interacts))
        return list(zip(rows.tolist(), columns.tolist(), strict=True))

    def materialise(self) -> None:
        """Writes a cohort that the study asks to be made, unless it lies there already, whole."""
        if self.made and _stored(self.path, self.cohort.fingerprint) is None:
            self.cohort.save(self.path, pages(self.cohort))


def study_data(study: Study, out: Path) -> StudyData:
    """Returns the study's cohort and knowledge facts.

    Args:
        study: the study.
        out: results directory; a cohort that the study asks to be made belongs in `out/cohort`,
            where `materialise` writes it.

    Raises:
        StudyError: the field `cohort` names nothing that exists.
        MedrecError: a cohort or knowledge table is damaged.
    """
    name, path, made, cohort = _cohort(study.cohort, out)
    knowledge, interacts = located_knowledge(study.knowledge, cohort)
    rows = cohort.visits_of(cohort.members(splits.TEST))
    truth = cohort.codes["medications"].multi_hot(cohort.drugs)[rows]
    as_prescribed = Predictions(
        patient=np.repeat(np.arange(cohort.patients), cohort.visits)[rows].astype(np.int32),
        visit=np.zeros(len(rows), dtype=np.int16),
        truth=truth,
        chosen=truth,
        scores=truth.astype(np.float32),
    )
    return StudyData(
        name=name,
        path=path,
        made=made,
        cohort=cohort,
        interacts=interacts,
        knowledge=knowledge,
        truth=evaluate(as_prescribed, interacts),
    )


def located_knowledge(
    spec: KnowledgeSpec, cohort: Cohort, where: str = "knowledge"
) -> tuple[KnowledgeSpec, np.ndarray]:
    """Returns the spec with absolute paths and its fingerprint, and which drugs interact.

    Args:
        spec: as the study has it.
        cohort: whose drugs and codes count.
        where: field of the study that holds it, for messages.

    Raises:
        StudyError: there is no such file or folder.
        MedrecError: a table is damaged.
    """
    places: dict[str, str] = {}
    for field in ("interactions", "structures", "bundle"):
        value = getattr(spec, field)
        if value in (None, "embedded"):
            continue
        if is_uri(value):
            bundle = field == "bundle"
            places[field] = str(fetched_bundle(value) if bundle else fetched_table(value, field))
            continue
        if field == "bundle" and not Path(value).is_dir():
            raise StudyError(f"field {where}.bundle: there is no folder {value}.")
        if field != "bundle" and not Path(value).is_file():
            raise StudyError(f"field {where}.{field}: there is no file {value}.")
        places[field] = str(Path(value).resolve())
    located = spec.model_copy(update=places)
    found = read_tables(located, cohort)
    interacts = interaction_matrix(cohort.vocabulary["medications"], found.interactions)
    return located.model_copy(update={"fingerprint": found.fingerprint}), interacts


def _cohort(request: str | CohortRequest, out: Path) -> tuple[str, Path, bool, Cohort]:
    if isinstance(request, str):
        path = fetched_cohort(request) if is_uri(request) else Path(request)
        if path.is_dir():
            name = urlsplit(request).path.rstrip("/") if is_uri(request) else str(path.resolve())
            return PurePath(name).name, path.resolve(), False, Cohort.open(path)
        if request not in plugins.names("medrec.datasets"):
            raise StudyError(
                f"field cohort: {request!r} is neither a cohort folder nor a data set. Prepare "
                "one with `medsweep data prepare DATASET --source DIR --out DIR`."
            )
        request = CohortRequest(dataset=request)
    options = dataset_options(request.dataset, request.options, "field cohort")
    path = (out / "cohort").resolve()
    stored = _stored(path)
    if stored is None or stored.provenance.options != options.model_dump(mode="json"):
        stored = prepare(request.dataset, None, options)
    return request.dataset, path, True, stored


def _stored(path: Path, fingerprint: str | None = None) -> Cohort | None:
    """Returns a cohort made earlier; None if it is absent, damaged or another."""
    try:
        cohort = Cohort.open(path)
    except CohortError:
        return None
    return cohort if fingerprint in (None, cohort.fingerprint) else None


def dataset_options(name: str, options: dict[str, Any], where: str) -> CohortOptions:
    """Returns a data set's checked options.

    Raises:
        StudyError: no such data set, one that needs a source folder, or a wrong option.
    """
    try:
        dataset: Dataset = plugins.load("medrec.datasets", name, "DATASET")
    except (MedrecError, ValidationError) as error:
        raise StudyError(f"{where}: {error}") from error
    if dataset.needs_source:
        raise StudyError(
            f"{where}: {name} needs raw files. Prepare it with `medsweep data prepare {name} "
            "--source DIR --out DIR` and name that folder."
        )
    checked: CohortOptions = parse(dataset.options, options, where, "options")
    return checked
