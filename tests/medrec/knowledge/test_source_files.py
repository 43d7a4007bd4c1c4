import re

import pytest

from medrec.errors import KnowledgeError, MissingSourceError
from medrec.knowledge.source_files import (
    cells,
    distinct_rows,
    files_named,
    find_files,
    missing,
    read_lines,
    reading,
    require_files,
    wrong_line,
)
from medrec.raw_files import read_table
from tests.medrec.knowledge.test_icd import write

PATTERN = r"codes.*\.txt(\.gz)?"


@pytest.fixture
def folder(tmp_path):
    for name in ("b/codes_1.txt", "a/CODES_3.TXT.gz", "Codes_2.txt", "codes.csv", "xcodes_1.txt"):
        write(tmp_path / name, "1 one\n")
    (tmp_path / "codes_9.txt").mkdir()
    return tmp_path


def test_files_are_found_at_any_depth_in_any_case_by_name(folder):
    found = [path.relative_to(folder).as_posix() for path in find_files(folder, PATTERN)]
    assert found == ["b/codes_1.txt", "Codes_2.txt", "a/CODES_3.TXT.gz"]
    assert require_files(folder, PATTERN, "codes.txt") == find_files(folder, PATTERN)


def test_files_of_several_folders_come_by_path_and_once(folder):
    found = files_named([folder / "b", folder, folder / "a"], re.compile(PATTERN))
    assert found == [
        folder / "Codes_2.txt", folder / "a/CODES_3.TXT.gz", folder / "b/codes_1.txt",
    ]  # fmt: skip
    assert files_named([], PATTERN) == files_named([folder / "nowhere"], PATTERN) == []


def test_a_link_is_found_by_its_own_name(folder):
    (folder / "codes_4.txt").symlink_to(folder / "codes.csv")
    assert find_files(folder, PATTERN)[-1] == folder / "codes_4.txt"


def test_a_folder_without_the_file_says_which(folder):
    with pytest.raises(MissingSourceError, match=r"must hold the file tree\.xml, .* has none"):
        require_files(folder, r"tree\.xml", "tree.xml")
    assert "tree.xml" in str(missing(folder, "tree.xml"))


def test_a_missing_folder_is_no_missing_source(folder):
    with pytest.raises(KnowledgeError, match=r"nowhere does not exist") as raised:
        require_files(folder / "nowhere", PATTERN, "codes.txt")
    assert not isinstance(raised.value, MissingSourceError)


@pytest.mark.parametrize("name", ["plain.txt", "packed.txt.gz"])
def test_lines_are_utf8_or_latin1_and_without_their_ends(tmp_path, name):
    content = "\ufeffé 1\r\n\n".encode() + b"caf\xe9  \n" + b"plain\x1a"
    path = write(tmp_path / name, content)
    assert list(read_lines(path)) == [(1, "é 1"), (3, "café"), (4, "plain")]


def test_a_damaged_and_an_unreadable_file_are_named(tmp_path):
    path = write(tmp_path / "cut.gz", "text " * 1000)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(KnowledgeError, match=r"cut\.gz is damaged or incomplete"):
        list(read_lines(path))
    with pytest.raises(KnowledgeError, match=r"nothing cannot be read: No such file"):
        list(read_lines(tmp_path / "nothing"))
    with pytest.raises(KnowledgeError, match=r"cannot be read: Is a directory"), reading(tmp_path):
        pass


def test_cells_are_those_of_the_rows(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "a,b\n1,x\n2,y\n1,x\n"), {"a": ("a",)})
    assert cells(table, "a") == ["1", "2", "1"]


def test_distinct_rows_come_once_in_the_order_of_the_file(tmp_path):
    path = write(tmp_path / "t.csv", "a,b,c\n2,x,1\n1,y,1\n2,x,3\n2, x,4\n1,x,5\n")
    table = read_table(path, {"a": ("a",), "b": ("b",)})
    assert list(dict.fromkeys(distinct_rows(table, "a", "b"))) == [
        ("2", "x"), ("1", "y"), ("1", "x"),
    ]  # fmt: skip
    assert [a for a, _ in distinct_rows(table, "a", "b")][:2] == ["2", "1"]


def test_a_wrong_line_is_named_and_cut(tmp_path):
    error = wrong_line(tmp_path / "f", 7, "a line must be short", "x" * 500)
    assert f"{tmp_path / 'f'}, line 7: a line must be short, but it is 'xxx" in str(error)
    assert len(str(error)) < len(str(tmp_path)) + 250
