"""Effects planted on top of the law of prescriptions: invented for testing software.

ontology      a rare diagnosis causes the drug of the block of the ICD tree that it belongs to
relations     two codes of one visit that have a planted relation cause the relation's drug
courses       after a visit with the first drug of a course, the next visit has its next drug
reactions     after a visit at which two drugs interact, the next has the drugs of a reaction

Which drug a block, a relation or a course causes is fixed by one permutation, whatever the
options. There are not drugs enough for all: what follows in a course is the drug of a block too.
No rule here is medical knowledge.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64

from medrec.cohort import Kind
from medrec.datasets._prescriptions import Effects, Law
from medrec.datasets._rare_codes import rare_blocks
from medrec.knowledge.planted import RELATION_NAMES, planted_codes, planted_relations
from medrec.knowledge.relations import node

_POPULAR = 30  # most popular drugs, which no planted effect causes: it would hardly show
_RULE_SEED = 26
# Given at 20 to 60 % of visits, with little avoidance of interactions and with much.
_FIRST_OF_COURSES = ("N02A", "A12C", "B05B", "C01D")
_NEXT = 4  # drugs of a course that follow its first one
_REACTION = 8  # drugs that a reaction is treated with
_KINDS: tuple[Kind, Kind] = ("diagnoses", "procedures")


@dataclass(frozen=True)
class Planted:
    """How strong each effect is: a probability; 0 switches it off."""

    ontology: float
    relations: float
    courses: float
    reactions: float


@dataclass(frozen=True)
class Visits:
    """The codes of the visits: rows of `visit` key and `code`, and the keys in order."""

    keys: Int64[np.ndarray, " visits"]
    codes: dict[Kind, pd.DataFrame]

    def rows(self, kind: Kind) -> Int64[np.ndarray, " codes"]:
        """Returns the place of the visit of each code."""
        found = pd.Index(self.keys).get_indexer(self.codes[kind]["visit"])
        return found.astype(np.int64)


def planted_drugs(law: Law) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the drug class that each of the 26 relations and each block causes, all distinct."""
    free = [law.drugs[drug] for drug in law.order[_POPULAR:]]
    shuffled = [free[i] for i in np.random.default_rng(_RULE_SEED).permutation(len(free))]
    relations = dict(zip(RELATION_NAMES, shuffled, strict=False))
    blocks = dict(zip(rare_blocks(), shuffled[len(relations) :], strict=False))
    return relations, blocks


def reaction_drugs(law: Law) -> Int64[np.ndarray, " drugs"]:
    """Returns the drugs of a reaction, ascending: of those free, the ones that interact least."""
    relations, blocks = planted_drugs(law)
    taken = {*relations.values(), *blocks.values()}
    free = [drug for drug in law.order[_POPULAR:] if law.drugs[drug] not in taken]
    free.sort(key=lambda drug: (len(law.neighbours[drug]), law.drugs[drug]))
    return np.sort(np.array(free[:_REACTION], dtype=np.int64))


def course_drugs(law: Law) -> Int64[np.ndarray, "courses 2"]:
    """Returns pairs of a course's first drug, a common one, and each of its next drugs."""
    _, blocks = planted_drugs(law)
    following = [law.drugs.index(name) for name in blocks.values()]
    first = np.repeat([law.drugs.index(name) for name in _FIRST_OF_COURSES], _NEXT)
    return np.stack([first, np.array(following[: len(first)], dtype=np.int64)], axis=1)


def make_effects(
    law: Law,
    visits: Visits,
    planted: Planted,
    streams: tuple[np.random.Generator, ...],
) -> Effects | None:
    """Returns what the effects do at each visit, or None if all are switched off.

    Args:
        law: drugs and their popularity are taken from it.
        visits: codes of all visits.
        planted: strengths.
        streams: of ontology, relations, reactions and courses, so that none depends on another.
    """
    if not any((planted.ontology, planted.relations, planted.courses, planted.reactions)):
        return None
    added = np.zeros((len(law.drugs), len(visits.keys)), dtype=bool)
    of_relations, of_blocks = planted_drugs(law)
    if planted.ontology:
        present = _blocks_present(visits)
        drugs = [law.drugs.index(name) for name in of_blocks.values()]
        added[drugs] |= present & (streams[0].random(present.shape) < planted.ontology)
    if planted.relations:
        present = relations_present(visits)
        drugs = [law.drugs.index(name) for name in of_relations.values()]
        added[drugs] |= present & (streams[1].random(present.shape) < planted.relations)
    reacts = streams[2].random(len(visits.keys)) < planted.reactions
    courses = course_drugs(law)
    continues = streams[3].random((len(courses), len(visits.keys))) < planted.courses
    return Effects(added, courses, continues, reaction_drugs(law), reacts)


def _blocks_present(visits: Visits) -> Bool[np.ndarray, "blocks visits"]:
    """Returns which blocks have a rare code at each visit."""
    blocks = rare_blocks()
    number = {code: i for i, codes in enumerate(blocks.values()) for code in codes}
    which = visits.codes["diagnoses"]["code"].map(number)
    known = which.notna().to_numpy()
    present = np.zeros((len(blocks), len(visits.keys)), dtype=bool)
    present[which[known].to_numpy(np.int64), visits.rows("diagnoses")[known]] = True
    return present


def relations_present(visits: Visits) -> Bool[np.ndarray, "relations visits"]:
    """Returns which of the 26 relations hold between codes of each visit."""
    names = pd.Index([node(kind, c) for kind, codes in planted_codes().items() for c in codes])
    rows, codes = [], []
    for kind in _KINDS:
        which = names.get_indexer(pd.Index(kind + "/" + visits.codes[kind]["code"].astype(str)))
        rows.append(visits.rows(kind)[which >= 0])
        codes.append(which[which >= 0])
    row, code = np.concatenate(rows), np.concatenate(codes)
    order = np.argsort(row, kind="stable")
    row, code = row[order], code[order]
    left, right = _pairs(row)
    relation = _relation_of(names)[code[left], code[right]]
    related = relation >= 0
    present = np.zeros((len(RELATION_NAMES), len(visits.keys)), dtype=bool)
    present[relation[related], row[left[related]]] = True
    return present


def _relation_of(names: pd.Index) -> Int64[np.ndarray, "codes codes"]:
    """Returns the relation between two codes, in whichever direction; -1: none."""
    number = {name: i for i, name in enumerate(RELATION_NAMES)}
    heads, relations, tails = zip(*planted_relations(), strict=True)
    head, tail = names.get_indexer(pd.Index(heads)), names.get_indexer(pd.Index(tails))
    table = np.full((len(names), len(names)), -1, dtype=np.int64)
    table[head, tail] = table[tail, head] = [number[name] for name in relations]
    return table


def _pairs(
    row: Int64[np.ndarray, " codes"],
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Returns the places of all pairs of codes with the same row; rows ascend."""
    after = np.searchsorted(row, row, side="right") - np.arange(len(row)) - 1
    left = np.repeat(np.arange(len(row)), after)
    within = np.arange(len(left)) - np.repeat(np.cumsum(after) - after, after)
    return left, left + 1 + within
