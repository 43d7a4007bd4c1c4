"""Everything a model is told besides the training visits."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from medrec import splits
from medrec.cohort import KINDS, Codes, Cohort, Kind
from medrec.errors import KnowledgeError
from medrec.knowledge import ontologies, tables
from medrec.knowledge.built_in import built_in_bundle, built_in_fingerprint
from medrec.knowledge.bundle import Bundle, open_bundle, vocabulary_digest
from medrec.knowledge.molecules import Molecules, load_molecules
from medrec.knowledge.planted_titles import planted_titles
from medrec.spec import KnowledgeSpec, Ontology


@dataclass(frozen=True)
class Knowledge:
    """Sizes of the vocabularies, interaction graph, co-prescription graph, molecules.

    Attributes:
        diagnoses, procedures, drugs: vocabulary sizes.
        interacts: drug classes that interact, symmetric, zero diagonal.
        co_prescribed: drug classes prescribed together at a visit of a *training* patient.
        structures: SMILES of each drug class, possibly none.
        vocabulary: codes of each kind.
        genders, groups: number of each in the cohort.
        training_visits: codes of each visit of a *training* patient, for graphs made of visits.
        training_patients: how many of these visits each training patient has, in their order.
        bundle: hierarchies, relations and text vectors: the study's, or the built-in one.
        cache: folder for derived molecule graphs; None computes them anew.
        planted_titles: invented titles of a synthetic cohort's codes, by node; none elsewhere.
    """

    diagnoses: int
    procedures: int
    drugs: int
    interacts: Bool[np.ndarray, "drugs drugs"]
    co_prescribed: Bool[np.ndarray, "drugs drugs"]
    structures: tuple[tuple[str, ...], ...]
    vocabulary: Mapping[Kind, tuple[str, ...]]
    genders: int
    groups: int
    training_visits: Mapping[Kind, Codes]
    training_patients: Int64[np.ndarray, " patients"]
    bundle: Bundle
    cache: Path | None = None
    planted_titles: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def titles(self) -> tuple[str, ...]:
        """Title of each node of the bundle, or "": a planted one where the bundle has none."""
        named = zip(self.bundle.nodes, self.bundle.titles, strict=True)
        return tuple(title or self.planted_titles.get(name, "") for name, title in named)

    def require_structures(self, model: str) -> None:
        """Raises `KnowledgeError`, which names the model, if no drug class has a structure."""
        if not any(self.structures):
            raise KnowledgeError(
                f"{model} needs a molecule structure for at least one drug class of the cohort, "
                "but `knowledge.structures` has none. Name a table with the cohort's atc3 codes."
            )

    @cached_property
    def molecules(self) -> Molecules:
        """Molecule graphs and fragments of all drug classes, made on first use."""
        return load_molecules(self.structures, self.cache)


@dataclass(frozen=True)
class Tables:
    """What a `KnowledgeSpec` stands for, before it is narrowed to a vocabulary.

    Attributes:
        interactions: pairs of drug classes.
        structures: SMILES of each drug class.
        bundle: where the spec names one; otherwise the built-in one stands in its place.
        fingerprint: sha256 of the content.
    """

    interactions: tuple[tuple[str, str], ...]
    structures: Mapping[str, tuple[str, ...]]
    bundle: Bundle | None
    fingerprint: str


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


def training_visits(cohort: Cohort) -> dict[Kind, Codes]:
    """Returns the codes of the training patients' visits, a row a visit, patient by patient."""
    rows = cohort.visits_of(cohort.members(splits.TRAIN))
    return {kind: cohort.codes[kind].take(rows) for kind in KINDS}


def read_tables(spec: KnowledgeSpec, cohort: Cohort) -> Tables:
    """Returns the interacting pairs, structures, bundle and fingerprint that a spec stands for.

    Raises:
        KnowledgeError: a table or the bundle is missing or malformed, or the bundle was made for a
            cohort with other codes.
    """
    if spec.bundle is None:
        if spec.ontology == "ccs":
            ontologies.require_categories(None)
        pairs = tables.read_interactions(spec.interactions)
        structures = tables.read_structures(spec.structures)
        parts = tables.fingerprint(pairs, structures) + built_in_fingerprint()
        digest = hashlib.sha256(parts.encode()).hexdigest()
        return Tables(pairs, structures, None, _with_ontology(digest, spec.ontology))
    bundle = open_bundle(Path(spec.bundle))
    if bundle.vocabulary != vocabulary_digest(cohort):
        raise KnowledgeError(
            f"The knowledge bundle {spec.bundle} was made for a cohort with other codes. Make one "
            "for this cohort with `medsweep data knowledge --cohort DIR --out DIR`."
        )
    if spec.ontology == "ccs":
        ontologies.require_categories(bundle)
    digest = _with_ontology(bundle.fingerprint, spec.ontology)
    return Tables(tuple(bundle.interactions), bundle.structures, bundle, digest)


def _with_ontology(digest: str, ontology: Ontology) -> str:
    """Returns the fingerprint of knowledge under a hierarchy; the usual one changes nothing."""
    if ontology == "icd":
        return digest
    text = f"{digest} {ontology} {ontologies.VERSION}"
    return hashlib.sha256(text.encode()).hexdigest()


def load_knowledge(cohort: Cohort, spec: KnowledgeSpec, cache: Path | None = None) -> Knowledge:
    """Returns the knowledge for a cohort.

    Raises:
        KnowledgeError: a table or the bundle is malformed, differs from what the plan read, or
            the bundle is for another cohort.
    """
    found = read_tables(spec, cohort)
    if spec.fingerprint and found.fingerprint != spec.fingerprint:
        source = spec.bundle or f"{spec.interactions}, {spec.structures}"
        raise KnowledgeError(
            f"The knowledge ({source}) has fingerprint {found.fingerprint[:12]}, but the plan "
            f"read {spec.fingerprint[:12]}. It changed meanwhile; run the study again."
        )
    medications = cohort.vocabulary["medications"]
    return Knowledge(
        diagnoses=len(cohort.vocabulary["diagnoses"]),
        procedures=len(cohort.vocabulary["procedures"]),
        drugs=len(medications),
        interacts=interaction_matrix(medications, found.interactions),
        co_prescribed=co_prescription_matrix(cohort),
        structures=tuple(found.structures.get(code, ()) for code in medications),
        vocabulary=cohort.vocabulary,
        genders=len(cohort.genders),
        groups=len(cohort.groups),
        training_visits=training_visits(cohort),
        training_patients=cohort.visits[cohort.members(splits.TRAIN)].astype(np.int64),
        bundle=_under(
            spec.ontology,
            found.bundle or built_in_bundle(cohort, found.interactions, found.structures),
            cohort,
        ),
        cache=cache,
        planted_titles=planted_titles() if cohort.provenance.dataset == "synthetic" else {},
    )


def _under(ontology: Ontology, bundle: Bundle, cohort: Cohort) -> Bundle:
    """Returns the bundle with the hierarchy; a learned one is put in its place once learned."""
    if ontology == "none":
        return ontologies.without_parents(bundle)
    if ontology == "ccs":
        return ontologies.in_categories(bundle, cohort.vocabulary)
    return bundle
