"""Making a bundle: what each source adds, what is missing, what is refused."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from medrec.cohort import KINDS
from medrec.errors import KnowledgeError
from medrec.knowledge import tables
from medrec.knowledge.bundle import open_bundle, vocabulary_digest
from medrec.knowledge.semmeddb import KINDMED_RELATIONS
from tests.medrec.knowledge.bundles import OPTIONS, built, changed, small_bundle
from tests.medrec.knowledge.relation_files import MRCONSO, MRREL, MRSTY, PREDICATION
from tests.medrec.knowledge.test_ddi import RAGGED, twosides_rows, write_twosides
from tests.medrec.knowledge.test_icd import DX, ORDER, SG, TABULAR, write
from tests.medrec.small import VOCABULARY, small_cohort, to_codes
from tests.shared_data import shared_data

MEDICATIONS = VOCABULARY["medications"]
EVERY_GAP = {
    *(f"{what} of ICD-9 {kind}" for what in ("tree", "CCS", "GEM")
      for kind in ("diagnoses", "procedures")),
    *(f"GEM of ICD-10 {kind}" for kind in ("diagnoses", "procedures")),
    "indications (MEDI_01212013_HPS.csv)",
}  # fmt: skip
REDUCED = "STITCH 1,STITCH 2\nCID000000001,CID000000002\nCID000000001,CID000000003\n"


def rows(relations, *names):
    return {row for row in relations.names() if row[1] in names}


def test_without_sources_the_embedded_tables_are_all():
    bundle, missing = built(None)
    assert set(missing) == EVERY_GAP
    assert len(missing) == len(EVERY_GAP)
    assert set(bundle.interactions) == set(tables.read_interactions("embedded"))
    assert set(bundle.interactions.values()) == {""}
    assert bundle.structures == tables.read_structures("embedded")
    assert bundle.text.shape == (len(bundle.nodes), 0)
    assert bundle.vocabulary == vocabulary_digest(small_cohort())


def test_nodes_are_the_codes_and_what_is_above_them():
    bundle, _ = built(None)
    given = {f"{kind}/{code}" for kind in KINDS for code in VOCABULARY[kind]}
    above = {f"medications/{code[:n]}" for code in MEDICATIONS for n in (1, 3)}
    assert set(bundle.nodes) == given | above
    assert list(bundle.nodes) == sorted(bundle.nodes)
    titles = dict(zip(bundle.nodes, bundle.titles, strict=True))
    assert titles["medications/A10A"] == "insulins"
    assert titles["diagnoses/9:4280"] == ""
    for code in MEDICATIONS:
        assert bundle.ancestors(f"medications/{code}") == tuple(
            f"medications/{code[:n]}" for n in (3, 1)
        )


def test_the_graph_without_sources():
    bundle, _ = built(None)
    graph = bundle.relations
    known = [
        pair for pair in tables.read_interactions("embedded") if set(pair) <= set(MEDICATIONS)
    ]
    both = {(f"medications/{a}", "interacts", f"medications/{b}") for a, b in known}
    assert rows(graph, "interacts") == both | {(b, name, a) for a, name, b in both}
    lengths = {1: 3, 3: 4}
    parents = {
        (f"medications/{code[:below]}", "has_parent", f"medications/{code[:above]}")
        for code in MEDICATIONS
        for above, below in lengths.items()
    }
    assert set(graph.names()) == rows(graph, "interacts") | parents
    assert set(bundle.nodes) <= set(graph.nodes)


def test_coverage_says_which_source_knows_which_codes():
    bundle, _ = built(None)
    found = {(each.source, each.kind): (each.codes, each.of) for each in bundle.coverage}
    assert found == {
        ("Interactions, embedded", "medications"): (10, 10),
        ("Structures, embedded", "medications"): (9, 10),  # A10A has none
        ("ATC levels 1 to 3, embedded", "medications"): (10, 10),
        ("graph: has_parent", "medications"): (10, 10),
        ("graph: interacts", "medications"): (10, 10),
    }


@pytest.mark.parametrize("dimension", [1, 16])
def test_text_has_a_row_a_node(dimension):
    bundle, _ = built(None, text="ngrams", text_dimension=dimension)
    assert bundle.text.shape == (len(bundle.nodes), dimension)
    assert bundle.text.dtype == np.float32
    titled = np.array([bool(title) for title in bundle.titles])
    if dimension == 16:
        assert (bundle.text[titled] != 0).any(axis=1).all()
    assert np.array_equal(small_bundle().text.shape, (len(bundle.nodes), OPTIONS.text_dimension))


@pytest.fixture
def sources(tmp_path):
    """Trees of ICD-9 in which one code of the cohort and the category of another are."""
    write(tmp_path / "sources/deep/CMS32_DESC_LONG_DX.txt", DX + "4280  Heart failure\n")
    write(tmp_path / "sources/CMS32_DESC_LONG_SG.txt.gz", SG + "3961 Bypass\n")
    return tmp_path / "sources"


def test_a_source_that_is_there_is_no_longer_missing(sources):
    bundle, missing = built(sources)
    gaps = EVERY_GAP - {"tree of ICD-9 diagnoses", "tree of ICD-9 procedures"}
    # Titles of diseases can be matched now, so that these lists are looked for, too.
    gaps |= {
        f"indications ({name}_indications.tsv)" for name in ("labeledin", "pharmacotherapydb")
    }
    assert set(missing) == gaps
    assert bundle.ancestors("diagnoses/9:4280") == (
        "diagnoses/9:428", "diagnoses/9:420-429", "diagnoses/9:390-459",
    )  # fmt: skip
    titles = dict(zip(bundle.nodes, bundle.titles, strict=True))
    assert titles["diagnoses/9:4280"] == "Heart failure"
    assert titles["procedures/9:35-39"] == "Operations on the cardiovascular system"
    found = {(each.source, each.kind): each.codes for each in bundle.coverage}
    assert found["ICD-9-CM diagnoses", "diagnoses"] == 2  # 4280 and V5861
    assert found["ICD-9-CM procedures", "procedures"] == 1
    origins = {origin.title: origin for origin in bundle.origins}
    assert list(origins["ICD-9-CM diagnoses"].inputs) == ["CMS32_DESC_LONG_DX.txt"]


def test_coverage_of_a_version_is_of_its_codes_alone(sources):
    """Of 12 diagnoses 3 are of ICD-10, of 6 procedures 1: the trees of ICD-9 are of the rest."""
    write(sources / "icd10cmtoicd9gem.csv", "icd10cm,icd9cm,flags\nI509,4280,00000\n")
    write(sources / "icd9toicd10cmgem.csv", "icd9cm,icd10cm,flags\n4280,I509,00000\n")
    cohort = changed(
        diagnoses=("10:E119", "10:I10", "10:I509", *VOCABULARY["diagnoses"][3:]),
        procedures=("10:0BH17EZ", *VOCABULARY["procedures"][1:]),
    )
    bundle, _ = built(sources, cohort)
    found = {(each.source, each.kind): each for each in bundle.coverage}
    counted = {key: (each.codes, each.of) for key, each in found.items()}
    assert counted["ICD-9-CM diagnoses", "diagnoses"] == (2, 9)  # 4280 and V5861
    assert counted["ICD-9-CM procedures", "procedures"] == (1, 5)  # 3961
    gem = "General Equivalence Mappings of ICD-{} diagnoses to ICD-{}"
    assert counted[gem.format(9, 10), "diagnoses"] == (1, 9)
    assert counted[gem.format(10, 9), "diagnoses"] == (1, 3)
    assert counted["graph: equivalent", "diagnoses"] == (2, 12)
    assert counted["graph: has_parent", "diagnoses"][1] == 12  # a graph is of all codes
    # 12 diagnoses, each by its uses: two of nine
    uses = np.bincount(cohort.codes["diagnoses"].values, minlength=12)
    known = [cohort.vocabulary["diagnoses"].index(code) for code in ("9:4280", "9:V5861")]
    share = uses[known].sum() / uses[3:].sum()
    assert found["ICD-9-CM diagnoses", "diagnoses"].uses == pytest.approx(share)


def test_a_retired_code_hangs_below_its_category(sources):
    cohort = changed(diagnoses=("9:42899", *VOCABULARY["diagnoses"][1:]))
    bundle, _ = built(sources, cohort)
    assert bundle.ancestors("diagnoses/9:42899")[:2] == ("diagnoses/9:428", "diagnoses/9:420-429")
    assert "diagnoses/9:42823" not in bundle.nodes  # only codes of the cohort


def test_every_equivalent_is_an_edge(tmp_path):
    """The graph keeps all alternatives; only the mapping of a cohort must choose one."""
    text = "icd10cm,icd9cm,flags\n" + "".join(f"I10,401{i},10000\n" for i in (0, 1, 9))
    write(tmp_path / "icd10cmtoicd9gem.csv", text)
    cohort = changed(diagnoses=("10:I10", *VOCABULARY["diagnoses"][1:]))
    graph = built(tmp_path, cohort)[0].relations
    assert rows(graph, "equivalent") == {
        ("diagnoses/10:I10", "equivalent", f"diagnoses/9:401{i}") for i in (0, 1, 9)
    }


MEDI = "RXCUI_IN,DRUG_DESC,ICD9,POSSIBLE_LABEL_USE\n1,Furosemide,428.0,1\n"
LABELS = "rxnorm_id\trxnorm_name\tdisease_mesh_name\n2\tWarfarin\tHeart Failures\n"
FUROSEMIDE, WARFARIN = "medications/C03C", "medications/B01A"


def test_indications_reach_codes_of_icd10(tmp_path):
    """MEDI names 428.0 only, LabeledIn a disease that only the tree of ICD-10 has as a title."""
    write(tmp_path / "MEDI_1.csv", MEDI)
    write(tmp_path / "icd9toicd10cmgem.csv", "icd9cm,icd10cm,flags\n4280,I509,00000\n")
    cohort = changed(diagnoses=("10:I50", "10:I509", *VOCABULARY["diagnoses"][2:]))
    bundle, missing = built(tmp_path, cohort)
    assert rows(bundle.relations, "indicated_for") == {
        (FUROSEMIDE, "indicated_for", "diagnoses/9:4280"),
        (FUROSEMIDE, "indicated_for", "diagnoses/10:I509"),
    }
    assert "indications (MEDI_01212013_HPS.csv)" not in missing
    write(tmp_path / "icd10cm_order_2021.txt", ORDER)
    write(tmp_path / "icd10cm_tabular_2026.xml", TABULAR)
    write(tmp_path / "labeledin.tsv", LABELS)
    for titles_of_9 in (False, True):  # matched in both trees where both are there
        if titles_of_9:
            write(tmp_path / "CMS32_DESC_LONG_DX.txt", "4280  Heart failure\n")
        bundle, _ = built(tmp_path, cohort)
        both = {"10:I50", *({"9:4280", "10:I509"} if titles_of_9 else ())}
        assert rows(bundle.relations, "indicated_for") == {
            *((FUROSEMIDE, "indicated_for", f"diagnoses/{c}") for c in ("9:4280", "10:I509")),
            *((WARFARIN, "indicated_for", f"diagnoses/{c}") for c in both),
        }
        covered = {(each.source, each.kind): each.codes for each in bundle.coverage}
        assert covered["graph: indicated_for", "medications"] == 2
        assert covered["graph: indicated_for", "diagnoses"] == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("CMS32_DESC_LONG_DX.txt", "4280 Heart\n???\n", r"DX\.txt, line 2: a line must be a code"),
        ("$dxref 2015.csv", "nothing\n", r"dxref 2015\.csv must have a header"),
        (
            "icd9toicd10cmgem.csv",
            "icd9cm,icd10cm,flags\n4280,I509,9\n",
            r"gem\.csv, line 2: `flags`",
        ),
        ("MEDI_1.csv", "drug\nx\n", r"MEDI_1\.csv must have a column `rxcui_in`"),
        ("drug_synonyms.csv", "a,b\n1,2\n", r"drug_synonyms\.csv must have a column `variant`"),
    ],
)
def test_a_malformed_source_is_named_not_left_out(tmp_path, name, content, message):
    write(tmp_path / name, content)
    write(tmp_path / "ccs_multi_dx_tool_2015.csv", "nothing\n")
    with pytest.raises(KnowledgeError, match=message):
        built(tmp_path)


def test_a_damaged_source_is_named(tmp_path):
    path = tmp_path / "CMS32_DESC_LONG_DX.txt.gz"
    path.write_bytes(gzip.compress(DX.encode())[:-9])
    with pytest.raises(KnowledgeError, match=r"LONG_DX\.txt\.gz is damaged"):
        built(tmp_path)


@pytest.mark.parametrize(
    ("options", "file"),
    [
        ({"interactions": "ndfrt"}, "ndfrt_va_ddi_2014.csv"),
        ({"interactions": "twosides"}, "drug-atc.csv"),
        ({"structures": "drugcentral"}, "drugcentral_structures.smiles.tsv"),
    ],
)
def test_a_source_that_was_asked_for_must_be_there(tmp_path, options, file):
    with pytest.raises(KnowledgeError, match=f"must hold the file {file}"):
        built(tmp_path, **options)
    with pytest.raises(KnowledgeError, match=f"{file} is needed: give the folder .*`sources`"):
        built(None, **options)


@pytest.fixture
def reduced(tmp_path):
    write(tmp_path / "drug-DDI-TOP40.csv", REDUCED)
    write(tmp_path / "drug-atc.csv", RAGGED)
    return tmp_path


def test_the_reduced_table_is_that_of_the_rarest(reduced):
    bundle, _ = built(reduced, interactions="twosides")
    # Drug 1 is C03C; 2 is B01A and N02B, 3 is A10A.
    assert set(bundle.interactions) == {("B01A", "C03C"), ("C03C", "N02B"), ("A10A", "C03C")}


@pytest.mark.parametrize("side_effects", ["most_frequent40", "all"])
def test_the_reduced_table_does_not_pass_for_another(reduced, side_effects):
    with pytest.raises(KnowledgeError, match=rf"`side_effects: {side_effects}` needs the whole"):
        built(reduced, interactions="twosides", side_effects=side_effects)


def test_the_whole_table_is_preferred(reduced):
    write_twosides(reduced / "drug-DDI.csv", twosides_rows())
    bundle, _ = built(reduced, interactions="twosides")
    assert set(bundle.interactions) == {("C03C", "J01X")}
    bundle, _ = built(reduced, interactions="twosides", side_effects="most_frequent40")
    assert len(bundle.interactions) == 4


@pytest.fixture
def licensed(tmp_path):
    for name, content in {"MRCONSO": MRCONSO, "MRREL": MRREL, "MRSTY": MRSTY}.items():
        write(tmp_path / "umls/META" / f"{name}.RRF", content)
    write(tmp_path / "PREDICATION.csv.gz", PREDICATION)
    return {"umls": str(tmp_path / "umls"), "semmeddb": str(tmp_path / "PREDICATION.csv.gz")}


@pytest.fixture
def known():
    """The small cohort, its codes such that the made-up tables know some of them."""
    return changed(
        diagnoses=("10:E871", *VOCABULARY["diagnoses"][1:]),
        procedures=("10:0BH17EZ", "9:4280", *VOCABULARY["procedures"][2:]),
    )


FAILURE, SODIUM = "diagnoses/9:4280", "diagnoses/10:E871"


def test_umls(licensed, known):
    bundle, _ = built(None, known, graph=("umls",), **licensed)
    graph = bundle.relations
    assert rows(graph, "co_occur") == {
        (FAILURE, "co_occur", "cui/C0000001"),
        (SODIUM, "co_occur", "cui/C0000004"),
        ("procedures/9:4280", "co_occur", "cui/C0000002"),
        ("procedures/10:0BH17EZ", "co_occur", "cui/C0000007"),
        ("medications/C03C", "co_occur", "cui/C0000008"),
    }
    assert rows(graph, "may_treat") == {("cui/C0000008", "may_treat", "cui/C0000001")}
    assert ("cui/C0000008", "has_type", "sty/A1.4.1.1.1") in rows(graph, "has_type")
    assert not rows(graph, "interacts", "has_parent")  # of the open graph
    assert {f"{kind}/{code}" for kind in KINDS for code in known.vocabulary[kind]} <= {
        *graph.nodes
    }
    found = {(each.source, each.kind): each.codes for each in bundle.coverage}
    assert found["UMLS concepts of codes (MRCONSO)", "procedures"] == 2
    rows_of_graph = {key: n for key, n in found.items() if key[0].startswith("graph: ")}
    assert rows_of_graph == {
        ("graph: co_occur", "diagnoses"): 2,
        ("graph: co_occur", "procedures"): 2,
        ("graph: co_occur", "medications"): 1,  # other relations are of concepts, not of codes
    }
    licences = {origin.licence for origin in bundle.origins}
    assert "UMLS Metathesaurus License (NLM): your own copy, not to be passed on" in licences
    assert not {"umls", "semmeddb"} & set(bundle.options)  # no paths of the user's


@pytest.mark.parametrize(("hops", "far"), [(0, False), (1, False), (2, True)])
def test_hops_reach_further_concepts(licensed, known, hops, far):
    bundle, _ = built(None, known, graph=("umls",), hops=hops, **licensed)
    assert ("cui/C0000200" in bundle.relations.nodes) == far
    assert ("cui/C0000100" in bundle.relations.nodes) == (hops > 0)


def test_semmeddb(licensed, known):
    graph = built(None, known, graph=("semmeddb",), **licensed)[0].relations
    assert set(graph.names()) == {
        (FAILURE, "CAUSES", SODIUM),
        (SODIUM, "CAUSES", FAILURE),
        ("procedures/9:4280", "TREATS", FAILURE),
        ("procedures/10:0BH17EZ", "TREATS", FAILURE),
    }


def test_kindmed(licensed, known):
    graph = built(None, known, graph=("kindmed",), **licensed)[0].relations
    assert set(graph.relations) == {"/".join(each) for each in KINDMED_RELATIONS}
    assert set(graph.names()) == {
        (FAILURE, "CAUSES/diagnoses/diagnoses", SODIUM),
        (SODIUM, "CAUSES/diagnoses/diagnoses", FAILURE),
        ("procedures/9:4280", "TREATS/procedures/diagnoses", FAILURE),
        ("procedures/10:0BH17EZ", "TREATS/procedures/diagnoses", FAILURE),
    }


def test_graphs_are_joined(licensed, known):
    both = built(None, known, graph=("open", "semmeddb"), **licensed)[0].relations
    one = built(None, known, graph=("open",))[0].relations
    other = built(None, known, graph=("semmeddb",), **licensed)[0].relations
    assert set(both.names()) == {*one.names(), *other.names()}
    assert set(both.relations) == {*one.relations, *other.relations}


@pytest.mark.parametrize(
    ("graph", "left_out", "message"),
    [
        ("umls", "umls", r"graph umls needs `umls`, the folder of MRCONSO\.RRF"),
        ("kindmed", "umls", r"graph kindmed needs `umls`, the folder of MRCONSO\.RRF"),
        ("semmeddb", "semmeddb", r"graph semmeddb needs `semmeddb`, the PREDICATION csv"),
        ("kindmed", "semmeddb", r"graph kindmed needs `semmeddb`, the PREDICATION csv"),
        ("open", None, r"umls and semmeddb are read for graph umls, semmeddb or kindmed only"),
    ],
)
def test_a_licensed_graph_needs_the_users_copy(licensed, known, graph, left_out, message):
    given = {name: path for name, path in licensed.items() if name != left_out}
    with pytest.raises(ValidationError, match=message):
        built(None, known, graph=(graph,), **given)


def test_a_table_that_the_licensed_copy_lacks_is_named(licensed, known):
    (Path(licensed["umls"]) / "META/MRREL.RRF").unlink()
    with pytest.raises(KnowledgeError, match=r"must hold the file MRREL\.RRF"):
        built(None, known, graph=("umls",), **licensed)


def test_a_malformed_licensed_table_is_named(licensed, known):
    write(Path(licensed["umls"]) / "META/MRSTY.RRF", "C0000001|T047\n")
    with pytest.raises(KnowledgeError, match=r"MRSTY\.RRF, line 1: .* must have 6 fields"):
        built(None, known, graph=("umls",), **licensed)


def like_the_demo():
    """The small cohort with the diagnoses and procedures that the MIMIC-IV demo has."""
    vocabulary, codes = {}, {}
    for kind in ("diagnoses", "procedures"):
        table = pd.read_csv(shared_data("mimic-iv-demo", "hosp", f"{kind}_icd.csv.gz"), dtype=str)
        found = sorted(set(table["icd_version"] + ":" + table["icd_code"].str.strip()))
        vocabulary[kind] = tuple(found)
        codes[kind] = to_codes([list(range(v, len(found), 63)) for v in range(63)])
    cohort = changed(**vocabulary)
    return replace(cohort, codes={**cohort.codes, **codes})


@pytest.mark.slow
def test_the_codes_of_the_demo_and_the_open_tables(tmp_path):
    folder = shared_data("knowledge", "open")
    cohort = like_the_demo()
    bundle, missing = built(folder, cohort, interactions="ndfrt", text="ngrams", text_dimension=32)
    assert missing == ("indications (MEDI_01212013_HPS.csv)",)
    found = {(each.source, each.kind): each for each in bundle.coverage}
    for kind in ("diagnoses", "procedures"):
        parents = found["graph: has_parent", kind]
        assert parents.codes > 0.99 * parents.of
        nodes = [f"{kind}/{code}" for code in cohort.vocabulary[kind]]
        assert sum(bool(bundle.ancestors(node)) for node in nodes) > 0.99 * len(nodes)
    titles = dict(zip(bundle.nodes, bundle.titles, strict=True))
    named = pd.read_csv(shared_data("mimic-iv-demo", "hosp", "d_icd_diagnoses.csv.gz"), dtype=str)
    keys = "diagnoses/" + named["icd_version"] + ":" + named["icd_code"].str.strip()
    theirs = dict(zip(keys, named["long_title"], strict=True))
    own = [f"diagnoses/{code}" for code in cohort.vocabulary["diagnoses"]]
    same = [titles[name].lower() == theirs[name].lower() for name in own]
    assert sum(same) > 0.9 * len(same)
    bundle.save(tmp_path / "bundle")
    opened = open_bundle(tmp_path / "bundle")
    assert opened.fingerprint == bundle.fingerprint
    assert np.array_equal(opened.relations.triples, bundle.relations.triples)
    assert isinstance(opened.text, np.memmap)
    assert {*bundle.interactions.values()} == {"Critical"}
