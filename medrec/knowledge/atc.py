"""ATC, the tree of drug classes, and which class counts where a drug has several.

A level is a prefix of the code: C (1), C03 (2), C03C (3), C03CA (4), C03CA01 (5). Medications of
this project are level 3, four characters, so the embedded tree reaches from there up to level 1.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from medrec.errors import KnowledgeError
from medrec.knowledge import tables
from medrec.knowledge.hierarchy import Hierarchy
from medrec.knowledge.origin import Origin
from medrec.raw_files import read_table
from medrec.raw_table import Table, digests

Rule = Literal["systemic", "listed", "all"]

LEVELS = (1, 3, 4, 5, 7)  # characters of a code at levels 1 to 5
_CODE = re.compile(r"[A-Z]([0-9]{2}([A-Z]([A-Z]([0-9]{2})?)?)?)?")
_COLUMNS = {"code": ("atc_code", "code", "atc"), "title": ("atc_name", "name", "title")}

# Groups whose drugs act where they are put. Many drugs are listed there *besides* the class that
# a hospital gives them for, e.g. vancomycin by mouth for the gut besides vancomycin by vein.
_LOCAL = (
    "A01",  # mouth and teeth: rinses, gels
    "A02A",  # antacids: work on the acid in the stomach; else calcium and magnesium are minerals
    "A06",  # laxatives: stay in the gut; else mannitol is an infusion and naloxone an antidote
    "A07",  # gut: antiinfectives, steroids and others that are hardly absorbed
    "B05C",  # irrigation of bladder and wounds
    "C05",  # haemorrhoids and varicose veins
    "D01A",  # antifungals on the skin; D01B is taken by mouth
    "D02",  # skin protectives
    "D03",  # wounds
    "D04",  # itch
    "D05A",  # psoriasis on the skin; D05B is taken by mouth
    "D06",  # skin antibiotics
    "D07",  # skin steroids
    "D08",  # disinfectants
    "D09",  # dressings
    "D10A",  # acne on the skin; D10B is taken by mouth
    "D11",  # other skin agents
    "G01",  # vaginal antiinfectives
    "G02B",  # contraceptives worn locally
    "M02",  # rubs for joints and muscles
    "P03",  # lice and mites
    "R01A",  # nose; R01B is taken by mouth
    "R02",  # throat
    "S",  # eye and ear
)


def choose(classes: Sequence[str], rule: Rule) -> tuple[str, ...]:
    """Returns the classes that count of a drug that has several.

    Args:
        classes: ATC classes of level 3 in the order of their table; repeated ones count once.
        rule: `systemic` keeps the alphabetically first class that is not for local use (mouth,
            gut, skin, eye, ...), or the first of all if each is; `listed` keeps the first in the
            order given; `all` keeps every one, sorted.

    Example:
        >>> choose(["A07A", "J01X"], "systemic"), choose(["S01A", "D06A"], "systemic")
        (('J01X',), ('D06A',))
    """
    if rule == "listed":
        return tuple(classes[:1])
    found = sorted(set(classes))
    if rule == "all":
        return tuple(found)
    return tuple(([code for code in found if not is_local(code)] or found)[:1])


def is_local(code: str) -> bool:
    """Returns whether an ATC class holds drugs for local use: mouth, gut, skin, eye and so on."""
    return code.startswith(_LOCAL)


def parent(code: str) -> str | None:
    """Returns the ATC code one level up, or None for level 1.

    Example:
        >>> parent("C03CA01"), parent("C03C"), parent("C")
        ('C03CA', 'C03', None)
    """
    shorter = [length for length in LEVELS if length < len(code)]
    return code[: shorter[-1]] if shorter else None


def load_atc(path: Path | None = None) -> Hierarchy:
    """Returns the ATC tree.

    Args:
        path: csv with the columns `atc_code` (or `code`, `atc`) and `atc_name` (or `name`,
            `title`), codes of any level; the embedded titles of level 3 if None. Levels above the
            codes in it exist too, without title if the table gives none.

    Raises:
        KnowledgeError: the table is missing or malformed, or a code has two titles.
    """
    if path is None:
        titles = tables.titles()
        licence = "titles: this project's own words; codes: facts of the WHO ATC classification"
        text = "\n".join(f"{code},{title}" for code, title in sorted(titles.items()))
        return _tree(titles, Origin("ATC levels 1 to 3, embedded", licence, rules={"atc3": text}))
    table = read_table(path, _COLUMNS, KnowledgeError)
    licence = "the user's own table; WHO Collaborating Centre terms apply to the WHO index"
    return _tree(_titles(table), Origin("ATC index", licence, digests([path])))


def _titles(table: Table) -> dict[str, str]:
    table.require(
        "code", lambda v: bool(_CODE.fullmatch(v.upper())), "must be an ATC code as C, C03 or C03C"
    )
    codes, names = table["code"], table["title"]
    titles: dict[str, str] = {}
    for row, (code, name) in enumerate(
        zip(codes.index.tolist(), names.index.tolist(), strict=True)
    ):
        key, title = codes.names[code].upper(), names.names[name]
        if titles.setdefault(key, title) != title:
            raise table.wrong("title", row, f"must be {titles[key]!r}, as an earlier line says")
    return titles


def _tree(titles: dict[str, str], origin: Origin) -> Hierarchy:
    nodes = dict(titles)
    for code in titles:
        for above in _above(code):
            nodes.setdefault(above, "")
    ordered = {code: nodes[code] for code in sorted(nodes)}
    parents = {code: up for code in ordered if (up := parent(code)) is not None}
    # A drug's local name that begins with a letter of ATC is below no class.
    return Hierarchy(origin, ordered, parents, form=_CODE.pattern)


def _above(code: str) -> Iterable[str]:
    up = parent(code)
    while up is not None:
        yield up
        up = parent(up)
