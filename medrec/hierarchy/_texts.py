"""Vectors of codes out of their titles, and titles as another hospital would write them.

Hospitals shorten titles: "acute on chronic systolic heart failure" is "Ac on chr syst hrt fail"
in the file of 32 characters a title that CMS issued for ICD-9 (Centers for Medicare & Medicaid
Services, ICD-9-CM version 32, CMS32_DESC_SHORT_DX). A shortened word keeps its first letter and
its consonants' order, so beside the words themselves the encoder reads each word's skeleton: its
first letter and the consonants after it.
"""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from medrec.hierarchy._cooccurrence import normalised
from medrec.knowledge.text import NgramEncoder

_WORD = re.compile(r"[a-z0-9]+")
_VOWELS = re.compile(r"(?<=.)[aeiouy]")
_DOUBLED = re.compile(r"([a-z])\1")
_SMALL = frozenset(
    ["a", "an", "and", "at", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with"]
)
_USUAL = {
    "abdominal": "abd", "abnormal": "abn", "acute": "ac", "bilateral": "bilat", "cancer": "ca",
    "carcinoma": "ca", "cardiac": "card", "cerebrovascular": "cv", "chronic": "chr",
    "complication": "cmplic", "coronary": "cor", "diabetes": "dm", "disease": "dis",
    "disorder": "dis", "failure": "fail", "fracture": "fx", "gastrointestinal": "gi",
    "heart": "hrt", "hemorrhage": "hem", "history": "hx", "hypertension": "htn",
    "infection": "inf", "injury": "inj", "left": "lt", "malignant": "mal", "neoplasm": "neo",
    "obstruction": "obst", "other": "oth", "procedure": "px", "pulmonary": "pulm",
    "respiratory": "resp", "right": "rt", "secondary": "sec", "syndrome": "synd",
    "unspecified": "nos", "without": "wo",
}  # fmt: skip
_LONG = 5  # letters from which on a word is shortened
_KEPT = 5  # letters of a skeleton, or of a cut word, that stay


def abbreviated(title: str, seed: int) -> str:
    """Returns a title as a hospital of this seed would shorten it.

    Small words go. The usual abbreviations are used. Of other long words each hospital, word by
    word but always the same for the same word, either drops the vowels, or cuts the end, or leaves
    it; at most five letters stay of what it shortens.

    Example:
        >>> abbreviated("heart failure with obstruction of the pancreas", 0)
        'hrt fail obst pncrs'
    """
    words = _WORD.findall(title.lower())
    kept = [word for word in words if word not in _SMALL] or words
    return " ".join(_short(word, seed) for word in kept)


def _short(word: str, seed: int) -> str:
    if word in _USUAL:
        return _USUAL[word]
    if len(word) < _LONG or not word.isalpha():
        return word
    way = _draw(word, seed)
    if way == 0:
        return skeleton(word)[:_KEPT]
    return word[:_KEPT] if way == 1 else word


def _draw(word: str, seed: int) -> int:
    """Returns 0, 1 or 2, the same in every process."""
    digest = np.random.default_rng([seed, *word.encode()])
    return int(digest.integers(3))


def skeleton(word: str) -> str:
    """Returns the first letter of a word and the consonants after it, doubled ones once.

    Example:
        >>> skeleton("appendicitis")
        'apndcts'
    """
    return _DOUBLED.sub(r"\1", _VOWELS.sub("", word))


def text_half(
    source: Sequence[str], target: Sequence[str], dimension: int
) -> tuple[
    Float64[np.ndarray, "source_codes dimension"], Float64[np.ndarray, "target_codes dimension"]
]:
    """Returns a vector of each title, of length 1; 0 for an empty title.

    Args:
        source: titles of the codes of one institution.
        target: of the other; none for one institution alone.
        dimension: of the n-grams' vectors.
    """
    readings = [[_reading(title) for title in titles] for titles in (source, target)]
    encoder = NgramEncoder((*readings[0], *readings[1]), dimension)
    first, second = (normalised(encoder.encode(each)) for each in readings)
    return first, second


def _reading(title: str) -> str:
    """Returns the words of a title and their skeletons."""
    words = _WORD.findall(title.lower())
    return " ".join([*words, *(skeleton(word) for word in words)])
