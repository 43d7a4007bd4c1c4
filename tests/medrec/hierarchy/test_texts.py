"""Shortened titles, and vectors that know them again."""

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medrec.hierarchy._texts import abbreviated, skeleton, text_half
from medrec.knowledge.text import NgramEncoder
from tests.shared_data import shared_data

TITLES = (
    "Acute on chronic systolic heart failure",
    "Congestive heart failure, unspecified",
    "Perforation of the gallbladder with obstruction",
    "Pneumococcal pneumonia",
    "Malignant neoplasm of the pancreas",
    "Fracture of the upper end of the humerus",
)


def test_titles_become_shorter_and_small_words_go() -> None:
    for seed in range(5):
        short = [abbreviated(title, seed) for title in TITLES]
        assert sum(map(len, short)) < 0.8 * sum(map(len, TITLES))
        assert not {"of", "the", "on", "with"} & set(" ".join(short).split())
    assert abbreviated("Chronic disease, unspecified", 3) == "chr dis nos"


def test_hospitals_differ_and_each_is_consistent() -> None:
    words = {abbreviated("gallbladder", seed) for seed in range(20)}
    assert words == {"glbld", "gallb", "gallbladder"}
    assert abbreviated("gallbladder stones", 4).split()[0] == abbreviated("gallbladder", 4)


def test_a_title_of_small_words_alone_stays() -> None:
    assert abbreviated("of the", 0) == "of the"
    assert abbreviated("", 0) == ""


def test_shortening_is_the_same_in_another_process() -> None:
    code = (
        "from medrec.hierarchy._texts import abbreviated; "
        f"print('|'.join(abbreviated(title, 1) for title in {TITLES!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "|".join(abbreviated(title, 1) for title in TITLES)


@pytest.mark.parametrize(
    ("word", "expected"), [("failure", "flr"), ("apnea", "apn"), ("gallbladder", "glbldr")]
)
def test_skeletons(word: str, expected: str) -> None:
    assert skeleton(word) == expected


def test_each_shortened_title_is_nearest_to_its_own() -> None:
    short = [abbreviated(title, 2) for title in TITLES]
    ours, theirs = text_half(TITLES, [*short, ""], 64)
    assert np.array_equal((ours @ theirs.T).argmax(axis=1), np.arange(len(TITLES)))
    assert not theirs[-1].any()
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1.0, atol=1e-6)


def test_one_institution_alone() -> None:
    ours, theirs = text_half(TITLES, (), 8)
    assert ours.shape == (len(TITLES), 8)
    assert theirs.shape == (0, 8)


def _lines(path: Path) -> dict[str, str]:
    with gzip.open(path, "rt", encoding="latin-1") as file:
        parts = [line.split(None, 1) for line in file if line.strip()]
    return {code: title.strip() for code, title in parts}


@pytest.mark.slow
def test_published_short_titles_find_their_long_ones() -> None:
    """CMS wrote both files, so the rule of this project has no part in it."""
    folder = shared_data("knowledge", "open", "icd")
    short, long = (_lines(folder / f"CMS32_DESC_{form}_SG.txt.gz") for form in ("SHORT", "LONG"))
    codes = sorted(short.keys() & long.keys())
    assert len(codes) == 3882
    brief, full = [short[code] for code in codes], [long[code] for code in codes]
    found = _first(*text_half(brief, full, 512))
    encoder = NgramEncoder((*brief, *full), 512)
    assert found > 0.7
    assert found > _first(encoder.encode(brief), encoder.encode(full))


def _first(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(((ours @ theirs.T).argmax(axis=1) == np.arange(len(ours))).mean())
