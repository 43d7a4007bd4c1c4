import gzip
from functools import cache

import pandas as pd
import pytest

from medrec.errors import KnowledgeError
from medrec.knowledge.ccs import load_ccs
from tests.medrec.knowledge.test_icd import check_sound, demo, write
from tests.shared_data import shared_data

SINGLE = """Single-level CCS, created by AHRQ
'ICD-9-CM CODE','CCS CATEGORY','CCS CATEGORY DESCRIPTION','ICD-9-CM CODE DESCRIPTION','OPTIONAL'
'     ','0    ','No DX',INVALID CODES IN USER DATA,' '
'4280 ','108  ','chf;nonhp',CHF NOS,' '
'42823','108  ','chf;nonhp',AC ON CHR SYST HRT FAIL,' '
'4270 ','106  ','Dysrhythmia','PAROX, ATRIAL "TACHY"',' '
'4271 ','106  ','Dysrhythm',PAROX VENTRIC TACHYCARD,' '
'4272 ','106  ','Dysrhythmia',PAROX TACHYCARDIA NOS,' '
'4275 ','107  ','Arrest',CARDIAC ARREST,' '
'28732','62   ','Coag/hemr dx','EVANS' SYNDROME' (Begin 2005),' '
"""
MULTI = """'ICD-9-CM CODE','CCS LVL 1','CCS LVL 1 LABEL','CCS LVL 2','CCS LVL 2 LABEL','CCS LVL 3','CCS LVL 3 LABEL'
'4280 ','7',"Circulatory, all",'7.2',"Heart",'7.2.11',"Congestive heart failure; nonhypertensive [108.]"
'42823','7',"Circulatory, all",'7.2',"Heart",'7.2.11',"Congestive heart failure; nonhypertensive [108.]"
'4270 ','7',"Circulatory, all",'7.2',"Heart",'7.2.9',"Cardiac dysrhythmias"
'4271 ','7',"Circulatory, all",'7.2',"Heart",'7.2.9',"Cardiac dysrhythmias"
'4272 ','7',"Circulatory, All",'7.2',"Heart",'7.2.9',"Cardiac dysrhythmias"
'4275 ','7',"Circulatory, all",'7.2',"Heart's [107. and 108.]",' '," "
'28732','4',"Blood",' '," ",' '," "
"""  # noqa: E501
TEN = """'ICD-10-CM CODE','CCS CATEGORY','ICD-10-CM CODE DESCRIPTION','CCS CATEGORY DESCRIPTION','MULTI CCS LVL 1','MULTI CCS LVL 1 LABEL','MULTI CCS LVL 2','MULTI CCS LVL 2 LABEL'
'I5023','108',"Acute, on chronic","Congestive heart failure",'7',"Circulatory",'7.2',"Heart"
'Y929','2621',"Unspecified place","Place",'18',"Residual codes [259. and 260.]",' '," "
"""  # noqa: E501


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "single" / "$dxref 2015.csv", SINGLE)
    write(tmp_path / "multi" / "CCS_MULTI_DX_TOOL_2015.csv.gz", MULTI)
    return tmp_path


def test_single_level(folder):
    ccs = load_ccs("diagnoses", "9", folder)
    assert ccs.category == {
        "9:28732": "ccs:62",
        "9:4270": "ccs:106",
        "9:4271": "ccs:106",
        "9:4272": "ccs:106",
        "9:4275": "ccs:107",
        "9:4280": "ccs:108",
        "9:42823": "ccs:108",
    }
    assert ccs.titles == {
        "ccs:62": "Coag/hemr dx",
        "ccs:106": "Dysrhythmia",  # two lines against one
        "ccs:107": "Arrest",
        "ccs:108": "Congestive heart failure; nonhypertensive",  # the levels' full title
    }


def test_levels(folder):
    levels = load_ccs("diagnoses", "9", folder).levels
    check_sound(levels)
    assert levels.ancestors("9:42823") == ("ccs-multi:7.2.11", "ccs-multi:7.2", "ccs-multi:7")
    assert levels.ancestors("9:28732") == ("ccs-multi:4",)
    assert levels.ancestors("9:4275") == ("ccs-multi:7.2", "ccs-multi:7")
    assert levels.titles["ccs-multi:7"] == "Circulatory, all"
    assert levels.titles["ccs-multi:7.2"] == "Heart"
    assert levels.titles["ccs-multi:7.2.11"] == "Congestive heart failure; nonhypertensive"
    assert levels.titles["9:4270"].startswith("PAROX, ATRIAL")
    assert levels.titles["9:28732"] == "EVANS' SYNDROME' (Begin 2005)"


def test_retired_codes_and_headers_have_the_category_of_what_is_near(folder):
    ccs = load_ccs("diagnoses", "9", folder)
    assert ccs.headers == {
        "9:287": "ccs:62",
        "9:2873": "ccs:62",
        "9:428": "ccs:108",
        "9:4282": "ccs:108",
    }
    assert ccs.of("9:42823") == "ccs:108"
    assert ccs.of("9:42829") == "ccs:108"
    assert ccs.of("9:428") == "ccs:108"
    assert ccs.of("9:42701") == "ccs:106"
    assert ccs.of("9:427") is None  # 106 and 107 are below
    assert ccs.of("9:4279") is None
    assert ccs.of("9:42") is None
    assert ccs.of("10:4280") is None
    assert ccs.of("") is None


def test_icd10_has_two_levels_in_one_file(tmp_path):
    write(tmp_path / "ccs_dx_icd10cm_2019_1.csv", TEN)
    ccs = load_ccs("diagnoses", "10", tmp_path)
    assert ccs.category == {"10:I5023": "ccs:108", "10:Y929": "ccs:2621"}
    assert ccs.levels.ancestors("10:I5023") == ("ccs-multi:7.2", "ccs-multi:7")
    assert ccs.levels.ancestors("10:Y929") == ("ccs-multi:18",)
    assert ccs.levels.titles["ccs-multi:18"] == "Residual codes"
    assert ccs.levels.titles["10:I5023"] == "Acute, on chronic"
    assert ccs.titles["ccs:108"] == "Congestive heart failure"


def test_the_order_of_lines_changes_nothing(folder):
    one = load_ccs("diagnoses", "9", folder)
    first, *rest = MULTI.splitlines()
    write(folder / "multi" / "CCS_MULTI_DX_TOOL_2015.csv.gz", "\n".join([first, *rest[::-1]]))
    other = load_ccs("diagnoses", "9", folder)
    assert other.levels.titles == one.levels.titles
    assert other.titles == one.titles
    assert list(other.levels.parents.items()) == list(one.levels.parents.items())


@pytest.mark.parametrize(
    ("kind", "version", "name"),
    [
        ("diagnoses", "9", r"\$dxref 2015\.csv"),
        ("procedures", "9", r"\$prref 2015\.csv"),
        ("diagnoses", "10", r"ccs_dx_icd10cm_2019_1\.csv"),
        ("procedures", "10", r"ccs_pr_icd10pcs_2019_1\.csv"),
    ],
)
def test_a_missing_file_is_named(tmp_path, kind, version, name):
    with pytest.raises(KnowledgeError, match=name):
        load_ccs(kind, version, tmp_path)


def test_a_missing_file_of_the_levels_is_named(tmp_path):
    write(tmp_path / "$dxref 2015.csv", SINGLE)
    with pytest.raises(KnowledgeError, match=r"ccs_multi_dx_tool_2015\.csv"):
        load_ccs("diagnoses", "9", tmp_path)


HEADER = TEN.splitlines()[0] + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\nc,d\n", r"must have a header that begins with 'ICD-9-CM CODE'"),
        (HEADER, r"has a header, but no codes"),
        (HEADER + "'I50'\n", r"line 2: a line must have at least 7 fields"),
        (TEN + "'I50.2','1','','','1','','',''\n", r"line 4: a line must have an ICD code"),
        (TEN + "'I502','x','','','1','','',''\n", r"line 4: a line must have an ICD code"),
        (TEN + "'I502','1','','','one','','',''\n", r"line 4: a level must be a number"),
        ("'ICD-10-CM CODE','B'\n'I50','1'\n", r"has no column `CCS CATEGORY`"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    write(tmp_path / "ccs_dx_icd10cm_2019_1.csv", text)
    with pytest.raises(KnowledgeError, match=message):
        load_ccs("diagnoses", "10", tmp_path)


@cache
def shared_ccs(kind, version):
    return load_ccs(kind, version, shared_data("knowledge", "open", "ccs"))


def plain(name):
    """Returns code and category of a file by the crudest reading: quotes away, split at commas."""
    path = shared_data("knowledge", "open", "ccs", f"{name}.csv.gz")
    with gzip.open(path, "rt", encoding="latin-1") as stream:
        lines = [line.replace("'", "").split(",") for line in stream][1:]
    return {cells[0].strip(): cells[1].strip() for cells in lines if cells[0].strip()}


@pytest.mark.parametrize(
    ("kind", "version", "file", "codes", "categories", "nodes"),
    [
        ("diagnoses", "9", "ccs_single_dx_tool_2015", 15_072, 283, 727),
        ("procedures", "9", "ccs_single_pr_tool_2015", 3_948, 231, 405),
        ("diagnoses", "10", "ccs_dx_icd10cm_2019_1", 72_446, 283, 153),
        ("procedures", "10", "ccs_pr_icd10pcs_2019_1", 79_758, 224, 216),
    ],
)
def test_as_published(kind, version, file, codes, categories, nodes):
    ccs = shared_ccs(kind, version)
    expected = {f"{version}:{code}": f"ccs:{number}" for code, number in plain(file).items()}
    assert ccs.category == expected
    assert len(expected) == codes
    assert len(ccs.titles) == categories
    assert all(ccs.titles.values())
    check_sound(ccs.levels)
    assert sum(node.startswith("ccs-multi:") for node in ccs.levels.titles) == nodes
    assert all(ccs.levels.titles[node] for node in ccs.levels.titles if node.startswith("ccs"))
    assert set(expected) <= set(ccs.levels.parents)


def test_categories_as_published():
    nine, ten = shared_ccs("diagnoses", "9"), shared_ccs("diagnoses", "10")
    assert nine.of("9:42823") == ten.of("10:I5023") == "ccs:108"
    assert nine.titles["ccs:108"] == "Congestive heart failure; nonhypertensive"
    above = ("ccs-multi:7.2.11", "ccs-multi:7.2", "ccs-multi:7")
    assert nine.levels.ancestors("9:42823") == above
    assert nine.levels.titles["ccs-multi:5"] == "Mental Illness"  # "illness" is rarer
    intubation = shared_ccs("procedures", "10").of("10:0BH17EZ")
    assert intubation == shared_ccs("procedures", "9").of("9:9604") == "ccs:216"
    assert ten.of("10:F32A") == ten.of("10:F329")  # F32A is new since 2021


@pytest.mark.parametrize(
    ("kind", "version", "table"),
    [
        ("diagnoses", "9", "diagnoses"),
        ("procedures", "9", "procedures"),
        ("diagnoses", "9", "diagnoses_icd"),
        ("diagnoses", "10", "diagnoses_icd"),
        ("procedures", "9", "procedures_icd"),
        ("procedures", "10", "procedures_icd"),
    ],
)
def test_every_code_of_the_demos_has_a_category_without_falling_back(kind, version, table):
    codes = demo(table, version)
    ccs = shared_ccs(kind, version)
    assert codes.isin(set(ccs.category)).all()
    assert codes.map(ccs.of).isin(set(ccs.titles)).all()


def test_every_numeric_code_of_the_eicu_demo_has_a_category():
    cells = pd.read_csv(shared_data("eicu-demo", "diagnosis.csv.gz"), dtype=str).icd9code.dropna()
    each = cells.str.split(",").explode().str.strip().str.replace(".", "", regex=False)
    codes = "9:" + each[each.str.fullmatch(r"[0-9]{3,5}")]  # those with a letter may be of ICD-10
    assert len(codes) == 21_372
    assert codes.isin(set(shared_ccs("diagnoses", "9").category)).all()
