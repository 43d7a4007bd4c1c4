"""What generated patients give away about the training patients.

Every figure stands beside what real patients who were not trained on would give: held-out test
patients, who are the units. The training and the generated patients are held fixed.
"""

from collections.abc import Mapping

import numpy as np
from scipy import sparse

from medrec.cohort import Kind
from medrec.generation._attacks import (
    Guessed,
    guess_attributes,
    membership_threshold,
    nearest,
    nearest_by_visits,
)
from medrec.generation._copies import copies, named
from medrec.generation._histories import Histories
from medrec.generation._measures import KNOWN_CODES
from medrec.generation._numbered import Numbered
from medrec.measures import Terms, linearised


def privacy(
    train: Histories, test: Histories, generated: Histories, sizes: Mapping[Kind, int], seed: int
) -> tuple[dict[str, Terms], dict[str, float]]:
    """Returns the terms of each measure, a unit a test patient, and facts.

    Args:
        train: patients that the generator learned from.
        test: patients that it did not.
        generated: what it drew.
        sizes: of the vocabularies.
        seed: of the samples that make groups equally large, and of the order of references.

    Returns:
        terms: by name of `PRIVACY`. One that is not defined, as are attributes in a vocabulary
            of no more codes than the attacker knows, has denominators 0.
        facts: of copies (see `_copies.copies`) of generated and, as a yardstick, of test patients;
            distances to the nearest training patient, mean and 5th percentile; the share of
            generated patients that are nearer to training than to as many test patients (1/2 if
            nothing is copied); the published attribute attack on training patients, by as many
            generated or test records as there are test patients.
    """
    known, held_out, made = (Numbered.of(side, sizes) for side in (train, test, generated))
    rng = np.random.default_rng(seed)
    ours, others, drawn = named([known, held_out, made])
    terms, facts = _membership(known, held_out, made)
    for found, told in (
        _distances(known, held_out, made, rng),
        _attributes(known, held_out, made, rng),
    ):
        terms |= found
        facts |= told
    facts |= copies("generated", drawn, ours) | copies("test", others, ours)
    facts["distinct_records_generated"] = float(len(np.unique(drawn.records)))
    return terms, facts


def _membership(
    train: Numbered, test: Numbered, generated: Numbered
) -> tuple[dict[str, Terms], dict[str, float]]:
    members = np.sort(nearest_by_visits(train, generated))
    others = nearest_by_visits(test, generated)
    threshold = membership_threshold(members, others)
    found = float((members < threshold).mean())
    nearer = np.searchsorted(members, others, "left") + np.searchsorted(members, others, "right")
    ones = np.ones(test.patients)
    terms: dict[str, Terms] = {
        "membership_advantage": (found - (others < threshold), ones),
        "membership_auc": (nearer / (2 * len(members)), ones),
    }
    return terms, {"membership_threshold": threshold, "membership_found": found}


def _distances(
    train: Numbered, test: Numbered, generated: Numbered, rng: np.random.Generator
) -> tuple[dict[str, Terms], dict[str, float]]:
    ours, drawn = nearest(test.ever, train.ever), nearest(generated.ever, train.ever)
    facts = {}
    for name, of in {"test": ours, "generated": drawn}.items():
        for distance, values in {"jaccard": of.jaccard, "hamming": of.hamming}.items():
            facts[f"nearest_{distance}_mean_{name}"] = float(values.mean())
            facts[f"nearest_{distance}_p05_{name}"] = float(np.quantile(values, 0.05))
    size = min(train.patients, test.patients)
    to_train = nearest(generated.ever, _sample(train.ever, size, rng)).jaccard
    to_test = nearest(generated.ever, _sample(test.ever, size, rng)).jaccard
    nearer = (to_train < to_test).mean() + 0.5 * (to_train == to_test).mean()
    facts["nearer_to_training"] = float(nearer)
    gap = drawn.jaccard.mean() - ours.jaccard
    return {"nearest_gap": (gap, np.ones(test.patients))}, facts


def _attributes(
    train: Numbered, test: Numbered, generated: Numbered, rng: np.random.Generator
) -> tuple[dict[str, Terms], dict[str, float]]:
    carriers = np.asarray(train.ever.sum(axis=0)).ravel()
    known = np.sort(np.argsort(-carriers, kind="stable")[:KNOWN_CODES])
    size = min(train.patients, generated.patients)
    drawn = _sample(generated.ever, size, rng)
    real = guess_attributes(test.ever, _sample(train.ever, size, rng), known)
    others = guess_attributes(test.ever, drawn, known)
    members = guess_attributes(train.ever, drawn, known)
    terms = {
        "attribute_f1": (others.twice_right, others.guessed_and_had),
        "attribute_real_f1": (real.twice_right, real.guessed_and_had),
        "attribute_gap": _gap(members, others),
    }
    size = min(size, test.patients)
    targets = _sample(train.ever, size, rng)
    by_test = guess_attributes(targets, _sample(test.ever, size, rng), known)
    by_drawn = guess_attributes(targets, drawn[:size], known)
    return terms, {
        "attribute_f1_training": members.f1,
        "attribute_f1_published": by_drawn.f1,
        "attribute_f1_published_baseline": by_test.f1,
    }


def _gap(members: Guessed, others: Guessed) -> Terms:
    size = others.guessed_and_had
    if not size.any():
        return np.zeros(len(size)), np.zeros(len(size))
    influence = (others.twice_right - others.f1 * size) / size.mean()
    return linearised(members.f1 - others.f1, -influence)


def _sample(rows: sparse.csr_matrix, size: int, rng: np.random.Generator) -> sparse.csr_matrix:
    """Returns so many distinct rows in random order."""
    return rows[rng.permutation(rows.shape[0])[:size]]
