"""Train on generated, test on real: against the recommenders themselves, and who may be read."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from medrec import splits
from medrec.batching import ResidentCohort
from medrec.cohort import KINDS
from medrec.evaluation import evaluate
from medrec.generation import _phenotypes, _utility
from medrec.generation._cohorts import extended
from medrec.generation._histories import histories
from medrec.generation._measures import UTILITY as MEASURES
from medrec.generation._utility import utility
from medrec.knowledge.base import training_visits
from medrec.models.knn import Knn, KnnConfig
from medrec.models.logistic_regression import LogisticRegression, LogisticRegressionConfig
from medrec.predicting import predict
from tests.medrec.generation.test_cohorts import drawn
from tests.medrec.small import lists_of, scramble, small_cohort, small_knowledge, without


def value(terms):
    return terms[0].sum() / terms[1].sum()


def real():
    cohort = small_cohort()
    return histories(cohort, cohort.members(splits.TRAIN))


def answers(model, cohort):
    members = cohort.members(splits.TEST)
    return predict(model, cohort, ResidentCohort(cohort), members, 0.5)


def test_every_measure_has_a_term_for_each_test_patient():
    cohort = small_cohort()
    terms, facts = utility(cohort, small_knowledge(), drawn(), 0)
    assert list(terms) == list(MEASURES)
    for numerator, denominator in terms.values():
        assert len(numerator) == len(denominator) == len(cohort.members(splits.TEST))
        assert np.isfinite(numerator).all()
        assert (denominator >= 0).all()
        assert 0 <= value((numerator, denominator)) <= 1
    assert all(isinstance(fact, float) for fact in facts.values())
    assert facts["utility_patients"] == len(cohort.members(splits.TRAIN))
    assert facts["trtr_visits"] == real().visits.sum()
    assert facts["tstr_visits"] == drawn().visits[:12].sum()


@pytest.mark.parametrize("source", ["tstr", "trtr"])
def test_jaccard_is_that_of_the_recommenders_fitted_to_the_extended_cohort(source):
    """The long way: a cohort whose training patients are those, the model, every metric."""
    cohort, knowledge = small_cohort(), small_knowledge()
    new = drawn(12)
    terms, _ = utility(cohort, knowledge, new, 0)
    of = extended(cohort, new, 4, real=False) if source == "tstr" else cohort
    regression = _utility._regression(histories(of, of.members(splits.TRAIN)), knowledge)
    neighbours = Knn(KnnConfig(), replace(knowledge, training_visits=training_visits(of)))
    for name, model in (("jaccard", regression), ("knn_jaccard", neighbours)):
        predictions = answers(model, of)
        found = terms[f"{source}_{name}"]
        np.testing.assert_array_equal(found[1], 1.0)
        expected = evaluate(predictions, knowledge.interacts)["jaccard"]
        assert value(found) == pytest.approx(expected, abs=1e-12)
    assert value(terms[f"{source}_jaccard"]) != value(terms[f"{source}_knn_jaccard"])


def test_the_regression_is_the_recommender_solved_to_convergence():
    cohort, knowledge = small_cohort(), small_knowledge()
    theirs = LogisticRegression(LogisticRegressionConfig(iterations=1000), knowledge)
    theirs.fit(cohort, cohort.members(splits.TRAIN))
    ours = _utility._regression(real(), knowledge)
    one, other = (answers(model, cohort).scores for model in (ours, theirs))
    np.testing.assert_allclose(one, other, atol=1e-3)
    assert not ours.weights[-1].any()


def test_recall_of_rare_drugs_is_that_of_a_plain_loop():
    cohort, knowledge = small_cohort(), small_knowledge()
    terms, facts = utility(cohort, knowledge, drawn(), 0)
    visits = np.bincount(real().codes["medications"].values, minlength=cohort.drugs)
    rare = {d for d in range(cohort.drugs) if visits[d] <= np.quantile(visits, 0.25)}
    assert facts["rare_drugs"] == len(rare) < cohort.drugs
    found = answers(_utility._regression(real(), knowledge), cohort)
    given = lists_of(cohort, "medications")
    test = cohort.members(splits.TEST)
    chosen = iter(found.chosen)
    for i, patient in enumerate(test):
        met = of = 0
        for row in range(cohort.offsets[patient], cohort.offsets[patient + 1]):
            own = rare & set(given[row])
            met += len(own & set(np.flatnonzero(next(chosen)).tolist()))
            of += len(own)
        assert terms["trtr_rare_recall"][0][i] == met
        assert terms["trtr_rare_recall"][1][i] == of
    assert terms["trtr_rare_recall"][1].sum() > 0


def test_training_patients_as_generated_ones_are_worth_as_much_as_themselves():
    terms, _ = utility(small_cohort(), small_knowledge(), real(), 0)
    for name in MEASURES:
        if name.startswith("tstr"):
            for one, other in zip(terms[name], terms[name.replace("tstr", "trtr")], strict=True):
                np.testing.assert_allclose(one, other, atol=1e-12)


def fits(monkeypatch, cohort, new):
    """Returns everything that models are fitted to, and what the fits gave."""
    seen = []

    def recorded(features, target, strength):
        found = original(features, target, strength)
        seen.extend([features.toarray(), target, found])
        return found

    def neighbours(config, knowledge):
        seen.extend(knowledge.training_visits[kind].values for kind in KINDS)
        return Knn(config, knowledge)

    original = _phenotypes.regressions
    with monkeypatch.context() as patch:
        patch.setattr(_phenotypes, "regressions", recorded)
        patch.setattr(_utility, "regressions", recorded)
        patch.setattr(_utility, "Knn", neighbours)
        terms, facts = utility(cohort, small_knowledge(), new, 0)
    return seen, terms, facts


def test_nothing_is_fitted_to_test_or_validation_patients(monkeypatch):
    new = drawn()
    fitted, terms, facts = fits(monkeypatch, small_cohort(), new)
    assert len(fitted) == 2 * (3 + 3 + 3)
    for split in (splits.TEST, splits.VALIDATION):
        other, changed, told = fits(monkeypatch, scramble(small_cohort(), split), new)
        for one, same in zip(fitted, other, strict=True):
            np.testing.assert_array_equal(one, same)
        same_terms = all(np.array_equal(terms[name][0], changed[name][0]) for name in MEASURES)
        assert same_terms == (split == splits.VALIDATION)
        assert told["rare_drugs"] == facts["rare_drugs"]
    moved, _, _ = fits(monkeypatch, scramble(small_cohort(), splits.TRAIN), new)
    assert any(
        one.shape != other.shape or (one != other).any()
        for one, other in zip(fitted, moved, strict=True)
    )


def test_real_and_generated_patients_are_equally_many():
    """Fewer generated ones are compared with as many real ones, which the seed chooses."""
    cohort, knowledge = small_cohort(), small_knowledge()
    results = [utility(cohort, knowledge, drawn(5), seed) for seed in (0, 0, 1, 2)]
    assert results[0][1]["utility_patients"] == 5
    assert results[0][1]["trtr_visits"] < real().visits.sum()
    first, same, *others = (terms["trtr_jaccard"][0] for terms, _ in results)
    np.testing.assert_array_equal(first, same)
    assert any((first != other).any() for other in others)
    tstr = [terms["tstr_jaccard"][0] for terms, _ in results]
    for other in tstr[1:]:
        np.testing.assert_array_equal(tstr[0], other)


def test_more_generated_patients_than_real_ones_do_not_count():
    cohort, knowledge = small_cohort(), small_knowledge()
    many = drawn(40)
    assert len(many.visits) > 12
    few = replace(
        many,
        visits=many.visits[:12],
        codes={k: c.take(np.arange(many.visits[:12].sum())) for k, c in many.codes.items()},
    )
    one, other = (utility(cohort, knowledge, of, 0)[0] for of in (many, few))
    for name in MEASURES:
        np.testing.assert_array_equal(one[name][0], other[name][0])


def test_one_visit_each_teaches_nothing_of_next_visits():
    new = drawn(20)
    first = np.cumsum(new.visits) - new.visits
    once = replace(
        new,
        visits=np.ones(20, np.int64),
        codes={kind: codes.take(first) for kind, codes in new.codes.items()},
    )
    terms, _ = utility(small_cohort(), small_knowledge(), once, 0)
    assert value(terms["tstr_auroc"]) == pytest.approx(0.5)


def test_without_test_patients_who_come_again_phenotypes_count_for_nothing():
    cohort = small_cohort()
    single = replace(cohort, split=np.where(cohort.visits == 1, splits.TEST, 0).astype(np.int8))
    terms, facts = utility(single, small_knowledge(), drawn(), 0)
    assert facts["phenotypes"] == 0
    for name in ("tstr_auroc", "trtr_auroc", "tstr_ap", "trtr_ap"):
        assert not terms[name][1].any()


def test_a_cohort_without_procedures():
    new = drawn()
    bare = without(small_cohort(), "procedures")
    knowledge = replace(
        small_knowledge(),
        procedures=0,
        vocabulary=bare.vocabulary,
        training_visits=training_visits(bare),
    )
    none = replace(
        new.codes["procedures"],
        offsets=np.zeros_like(new.codes["procedures"].offsets),
        values=np.empty(0, np.int32),
    )
    terms, _ = utility(bare, knowledge, replace(new, codes={**new.codes, "procedures": none}), 0)
    assert all(np.isfinite(numerator).all() for numerator, _ in terms.values())


def test_tables_read_the_measures_without_torch():
    code = "import sys, medrec.generation._measures; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout == "False\n", found.stderr


def test_the_random_state_of_torch_is_left_alone():
    before = torch.get_rng_state()
    utility(small_cohort(), small_knowledge(), drawn(), 0)
    assert torch.equal(before, torch.get_rng_state())
