"""Knowledge tables: what is read, and what is said about wrong files."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from medrec.errors import KnowledgeError
from medrec.knowledge import tables


def write(folder: Path, text: str, name: str = "table.csv") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_pairs_are_cut_ordered_unique_and_never_within_a_class(tmp_path):
    source = write(
        tmp_path, "drug a,drug b,score\nN02AA01,B01A,3\nB01AC06,N02A,1\nB01AA03,B01AC06,2\n\n"
    )
    assert tables.read_interactions(source) == (("B01A", "N02A"),)


def test_header_is_optional(tmp_path):
    source = write(tmp_path, "B01A,M01A\nA02B, B01A \n")
    assert tables.read_interactions(source) == (("A02B", "B01A"), ("B01A", "M01A"))


def test_gzip_and_byte_order_mark_are_read(tmp_path):
    path = tmp_path / "pairs.csv.gz"
    path.write_bytes(gzip.compress("\ufeffB01A,M01A\n".encode()))
    assert tables.read_interactions(str(path)) == (("B01A", "M01A"),)


def test_structures_are_canonical_sorted_and_unique(tmp_path):
    source = write(
        tmp_path,
        "smiles,atc3,drug\nOCC,V03AZ01,ethanol\nC(C)O,V03A,alcohol\nC1=CC=CC=C1,V03A,benzene\n",
    )
    assert tables.read_structures(source) == {"V03A": ("CCO", "c1ccccc1")}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["empty"]),
        ("a,b\n", ["no interactions"]),
        ("a;b\nB01A;M01A\n", ["line 1", "'a;b'", "commas"]),
        ("a,b\nB01A,M01A\nB01A,aspirin\n", ["line 3", "field 2", "'aspirin'", "ATC"]),
        ("a,b\nB01,M01A\n", ["line 2", "field 1", "'B01'", "level 3"]),
        ('a,b\n"B01A,M01A\n', ["no csv"]),
    ],
)
def test_wrong_pairs_name_file_line_field_value_and_remedy(tmp_path, text, parts):
    source = write(tmp_path, text)
    with pytest.raises(KnowledgeError) as caught:
        tables.read_interactions(source)
    assert all(part in str(caught.value) for part in [source, *parts])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["empty"]),
        ("atc3,drug,smiles\n", ["no structures"]),
        ("atc3;drug;smiles\n", ["line 1", "commas"]),
        ("atc3,name,smiles\nB01A,x,CCO\n", ["line 1", "'drug'"]),
        ("atc3,drug,smiles\nB01A,warfarin,C1CC(\n", ["line 2", "smiles", "warfarin", "C1CC("]),
        ("atc3,drug,smiles\nB01A,warfarin,\n", ["line 2", "smiles", "''"]),
        ("atc3,drug,smiles\nB01A,warfarin\n", ["line 2", "2 fields"]),
        ("atc3,drug,smiles\nwarfarin,x,CCO\n", ["line 2", "field 1", "'warfarin'"]),
    ],
)
def test_wrong_structures_name_file_line_field_value_and_remedy(tmp_path, capfd, text, parts):
    source = write(tmp_path, text)
    with pytest.raises(KnowledgeError) as caught:
        tables.read_structures(source)
    assert all(part in str(caught.value) for part in [source, *parts])
    assert capfd.readouterr().err == ""  # RDKit writes its own complaints there otherwise


def test_missing_and_damaged_files_are_told_apart(tmp_path):
    with pytest.raises(KnowledgeError, match=r"no knowledge table .*none\.csv"):
        tables.read_interactions(str(tmp_path / "none.csv"))
    packed = gzip.compress(b"B01A,M01A\n" * 500)
    for name, content in {"cut.csv.gz": packed[:-12], "plain.csv.gz": b"B01A,M01A\n"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(KnowledgeError, match="truncated gzip"):
            tables.read_interactions(str(tmp_path / name))
    (tmp_path / "latin.csv").write_bytes(b"B01A,M01A,\xe9\xe8\n")
    with pytest.raises(KnowledgeError, match="UTF-8"):
        tables.read_interactions(str(tmp_path / "latin.csv"))


def test_fingerprint_depends_on_content_alone():
    pairs = (("A02B", "B01A"), ("B01A", "M01A"))
    structures = {"B01A": ("CCO", "c1ccccc1"), "M01A": ("C",)}
    same = tables.fingerprint(pairs[::-1], {"M01A": ("C",), "B01A": ("c1ccccc1", "CCO")})
    first = tables.fingerprint(pairs, structures)
    assert first == same
    assert len(first) == 64
    assert tables.fingerprint(pairs[:1], structures) != first
    assert tables.fingerprint(pairs, {**structures, "M01A": ("CC",)}) != first


def test_pairs_are_read_without_rdkit():
    code = (
        "import sys; from medrec.knowledge.tables import read_interactions as read;"
        "read('embedded'); sys.exit('rdkit' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
