"""Everything a model is told besides the training visits."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from medrec import splits
from medrec.cohort import Cohort
from medrec.errors import KnowledgeError
from medrec.knowledge import tables
from medrec.knowledge.molecules import Molecules, load_molecules
from medrec.spec import KnowledgeSpec


@dataclass(frozen=True)
class Knowledge:
    """Sizes of the vocabularies, interaction graph, co-prescription graph, molecules.

    Attributes:
        diagnoses, procedures, drugs: vocabulary sizes.
        interacts: drug classes that interact, symmetric, zero diagonal.
        co_prescribed: drug classes prescribed together at a visit of a *training* patient.
        structures: SMILES of each drug class, possibly none.
        cache: folder for derived molecule graphs; None computes them anew.
    """

    diagnoses: int
    procedures: int
    drugs: int
    interacts: Bool[np.ndarray, "drugs drugs"]
    co_prescribed: Bool[np.ndarray, "drugs drugs"]
    structures: tuple[tuple[str, ...], ...]
    cache: Path | None = None

    @cached_property
    def molecules(self) -> Molecules:
        """Molecule graphs and fragments of all drug classes, made on first use."""
        return load_molecules(self.structures, self.cache)


def interaction_matrix(
    medications: tuple[str, ...], pairs: tuple[tuple[str, str], ...]
) -> Bool[np.ndarray, "drugs drugs"]:
    """Returns which drug classes of the vocabulary interact; other pairs are ignored."""
    index = {code: i for i, code in enumerate(medications)}
    matrix = np.zeros((len(medications), len(medications)), dtype=bool)
    for a, b in pairs:
        if a in index and b in index:
            matrix[index[a], index[b]] = matrix[index[b], index[a]] = True
    np.fill_diagonal(matrix, val=False)
    return matrix


def co_prescription_matrix(cohort: Cohort) -> Bool[np.ndarray, "drugs drugs"]:
    """Returns which drug classes training patients received together at a visit."""
    rows = cohort.visits_of(cohort.members(splits.TRAIN))
    hot = cohort.codes["medications"].multi_hot(cohort.drugs)[rows].astype(np.float32)
    together = (hot.T @ hot) > 0
    np.fill_diagonal(together, val=False)
    return together


def table_fingerprint(spec: KnowledgeSpec) -> str:
    """Returns the sha256 of what the spec's tables hold."""
    return tables.fingerprint(
        tables.read_interactions(spec.interactions), tables.read_structures(spec.structures)
    )


def load_knowledge(cohort: Cohort, spec: KnowledgeSpec, cache: Path | None = None) -> Knowledge:
    """Returns the knowledge for a cohort.

    Raises:
        KnowledgeError: a table is malformed, or differs from what the plan read.
    """
    pairs = tables.read_interactions(spec.interactions)
    structures = tables.read_structures(spec.structures)
    found = tables.fingerprint(pairs, structures)
    if spec.fingerprint and found != spec.fingerprint:
        raise KnowledgeError(
            f"The knowledge tables ({spec.interactions}, {spec.structures}) have fingerprint "
            f"{found[:12]}, but the plan read {spec.fingerprint[:12]}. They changed meanwhile; "
            "run the study again."
        )
    medications = cohort.vocabulary["medications"]
    return Knowledge(
        diagnoses=len(cohort.vocabulary["diagnoses"]),
        procedures=len(cohort.vocabulary["procedures"]),
        drugs=len(medications),
        interacts=interaction_matrix(medications, pairs),
        co_prescribed=co_prescription_matrix(cohort),
        structures=tuple(structures.get(code, ()) for code in medications),
        cache=cache,
    )
