"""What titles say of tokens: a vector of each, fixed before training.

The bundle's text vectors where it has some; else tf-idf of pieces of words, fitted on the titles.
A special token has a sentence, which only the latter can read: with vectors of a language model it
has zeros, since the model is not at hand.
"""

import numpy as np
from jaxtyping import Float32

from medrec.cohort import KINDS
from medrec.generation._records import Tokens
from medrec.knowledge.base import Knowledge
from medrec.knowledge.relations import node
from medrec.knowledge.text import NgramEncoder

_SENTENCES = (  # in the order of the special tokens
    "The record of a patient begins.",
    "The diagnoses of a visit are complete, its procedures follow.",
    "The procedures of a visit are complete, its medications follow.",
    "A visit has ended.",
    "The record of a patient has ended.",
    "",  # padding says nothing
)


def text_width(knowledge: Knowledge, dimension: int) -> int:
    """Returns the length of the vectors; `dimension` unless the bundle has its own."""
    return knowledge.bundle.text.shape[1] or dimension


def text_vectors(knowledge: Knowledge, dimension: int) -> Float32[np.ndarray, "tokens width"]:
    """Returns a vector of each token, of length 1; zeros where there is no title.

    Args:
        knowledge: codes, their titles, perhaps their vectors.
        dimension: of the vectors, where the bundle has none.
    """
    tokens, bundle = Tokens.of(knowledge), knowledge.bundle
    row = {name: i for i, name in enumerate(bundle.nodes)}
    names = [node(kind, code) for kind in KINDS for code in knowledge.vocabulary[kind]]
    rows = np.array([row.get(name, -1) for name in names], dtype=np.int64)
    if bundle.text.shape[1]:
        found = np.zeros((tokens.size, bundle.text.shape[1]), dtype=np.float32)
        known = np.flatnonzero(rows >= 0)
        found[known] = bundle.text[rows[known]]
        return found
    titles = [knowledge.titles[i] if i >= 0 else "" for i in rows]
    texts = [*titles, *_SENTENCES]
    return NgramEncoder((*knowledge.titles, *_SENTENCES), dimension).encode(texts)
