"""The embedded tables: whole by themselves, and checked against open tables where these are."""

import csv
import gzip
import logging
from collections import defaultdict
from importlib import resources
from pathlib import Path

import pytest
from rdkit import Chem
from rdkit.Chem.MolStandardize import rdMolStandardize
from scipy.stats import hypergeom

from medrec.knowledge import tables
from medrec.knowledge.molecules import build_molecules
from tests.shared_data import shared_data

logger = logging.getLogger(__name__)  # figures: pytest --log-cli-level=INFO
FOLDER = Path(str(resources.files("medrec.knowledge.embedded")))
# The active parts of fixed combinations, and vitamins that the reference lists in other classes.
COMBINED = {
    ("A11C", "retinol"),
    ("A11G", "ascorbic acid"),
    ("C09D", "valsartan"),
    ("G03E", "estradiol"),
    ("G03E", "testosterone"),
}
NO_SMALL_MOLECULE = ["A09A", "A10A", "B05A", "D03B", "H04A", "J06B", "J07A", "J07B", "L01F"]


def rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(newline="") as file:
        return list(csv.DictReader(file))


def shared_rows(*parts: str, delimiter: str = ",") -> list[dict[str, str]]:
    path = shared_data(*parts)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def connectivity(smiles: str) -> str:
    """First block of the InChIKey of the largest part, neutralised."""
    molecule = rdMolStandardize.LargestFragmentChooser().choose(Chem.MolFromSmiles(smiles))
    return Chem.MolToInchiKey(rdMolStandardize.Uncharger().uncharge(molecule)).split("-")[0]


def test_tables_refer_to_each_other():
    titles = tables.titles()
    assert list(titles) == sorted(titles)
    assert len(set(titles.values())) == len(titles) >= 150
    assert sorted(set(titles) - set(tables.read_structures("embedded"))) == NO_SMALL_MOLECULE
    drugs = rows("drugs.csv")
    assert [(r["atc3"], r["drug"]) for r in drugs] == sorted(
        {(r["atc3"], r["drug"]) for r in drugs}
    )
    assert {r["atc3"] for r in drugs} <= set(titles)
    written = defaultdict(set)
    for row in drugs:
        written[row["drug"]].add(row["smiles"])
    assert all(len(smiles) == 1 for smiles in written.values())


def test_interactions_are_ordered_pairs_with_a_reason_at_the_published_density():
    pairs = rows("ddi.csv")
    codes = tables.titles()
    assert all(r["atc3_a"] < r["atc3_b"] and r["reason"] for r in pairs)
    assert {r[end] for r in pairs for end in ("atc3_a", "atc3_b")} <= set(codes)
    assert tuple((r["atc3_a"], r["atc3_b"]) for r in pairs) == tables.read_interactions("embedded")
    density = len(pairs) / (len(codes) * (len(codes) - 1) / 2)
    assert 0.04 < density < 0.06  # 337 of the 6216 pairs of SafeDrug's 112 classes: 0.054


def test_the_table_builds_molecules():
    structures = tables.read_structures("embedded")
    molecules = build_molecules([structures.get(code, ()) for code in tables.titles()])
    assert len(molecules.fingerprint) == molecules.molecule.size > 9000
    assert (
        molecules.molecule.max() + 1 == len(molecules.drug) == sum(map(len, structures.values()))
    )
    assert molecules.fingerprint.max() + 1 == molecules.fingerprints > 1500
    assert 400 < len(molecules.fragments) < 800
    assert (molecules.contains.sum(axis=1) > 0).sum() == len(structures)


def test_structures_agree_with_drugcentral():
    reference: dict[str, str] = {}
    for row in shared_rows(
        "knowledge", "open", "smiles", "drugcentral_structures.smiles.tsv.gz", delimiter="\t"
    ):
        reference.setdefault(row["INN"].lower(), row["SMILES"])
    drugs = {r["drug"]: r["smiles"] for r in rows("drugs.csv")}
    found = sorted(set(drugs) & set(reference))
    wrong = [n for n in found if connectivity(drugs[n]) != connectivity(reference[n])]
    logger.info("%s of %s drugs found by name; differ: %s", len(found), len(drugs), wrong)
    assert len(found) > 0.9 * len(drugs)
    assert len(wrong) <= 0.03 * len(found)


def test_drugs_stand_in_the_classes_that_list_them():
    classes = defaultdict(set)
    for row in shared_rows("knowledge", "nc", "atc", "atc5_smiles_drugcentral.csv.gz"):
        classes[row["name"].lower()].add(row["atc5"][:4])
    ours = {(r["atc3"], r["drug"]) for r in rows("drugs.csv") if r["drug"] in classes}
    elsewhere = {(atc3, drug) for atc3, drug in ours if atc3 not in classes[drug]}
    assert len(ours) > 300
    assert elsewhere <= COMBINED


def test_classes_cover_hospital_prescriptions_and_the_published_interactions():
    rxcui = {
        r["ndc11"]: r["rxcui"]
        for r in shared_rows("knowledge", "nc", "drug", "ndc_rxcui_2020.csv.gz")
    }
    classes = defaultdict(set)
    for row in shared_rows("knowledge", "nc", "drug", "rxcui_atc4_2020.csv.gz"):
        classes[row["rxcui"]].add(row["atc4"][:4])
    prescribed = {
        atc3
        for row in shared_rows("mimic-iv-demo", "hosp", "prescriptions.csv.gz")
        for atc3 in classes[rxcui.get(row["ndc"], "")]
    }
    published = {
        r[end]
        for r in shared_rows("knowledge", "open", "ddi", "ddi_atc3_pairs.csv")
        for end in ("code1", "code2")
    }
    ours = set(tables.titles())
    assert len(prescribed) > 100
    assert prescribed - ours == set()
    assert published - ours == set()


def test_interactions_overlap_with_twosides_above_chance():
    published = {
        tuple(sorted((r["code1"], r["code2"])))
        for r in shared_rows("knowledge", "open", "ddi", "ddi_atc3_pairs.csv")
        if r["code1"] != r["code2"]
    }
    common = {code for pair in published for code in pair} & set(tables.titles())
    ours = {pair for pair in tables.read_interactions("embedded") if common.issuperset(pair)}
    theirs = {pair for pair in published if common.issuperset(pair)}
    both, possible = len(ours & theirs), len(common) * (len(common) - 1) // 2
    expected = len(ours) * len(theirs) / possible
    chance = hypergeom.sf(both - 1, possible, len(theirs), len(ours))
    logger.info(
        "%s classes: ours %s, theirs %s, both %s", len(common), len(ours), len(theirs), both
    )
    logger.info("by chance %.1f, p %.1e", expected, chance)
    assert both > 1.5 * expected
    assert chance == pytest.approx(0.0, abs=1e-4)


def test_interactions_overlap_with_clinical_lists_far_above_chance():
    classes = defaultdict(set)
    for row in shared_rows("knowledge", "nc", "drug", "ingredient_atc5_2020.csv.gz"):
        classes[row["in_name"].lower()].add(row["atc5"][:4])
    names = [
        (row["drug1"], row["drug2"])
        for part in ("onc_high_priority_ddi.csv", "onc_noninterruptive_ddi.csv")
        for row in shared_rows("knowledge", "open", "ddi", part)
    ]
    veterans = shared_rows("knowledge", "open", "ddi", "ndfrt_va_ddi_2014.csv")
    names += [tuple(r["label"].split("/")) for r in veterans if r["label"].count("/") == 1]
    titles = tables.titles()
    listed = {
        tuple(sorted((a, b)))
        for one, other in names
        for a in classes[one.lower()] & set(titles)
        for b in classes[other.lower()] & set(titles)
        if a != b
    }
    ours = set(tables.read_interactions("embedded"))
    both = len(ours & listed)
    expected = len(ours) * len(listed) / (len(titles) * (len(titles) - 1) / 2)
    logger.info(
        "ours %s, listed %s, both %s, by chance %.1f", len(ours), len(listed), both, expected
    )
    assert both > 3 * expected
