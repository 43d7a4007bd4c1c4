"""The bundle that a cohort has without any file."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from medrec import codes
from medrec.cohort import KINDS
from medrec.datasets._base import prepare
from medrec.datasets.synthetic import SyntheticOptions
from medrec.knowledge import tables
from medrec.knowledge.atc import load_atc
from medrec.knowledge.built_in import built_in_bundle, built_in_fingerprint
from medrec.knowledge.bundle import open_bundle, vocabulary_digest
from medrec.knowledge.icd import load_icd
from medrec.knowledge.open_graph import OPEN_RELATIONS
from medrec.knowledge.planted import RELATION_NAMES, planted_codes, planted_relations
from medrec.knowledge.semmeddb import KINDMED_RELATIONS
from tests.medrec.knowledge.bundles import changed
from tests.medrec.small import small_cohort
from tests.shared_data import shared_data

PAIRS = (("B01A", "M01A"), ("A02B", "X99X"))
MIXED = {
    "diagnoses": (
        "10:E119", "10:I5023", "10:V9022XA", "4280", "9:042", "9:4", "9:4280", "9:740", "9:E8490",
        "9:E871X", "9:V4581", "cardiac arrest",
    ),
    "procedures": ("10:0BH17EZ", "10:0BH1", "9:0014", "9:3893", "Xray", "dialysis"),
    "medications": ("A", "Antibiotics", "C03C", "C99Z", "N02B", "aspirin"),
}  # fmt: skip


@cache
def synthetic():
    return prepare("synthetic", None, SyntheticOptions(patients=1500))


@cache
def mixed():
    return built_in_bundle(changed(**MIXED), PAIRS, {"C03C": ("C",)})


@pytest.mark.parametrize(
    ("node", "path"),
    [
        ("diagnoses/9:4280", ["9:428", "9:420-429", "9:390-459"]),
        ("diagnoses/9:042", ["9:042-042", "9:001-139"]),
        ("diagnoses/9:740", ["9:740-759"]),
        ("diagnoses/9:E8490", ["9:E849", "9:E846-E849", "9:E000-E999"]),
        ("diagnoses/9:V4581", ["9:V458", "9:V45", "9:V40-V49", "9:V01-V91"]),
        ("diagnoses/10:I5023", ["10:I502", "10:I50", "10:I"]),
        ("diagnoses/10:E119", ["10:E11", "10:E"]),
        ("diagnoses/10:V9022XA", ["10:V9022X", "10:V9022", "10:V902", "10:V90", "10:V"]),
        ("procedures/9:3893", ["9:389", "9:38", "9:35-39"]),
        ("procedures/9:0014", ["9:001", "9:00", "9:00-00"]),
        (
            "procedures/10:0BH17EZ",
            ["10:0BH17E", "10:0BH17", "10:0BH1", "10:0BH", "10:0B", "10:0"],
        ),
        ("medications/C03C", ["C03", "C"]),
        ("medications/C99Z", ["C"]),
        ("medications/A", []),
        # Local names, codes without a version and what has no form of a code
        ("diagnoses/4280", []),
        ("diagnoses/9:4", []),
        ("diagnoses/9:E871X", []),
        ("diagnoses/cardiac arrest", []),
        ("procedures/Xray", []),
        ("procedures/dialysis", []),
        ("medications/Antibiotics", []),
        ("medications/aspirin", []),
    ],
)
def test_paths_written_by_hand(node, path):
    kind = node.partition("/")[0]
    assert node in mixed().nodes
    assert mixed().ancestors(node) == tuple(f"{kind}/{name}" for name in path)
    triples = {(head, tail) for head, name, tail in mixed().relations.names()
               if name == "has_parent"}  # fmt: skip
    assert set(pairwise((node, *mixed().ancestors(node)))) <= triples


def test_titles_are_those_known_by_heart():
    title = dict(zip(mixed().nodes, mixed().titles, strict=True))
    assert title["medications/C03C"] == "loop diuretics"
    assert title["procedures/9:35-39"] == "Operations on the cardiovascular system"
    assert title["procedures/10:0"] == "Medical and Surgical"
    assert title["diagnoses/9:428"] == title["diagnoses/9:4280"] == ""


def test_nodes_are_codes_and_their_ancestors_and_every_path_ends():
    for cohort in (small_cohort(), changed(**MIXED), synthetic()):
        bundle = built_in_bundle(cohort, (), {})
        given = {f"{kind}/{code}" for kind in KINDS for code in cohort.vocabulary[kind]}
        above = {name for node in given for name in bundle.ancestors(node)}
        assert set(bundle.nodes) == given | above
        assert list(bundle.nodes) == sorted(bundle.nodes)
        rows = np.arange(len(bundle.nodes))
        for _ in range(8):  # no path is longer, so no circle is left
            rows = np.where(rows >= 0, bundle.parents[rows], -1)
        assert (rows == -1).all()
        assert bundle.text.shape == (len(bundle.nodes), 0)
        assert bundle.vocabulary == vocabulary_digest(cohort)


def test_every_synthetic_code_has_a_parent():
    bundle = built_in_bundle(synthetic(), (), {})
    codes = [f"{kind}/{code}" for kind in KINDS for code in synthetic().vocabulary[kind]]
    assert [node for node in codes if not bundle.ancestors(node)] == []


def test_an_empty_vocabulary_is_fine():
    bundle = built_in_bundle(changed(procedures=()), (), {})
    assert not [name for name in bundle.nodes if name.startswith("procedures/")]


def test_interactions_and_structures_are_those_given():
    bundle = built_in_bundle(small_cohort(), PAIRS, {"C03C": ("C", "CC")})
    assert bundle.interactions == dict.fromkeys(PAIRS, "")
    assert bundle.structures == {"C03C": ("C", "CC")}
    found = {(h, t) for h, name, t in bundle.relations.names() if name == "interacts"}
    assert found == {
        ("medications/B01A", "medications/M01A"),
        ("medications/M01A", "medications/B01A"),
    }


def test_relations_of_both_kinds_are_registered_whether_there_are_any_or_not():
    names = tuple("/".join(each) for each in KINDMED_RELATIONS)
    assert names == RELATION_NAMES
    assert len(set(names)) == 26
    for cohort in (small_cohort(), synthetic()):
        graph = built_in_bundle(cohort, PAIRS, {}).relations
        assert graph.relations == tuple(sorted((*OPEN_RELATIONS, *names)))
        counts = graph.counts()
        assert counts["has_parent"] > 0
        assert counts["interacts"] > 0
        assert counts["in_category"] == counts["equivalent"] == counts["indicated_for"] == 0


def test_planted_relations_are_in_synthetic_cohorts_alone():
    graph = built_in_bundle(synthetic(), (), {}).relations
    given = {f"{kind}/{code}" for kind in KINDS for code in synthetic().vocabulary[kind]}
    expected = [each for each in planted_relations() if {each[0], each[2]} <= given]
    found = [each for each in graph.names() if each[1] in RELATION_NAMES]
    assert sorted(found) == expected
    assert len(found) > 8000
    other = replace(synthetic(), provenance=replace(synthetic().provenance, dataset="hospital"))
    counts = built_in_bundle(other, (), {}).relations.counts()
    assert sum(counts[name] for name in RELATION_NAMES) == 0
    assert counts["has_parent"] == graph.counts()["has_parent"]


def test_planted_relations_join_a_twentieth_of_the_pairs_once_and_by_kind():
    listed = planted_codes()
    assert {kind: len(set(names)) for kind, names in listed.items()} == {
        "diagnoses": 500, "procedures": 150
    }  # fmt: skip
    assert list(planted_relations()) == sorted(planted_relations())
    pairs = [frozenset((head, tail)) for head, _, tail in planted_relations()]
    assert len(set(pairs)) == len(pairs)
    assert all(len(pair) == 2 for pair in pairs)
    assert len(pairs) == pytest.approx(0.05 * 650 * 649 / 2, rel=0.03)
    ends = {"/".join(each): each[1:] for each in KINDMED_RELATIONS}
    counts = Counter()
    for head, name, tail in planted_relations():
        kinds = tuple(end.partition("/")[0] for end in (head, tail))
        assert ends[name] == kinds
        assert {head.partition("/")[2], tail.partition("/")[2]} <= {*sum(listed.values(), ())}
        counts[name] += 1
    assert set(counts) == set(RELATION_NAMES)
    # Of one pair of kinds, every relation is equally likely: 500·499/2 pairs over 11, and so on.
    for name, number in counts.items():
        share = {
            ("diagnoses", "diagnoses"): 500 * 499 / 2 / 11,
            ("procedures", "procedures"): 150 * 149 / 2 / 5,
        }.get(ends[name], 500 * 150 / 10)
        assert abs(number - 0.05 * share) < 4 * np.sqrt(0.05 * share), name


def test_a_pair_of_planted_relations_is_neither_rare_nor_ever_frequent():
    cohort = synthetic()
    hot = {}
    for kind in ("diagnoses", "procedures"):
        names = [f"{kind}/{code}" for code in cohort.vocabulary[kind]]
        hot |= dict(zip(names, cohort.codes[kind].multi_hot(len(names)).T, strict=True))
    pairs = np.zeros(len(cohort.age))
    most = 0.0
    for head, _, tail in planted_relations():
        if head in hot and tail in hot:
            both = hot[head] & hot[tail]
            most = max(most, both.mean())
            pairs += both
    assert 1.2 <= pairs.mean() <= 1.8
    assert 0.45 <= (pairs > 0).mean() <= 0.6
    assert most < 0.01


@pytest.mark.parametrize("kind", ["diagnoses", "procedures"])
def test_paths_of_icd9_are_those_of_the_published_files(kind):
    real = load_icd(kind, "9", shared_data("knowledge", "open", "icd"))
    leaves = set(real.titles) - set(real.parents.values())
    cohort = changed(**{kind: tuple(sorted(leaves))})
    bundle = built_in_bundle(cohort, (), {})
    assert len(leaves) > 3000
    for code in sorted(leaves)[::7]:
        path = tuple(f"{kind}/{name}" for name in real.ancestors(code))
        assert bundle.ancestors(f"{kind}/{code}") == path
    assert {f"{kind}/{name}" for name in real.titles} <= set(bundle.nodes)


def test_paths_of_icd10_are_those_of_the_published_files_up_to_the_category():
    real = load_icd("diagnoses", "10", shared_data("knowledge", "open", "icd"))
    leaves = sorted(set(real.titles) - set(real.parents.values()))[::20]
    bundle = built_in_bundle(changed(diagnoses=tuple(leaves)), (), {})
    for code in leaves:
        published = [f"diagnoses/{name}" for name in real.ancestors(code) if "-" not in name]
        ours = bundle.ancestors(f"diagnoses/{code}")
        # Every prefix is a node here; CMS lists no header for a placeholder (V90.22X).
        assert [name for name in ours if name in published] == published
        assert ours[-1] == f"diagnoses/10:{codes.split(code)[1][0]}"


def test_a_local_name_is_below_no_drug_class_in_any_tree():
    assert load_atc().resolve("Antibiotics") is None
    assert load_atc().resolve("C03CA01") == "C03C"


def test_it_can_be_saved_and_opened(tmp_path):
    mixed().save(tmp_path / "bundle")
    again = open_bundle(tmp_path / "bundle")
    assert again.fingerprint == mixed().fingerprint
    assert again.ancestors("medications/C03C") == ("medications/C03", "medications/C")


def test_it_is_the_same_in_another_process_and_imports_nothing_heavy():
    code = (
        "import sys;"
        "from medrec.knowledge.built_in import built_in_bundle, built_in_fingerprint;"
        "from medrec.knowledge.tables import read_interactions;"
        "from medrec.datasets._base import prepare;"
        "from medrec.datasets.synthetic import SyntheticOptions;"
        "cohort = prepare('synthetic', None, SyntheticOptions(patients=60));"
        "bundle = built_in_bundle(cohort, read_interactions('embedded'), {});"
        "print(hash('x'), bundle.fingerprint, built_in_fingerprint(),"
        " {'torch', 'rdkit'} & set(sys.modules))"
    )
    seen = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for seed in ("1", "2")
    ]
    assert seen[0][0] != seen[1][0]
    cohort = prepare("synthetic", None, SyntheticOptions(patients=60))
    bundle = built_in_bundle(cohort, tables.read_interactions("embedded"), {})
    for each in seen:
        assert each[1:] == [bundle.fingerprint, built_in_fingerprint(), "set()"]


def test_the_fingerprint_follows_the_planted_table(monkeypatch):
    before = built_in_fingerprint()
    monkeypatch.setattr("medrec.knowledge.built_in.planted_digest", lambda: "other")
    assert built_in_fingerprint() != before
