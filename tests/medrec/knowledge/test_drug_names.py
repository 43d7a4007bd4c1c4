import time

import pandas as pd
import pytest

from medrec.errors import KnowledgeError
from medrec.knowledge.drug_names import Match, load_drug_names
from tests.medrec.datasets.mimic4_files import write_csv
from tests.shared_data import shared_data

INGREDIENTS = """in_rxcui,in_tty,in_name,atc5
1,IN,Abacine,V03AX01
1,IN,Abacine,C03CA01
1,IN,Abacine,A01AB01
2,IN,zetamide,J05AX01
2,IN,nameless,
3,MIN,abacine / zetamide,L04AX01
4,IN,vial,L01XA01
5,IN,gammalol phosphate,C07AB01
"""
SYNONYMS = """variant,canonical,is_brand
Zetabrand,zetamide,1
bag,zetamide,
Newname,Oldname,
oldname,oldname,
abacine,oldname,
lone,nobody,
zétamide,zetamide,
"""
EMBEDDED = load_drug_names([], "systemic")

# Checked by hand against the WHO index; embedded tables alone.
KNOWN = {
    "Furosemide": "C03C",
    "FUROSEMIDE 10 MG/1 ML 4ML SDV INJ": "C03C",
    "Metoprolol Tartrate": "C07A",
    "Metoprolol Succinate XL": "C07A",
    "WARFARIN SODIUM 5 MG PO TABS": "B01A",
    "5 ML VIAL : DILTIAZEM HCL 25 MG/5ML IV SOLN": "C08D",
    "Insulin": "A10A",
    "3 ML VIAL : INSULIN LISPRO (HUMAN) 100 UNIT/ML SC SOLN": "A10A",
    "NovoLOG": "A10A",
    "INSULIN (REGULAR) 100 UNITS in 100 mL NaCl 0.9%": "A10A",
    "HYDROmorphone (Dilaudid)": "N02A",
    "HYDROCODONE-ACETAMINOPHEN 5-325 MG PO TABS": "N02A",
    "Oxycodone-Acetaminophen": "N02A",
    "Acetaminophen": "N02B",
    "Aspirin EC": "B01A",
    "Vancomycin HCl": "J01X",
    "Dexamethasone Sod Phosphate": "H02A",
    "PredniSONE": "H02A",
    "Hydrocortisone Na Succ.": "H02A",
    "Potassium Chloride": "A12B",
    "Potassium Chl 20 mEq / 1000 mL D5 1/2 NS": "A12B",
    "potassium CHLORIDE 20 mEq in": "A12B",
    "Potassium Phosphate": "B05X",
    "Neutra-Phos": "A12C",
    "MAGNESIUM SULFATE 2 G IN NS PREMIX": "A12C",
    "Milk of Magnesia": "A06A",
    "Calcium Gluconate": "A12A",
    "Sodium Bicarbonate": "B05X",
    "Docusate Sodium (Liquid)": "A06A",
    "SENNOSIDES-DOCUSATE SODIUM 8.6-50 MG PO TABS": "A06A",
    "SENOKOT-S TAB": "A06A",
    "Dextrose 50%": "B05B",
    "50 ML SYRINGE : DEXTROSE 50 % IV SOLN": "B05B",
    "Glucose Gel": "V06D",
    "Multivitamins": "A11B",
    "Influenza Virus Vaccine": "J07B",
    "PNEUMOcoccal 23-valent polysaccharide vaccine": "J07A",
    "Albumin 25% (12.5g / 50mL)": "B05A",
    "Heparin Sodium": "B01A",
    "Piperacillin-Tazobactam Na": "J01C",
    "Sulfameth/Trimethoprim DS": "J01E",
    "Ipratropium Bromide MDI": "R03B",
    "3 ML  -  IPRATROPIUM-ALBUTEROL 0.5-2.5 (3) MG/3ML IN SOLN": "R03A",
    "Albuterol 0.083% Neb Soln": "R03A",
    "Epinephrine": "C01C",
    "Lidocaine 5% Patch": "N01B",
    "Nitroglycerin": "C01D",
    "Norepinephrine": "C01C",
    "Levothyroxine Sodium": "H03A",
    "Phytonadione": "B02B",
    "Mannitol 20%": "B05B",
    "Naloxone": "V03A",
    "Nystatin Oral Suspension": "A07A",
    "Artificial Tears": "S01X",
    "Glucagon": "H04A",
}
EXCLUDED = [
    "D5W",
    "NS",
    "SW",
    "LR",
    "Bag",
    "Vial",
    "0.9% Sodium Chloride (Mini Bag Plus)",
    "Iso-Osmotic Dextrose",
    "Sterile Water",
    "1000 ML FLEX CONT : SODIUM CHLORIDE 0.9 % IV SOLN",
    "Heparin Flush (10 units/ml)",
    "Syringe (0.9% Sodium Chloride)",
    "D5 1/2NS",
]


@pytest.fixture
def folder(tmp_path):
    write_csv(tmp_path / "a" / "ingredient_atc5_2020.csv", INGREDIENTS, packed=True)
    write_csv(tmp_path / "b" / "deep" / "drug_synonyms_x.csv", SYNONYMS)
    return tmp_path


@pytest.mark.parametrize(("name", "expected"), KNOWN.items(), ids=KNOWN)
def test_finds_the_class(name, expected):
    assert EMBEDDED.find(name).classes == (expected,)


@pytest.mark.parametrize("name", EXCLUDED)
def test_excludes_carriers_and_supplies(name):
    assert EMBEDDED.find(name) == Match("excluded", ())


@pytest.mark.parametrize("name", ["", "  ", "325 MG", "Furosemidex", "pro-furo", "<--->", "Ω"])
def test_says_what_it_does_not_know(name):
    assert EMBEDDED.find(name) == Match("unknown", ())


@pytest.mark.parametrize("word", ["furosemide", "FUROSEMIDE", "  furosemide,", "(furosemide)"])
def test_case_and_signs_change_nothing(word):
    assert EMBEDDED.find(word) == Match("name", ("C03C",))


def test_a_table_of_ingredients_gives_names_and_the_rule_decides(folder):
    found = {
        rule: load_drug_names([folder], rule).find("ABACINE 5 MG TAB").classes
        for rule in ("systemic", "listed", "all")
    }
    assert found == {
        "systemic": ("C03C",),
        "listed": ("V03A",),
        "all": ("A01A", "C03C", "V03A"),
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("zetamide 3 mg", Match("name", ("J05A",))),
        ("Zetabrand 10", Match("synonym", ("J05A",))),
        ("ZÉTAMIDE", Match("name", ("J05A",))),
        ("newname", Match("synonym", ("C03C",))),  # through its fellow "abacine"
        ("zetamide-abacine", Match("name", ("L04A",))),  # the combination, in any order
        ("zetamide, abacine and furosemide", Match("name", ("J05A",))),  # unknown mixture: first
        ("furosemide in a vial", Match("name", ("C03C",))),
        ("vial", Match("excluded", ())),  # a container, whatever a list says
        ("bag", Match("excluded", ())),
        ("gammalol", Match("name", ("C07A",))),  # known by its salt
        ("nameless", Match("unknown", ())),
        ("strange zinc", Match("unknown", ())),  # the salt of a drug not known
        ("500 mg zinc", Match("override", ("A12C",))),
        ("lone", Match("unknown", ())),
    ],
)
def test_tables_of_users_are_read(folder, name, expected):
    assert load_drug_names([folder], "systemic").find(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("zetamide", ("J05A",)),
        ("Zetamide Sodium", ("J05A",)),
        ("zetamide with strange", ()),
        ("", ()),
    ],
)
def test_exact_takes_the_whole_name_and_no_more(folder, name, expected):
    assert load_drug_names([folder], "systemic").exact(name).classes == expected


@pytest.mark.parametrize(
    ("rxcui", "name", "expected"),
    [("2", "abacine", ("J05A",)), ("99", "abacine", ("C03C",)), ("", "strange", ())],
)
def test_the_number_of_an_ingredient_counts_before_its_name(folder, rxcui, name, expected):
    assert load_drug_names([folder], "systemic").of_ingredient(rxcui, name) == expected


def test_overrides_stand_above_the_tables_of_users(folder):
    text = INGREDIENTS + "9,IN,heparin,C05BA03\n9,IN,furosemide,V10AA01\n"
    write_csv(folder / "a" / "ingredient_atc5_2020.csv", text, packed=True)
    names = load_drug_names([folder], "systemic")
    assert names.find("heparin") == Match("override", ("B01A",))
    assert names.find("abacine") == Match("name", ("C03C",))  # only they know it


@pytest.mark.parametrize(
    ("rule", "expected"), [("systemic", "C03C"), ("listed", "V10A"), ("all", "V10A")]
)
def test_the_embedded_names_stand_above_those_of_users_under_the_systemic_rule(
    folder, rule, expected
):
    """Embedded: C03C alone. Users' tables have every class, of which the other rules want more."""
    text = INGREDIENTS + "9,IN,furosemide,V10AA01\n"
    write_csv(folder / "a" / "ingredient_atc5_2020.csv", text, packed=True)
    names = load_drug_names([folder], rule)
    for name in ("furosemide", "furosemide sodium", "FUROSEMIDE 40 MG TAB"):
        assert names.find(name) == Match("name", (expected,))
    assert names.of_ingredient("9", "furosemide") == ("V10A",)  # a number is theirs alone


def test_the_origin_names_what_was_read(folder):
    names = load_drug_names([folder], "systemic")
    assert set(names.origin.inputs) == {
        "drug_overrides.csv",
        "drugs.csv",
        "ingredient_atc5_2020.csv.gz",
        "drug_synonyms_x.csv",
    }
    prints = {load_drug_names([folder], rule).origin.fingerprint for rule in ("systemic", "all")}
    assert len(prints) == 2
    assert EMBEDDED.origin.fingerprint not in prints


@pytest.mark.parametrize("code", ["C3CA", "C03", "furo"])
def test_a_malformed_code_is_named(folder, code):
    text = INGREDIENTS + f"9,IN,bad,{code}\n"
    write_csv(folder / "a" / "ingredient_atc5_2020.csv", text, packed=True)
    with pytest.raises(KnowledgeError, match=rf"line 10: `atc5` must be an ATC code.*{code!r}"):
        load_drug_names([folder], "systemic")


def test_each_override_says_why_and_stands_once():
    table = pd.read_csv("medrec/knowledge/embedded/drug_overrides.csv", dtype=str)
    assert list(table.columns) == ["name", "atc3", "reason"]
    assert table.notna().all(axis=None)
    assert not table["name"].duplicated().any()
    for name, classes in zip(table["name"], table["atc3"], strict=True):
        match = EMBEDDED.find(name)
        assert match.step == ("excluded" if classes == "exclude" else "override"), name
        assert "|".join(match.classes) == classes.replace("exclude", "")


DEMOS = {
    "mimic-iii": (("mimic-iii-demo", "PRESCRIPTIONS.csv"), "drug"),
    "mimic-iv": (("mimic-iv-demo", "hosp", "prescriptions.csv.gz"), "drug"),
    "eicu": (("eicu-demo", "medication.csv.gz"), "drugname"),
}


def rows_understood(names, demo):
    parts, column = DEMOS[demo]
    rows = pd.read_csv(shared_data(*parts), dtype=str, usecols=[column])[column].dropna()
    counts = rows.value_counts()
    known = [names.find(name).step != "unknown" for name in counts.index]
    return counts[known].sum() / counts.sum()


@pytest.mark.parametrize(
    ("demo", "floor"), [("mimic-iii", 0.98), ("mimic-iv", 0.99), ("eicu", 0.91)]
)
def test_the_embedded_tables_understand_most_rows(demo, floor):
    assert rows_understood(EMBEDDED, demo) >= floor


@pytest.fixture(scope="module")
def all_tables():
    return load_drug_names(
        [shared_data("knowledge", "open"), shared_data("knowledge", "nc")], "systemic"
    )


@pytest.mark.slow
@pytest.mark.parametrize("demo", DEMOS)
def test_with_the_tables_of_users_nearly_all_rows_are_understood(all_tables, demo):
    assert rows_understood(all_tables, demo) >= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_the_tables_of_users_agree_with_the_hand_checked_names(all_tables, name):
    assert all_tables.find(name).classes == (KNOWN[name],)


@pytest.mark.slow
def test_a_name_takes_less_than_a_tenth_of_a_millisecond(all_tables):
    texts = ["1 ML CRTRDG-NDL : MORPHINE SULFATE (PF) 2 MG/ML IJ/IV SOLN", "D5W", "unknown drug"]
    seconds = []
    for _ in range(5):
        begin = time.process_time()
        for _ in range(100):
            for text in texts:
                all_tables.find(text)
        seconds.append((time.process_time() - begin) / 300)
    assert min(seconds) < 1e-4  # with the checks of shapes and types that tests switch on
