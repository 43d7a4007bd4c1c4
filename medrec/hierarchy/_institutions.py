"""Two institutions whose codes are to be matched, with the truth where it is known.

    whole      one institution: all visits, nothing to match
    renamed    patients at random in two halves; the second half's codes get other numbers, and
               titles as another hospital would shorten them, or none
    versions   visits coded in ICD-9 against visits coded in ICD-10
    cohorts    the visits of one cohort against those of another, as MIMIC-III against MIMIC-IV

Truth of codes with the same name, as drug classes in ATC have it in every cohort, is that name.
Between ICD-9 and ICD-10 it is the General Equivalence Mappings where the bundle's relations have
them: a code with exactly one equivalent among the codes of the other institution.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64

from medrec.cohort import KINDS, Codes, Kind
from medrec.errors import ConfigError
from medrec.hierarchy._texts import abbreviated
from medrec.knowledge.base import Knowledge
from medrec.knowledge.open_graph import EQUIVALENT
from medrec.knowledge.relations import Relations, node

Titles = Literal["same", "abbreviated", "none"]


@dataclass(frozen=True)
class Institution:
    """The visits and codes of one institution.

    Attributes:
        visits: codes of each visit, by kind.
        rows: rows of the visits in what they were taken from.
        names: codes of each kind.
        titles: title of each code by number, or "".
    """

    visits: Mapping[Kind, Codes]
    rows: Int64[np.ndarray, " visits"]
    names: Mapping[Kind, tuple[str, ...]]
    titles: tuple[str, ...]

    @property
    def sizes(self) -> dict[Kind, int]:
        """Number of codes of each kind."""
        return {kind: len(self.names[kind]) for kind in KINDS}

    @property
    def kinds(self) -> Int64[np.ndarray, " codes"]:
        """Index into `KINDS` of each code's kind."""
        return np.repeat(np.arange(len(KINDS)), [len(self.names[kind]) for kind in KINDS])

    @property
    def frequency(self) -> Int64[np.ndarray, " codes"]:
        """Number of visits with each code."""
        found = [
            np.bincount(self.visits[kind].values, minlength=len(self.names[kind]))
            for kind in KINDS
        ]
        return np.concatenate(found).astype(np.int64)


@dataclass(frozen=True)
class Institutions:
    """Two institutions.

    Attributes:
        source, target: the institutions.
        truth: number in the target of each source code; -1 where it is unknown, or where one of
            the two has no visit with the code.
        shared: source codes that have the same name in the target, and so need no search.
    """

    source: Institution
    target: Institution
    truth: Int64[np.ndarray, " source_codes"]
    shared: Bool[np.ndarray, " source_codes"]


def whole(knowledge: Knowledge) -> Institution:
    """Returns all training visits as one institution."""
    return Institution(
        knowledge.training_visits,
        np.arange(len(knowledge.training_visits["diagnoses"].counts)),
        knowledge.vocabulary,
        titles_of(knowledge),
    )


def titles_of(knowledge: Knowledge) -> tuple[str, ...]:
    """Returns the title of each code by number, or ""."""
    title = dict(zip(knowledge.bundle.nodes, knowledge.titles, strict=True))
    names = (node(kind, code) for kind in KINDS for code in knowledge.vocabulary[kind])
    return tuple(title.get(name, "") for name in names)


def renamed(
    institution: Institution,
    patients: Int64[np.ndarray, " patients"],
    titles: Titles,
    seed: int,
) -> Institutions:
    """Returns two halves of an institution's patients; the second half has other numbers.

    The first half keeps numbers and titles. In the second half each kind's numbers are permuted,
    names are new, and titles are as `titles` says. Nothing is shared: drug classes are renamed,
    too.

    Args:
        institution: whose visits; patient by patient.
        patients: number of visits of each patient.
        titles: of the second half: "same", "abbreviated" by the rule of `_texts`, or "none".
        seed: of halves, numbers and abbreviations.

    Raises:
        ConfigError: there are fewer than two patients, or their visits are not the institution's.
    """
    if len(patients) < 2 or patients.sum() != len(institution.rows):
        raise ConfigError(
            f"Two halves need at least 2 patients whose visits are the institution's "
            f"{len(institution.rows)}, but there are {len(patients)} with {patients.sum()} visits."
        )
    rng = np.random.default_rng(seed)
    second = np.zeros(len(patients), dtype=bool)
    second[rng.permutation(len(patients))[: len(patients) // 2]] = True
    of_second = np.repeat(second, patients)
    number = _permuted(institution.sizes, rng)
    source = _taken(institution, np.flatnonzero(~of_second))
    other = _renumbered(_taken(institution, np.flatnonzero(of_second)), number)
    target = Institution(other.visits, other.rows, other.names, _retitled(other, titles, seed))
    known = (source.frequency > 0) & (target.frequency[number] > 0)
    truth = np.where(known, number, -1)
    return Institutions(source, target, truth, np.zeros(len(truth), dtype=bool))


def versions(knowledge: Knowledge) -> Institutions:
    """Returns the training visits coded in ICD-9 against those coded in ICD-10.

    A visit with codes of both versions, or of neither, belongs to neither institution. Drug
    classes are the same in both.

    Raises:
        ConfigError: there is no visit of one version.
    """
    everything = whole(knowledge)
    has = {version: _coded(everything, version) for version in ("9", "10")}
    found = {}
    for own, other in (("9", "10"), ("10", "9")):
        rows = np.flatnonzero(has[own] & ~has[other])
        if not len(rows):
            raise ConfigError(
                f"`versions` needs visits coded in ICD-9 and visits coded in ICD-10, but no "
                f"training visit is coded in ICD-{own} alone."
            )
        found[own] = _used(_taken(everything, rows))
    return _matched(found["9"], found["10"], [knowledge.bundle.relations])


def two_cohorts(source: Knowledge, target: Knowledge) -> Institutions:
    """Returns the training visits of one cohort against those of another."""
    relations = [source.bundle.relations, target.bundle.relations]
    return _matched(_used(whole(source)), _used(whole(target)), relations)


def _taken(institution: Institution, rows: Int64[np.ndarray, " some"]) -> Institution:
    visits = {kind: institution.visits[kind].take(rows) for kind in KINDS}
    return Institution(visits, institution.rows[rows], institution.names, institution.titles)


def _permuted(sizes: Mapping[Kind, int], rng: np.random.Generator) -> Int64[np.ndarray, " codes"]:
    """Returns the new number of each code; kinds stay together."""
    first, numbers = 0, []
    for kind in KINDS:
        numbers.append(first + rng.permutation(sizes[kind]))
        first += sizes[kind]
    return np.concatenate(numbers).astype(np.int64)


def _renumbered(institution: Institution, number: Int64[np.ndarray, " codes"]) -> Institution:
    """Returns the institution with code c called number[c], and with names of its own."""
    visits: dict[Kind, Codes] = {}
    first = 0
    for kind, size in institution.sizes.items():
        place = number[first : first + size] - first
        visits[kind] = _ascending(institution.visits[kind], place)
        first += size
    back = np.argsort(number)
    titles = tuple(institution.titles[old] for old in back.tolist())
    names: dict[Kind, tuple[str, ...]] = {
        kind: tuple(f"local:{i}" for i in range(size)) for kind, size in institution.sizes.items()
    }
    return Institution(visits, institution.rows, names, titles)


def _ascending(codes: Codes, place: Int64[np.ndarray, " codes"]) -> Codes:
    """Returns the codes by their new numbers, ascending within each visit."""
    visit = np.repeat(np.arange(len(codes.counts)), codes.counts)
    values = place[codes.values]
    order = np.lexsort((values, visit))
    return Codes(codes.offsets, values[order].astype(codes.values.dtype))


def _retitled(institution: Institution, titles: Titles, seed: int) -> tuple[str, ...]:
    if titles == "same":
        return institution.titles
    if titles == "none":
        return ("",) * len(institution.titles)
    return tuple(abbreviated(title, seed) for title in institution.titles)


def _coded(institution: Institution, version: str) -> Bool[np.ndarray, " visits"]:
    """Returns which visits have a diagnosis or procedure of a version of ICD."""
    coded = np.zeros(len(institution.rows), dtype=bool)
    for kind in KINDS[:2]:
        names = institution.names[kind]
        own = np.fromiter((name.startswith(f"{version}:") for name in names), bool, len(names))
        codes = institution.visits[kind]
        visit = np.repeat(np.arange(len(coded)), codes.counts)
        coded[visit[own[codes.values]]] = True
    return coded


def _used(institution: Institution) -> Institution:
    """Returns the institution with the codes that its visits have, and no others."""
    visits: dict[Kind, Codes] = {}
    names: dict[Kind, tuple[str, ...]] = {}
    titles: list[str] = []
    first = 0
    for kind in KINDS:
        own = institution.names[kind]
        used, values = np.unique(institution.visits[kind].values, return_inverse=True)
        visits[kind] = Codes(institution.visits[kind].offsets, values.astype(np.int32))
        names[kind] = tuple(own[i] for i in used.tolist())
        titles += [institution.titles[first + i] for i in used.tolist()]
        first += len(own)
    return Institution(visits, institution.rows, names, tuple(titles))


def _matched(
    source: Institution, target: Institution, relations: Iterable[Relations]
) -> Institutions:
    """Returns the institutions with the truth that names and equivalence mappings tell."""
    number = {name: i for i, name in enumerate(_nodes(target))}
    names = _nodes(source)
    shared = np.fromiter((name in number for name in names), bool, len(names))
    wanted = set(names)
    equal: defaultdict[str, set[int]] = defaultdict(set)
    for graph in relations:
        for one, other in _equivalents(graph):
            if one in wanted and other in number:
                equal[one].add(number[other])
    truth = np.full(len(names), -1, dtype=np.int64)
    for i, name in enumerate(names):
        if name in number:
            truth[i] = number[name]
        elif len(equal[name]) == 1:
            truth[i] = min(equal[name])
    return Institutions(source, target, truth, shared)


def _nodes(institution: Institution) -> list[str]:
    return [node(kind, name) for kind in KINDS for name in institution.names[kind]]


def _equivalents(graph: Relations) -> list[tuple[str, str]]:
    """Returns the pairs of equivalent nodes, in both orders."""
    if EQUIVALENT not in graph.relations:
        return []
    rows = graph.triples[graph.triples[:, 1] == graph.relations.index(EQUIVALENT)]
    pairs = [(graph.nodes[head], graph.nodes[tail]) for head, _, tail in rows.tolist()]
    return [*pairs, *((tail, head) for head, tail in pairs)]
