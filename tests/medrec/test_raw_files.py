import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from medrec.errors import InputError, KnowledgeError
from medrec.raw_files import (
    find_table,
    optional_table,
    read_blocks,
    read_table,
    source_folder,
)
from medrec.raw_table import Column, Table, digests, distinct
from tests.medrec.datasets.mimic4_files import write_csv

TEXT = "ID,Code,note\n7,0389,a\n8,E10,b\n7,0389,c\n"
WANTED = {"id": ("id",), "code": ("code", "icd_code")}


def values(table: Table, name: str) -> list[str]:
    column = table[name]
    return [column.names[i] for i in column.index]


def read_text(tmp_path: Path, text: str, packed: bool = False) -> Table:
    return read_table(write_csv(tmp_path / "t.csv", text, packed), WANTED)


def column(*cells: str) -> Column:
    names = tuple(sorted(set(cells)))
    return Column(np.array([names.index(cell) for cell in cells], np.int32), names)


@pytest.mark.parametrize("packed", [False, True])
def test_cells_stay_text_and_headings_may_have_any_case(tmp_path, packed):
    table = read_text(tmp_path, TEXT, packed)
    assert values(table, "code") == ["0389", "E10", "0389"]
    assert table.integers("id")[table["id"].index].tolist() == [7, 8, 7]
    assert table.rows == 3
    assert table.headings == {"id": "ID", "code": "Code"}
    assert set(table.columns) == {"id", "code"}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\ufeff" + TEXT, id="byte order mark"),
        pytest.param(TEXT.replace("\n", "\r\n"), id="CRLF"),
        pytest.param('"ID","Code","note"\n"7","0389","a, b"\n8,E10,b\n7, 0389 ,c', id="quoted"),
        pytest.param(TEXT.replace("Code", "icd_code"), id="other heading"),
    ],
)
def test_reads_the_usual_dialects(tmp_path, text):
    assert values(read_text(tmp_path, text), "code") == ["0389", "E10", "0389"]


@pytest.mark.parametrize("place", ["code", "note"])
def test_latin_1_bytes_are_read(tmp_path, place):
    cells = {"code": "0389", "note": "a"} | {place: "caf\u00e9"}
    path = tmp_path / "t.csv"
    path.write_bytes(f"ID,Code,note\n7,{cells['code']},{cells['note']}\n".encode("latin-1"))
    assert values(read_table(path, WANTED), "code") == [cells["code"]]


def test_gzip_is_told_by_content(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(gzip.compress(TEXT.encode()))
    assert values(read_table(path, WANTED), "id") == ["7", "8", "7"]


def test_a_table_longer_than_a_block_is_one_table(tmp_path, monkeypatch):
    monkeypatch.setattr("medrec.raw_files._BLOCK", 64)
    rows = [(str(i % 7), f"c{i % 13}") for i in range(200)]
    table = read_text(tmp_path, "ID,Code\n" + "".join(f"{a},{b}\n" for a, b in rows))
    assert list(zip(values(table, "id"), values(table, "code"), strict=True)) == rows
    assert len(table["id"].names) == 7


LONG = [(str(i % 7), f"c{i % 13}", "\u00b5" if i == 150 else "x") for i in range(200)]


def in_blocks(tmp_path: Path, monkeypatch, text: str, **marks: str) -> list[Table]:
    """Reads `text` in blocks of 64 bytes."""
    monkeypatch.setattr("medrec.raw_files._BLOCK", 64)
    return list(read_blocks(write_csv(tmp_path / "t.csv", text), WANTED, **marks))


@pytest.mark.parametrize("packed", [False, True])
def test_blocks_are_the_table_cut_into_pieces(tmp_path, monkeypatch, packed):
    monkeypatch.setattr("medrec.raw_files._BLOCK", 64)
    text = "ID,Code,note\n" + "".join(",".join(row) + "\n" for row in LONG)
    path = write_csv(tmp_path / "t.csv", text, packed)
    blocks, table = list(read_blocks(path, WANTED)), read_table(path, WANTED)
    assert len(blocks) > 10
    assert table.rows == 200
    for name in WANTED:
        assert [cell for block in blocks for cell in values(block, name)] == values(table, name)
        assert values(table, name) == [row[list(WANTED).index(name)] for row in LONG]


def test_errors_of_a_later_block_name_the_line_of_the_file(tmp_path, monkeypatch):
    lines = [",".join(row) for row in LONG]
    lines[120] = '9.5,"c, of\ntwo lines",x'
    lines.insert(40, "")
    blocks = in_blocks(tmp_path, monkeypatch, "ID,Code,note\n" + "\n".join(lines) + "\n")
    wrong = [block for block in blocks if "9.5" in block["id"].names]
    assert len(wrong) == 1
    # 1 header, 120 rows before it, 1 empty line, and the cell ends on the second of its lines
    with pytest.raises(InputError, match=r"t\.csv, line 124: `ID` must be a number.*'9\.5'"):
        wrong[0].integers("id")


def test_a_ragged_line_in_a_later_block_is_named_when_its_block_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("medrec.raw_files._BLOCK", 64)
    lines = ["ID,Code,note", *(",".join(row) for row in LONG)]
    lines[100] = "7,0389"
    blocks = read_blocks(write_csv(tmp_path / "t.csv", "\n".join(lines) + "\n"), WANTED)
    assert values(next(blocks), "id")[:3] == ["0", "1", "2"]
    with pytest.raises(InputError, match=r"t\.csv, line 101: .* 3 fields.* has 2"):
        list(blocks)


def test_selected_rows_keep_their_lines(tmp_path):
    table = read_text(tmp_path, "ID,Code,note\n7,a,\n\n8,b,\nx,c,\n9,d,\ny,e,\n")
    later = table.only(np.array([False, True, False, True, True]))
    assert values(later, "code") == ["b", "d", "e"]
    with pytest.raises(InputError, match=r"line 7: `ID` must be a number.*'y'"):
        later.integers("id")
    last = later.only(np.array([True, True, False]))  # no row has "x" or "y" any more
    assert last.integers("id")[last["id"].index].tolist() == [8, 9]


@pytest.mark.parametrize(
    ("delimiter", "quote"), [("\t", '"'), ("|", '"'), (";", "'")], ids=["tab", "bar", "semicolon"]
)
def test_other_delimiters_and_quotes(tmp_path, delimiter, quote):
    rows = [["ID", "Code", "note"], ["7", "a,b", "x"], ["8", f"{quote}c{delimiter}d{quote}", "y"]]
    text = "".join(delimiter.join(row) + "\n" for row in rows)
    path = write_csv(tmp_path / "t.csv", text)
    table = read_table(path, WANTED, delimiter=delimiter, quote=quote)
    assert values(table, "code") == ["a,b", f"c{delimiter}d"]
    short = write_csv(tmp_path / "s.csv", text + f"9{delimiter}e\n")
    with pytest.raises(InputError, match=r"s\.csv, line 4: .* 3 fields.* has 2"):
        read_table(short, WANTED, delimiter=delimiter, quote=quote)
    with pytest.raises(InputError, match=r"must have commas .* seems to have"):
        read_table(path, WANTED)


def test_lines_are_counted_with_the_quotes_of_the_file(tmp_path):
    text = "ID;Code\n7;5\" disc\n8;'two\nlines'\nx;c\n"
    table = read_table(write_csv(tmp_path / "t.csv", text), WANTED, delimiter=";", quote="'")
    with pytest.raises(InputError, match=r"line 5: `ID` must be a number"):
        table.integers("id")


def test_commas_where_tabs_are_asked_for_are_named(tmp_path):
    path = write_csv(tmp_path / "t.tsv", TEXT)
    with pytest.raises(InputError, match=r"must have tabs .* seems to have ','"):
        read_table(path, WANTED, delimiter="\t")


def test_a_latin_1_cell_in_a_utf_8_file_is_read_as_what_it_is(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"ID,Code\n7,caf\xc3\xa9\n8,caf\xe9\n9,\xb5g\n")
    assert values(read_table(path, WANTED), "code") == ["caf\u00e9", "caf\u00e9", "\u00b5g"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "t.csv is empty", id="no bytes"),
        pytest.param("ID,Code,note\n", "t.csv has a header, but no rows", id="header alone"),
        pytest.param("ID,note\n7,a\n", "a column `code` or `icd_code`", id="missing column"),
        pytest.param("ID,note\n7,a\n", "none of the 2 fields", id="fields it has"),
        pytest.param("id,code,Code\n7,a,b\n", "2 columns `code`", id="column twice"),
        pytest.param(TEXT.replace(",", ";"), "seems to have ';'", id="semicolons"),
        pytest.param(TEXT.replace(",", "\t"), r"seems to have '\\t'", id="tabs"),
        pytest.param(TEXT + "9,X\n", "t.csv, line 5: .* 3 fields.* has 2", id="short line"),
        pytest.param(
            "ID,Code,note\n7,0389,a\n\n8,E10,b,\n", "t.csv, line 4: .* has 4", id="long line"
        ),
    ],
)
def test_a_wrong_file_is_named_with_its_fault(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_text(tmp_path, text)


def test_the_nearest_heading_is_named_but_no_cell_of_a_file_without_header(tmp_path):
    with pytest.raises(InputError, match="nearest: icd_codes"):
        read_text(tmp_path, "ID,icd_codes\n7,a\n")
    with pytest.raises(InputError) as refused:
        read_text(tmp_path, "10006,142345\n10007,142346\n")
    assert not {"10006", "142345"} & set(str(refused.value).split("t.csv")[1].split())


def test_errors_have_the_class_asked_for(tmp_path):
    path = write_csv(tmp_path / "t.csv", "")
    with pytest.raises(KnowledgeError, match="empty"):
        read_table(path, WANTED, KnowledgeError)


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_truncated_gzip_says_download_again(tmp_path, kept):
    rows = "".join(f"{i},c{i * 7919 % 1000},x\n" for i in range(20_000))
    path = write_csv(tmp_path / "t.csv", "ID,Code,note\n" + rows, packed=True)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError, match=r"t\.csv\.gz is damaged or incomplete .* again"):
        read_table(path, WANTED)


def test_gzip_cut_within_its_first_bytes_says_download_again(tmp_path):
    path = write_csv(tmp_path / "t.csv", TEXT, packed=True)
    path.write_bytes(path.read_bytes()[:6])
    with pytest.raises(InputError, match="damaged or incomplete"):
        read_table(path, WANTED)


def test_plain_text_named_gz_is_refused(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_text("<html>Sign in</html>")
    with pytest.raises(InputError, match="not gzip data"):
        read_table(path, WANTED)


def test_a_bad_cell_is_named_by_line_column_and_value(tmp_path):
    table = read_text(tmp_path, 'ID,Code,note\n7,a,"x, y"\n\n8.0,b,\n')
    with pytest.raises(InputError, match=r"t\.csv, line 4: `ID` must be a number.*'8\.0'"):
        table.integers("id")


def test_an_empty_number_is_refused_unless_a_value_stands_for_it(tmp_path):
    table = read_text(tmp_path, "id,code\n7,a\n,b\n")
    assert table.integers("id", empty=-1)[table["id"].index].tolist() == [7, -1]
    with pytest.raises(InputError, match="line 3"):
        table.integers("id")


def test_a_repeated_number_is_named(tmp_path):
    table = read_text(tmp_path, "id,code\n7,a\n8,b\n 07,c\n")
    with pytest.raises(InputError, match="line 4: `id` must differ"):
        table.require_unique("id")


def test_distinct_counts_rows_as_a_plain_loop_does():
    a, b = column("x", "y", "x", "x"), column("1", "2", "2", "1")
    (i, j), counts = distinct(a, b)
    found = {(a.names[x], b.names[y]): n for x, y, n in zip(i, j, counts, strict=True)}
    assert found == {("x", "1"): 2, ("x", "2"): 1, ("y", "2"): 1}


def test_tables_are_found_in_either_case_and_form(tmp_path):
    write_csv(tmp_path / "PATIENTS.csv", TEXT)
    write_csv(tmp_path / "admissions.csv", TEXT, packed=True)
    assert find_table(tmp_path, "patients").name == "PATIENTS.csv"
    assert find_table(tmp_path, "admissions").name == "admissions.csv.gz"
    assert optional_table(tmp_path, "patients") == tmp_path / "PATIENTS.csv"
    assert optional_table(tmp_path, "transfers") is None
    with pytest.raises(InputError, match=r"transfers\.csv or transfers\.csv\.gz.*PATIENTS\.csv"):
        find_table(tmp_path, "transfers")


def test_the_source_must_be_an_existing_folder(tmp_path):
    assert source_folder("d", tmp_path) == tmp_path.resolve()
    file = write_csv(tmp_path / "t.csv", TEXT)
    for source, rule in [(None, "no source"), (tmp_path / "x", "not exist"), (file, "is a file")]:
        with pytest.raises(InputError, match=f"{rule}.*--source"):
            source_folder("d", source)


def test_digests_keep_two_files_of_one_name_apart(tmp_path):
    paths = [write_csv(tmp_path / f / "t.csv", TEXT + f"9,{f},\n") for f in ("a", "b")]
    whole = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert digests(paths) == {"t.csv": whole[0], "b/t.csv": whole[1]}
    assert digests([paths[0], paths[0]]) == {"t.csv": whole[0]}
