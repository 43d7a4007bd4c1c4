"""Effects planted on top of the law: each changes what it says, and nothing else."""

import gzip
import itertools
from functools import cache

import numpy as np
import pytest
from pydantic import ValidationError

from medrec.datasets._base import prepare
from medrec.datasets._coding import MOST_CODES
from medrec.datasets._conditions import read_conditions
from medrec.datasets._effects import course_drugs, planted_drugs, reaction_drugs
from medrec.datasets._prescriptions import Strengths, make_law
from medrec.datasets._rare_codes import rare_blocks
from medrec.datasets._traded_names import new_names
from medrec.datasets.synthetic import SyntheticOptions
from medrec.knowledge.built_in import built_in_bundle
from medrec.knowledge.planted import RELATION_NAMES, planted_relations
from medrec.knowledge.tables import read_interactions
from tests.shared_data import shared_data

RARE = 2.5
PATIENTS = 800


@cache
def cohort(**options):
    return prepare("synthetic", None, SyntheticOptions(patients=PATIENTS, **options))


@cache
def law():
    strengths = Strengths(1.0, 1.0, 0.7)
    return make_law(read_conditions(), read_interactions("embedded"), strengths)


def sets(cohort, kind):
    """The codes of each visit, by name."""
    names, codes = np.array(cohort.vocabulary[kind], dtype=object), cohort.codes[kind]
    return [set(part) for part in np.split(names[codes.values], codes.offsets[1:-1])]


def second_visits(cohort):
    """Rows of visits that have one before them."""
    first = set(cohort.offsets[:-1].tolist())
    return [row for row in range(len(cohort.age)) if row not in first]


@cache
def ontology_wants(**options):
    """By plain loops: the drugs that each visit's rare codes cause."""
    _, drug = planted_drugs(law())
    of = {code: drug[block] for block, codes in rare_blocks().items() for code in codes}
    return [{of[c] for c in codes if c in of} for codes in sets(cohort(**options), "diagnoses")]


@cache
def relations_want():
    """By plain loops: the drugs that each visit's related pairs cause."""
    drug, _ = planted_drugs(law())
    of = {frozenset((head, tail)): drug[name] for head, name, tail in planted_relations()}
    wanted = []
    visits = zip(sets(cohort(), "diagnoses"), sets(cohort(), "procedures"), strict=True)
    for diagnoses, procedures in visits:
        names = [f"diagnoses/{c}" for c in diagnoses] + [f"procedures/{c}" for c in procedures]
        pairs = [frozenset((a, b)) for i, a in enumerate(names) for b in names[:i]]
        wanted.append({of[pair] for pair in pairs if pair in of})
    return wanted


@cache
def interactions():
    return {frozenset(pair) for pair in read_interactions("embedded")}


def interacting(drugs):
    """Those of the drugs that interact with another one of them."""
    pairs = interactions()
    return {a for a in drugs if any(frozenset((a, b)) in pairs for b in drugs if a != b)}


def share(wanted, given):
    """Share of the wanted drugs that are given."""
    hits = sum(len(w & g) for w, g in zip(wanted, given, strict=True))
    return hits / sum(map(len, wanted))


def test_the_rule_gives_each_relation_and_block_its_own_drug():
    relations, blocks = planted_drugs(law())
    assert set(relations) == set(RELATION_NAMES)
    assert set(blocks) == set(rare_blocks())
    drugs = [*relations.values(), *blocks.values()]
    assert len(set(drugs)) == len(drugs)
    popular = set(np.argsort(-law().popularity, kind="stable")[:30].tolist())
    assert not {law().drugs.index(drug) for drug in drugs} & popular


def test_the_rule_does_not_depend_on_the_strengths():
    other = make_law(read_conditions(), read_interactions("embedded"), Strengths(0.0, 0.5, 0.0))
    assert planted_drugs(other) == planted_drugs(law())


def test_rare_codes_are_many_real_and_below_their_block():
    blocks = rare_blocks()
    codes = [code for each in blocks.values() for code in each]
    assert len(codes) == len(set(codes)) >= 1000
    assert min(len(each) for each in blocks.values()) >= 15
    planted = {name for head, _, tail in planted_relations() for name in (head, tail)}
    assert not {f"diagnoses/{code}" for code in codes} & planted
    bundle = built_in_bundle(cohort(rare_codes=RARE), (), {})
    for block, members in blocks.items():
        for code in set(members) & set(cohort(rare_codes=RARE).vocabulary["diagnoses"]):
            assert f"diagnoses/{block}" in bundle.ancestors(f"diagnoses/{code}")


def test_rare_codes_are_in_the_last_official_list():
    path = shared_data("knowledge", "open", "icd", "CMS32_DESC_LONG_DX.txt.gz")
    with gzip.open(path, "rt", encoding="latin-1") as lines:
        official = {"9:" + line.split()[0] for line in lines}
    assert {code for each in rare_blocks().values() for code in each} <= official


def test_rare_codes_add_diagnoses_and_nothing_else():
    plain, more = cohort(), cohort(rare_codes=RARE)
    pool = {code for each in rare_blocks().values() for code in each}
    fresh = []
    for before, after in zip(sets(plain, "diagnoses"), sets(more, "diagnoses"), strict=True):
        assert before <= after
        assert after - before <= pool
        fresh.append(len(after - before))
    assert np.mean(fresh) == pytest.approx(RARE, abs=0.1)
    assert more.codes["diagnoses"].counts.max() <= MOST_CODES
    for kind in ("procedures", "medications"):
        assert sets(plain, kind) == sets(more, kind)
    assert np.array_equal(plain.admitted, more.admitted)
    assert np.array_equal(plain.age, more.age)


def test_rare_codes_are_about_equally_frequent():
    plain, more = sets(cohort(), "diagnoses"), sets(cohort(rare_codes=RARE), "diagnoses")
    seen = [code for a, b in zip(plain, more, strict=True) for code in b - a]
    _, counts = np.unique(seen, return_counts=True)
    pool = sum(map(len, rare_blocks().values()))
    assert len(counts) > 0.9 * pool
    assert counts.max() < 8 * len(seen) / pool


@pytest.mark.parametrize("switch", ["ontology", "relations", "courses", "reactions"])
def test_a_switch_changes_medications_only(switch):
    plain, on = cohort(rare_codes=RARE), cohort(rare_codes=RARE, **{switch: 1.0})
    for kind in ("diagnoses", "procedures"):
        assert sets(plain, kind) == sets(on, kind)
    for field in ("admitted", "age", "visits", "gender", "group", "split", "service"):
        assert np.array_equal(getattr(plain, field), getattr(on, field)), field
    assert sets(plain, "medications") != sets(on, "medications")
    assert on.codes["medications"].counts.min() >= 1


def test_ontology_adds_the_drug_of_the_block_of_each_rare_code():
    plain, on = cohort(rare_codes=RARE), cohort(rare_codes=RARE, ontology=1.0)
    wanted = ontology_wants(rare_codes=RARE)
    before, after = sets(plain, "medications"), sets(on, "medications")
    assert [a | w for a, w in zip(before, wanted, strict=True)] == after
    assert share(wanted, before) < 0.15
    assert 2.0 < np.mean([len(each) for each in wanted]) < 4.0


def test_ontology_holds_for_rare_codes_of_conditions_too():
    before, after = sets(cohort(), "medications"), sets(cohort(ontology=1.0), "medications")
    wanted = ontology_wants()
    assert [a | w for a, w in zip(before, wanted, strict=True)] == after
    assert sum(map(len, wanted)) > 100


def test_relations_add_the_drug_of_each_related_pair():
    before, after = sets(cohort(), "medications"), sets(cohort(relations=1.0), "medications")
    wanted = relations_want()
    assert [a | w for a, w in zip(before, wanted, strict=True)] == after
    assert share(wanted, before) < 0.15
    assert 0.45 < np.mean([bool(each) for each in wanted]) < 0.6


def test_one_code_of_a_relation_says_little_of_its_drug():
    """Else a model without the relations could predict what they cause."""
    wanted, drug = relations_want(), planted_drugs(law())[0]
    columns = np.array([[name in each for name in drug.values()] for each in wanted])
    hot = cohort().codes["diagnoses"].multi_hot(len(cohort().vocabulary["diagnoses"]))
    often = hot[:, hot.sum(axis=0) >= 30]
    # The best code of each relation: how often the drug is wanted where it is recorded.
    rate = (often.T.astype(float) @ columns) / often.sum(axis=0)[:, None]
    assert np.median(rate.max(axis=0)) < 0.6
    assert (rate < 0.5).mean() > 0.98


@pytest.mark.parametrize(
    ("switch", "wanted"),
    [
        ("ontology", lambda: ontology_wants(rare_codes=RARE)),
        ("relations", relations_want),
    ],
)
def test_half_a_strength_gives_about_half(switch, wanted):
    plain = sets(cohort(rare_codes=RARE), "medications")
    half = sets(cohort(rare_codes=RARE, **{switch: 0.5}), "medications")
    missing = [w - p for w, p in zip(wanted(), plain, strict=True)]
    number = sum(map(len, missing))
    assert abs(share(missing, half) - 0.5) < 4 * np.sqrt(0.25 / number)
    full = sets(cohort(rare_codes=RARE, **{switch: 1.0}), "medications")
    assert all(p <= h <= f for p, h, f in zip(plain, half, full, strict=True))


def test_effects_do_not_depend_on_one_another():
    base = sets(cohort(rare_codes=RARE), "medications")
    one = sets(cohort(rare_codes=RARE, ontology=0.5), "medications")
    other = sets(cohort(rare_codes=RARE, relations=0.5), "medications")
    both = sets(cohort(rare_codes=RARE, ontology=0.5, relations=0.5), "medications")
    assert all(b <= o for b, o in zip(base, one, strict=True))
    assert [a | b for a, b in zip(one, other, strict=True)] == both


RARELY = {"avoidance": 0.97}  # about half of all visits then have an interaction


def after_interactions(cohort):
    """Rows of visits that follow one at which drugs interact."""
    given = sets(cohort, "medications")
    return [row for row in second_visits(cohort) if interacting(given[row - 1])]


def test_reactions_follow_visits_at_which_drugs_interact():
    drugs = {law().drugs[drug] for drug in reaction_drugs(law())}
    assert len(drugs) == 8
    taken = {name for group in planted_drugs(law()) for name in group.values()}
    assert not drugs & taken
    plain, on = cohort(**RARELY), cohort(**RARELY, reactions=1.0)
    before, after = sets(plain, "medications"), sets(on, "medications")
    rows = set(after_interactions(plain))  # a reaction's own drugs cause no reaction
    assert 0.3 < len(rows) / len(second_visits(plain)) < 0.7
    for row in range(len(before)):
        assert after[row] == before[row] | (drugs if row in rows else set())
    assert np.mean([drugs <= before[row] for row in rows]) < 0.01


def test_half_a_strength_gives_about_half_the_reactions():
    drugs = {law().drugs[drug] for drug in reaction_drugs(law())}
    half = cohort(**RARELY, reactions=0.5)
    given, rows = sets(half, "medications"), after_interactions(cohort(**RARELY))
    share = np.mean([drugs <= given[row] for row in rows])
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / len(rows))


def course_wants():
    """By plain loops: the drugs that follow those of the visit before."""
    named = [
        (law().drugs[first], law().drugs[following]) for first, following in course_drugs(law())
    ]
    given, wanted = sets(cohort(), "medications"), [set() for _ in cohort().age]
    for row in second_visits(cohort()):
        wanted[row] = {following for first, following in named if first in given[row - 1]}
    return wanted


def test_courses_go_on_at_the_next_visit():
    first, following = course_drugs(law()).T
    assert len(set(first.tolist())) == 4
    assert len(set(following.tolist())) == 16
    assert not set(first.tolist()) & set(following.tolist())
    before, after = sets(cohort(), "medications"), sets(cohort(courses=1.0), "medications")
    wanted = course_wants()
    assert [a | w for a, w in zip(before, wanted, strict=True)] == after
    assert share(wanted, before) < 0.15
    assert 3.0 < np.mean([len(wanted[row]) for row in second_visits(cohort())]) < 10.0


def test_half_a_strength_gives_about_half_of_what_follows():
    plain, half = sets(cohort(), "medications"), sets(cohort(courses=0.5), "medications")
    missing = [w - p for w, p in zip(course_wants(), plain, strict=True)]
    number = sum(map(len, missing))
    assert abs(share(missing, half) - 0.5) < 4 * np.sqrt(0.25 / number)


def in_order(codes):
    """The codes of each visit as names, in the order of the names."""
    return [sorted(each) for each in codes]


@pytest.mark.parametrize("kind", ["diagnoses", "procedures"])
def test_traded_names_are_a_permutation_that_the_tree_does_not_know(kind):
    traded = new_names(kind)
    assert sorted(traded) == sorted(traded.values())
    plain, on = cohort(rare_codes=0.0), cohort(rare_codes=0.0, traded_names=True)
    renamed = [{traded[code] for code in codes} for codes in sets(plain, kind)]
    assert in_order(renamed) == in_order(sets(on, kind))
    assert sets(plain, "medications") == sets(on, "medications")
    # Codes of the same first three characters: nearly none stay together.
    names = sorted(traded)
    together = [(a, b) for a, b in itertools.pairwise(names) if a[:5] == b[:5]]
    still = sum(traded[a][:5] == traded[b][:5] for a, b in together)
    assert len(together) > 300
    assert still / len(together) < 0.03


def test_traded_names_leave_planted_causes_as_frequent_as_they_were():
    planted = {name for head, _, tail in planted_relations() for name in (head, tail)}
    rare = {code for codes in rare_blocks().values() for code in codes}
    for kind in ("diagnoses", "procedures"):
        for old, new in new_names(kind).items():
            assert (f"{kind}/{old}" in planted) == (f"{kind}/{new}" in planted)
            assert (old in rare) == (new in rare)


@pytest.mark.parametrize("name", ["ontology", "relations", "courses", "reactions"])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_a_strength_is_a_probability(name, value):
    with pytest.raises(ValidationError, match=name):
        SyntheticOptions(**{name: value})


@pytest.mark.parametrize("value", [-1.0, 11.0])
def test_rare_codes_are_a_small_mean(value):
    with pytest.raises(ValidationError, match="rare_codes"):
        SyntheticOptions(rare_codes=value)


def test_the_smallest_cohort_works_with_everything_on():
    strengths = dict.fromkeys(["ontology", "relations", "courses", "reactions"], 1.0)
    strengths |= {"rare_codes": 10.0, "traded_names": True}
    small = prepare("synthetic", None, SyntheticOptions(patients=12, **strengths))
    assert small.patients == 12
