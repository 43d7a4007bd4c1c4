"""Phenotypes of the next visit: labels, features, and how well they are predicted.

A phenotype is a group of diagnoses: a single-level CCS category where the bundle's relations hold
them, else the node just below the root of the tree in those relations (a block of ICD-9-CM or, of
ICD-10-CM in a bundle without files, a three-character category; a code without a parent is a group
of its own). The labels are the 25 of most training visits. The bundle's own tree is not read: an
arm of a study may put another in its place, and arms must be asked for the same phenotypes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64
from scipy import sparse

from medrec.cohort import KINDS, Codes, Kind
from medrec.generation._histories import Histories
from medrec.generation._ranking import Influence, auroc, average_precision
from medrec.generation._regressions import regressions
from medrec.knowledge.bundle import Bundle
from medrec.knowledge.open_graph import HAS_PARENT, IN_CATEGORY
from medrec.knowledge.relations import Relations, node

LABELS = 25
_INVERSE_REGULARISATION = 0.03
"""Of 1, 0.1, 0.03, 0.01 and 0.003 the best by mean AUROC on the validation split of a synthetic
cohort, fitted to 70 or to 400 real patients; with 4,191 it has 0.662, and 0.01 has 0.667."""


@dataclass(frozen=True)
class Phenotypes:
    """Groups of diagnoses.

    Attributes:
        names: of the groups, nodes of the knowledge.
        member: 1 where a diagnosis belongs to a group.
        ccs: whether they are CCS categories.
    """

    names: tuple[str, ...]
    member: sparse.csr_matrix  # [diagnoses, phenotypes]
    ccs: bool

    def coded(self, diagnoses: Codes) -> Bool[np.ndarray, "visits phenotypes"]:
        """Returns which phenotypes each visit has a code of."""
        return self._counts(diagnoses).toarray() > 0

    def visits(self, diagnoses: Codes) -> Int64[np.ndarray, " phenotypes"]:
        """Returns how many visits have a code of each phenotype."""
        return self._counts(diagnoses).getnnz(axis=0).astype(np.int64)

    def _counts(self, diagnoses: Codes) -> sparse.csr_matrix:
        return _ones(diagnoses, self.member.shape[0]) @ self.member


def phenotypes(diagnoses: tuple[str, ...], bundle: Bundle, training: Codes) -> Phenotypes:
    """Returns the commonest groups of diagnoses; of equally common ones the earlier by name.

    Args:
        diagnoses: the vocabulary.
        bundle: what the groups are read from.
        training: diagnoses of the training patients' visits.
    """
    nodes = {node("diagnoses", code): code for code in diagnoses}
    category = _tails(bundle.relations, IN_CATEGORY)
    found = {code: category[name] for name, code in nodes.items() if name in category}
    parents = _tails(bundle.relations, HAS_PARENT)
    group = found or {code: _below_root(name, parents) for name, code in nodes.items()}
    names = sorted(set(group.values()))
    place = {name: i for i, name in enumerate(names)}
    pairs = [(i, place[group[code]]) for i, code in enumerate(diagnoses) if code in group]
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    shape = (len(diagnoses), len(names))
    every = Phenotypes(
        tuple(names), sparse.csr_matrix((np.ones(len(pairs)), (rows, columns)), shape), bool(found)
    )
    visits = every.visits(training)
    kept = np.argsort(-visits, kind="stable")[: min(LABELS, int((visits > 0).sum()))]
    return Phenotypes(tuple(names[i] for i in kept), every.member[:, kept], every.ccs)


def _tails(graph: Relations, relation: str) -> dict[str, str]:
    """Returns what a relation leads to from each node; nothing where there is no such relation."""
    if relation not in graph.relations:
        return {}
    triples = graph.triples[graph.triples[:, 1] == graph.relations.index(relation)]
    return {graph.nodes[head]: graph.nodes[tail] for head, _, tail in triples.tolist()}


def _below_root(name: str, parents: Mapping[str, str]) -> str:
    """Returns the ancestor whose parent is a root; the node itself if it has no grandparent."""
    while (above := parents.get(name, "")) in parents:
        name = above
    return name


@dataclass(frozen=True)
class Transitions:
    """Visits that have a next one.

    Attributes:
        features: codes of the visit, then codes of any earlier visit of the patient; 1 where
            there is such a code.
        target: phenotypes coded at the next visit.
        patient: position of each one's patient.
    """

    features: sparse.csr_matrix
    target: Bool[np.ndarray, "transitions phenotypes"]
    patient: Int64[np.ndarray, " transitions"]


def transitions(
    of: Histories, vocabulary: Mapping[Kind, tuple[str, ...]], labels: Phenotypes
) -> Transitions:
    """Returns the visits that have a next one, patient by patient."""
    own = [_ones(of.codes[kind], len(vocabulary[kind])) for kind in KINDS]
    codes = sparse.hstack(own, format="csr")
    ends = np.cumsum(of.visits)
    before = np.setdiff1d(np.arange(codes.shape[0]), ends - 1)
    features = sparse.hstack([codes, _earlier(codes, of.patient, ends)], format="csr")
    target = labels.coded(of.codes["diagnoses"])
    return Transitions(features[before], target[before + 1], of.patient[before])


def _earlier(
    codes: sparse.csr_matrix, patient: Int64[np.ndarray, " visits"], ends: np.ndarray
) -> sparse.csr_matrix:
    """Returns 1 where an earlier visit of the same patient has the code."""
    visit = np.repeat(np.arange(codes.shape[0]), np.diff(codes.indptr))
    key = patient[visit] * codes.shape[1] + codes.indices
    _, place = np.unique(key, return_index=True)  # entries in the order of visits: the first
    since, code = visit[place] + 1, codes.indices[place]
    counts = ends[patient[visit[place]]] - since
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = np.repeat(since, counts) + within
    entries = (np.ones(len(rows)), (rows, np.repeat(code, counts)))
    return sparse.csr_matrix(entries, shape=codes.shape)


def _ones(codes: Codes, size: int) -> sparse.csr_matrix:
    shape = (len(codes.offsets) - 1, size)
    return sparse.csr_matrix((np.ones(len(codes.values)), codes.values, codes.offsets), shape)


def fit(training: Transitions) -> Float32[np.ndarray, "weights phenotypes"]:
    """Returns a logistic regression for each phenotype, the intercept in the last row."""
    return regressions(training.features, training.target, _INVERSE_REGULARISATION)


def judged(
    weights: Float32[np.ndarray, "weights phenotypes"], test: Transitions, patients: int
) -> tuple[Influence, Influence, int]:
    """Returns the mean AUROC and average precision over phenotypes, with patients' influences.

    Phenotypes without both values among the test transitions are left out.

    Returns:
        AUROC, average precision, and the number of phenotypes that count; with none of them the
        values and influences are 0.
    """
    scores = test.features @ weights[:-1] + weights[-1]
    both = np.flatnonzero(test.target.any(axis=0) & ~test.target.all(axis=0))
    means = []
    for statistic in (auroc, average_precision):
        value, influence = 0.0, np.zeros(patients)
        for label in both:
            its = statistic(scores[:, label], test.target[:, label], test.patient, patients)
            value, influence = value + its[0] / len(both), influence + its[1] / len(both)
        means.append((value, influence))
    return means[0], means[1], len(both)
