"""Stage I of MASH: a vector of each code, [text half ; co-occurrence half], of both institutions.

Codes of the source institution are mapped into the target's space; a code that is matched with a
code of the target shares one vector with it, the mean of the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from medrec.cohort import KINDS
from medrec.hierarchy import _cooccurrence
from medrec.hierarchy._alignment import ALIGNMENTS, Vectors, blocks, draw_anchors, neural_ot
from medrec.hierarchy._institutions import (
    Institution,
    Institutions,
    Titles,
    renamed,
    two_cohorts,
    versions,
    whole,
)
from medrec.hierarchy._matching import merged, ranks
from medrec.hierarchy._skeleton import Skeleton
from medrec.hierarchy._texts import text_half
from medrec.knowledge.base import Knowledge
from medrec.knowledge.relations import node

Alignment = Literal["none", "identity", "procrustes", "sinkhorn", "neural_ot"]
Division = Literal["whole", "renamed", "versions"]


@dataclass(frozen=True)
class StageOne:
    """Settings; see `medrec.hierarchy.mash` for ranges and sources."""

    institutions: Division
    second_titles: Titles
    alignment: Alignment
    anchors: float
    transport_steps: int
    merge_threshold: float
    code_dim: int
    shift: float
    prior_visits: float
    use_text: bool
    use_cooccurrence: bool
    use_labels: bool


@dataclass(frozen=True)
class Matches:
    """How codes were matched; by number of the knowledge's codes.

    Attributes:
        rank: of the true match of each code, nan where it is unknown.
        scored: codes that count: neither anchors, nor shared by name.
        pairs: how many pairs share a vector.
    """

    rank: Float64[np.ndarray, " codes"]
    scored: Bool[np.ndarray, " codes"]
    pairs: int


@dataclass(frozen=True)
class Made:
    """What stage I gives.

    Attributes:
        codes: vectors of the codes, by number.
        titles: vectors of the titles of known nodes, with zeros for the co-occurrence half.
        matches: none of one institution alone.
    """

    codes: Float64[np.ndarray, "codes dim"]
    titles: Float64[np.ndarray, "inner dim"]
    matches: Matches | None


def stage_one(knowledge: Knowledge, known: Skeleton, settings: StageOne, seed: int) -> Made:
    """Returns vectors of codes and of known nodes' titles.

    Raises:
        ConfigError: the training visits do not divide into the institutions asked for.
    """
    everything = whole(knowledge)
    inner = known.titles[known.codes :]
    if not settings.use_labels:  # what categories are called is part of a known hierarchy
        inner = ("",) * len(inner)
    half = settings.code_dim // 2
    if settings.institutions == "whole":
        text, titles = _texts([everything.titles, inner], (), settings)
        joined = np.concatenate([text, _together(everything, settings)], axis=1)
        return Made(joined, _padded(titles, half), None)
    if settings.institutions == "renamed":
        patients = knowledge.training_patients
        both = renamed(everything, patients, settings.second_titles, seed)
    else:
        both = versions(knowledge)
    sides, titles = _sides(both, inner, settings)
    number = _numbers(knowledge)
    codes, matches = _joined(both, sides, number, settings, seed)
    return Made(codes, _padded(titles, half), matches)


@dataclass(frozen=True)
class CodePairs:
    """Codes of two cohorts that were taken for the same.

    Attributes:
        source, target: node of each pair's code.
        source_titles, target_titles: their titles, or "".
        cosine: of the mapped source vector and the target's.
        given: whether the pair has one name in both, and was not searched for.
        rank: of the known equivalent of each source code that has one, nan for the others; those
            with one name in both are not counted.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    source_titles: tuple[str, ...]
    target_titles: tuple[str, ...]
    cosine: Float64[np.ndarray, " pairs"]
    given: Bool[np.ndarray, " pairs"]
    rank: Float64[np.ndarray, " source_codes"]


def match_cohorts(
    source: Knowledge, target: Knowledge, settings: StageOne, seed: int
) -> CodePairs:
    """Returns which codes of two cohorts are taken for the same.

    Args:
        source: knowledge of one cohort.
        target: of the other.
        settings: `institutions` and `second_titles` do not matter.
        seed: of neural transport, and of the anchors.
    """
    both = two_cohorts(source, target)
    sides, _ = _sides(both, (), settings)
    numbers = np.arange(len(both.truth))
    mapped, pairs, matches = _aligned(both, sides, numbers, len(numbers), settings, seed)
    order = np.argsort(pairs[:, 0], kind="stable")
    ours, theirs = pairs[order].T
    there = sides[1].joined[theirs]
    lengths = np.linalg.norm(mapped[ours], axis=1) * np.linalg.norm(there, axis=1)
    products = (mapped[ours] * there).sum(axis=1)
    cosine = np.divide(products, lengths, out=np.zeros(len(ours)), where=lengths > 0)
    names = [_nodes(side) for side in (both.source, both.target)]
    titles = [side.titles for side in (both.source, both.target)]
    return CodePairs(
        source=tuple(names[0][i] for i in ours.tolist()),
        target=tuple(names[1][i] for i in theirs.tolist()),
        source_titles=tuple(titles[0][i] for i in ours.tolist()),
        target_titles=tuple(titles[1][i] for i in theirs.tolist()),
        cosine=cosine,
        given=both.shared[ours],
        rank=np.where(matches.scored, matches.rank, np.nan),
    )


def _texts(
    first: list[tuple[str, ...]], second: tuple[str, ...], settings: StageOne
) -> list[Float64[np.ndarray, "titles half"]]:
    """Returns vectors of lists of titles, the second institution's last where there is one."""
    half = settings.code_dim // 2
    if not settings.use_text:
        counts = [len(titles) for titles in first] + ([len(second)] if second else [])
        return [np.zeros((count, half)) for count in counts]
    own, other = text_half(tuple(title for titles in first for title in titles), second, half)
    ends = np.cumsum([len(titles) for titles in first])[:-1]
    return [*np.split(own, ends), *([other] if second else [])]


def _together(institution: Institution, settings: StageOne) -> Float64[np.ndarray, "codes half"]:
    """Returns the co-occurrence half: counts of visits, SPPMI, singular vectors."""
    half = settings.code_dim // 2
    if not settings.use_cooccurrence:
        return np.zeros((len(institution.titles), half))
    has = _cooccurrence.occurrences(institution.visits, institution.sizes)
    information = _cooccurrence.sppmi(_cooccurrence.counts(has), settings.shift)
    vectors = _cooccurrence.embed(information, half)
    return _cooccurrence.trusted(vectors, institution.frequency, settings.prior_visits)


def _padded(
    titles: Float64[np.ndarray, "inner half"], half: int
) -> Float64[np.ndarray, "inner dim"]:
    return np.concatenate([titles, np.zeros((len(titles), half))], axis=1)


def _sides(
    both: Institutions, inner: tuple[str, ...], settings: StageOne
) -> tuple[tuple[Vectors, Vectors], Float64[np.ndarray, "inner half"]]:
    """Returns the vectors of source and target, and those of known nodes' titles."""
    texts = _texts([both.source.titles, inner], both.target.titles, settings)
    found = tuple(
        Vectors(text, _together(side, settings), side.kinds, side.frequency)
        for side, text in ((both.source, texts[0]), (both.target, texts[2]))
    )
    return (found[0], found[1]), texts[1]


def _numbers(knowledge: Knowledge) -> dict[str, int]:
    """Returns the number of each code by its node."""
    names = [node(kind, code) for kind in KINDS for code in knowledge.vocabulary[kind]]
    return {name: number for number, name in enumerate(names)}


def _joined(
    both: Institutions,
    sides: tuple[Vectors, Vectors],
    number: Mapping[str, int],
    settings: StageOne,
    seed: int,
) -> tuple[Float64[np.ndarray, "codes dim"], Matches | None]:
    """Returns vectors of the knowledge's codes, and the matches that they rest on.

    A code that only one institution has takes its vector; codes of the target that have another
    name in the knowledge (renamed ones) enter through their matches alone.
    """
    source, target = sides
    where = [
        np.array([number.get(name, -1) for name in _nodes(side)], dtype=np.int64)
        for side in (both.source, both.target)
    ]
    codes = np.zeros((len(number), source.joined.shape[1]))
    if settings.alignment == "none":
        mapped, pairs, matches = source.joined, np.empty((0, 2), dtype=np.int64), None
    else:
        mapped, pairs, matches = _aligned(both, sides, where[0], len(number), settings, seed)
    moved = target.joined
    mean = (mapped[pairs[:, 0]] + moved[pairs[:, 1]]) / 2
    mapped, moved = mapped.copy(), moved.copy()
    mapped[pairs[:, 0]], moved[pairs[:, 1]] = mean, mean
    for rows, vectors in ((where[1], moved), (where[0], mapped)):
        codes[rows[rows >= 0]] = vectors[rows >= 0]
    return codes, matches


def _aligned(
    both: Institutions,
    sides: tuple[Vectors, Vectors],
    numbers: Int64[np.ndarray, " source_codes"],
    codes: int,
    settings: StageOne,
    seed: int,
) -> tuple[Float64[np.ndarray, "source_codes dim"], Int64[np.ndarray, "pairs 2"], Matches]:
    """Returns the mapped source vectors, the pairs to merge, and how right the ranks are."""
    source, target = sides
    anchors = draw_anchors(both.truth, settings.anchors, seed)
    shared = np.flatnonzero(both.shared)
    given = np.concatenate([anchors, np.stack([shared, both.truth[shared]], axis=1)])
    given = given[np.unique(given[:, 0], return_index=True)[1]]
    align = ALIGNMENTS[settings.alignment]
    if settings.alignment == "neural_ot":
        align = partial(neural_ot, steps=settings.transport_steps)
    mapped = align(source, target, given, seed)
    there, where = target.joined, blocks(source, target)
    found = merged(mapped, there, where, settings.merge_threshold)
    free = ~np.isin(found[:, 0], given[:, 0]) & ~np.isin(found[:, 1], given[:, 1])
    pairs = np.concatenate([given, found[free]])
    rank, scored = np.full(codes, np.nan), np.zeros(codes, dtype=bool)
    rank[numbers] = ranks(mapped, there, both.truth, where, scaled=True)
    scored[numbers] = ~np.isin(np.arange(len(both.truth)), given[:, 0])
    return mapped, pairs, Matches(rank, scored, len(pairs))


def _nodes(institution: Institution) -> list[str]:
    return [node(kind, name) for kind in KINDS for name in institution.names[kind]]
