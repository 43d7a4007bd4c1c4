import numpy as np
import pytest

from medrec.errors import KnowledgeError
from medrec.knowledge.streams import Layout, stream
from tests.medrec.knowledge.relation_files import write

PIPES = Layout("TABLE", "A|B|C", delimiter="|", ended=True)
SHORT, LONG = (Layout("T", names, delimiter=",", quoted=True) for names in ("A,B", "A,B,C"))


def cells(path, layouts, needed):
    blocks = [batch.to_pydict() for batch in stream(path, layouts, needed)]
    return {name: [cell for block in blocks for cell in block[name]] for name in needed}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["table.RRF", "table.RRF.gz"])
def test_streams_plain_and_gzip_whatever_the_name(tmp_path, packed, name):
    path = write(tmp_path / name, 'é|"b|1|\n\n|b"|NA|\n', packed=packed)
    assert cells(path, [PIPES], ["C", "A", "B"]) == {
        "A": ["é", ""],
        "B": ['"b', 'b"'],
        "C": ["1", "NA"],
    }


def test_streams_quoted_fields_and_the_layout_that_fits(tmp_path):
    two = write(tmp_path / "2.csv", '"x, y","a "" b"\n1,"a \\", b"\n')
    assert cells(two, [SHORT, LONG], ["A", "B"]) == {"A": ["x, y", "1"], "B": ['a " b', 'a ", b']}
    three = write(tmp_path / "3.csv", '"x","y, z",3\n')
    assert cells(three, [SHORT, LONG], ["B"]) == {"B": ["y, z"]}


def test_streams_a_file_of_several_gzip_members(tmp_path):
    path = write(tmp_path / "t", "a|b|c|\n", packed=True)
    path.write_bytes(path.read_bytes() * 3)
    assert cells(path, [PIPES], ["A"]) == {"A": ["a"] * 3}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a|b|c\n", r"t\.gz, line 1: a line of TABLE must have 3 fields, each followed by '\|'"),
        (b"a|b|c|\na|b|c|\n\na|b|\n", r"t\.gz, line 4: .* must have 3 fields.* it has 2\."),
        (b"a|b|c|\na|b|c|d|\n", r"line 2: .* it has 4\."),
        (b"a|b|c|\na|b|c", r"line 2: .* it has 2\."),  # cut in the middle
        (b"a|b|c|\na|caf\xe9|c|\n", r"line 2: `B` must be UTF-8, but it is 'caf\u00e9'"),
        ("a|b|c|\n".encode("utf-16"), r"line 1: .* must have 3 fields|must be UTF-8"),
        (b"", r"is empty"),
        (b"\n\n", r"is empty"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, content, message, packed):
    path = write(tmp_path / "t.gz", content, packed=packed)
    with pytest.raises(KnowledgeError, match=message):
        cells(path, [PIPES], ["A", "B"])


def test_a_malformed_quoted_line_is_named(tmp_path):
    path = write(tmp_path / "t.csv", '"a","b"\n"x\\",y","b"\n"a",b,c\n')
    with pytest.raises(KnowledgeError, match=r"line 3: .* must have 2 fields, but it has 3"):
        cells(path, [SHORT, LONG], ["A"])
    with pytest.raises(KnowledgeError, match=r"line 1: .* must have 3 or 2 fields, .* has 4"):
        cells(write(path, "1,2,3,4\n"), [LONG, SHORT], ["A"])


def test_a_column_that_is_not_needed_may_have_any_encoding(tmp_path):
    path = write(tmp_path / "t", b"a|caf\xe9|c|\n")
    assert cells(path, [PIPES], ["A", "C"]) == {"A": ["a"], "C": ["c"]}


@pytest.mark.parametrize("kept", [5, 0.5, -9])
def test_a_cut_gzip_file_is_named(tmp_path, kept):
    numbers = np.random.default_rng(1).random(5000)
    content = "".join(f"{number}|b|c|\n" for number in numbers)
    path = write(tmp_path / "t.RRF.gz", content, packed=True)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(KnowledgeError, match=r"t\.RRF\.gz is damaged or incomplete"):
        cells(path, [PIPES], ["A"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(KnowledgeError, match=r"There is no file .*nowhere\.RRF"):
        cells(tmp_path / "nowhere.RRF", [PIPES], ["A"])
    with pytest.raises(KnowledgeError, match=r"There is no file"):
        cells(tmp_path, [PIPES], ["A"])
