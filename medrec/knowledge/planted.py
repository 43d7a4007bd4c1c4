"""The relations that are planted in the synthetic cohort: invented for testing software.

No statement here is medical knowledge. Pairs of common codes are related, or not, by a hash of
their names, and a hash names the relation too, out of KindMed's 26. The synthetic data set can
give a drug where both ends of a relation are recorded (its option `relations`), so that a model
that is told these relations can be seen to profit from them, and one that is not, not.

`embedded/planted_codes.csv` lists the codes: of the synthetic cohort's diagnoses and procedures,
ordered by frequency, the first 500 and 150 after the 25 commonest. The commonest are left out
since a pair of them could simply be learned by heart. So a visit has 1.5 related pairs in the
mean, every other visit has one, and no pair is found at more than 1 % of visits.
"""

import csv
import hashlib
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt64

from medrec.cohort import Kind
from medrec.knowledge.relations import node
from medrec.knowledge.semmeddb import KINDMED_RELATIONS

RELATION_NAMES = tuple("/".join(each) for each in KINDMED_RELATIONS)
"""KindMed's 26 relations as `semmeddb.kindmed_relations` names them, in its order."""

SHARE = 0.05  # of all pairs of codes that are related
_CODES = Path(__file__).parent / "embedded" / "planted_codes.csv"
_WORD = 2.0**64
Triple = tuple[str, str, str]


@cache
def planted_relations() -> tuple[Triple, ...]:
    """Returns every planted (head, relation, tail) by name, ascending.

    A pair of codes has at most one relation, in one direction. Ends are nodes, "diagnoses/9:4280",
    and relations are out of `RELATION_NAMES`.
    """
    nodes = [node(kind, code) for kind, codes in planted_codes().items() for code in codes]
    kinds = [name.partition("/")[0] for name in nodes]
    word = np.array([_word(name) for name in nodes], dtype=np.uint64)
    first, second = np.triu_indices(len(nodes), 1)
    # The sum is the same in either order of the ends, so the order of the file means nothing.
    mixed = _mixed(word[first] + word[second])
    related = np.flatnonzero(mixed / _WORD < SHARE)
    pairs = zip(first[related].tolist(), second[related].tolist(), strict=True)
    choice = _mixed(mixed[related]).tolist()
    triples = []
    for (a, b), number in zip(pairs, choice, strict=True):
        options = _options(kinds[a], kinds[b])
        relation, forward = options[number % len(options)]
        triples.append(
            (nodes[a], relation, nodes[b]) if forward else (nodes[b], relation, nodes[a])
        )
    return tuple(sorted(triples))


@cache
def planted_digest() -> str:
    """Returns the sha256 (64 hexadecimal digits) of the planted relations."""
    text = "\n".join(" ".join(triple) for triple in planted_relations())
    return hashlib.sha256(text.encode()).hexdigest()


def planted_codes() -> dict[Kind, tuple[str, ...]]:
    """Returns the diagnoses and procedures that have relations, commoner ones first."""
    rows = list(csv.DictReader(_CODES.read_text("utf-8").splitlines()))
    kinds: tuple[Kind, Kind] = ("diagnoses", "procedures")
    return {kind: tuple(row["code"] for row in rows if row["kind"] == kind) for kind in kinds}


@cache
def _options(first: str, second: str) -> tuple[tuple[str, bool], ...]:
    """Returns the relations that two kinds can have, each with whether it leads from the first."""
    named = list(zip(RELATION_NAMES, KINDMED_RELATIONS, strict=True))
    forward = [(name, True) for name, ends in named if ends[1:] == (first, second)]
    return (*forward, *((name, False) for name, ends in named if ends[1:] == (second, first)))


def _word(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def _mixed(words: UInt64[np.ndarray, " words"]) -> UInt64[np.ndarray, " words"]:
    """Returns each word scrambled: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
