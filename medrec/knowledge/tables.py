"""Reading the knowledge tables: names of drug classes, interacting classes, structures.

    embedded/atc3.csv   atc3,title            drug classes (ATC level 3, four characters: B01A)
    embedded/drugs.csv  atc3,drug,smiles      representative drugs, without stereochemistry
    embedded/ddi.csv    atc3_a,atc3_b,reason  classes with a clinically known interaction

A path of the user's own table may stand in place of "embedded".
"""

import csv
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from medrec.errors import KnowledgeError

EMBEDDED = "embedded"
_FOLDER = Path(__file__).parent / "embedded"
_ATC = re.compile(r"[A-Z][0-9]{2}[A-Z]([A-Z]([0-9]{2})?)?")
_LEVEL_3 = 4  # characters of an ATC code down to level 3
Row = tuple[int, list[str]]  # line number in the file, cells without surrounding blanks


def titles() -> dict[str, str]:
    """Returns the English name of each embedded drug class."""
    rows = list(_rows(_FOLDER / "atc3.csv", 2))[1:]
    return {cells[0]: cells[1] for _, cells in rows}


def read_interactions(source: str) -> tuple[tuple[str, str], ...]:
    """Returns the interacting pairs of drug classes: sorted, unique, first before second.

    Args:
        source: "embedded", or a csv file (.gz allowed) whose first two columns are ATC codes of
            level 3 or deeper. A first line without codes is taken as its header, further columns
            are ignored, and a pair within one class is dropped.

    Raises:
        KnowledgeError: the file is missing, damaged, empty or no csv, or a cell is no ATC code.

    Example:
        >>> ("B01A", "M01A") in read_interactions("embedded")
        True
    """
    path = _resolve(source, "ddi.csv")
    pairs = set()
    empty = True
    for position, (line, cells) in enumerate(_rows(path, 2)):
        if position == 0 and not any(_ATC.fullmatch(cell) for cell in cells[:2]):
            continue
        empty = False
        a, b = sorted(_level3(path, line, field + 1, cells[field]) for field in (0, 1))
        if a != b:
            pairs.add((a, b))
    if empty:
        raise KnowledgeError(f"{path} has no interactions. Each line needs two ATC codes.")
    return tuple(sorted(pairs))


def read_structures(source: str) -> dict[str, tuple[str, ...]]:
    """Returns the canonical SMILES of each drug class, sorted and unique.

    Args:
        source: "embedded", or a csv file (.gz allowed) with the columns atc3 (an ATC code of level
            3 or deeper), drug (a name, for error messages) and smiles.

    Raises:
        KnowledgeError: the file is missing, damaged, empty or no csv, it lacks a column, a code is
            no ATC code, or a SMILES is none to RDKit.
    """
    path = _resolve(source, "drugs.csv")
    rows = _rows(path, 2)
    _, header = next(rows)
    columns = [_column(path, header, name) for name in ("atc3", "drug", "smiles")]
    found: dict[str, set[str]] = {}
    for line, cells in rows:
        if len(cells) <= max(columns):
            raise KnowledgeError(
                f"{path}, line {line}: {len(cells)} fields, but the header has {len(header)}. "
                "Give each line atc3, drug and smiles."
            )
        code, drug, smiles = (cells[column] for column in columns)
        atc3 = _level3(path, line, columns[0] + 1, code)
        where = f"{path}, line {line}, field smiles ({drug})"
        found.setdefault(atc3, set()).add(canonical_smiles(smiles, where))
    if not found:
        raise KnowledgeError(f"{path} has no structures. Each line needs atc3, drug and smiles.")
    return {code: tuple(sorted(found[code])) for code in sorted(found)}


def fingerprint(
    interactions: Sequence[tuple[str, str]], structures: Mapping[str, Sequence[str]]
) -> str:
    """Returns the sha256 (64 hexadecimal digits) of both tables, whatever their order."""
    content = {
        "interactions": sorted(map(list, interactions)),
        "structures": {code: sorted(smiles) for code, smiles in structures.items()},
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def canonical_smiles(smiles: str, where: str) -> str:
    """Returns RDKit's canonical form of a SMILES; `where` begins the error message.

    Raises:
        KnowledgeError: RDKit cannot read it, or it has no atoms.
    """
    from rdkit import Chem, rdBase  # slow to import; tables of pairs do without

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or not molecule.GetNumAtoms():
        raise KnowledgeError(
            f"{where}: {smiles!r} is no SMILES of a molecule. Mend it, or delete the line."
        )
    return str(Chem.MolToSmiles(molecule))


def _resolve(source: str, embedded: str) -> Path:
    path = _FOLDER / embedded if source == EMBEDDED else Path(source)
    if not path.is_file():
        raise KnowledgeError(
            f'There is no knowledge table {path}. Give a csv file, or "{EMBEDDED}".'
        )
    return path


def _rows(path: Path, fewest: int) -> Iterator[Row]:
    """Yields the lines that are not blank; the first one decides about the delimiter."""
    position = -1
    with _reading(path) as lines:
        reader = csv.reader(lines, strict=True)
        for cells in reader:
            row = [cell.strip() for cell in cells]
            if not any(row):
                continue
            position += 1
            if len(row) < fewest:
                raise KnowledgeError(
                    f"{path}, line {reader.line_num}: {len(row)} field in {row[0][:60]!r}, at "
                    f"least {fewest} expected. Separate the fields by commas."
                )
            yield reader.line_num, row
    if position < 0:
        raise KnowledgeError(f"{path} is empty. Give a csv file with a line for each entry.")


@contextmanager
def _reading(path: Path) -> Iterator[IO[str]]:
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as lines:
                yield lines
        else:
            with path.open(encoding="utf-8-sig", newline="") as lines:
                yield lines
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise KnowledgeError(
            f"{path} is a damaged or truncated gzip file ({error}). Copy it again."
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise KnowledgeError(
            f"{path} is no csv file in UTF-8 ({error}). Export it again."
        ) from error
    except OSError as error:
        raise KnowledgeError(f"{path} cannot be read ({error}). Check the file.") from error


def _column(path: Path, header: Sequence[str], name: str) -> int:
    if name not in header:
        raise KnowledgeError(
            f"{path}, line 1: no column {name!r}; it has {', '.join(header)}. "
            "The columns must be atc3,drug,smiles."
        )
    return header.index(name)


def _level3(path: Path, line: int, field: int, code: str) -> str:
    if not _ATC.fullmatch(code):
        raise KnowledgeError(
            f"{path}, line {line}, field {field}: {code!r} is no ATC code of level 3 or deeper "
            "(letter, two digits, letter, e.g. B01A or B01AC06). Mend it, or delete the line."
        )
    return code[:_LEVEL_3]
