import numpy as np
import pytest

from medrec.errors import KnowledgeError
from medrec.knowledge.drug_names import load_drug_names
from medrec.knowledge.functional_groups import (
    SMARTS,
    functional_groups,
    load_drugcentral,
    parent_structure,
    readable,
)
from tests.shared_data import shared_data

# By hand; what the wide patterns add to chemistry's own groups is in the last column's comments.
MOLECULES = {
    "ethanol": ("CCO", {"hydroxyl"}),
    "methane": ("C", set()),
    "methylamine": ("CN", {"amine"}),
    "dimethylamine": ("CNC", set()),
    "diethyl ether": ("CCOCC", {"ether"}),
    "acetaldehyde": ("CC=O", {"aldehyde", "ketone"}),  # a carbonyl beside carbon
    "acetone": ("CC(C)=O", {"ketone"}),
    "acetic acid": ("CC(=O)O", {"hydroxyl", "carboxyl", "ketone"}),
    "ethyl acetate": ("CCOC(C)=O", {"carboxyl", "ketone", "ester"}),
    "isopropyl acetate": ("CC(C)OC(C)=O", {"carboxyl", "ketone"}),  # one hydrogen: no ester
    "phenol": ("Oc1ccccc1", {"hydroxyl", "aromatic", "phenol"}),
    "pyridine": ("c1ccncc1", set()),
    "anisole": ("COc1ccccc1", {"aromatic"}),
    "aspirin": ("CC(=O)Oc1ccccc1C(=O)O", {"hydroxyl", "carboxyl", "ketone", "aromatic"}),
    "cysteine": ("NC(CS)C(=O)O", {"hydroxyl", "carboxyl", "ketone", "amine", "sulfhydryl"}),
    "paracetamol": ("CC(=O)Nc1ccc(O)cc1", {"hydroxyl", "ketone", "aromatic", "phenol"}),
    "salt": ("[Na+].[Cl-]", set()),
}
TABLE = (
    "SMILES\tInChI\tInChIKey\tID\tINN\tCAS_RN\n"
    "OCC\tI\tK\t1\talfa\t1\n"
    "CC(=O)[O-].[Na+]\tI\tK\t2\talfa sodium\t2\n"
    "CC(=O)O\tI\tK\t3\tbeta\t3\n"
    "C(C\tI\tK\t4\tbeta\t4\n"
    "CCCC\tI\tK\t5\tnobody\t5\n"
    "CCC\tI\tK\t6\talfa with nobody\t6\n"
)
INGREDIENTS = "in_rxcui,in_name,atc5\n1,alfa,C03CA01\n1,alfa,A07AA01\n2,beta,J01XA01\n"


@pytest.mark.parametrize(("smiles", "expected"), MOLECULES.values(), ids=MOLECULES)
def test_groups(smiles, expected):
    found = functional_groups([smiles])[0]
    assert {name for name, has in zip(SMARTS, found, strict=True) if has} == expected


def test_one_row_for_each_molecule():
    found = functional_groups([smiles for smiles, _ in MOLECULES.values()])
    assert found.shape == (len(MOLECULES), 10)
    assert found.sum() == sum(len(groups) for _, groups in MOLECULES.values())
    assert functional_groups([]).shape == (0, 10)
    assert np.array_equal(functional_groups(["OCC"]), functional_groups(["C(C)O"]))


@pytest.mark.parametrize("text", ["C(C", "", "nonsense"])
def test_what_is_no_molecule_is_refused(text):
    with pytest.raises(KnowledgeError, match="is no SMILES"):
        functional_groups(["CCO", text])


@pytest.mark.parametrize(
    ("salt", "expected"),
    [
        ("CC(=O)[O-].[Na+]", "CC(=O)[O-]"),
        ("Cl.CN", "CN"),
        ("OCC", "CCO"),
        ("OC.NC", "CN"),  # of equals the first in the alphabet
        ("NC.OC", "CN"),
    ],
)
def test_the_largest_part_of_a_salt(salt, expected):
    assert parent_structure(salt) == expected


def test_readable_counts_failures():
    assert readable(["OCC", "C(C", "CN", ""]) == (("CCO", "CN"), ("C(C", ""))


@pytest.fixture
def table(tmp_path):
    (tmp_path / "names").mkdir()
    (tmp_path / "names" / "ingredient_atc.csv").write_text(INGREDIENTS)
    path = tmp_path / "structures.tsv"
    path.write_text(TABLE)
    return path


def test_structures_are_joined_by_whole_names(table):
    found = load_drugcentral(table, load_drug_names([table.parent / "names"], "systemic"))
    assert found.smiles == {"C03C": ("CC(=O)[O-]", "CCO"), "J01X": ("CC(=O)O",)}
    assert found.failures == ("beta",)
    assert {"structures.tsv", "ingredient_atc.csv"} <= set(found.origin.inputs)
    assert found.origin.rules == {"rule": "systemic", "salts": "largest part"}


def test_salts_can_stay_whole_and_drugs_count_in_every_class(table):
    names = load_drug_names([table.parent / "names"], "all")
    found = load_drugcentral(table, names, parents=False)
    assert found.smiles["A07A"] == found.smiles["C03C"] == ("CC(=O)[O-].[Na+]", "CCO")
    parents = load_drugcentral(table, names)
    assert parents.origin.fingerprint != found.origin.fingerprint


def test_the_order_of_rows_changes_nothing(table):
    names = load_drug_names([table.parent / "names"], "all")
    one = load_drugcentral(table, names)
    header, *rows = TABLE.splitlines(keepends=True)
    table.write_text(header + "".join(reversed(rows)))
    other = load_drugcentral(table, names)
    assert (one.smiles, one.failures) == (other.smiles, other.failures)


def test_a_table_without_known_drugs_is_refused(table):
    table.write_text("SMILES\tINN\nCCO\tnobody\n")
    with pytest.raises(KnowledgeError, match="must hold drugs with a structure whose names"):
        load_drugcentral(table, load_drug_names([], "all"))


def test_a_table_of_other_columns_is_refused(table):
    table.write_text("SMILES\tname\nCCO\tnobody\n")
    with pytest.raises(KnowledgeError, match="must have a column `inn`"):
        load_drugcentral(table, load_drug_names([], "all"))


@pytest.mark.slow
def test_drugcentral_has_molecules_of_most_classes():
    path = shared_data("knowledge", "open", "smiles", "drugcentral_structures.smiles.tsv.gz")
    found = load_drugcentral(path, load_drug_names([], "all"))
    assert len(found.smiles) >= 150
    assert found.failures == ()
    furosemide = parent_structure("NS(=O)(=O)c1cc(C(=O)O)c(NCc2ccco2)cc1Cl")
    assert furosemide in found.smiles["C03C"]
    assert all(list(group) == sorted(set(group)) for group in found.smiles.values())
