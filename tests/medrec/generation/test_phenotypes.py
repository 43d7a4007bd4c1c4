"""Labels out of CCS or of the tree, transitions against plain loops, and the fit."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from medrec import splits
from medrec.cohort import KINDS
from medrec.generation._histories import histories
from medrec.generation._phenotypes import (
    LABELS,
    Phenotypes,
    Transitions,
    fit,
    judged,
    phenotypes,
    transitions,
)
from medrec.generation._regressions import regressions
from medrec.knowledge.ontologies import without_parents
from medrec.knowledge.origin import Origin
from medrec.knowledge.relations import from_names, union
from tests.medrec.small import VOCABULARY, small_cohort, small_knowledge, to_codes

DIAGNOSES = VOCABULARY["diagnoses"]
CATEGORIES = {"9:25000": "49", "9:4019": "98", "9:41401": "101", "9:4280": "108", "9:42731": "106"}
BLOCKS = {
    "9:25000": "9:249-259", "9:2724": "9:270-279", "9:2859": "9:285", "9:4019": "9:401-405",
    "9:41401": "9:410-414", "9:42731": "9:420-429", "9:4280": "9:420-429", "9:486": "9:480-488",
    "9:51881": "9:510-519", "9:5849": "9:580-589", "9:5990": "9:590-599", "9:V5861": "9:V50-V59",
}  # fmt: skip


def training():
    cohort = small_cohort()
    return histories(cohort, cohort.members(splits.TRAIN))


def with_categories():
    """Returns the bundle with some single-level CCS categories."""
    triples = [
        (f"diagnoses/{code}", "in_category", f"ccs/diagnoses:{name}")
        for code, name in {**CATEGORIES, "9:4281": "108"}.items()
    ] + [("procedures/9:3961", "in_category", "ccs/procedures:44")]
    bundle = small_knowledge().bundle
    return replace(bundle, relations=union(bundle.relations, from_names(Origin("", ""), triples)))


def visits_of_groups(group):
    """Returns how many training visits have each group, by a plain loop."""
    found = {}
    codes = training().codes["diagnoses"]
    for a, b in zip(codes.offsets[:-1], codes.offsets[1:], strict=True):
        own = {group[DIAGNOSES[c]] for c in codes.values[a:b] if DIAGNOSES[c] in group}
        for name in own:
            found[name] = found.get(name, 0) + 1
    return found


def test_labels_are_ccs_categories_where_the_relations_hold_them():
    found = phenotypes(DIAGNOSES, with_categories(), training().codes["diagnoses"])
    assert found.ccs
    group = {code: f"ccs/diagnoses:{name}" for code, name in CATEGORIES.items()}
    counts = visits_of_groups(group)
    assert list(found.names) == sorted(counts, key=lambda name: (-counts[name], name))
    for i, code in enumerate(DIAGNOSES):
        own = [found.names[j] for j in found.member[[i]].indices]
        assert own == ([group[code]] if code in group else [])


def test_labels_are_blocks_of_the_tree_without_ccs():
    found = phenotypes(DIAGNOSES, small_knowledge().bundle, training().codes["diagnoses"])
    assert not found.ccs
    group = {code: f"diagnoses/{block}" for code, block in BLOCKS.items()}
    counts = visits_of_groups(group)
    assert list(found.names) == sorted(counts, key=lambda name: (-counts[name], name))
    for i, code in enumerate(DIAGNOSES):
        assert [found.names[j] for j in found.member[[i]].indices] == [group[code]]


@pytest.mark.parametrize("bundle", [small_knowledge().bundle, with_categories()])
def test_labels_are_the_same_whatever_hierarchy_a_model_is_given(bundle):
    diagnoses = training().codes["diagnoses"]
    usual, other = (
        phenotypes(DIAGNOSES, of, diagnoses) for of in (bundle, without_parents(bundle))
    )
    assert usual.names == other.names
    assert (usual.member != other.member).nnz == 0


def test_codes_without_a_tree_are_phenotypes_themselves():
    bundle = small_knowledge().bundle
    flat = replace(bundle, relations=from_names(Origin("", ""), []))
    found = phenotypes(DIAGNOSES, flat, training().codes["diagnoses"])
    assert set(found.names) == {f"diagnoses/{code}" for code in DIAGNOSES}
    assert not found.ccs


def test_the_commonest_are_kept_and_none_that_never_occurs():
    names = tuple(f"local {i:02d}" for i in range(40))
    visits = to_codes([list(range(i, 40)) for i in range(1, 38)])  # code i in the first i visits
    found = phenotypes(names, small_knowledge().bundle, visits)
    assert len(found.names) == LABELS
    assert found.names[:3] == tuple(f"diagnoses/local {i}" for i in (37, 38, 39))
    few = phenotypes(names, small_knowledge().bundle, to_codes([[3], [5, 7], [7]]))
    assert few.names == tuple(f"diagnoses/local {i}" for i in ("07", "03", "05"))


def test_transitions_are_those_of_a_plain_loop():
    cohort, of = small_cohort(), training()
    labels = phenotypes(DIAGNOSES, small_knowledge().bundle, of.codes["diagnoses"])
    found = transitions(of, cohort.vocabulary, labels)
    starts = np.cumsum([0, *(len(cohort.vocabulary[kind]) for kind in KINDS)])
    lists = [
        {
            int(starts[k] + c)
            for k, kind in enumerate(KINDS)
            for c in of.codes[kind].values[
                of.codes[kind].offsets[v] : of.codes[kind].offsets[v + 1]
            ]
        }
        for v in range(int(of.visits.sum()))
    ]
    row = visit = 0
    for patient, count in enumerate(of.visits):
        for position in range(count - 1):
            now, after = lists[visit + position], lists[visit + position + 1]
            earlier = set().union(*lists[visit : visit + position])
            own = {*now, *(starts[-1] + code for code in earlier)}
            assert set(found.features[[row]].indices.tolist()) == own
            next_blocks = {f"diagnoses/{BLOCKS[DIAGNOSES[c]]}" for c in after if c < 12}
            assert {labels.names[j] for j in np.flatnonzero(found.target[row])} == next_blocks
            assert found.patient[row] == patient
            row += 1
        visit += count
    assert row == found.features.shape[0] == len(found.target) == len(found.patient)
    assert set(np.unique(found.features.data)) == {1.0}
    assert found.features.shape[1] == 2 * starts[-1]


def test_judged_is_the_mean_over_labels_that_have_both_values():
    rng = np.random.default_rng(0)
    features = sparse.csr_matrix((rng.random((60, 12)) < 0.4).astype(float))
    target = rng.random((60, 4)) < [[0.3, 0.5, 0.0, 0.6]]
    test = Transitions(features, target, np.sort(rng.integers(15, size=60)))
    weights = rng.normal(size=(13, 4)).astype(np.float32)
    area, precision, counted = judged(weights, test, 15)
    assert counted == 3
    scores = features.toarray() @ weights[:-1] + weights[-1]
    for (value, influence), theirs in (
        (area, roc_auc_score),
        (precision, average_precision_score),
    ):
        each = [theirs(target[:, j], scores[:, j]) for j in (0, 1, 3)]
        assert value == pytest.approx(np.mean(each))
        assert influence.shape == (15,)
        assert influence.mean() == pytest.approx(0, abs=1e-12)
        assert np.abs(influence).max() > 0


def test_no_label_with_both_values_counts_for_nothing():
    none = Transitions(sparse.csr_matrix((0, 6)), np.zeros((0, 2), bool), np.zeros(0, np.int64))
    area, precision, counted = judged(fit(none), none, 3)
    assert counted == 0
    for value, influence in (area, precision):
        assert value == 0.0
        assert not influence.any()


def test_regressions_are_scikit_learns():
    rng = np.random.default_rng(1)
    features = sparse.csr_matrix((rng.random((200, 15)) < 0.3).astype(float))
    target = rng.random((200, 3)) < 1 / (1 + np.exp(-features @ rng.normal(size=(15, 3))))
    found = regressions(features, target, 0.5)
    for j in range(3):
        theirs = LogisticRegression(C=0.5, tol=1e-10, max_iter=1000).fit(features, target[:, j])
        np.testing.assert_allclose(found[:-1, j], theirs.coef_[0], atol=2e-3)
        np.testing.assert_allclose(found[-1, j], theirs.intercept_[0], atol=2e-3)


def test_targets_with_one_value_are_answered_with_it():
    features = sparse.csr_matrix(np.eye(4))
    target = np.array([[True, False, True], [True, False, False]] * 2)
    found = regressions(features, target, 1.0)
    assert not found[:-1, :2].any()
    assert found[-1, :2].tolist() == [30.0, -30.0]
    assert found[:-1, 2].any()
    nothing = regressions(sparse.csr_matrix((0, 4)), np.zeros((0, 2), bool), 1.0)
    assert nothing[-1].tolist() == [-30.0, -30.0]


def test_phenotypes_of_a_visit():
    found = Phenotypes(("a", "b"), sparse.csr_matrix([[1, 0], [1, 0], [0, 1.0]]), ccs=False)
    assert found.coded(to_codes([[0, 1], [], [1, 2]])).tolist() == [
        [True, False],
        [False, False],
        [True, True],
    ]
    assert found.visits(to_codes([[0, 1], [], [1, 2]])).tolist() == [2, 1]
