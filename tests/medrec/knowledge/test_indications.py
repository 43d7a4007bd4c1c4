import csv
import gzip

import pytest

from medrec.errors import KnowledgeError
from medrec.knowledge.drug_names import load_drug_names
from medrec.knowledge.hierarchy import Hierarchy
from medrec.knowledge.icd import load_icd
from medrec.knowledge.indications import (
    load_labeledin,
    load_medi,
    load_pharmacotherapydb,
    match_title,
    title_index,
)
from medrec.knowledge.origin import Origin
from tests.shared_data import shared_data

TREE = Hierarchy(
    Origin("tree", "none", {"tree.txt": "1"}),
    {
        "9:714": "",
        "9:7140": "Rheumatoid arthritis",
        "9:493": "Asthma",
        "9:4939": "Asthma, unspecified",
        "9:332": "Parkinson's disease",
        "9:5990": "Urinary tract infection, site not specified",
        "9:4280": "Congestive heart failure, unspecified",
    },
    {},
)
INGREDIENTS = "in_rxcui,in_name,atc5\n1,alfa,C03CA01\n1,alfa,A07AA01\n2,beta,J01XA01\n"
MEDI = """RXCUI_IN,DRUG_DESC,ICD9,INDICATION_DESCRIPTION,POSSIBLE_LABEL_USE
1,Alfa,428.0,CHF,1
1,Alfa,401-405.99,Hypertension,0
1,Alfa,239-239.99,Neoplasm,0
999,BETA,V04.1,x,1
2,another name,616.10|041.9,x,0
2,another name,E926.3,x,0
3,nobody,428.0,x,1
"""
LABELEDIN = """rxnorm_id\tdisease_cui\tdisease_mesh_name\trxnorm_name
1\tC1\tArthritis, Rheumatoid\tAlfa
2\tC2\tASTHMA\tBeta
2\tC3\tHeart Failure\tBeta
2\tC4\t\tBeta
3\tC2\tAsthma\tNobody
"""
PHARMACOTHERAPY = """doid_id\tdrugbank_id\tdisease\tdrug\tcategory
D1\tB1\trheumatoid arthritis\tAlfa\tDM
D2\tB1\tasthma\tAlfa\tSYM
D3\tB2\tParkinson's disease\tBeta\tNOT
D3\tB2\tunknown disease\tBeta\tDM
D3\tB3\tasthma\tNobody\tDM
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "ingredient_atc.csv").write_text(INGREDIENTS)
    (tmp_path / "medi.csv").write_text(MEDI)
    (tmp_path / "labeledin.tsv").write_text(LABELEDIN)
    (tmp_path / "pharmaco.tsv").write_text(PHARMACOTHERAPY)
    return tmp_path


@pytest.fixture
def names(folder):
    return load_drug_names([folder], "systemic")


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        (
            "all",
            {
                ("C03C", "9:4280"),
                ("C03C", "9:401-405"),
                ("C03C", "9:239"),
                ("J01X", "9:V041"),
                ("J01X", "9:61610"),
                ("J01X", "9:E9263"),
            },
        ),
        ("labelled", {("C03C", "9:4280"), ("J01X", "9:V041")}),
    ],
)
def test_medi_names_codes(folder, names, use, expected):
    found = load_medi(folder / "medi.csv", names, use)
    assert found.pairs == tuple(sorted(expected))
    assert found.unmatched == ()
    assert "medi.csv" in found.origin.inputs
    assert found.origin.rules == {"use": use, "rule": "systemic"}


@pytest.mark.parametrize("icd", ["I50.1", "4280", "428.", "401-405", "", "428.0,428.1"])
def test_a_malformed_code_is_named(folder, names, icd):
    cell = f'"{icd}"'
    (folder / "medi.csv").write_text(MEDI + f"1,Alfa,{cell},x,1\n")
    with pytest.raises(KnowledgeError, match="line 9: `ICD9` must be an ICD-9-CM code"):
        load_medi(folder / "medi.csv", names)


def test_a_disease_becomes_a_code_by_its_title(folder, names):
    found = load_labeledin(folder / "labeledin.tsv", names, TREE)
    assert found.pairs == (("C03C", "9:7140"), ("J01X", "9:493"))
    assert found.unmatched == (("J01X", "Heart Failure"),)  # not the same words as its title


@pytest.mark.parametrize(
    ("strength", "expected"),
    [
        ("modifying", {("C03C", "9:7140")}),
        ("symptomatic", {("C03C", "9:7140"), ("C03C", "9:493")}),
    ],
)
def test_refuted_indications_never_count(folder, names, strength, expected):
    found = load_pharmacotherapydb(folder / "pharmaco.tsv", names, TREE, strength)
    assert found.pairs == tuple(sorted(expected))
    assert found.unmatched == (("J01X", "unknown disease"),)


def test_another_tree_is_another_source(folder, names):
    other = Hierarchy(Origin("tree", "none", {"tree.txt": "2"}), TREE.titles, {})
    prints = {
        load_labeledin(folder / "labeledin.tsv", names, tree).origin.fingerprint
        for tree in (TREE, other)
    }
    assert len(prints) == 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Arthritis, Rheumatoid", "9:7140"),
        ("asthma", "9:493"),  # the shortest of two codes
        ("ASTHMA NOS", "9:493"),
        ("parkinson disease", "9:332"),
        ("Parkinsons Diseases", "9:332"),
        ("Parkinson syndrome", None),
        ("Urinary Tract Infections", None),
        ("Infections of urinary tract, site not specified", "9:5990"),
        ("", None),
    ],
)
def test_the_rule_of_titles(name, expected):
    assert match_title(name, title_index(TREE)) == expected


def test_an_unknown_category_is_named(folder, names):
    (folder / "pharmaco.tsv").write_text(PHARMACOTHERAPY + "D1\tB1\tasthma\tAlfa\tMAYBE\n")
    with pytest.raises(KnowledgeError, match="line 7: `category` must be one of DM, SYM, NOT"):
        load_pharmacotherapydb(folder / "pharmaco.tsv", names, TREE)


def test_a_table_without_known_drugs_is_refused(folder):
    with pytest.raises(KnowledgeError, match="must hold drugs whose names are known"):
        load_medi(folder / "medi.csv", load_drug_names([], "all"))


@pytest.mark.slow
def test_medi_against_plain_loops():
    drugs = shared_data("knowledge", "nc", "drug")
    path = shared_data("knowledge", "nc", "relations", "MEDI_01212013_HPS.csv.gz")
    found = load_medi(path, load_drug_names([drugs], "all"))
    classes = {}
    with gzip.open(drugs / "ingredient_atc5_2020.csv.gz", "rt") as stream:
        for row in csv.DictReader(stream):
            if row["atc5"]:
                classes.setdefault(row["in_rxcui"], set()).add(row["atc5"][:4])
    simple = set()
    with gzip.open(path, "rt") as stream:
        for row in csv.DictReader(stream):
            if "-" not in row["ICD9"] and "|" not in row["ICD9"]:
                simple |= {
                    (code, "9:" + row["ICD9"].replace(".", ""))
                    for code in classes.get(row["RXCUI_IN"], ())
                }
    assert len(simple) > 4_000
    assert simple <= set(found.pairs)
    tree = load_icd("diagnoses", "9", shared_data("knowledge", "open", "icd"))
    assert sum(icd in tree for _, icd in found.pairs) / len(found.pairs) > 0.99


@pytest.mark.slow
def test_named_diseases_of_the_open_tables():
    folder = shared_data("knowledge", "open", "relations")
    tree = load_icd("diagnoses", "9", shared_data("knowledge", "open", "icd"))
    names = load_drug_names([], "systemic")
    labels = load_labeledin(folder / "labeledin_indications.tsv", names, tree)
    assert len(labels.pairs) >= 370
    assert all(icd in tree for _, icd in labels.pairs)
    therapies = load_pharmacotherapydb(
        folder / "pharmacotherapydb_indications.tsv", names, tree, "symptomatic"
    )
    assert len(therapies.pairs) >= 140
    assert set(therapies.pairs) >= {("N04B", tree.resolve("9:332"))}
