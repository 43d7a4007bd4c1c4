"""What a page is made of: sections of paragraphs, tables and plots."""

import re
from dataclasses import dataclass

_NUMBER = re.compile(r"([<+\u2212]?[\d,.]+(%| of [\d,]+| \([+\u2212]?[\d,.]+%\))?|\u2013)?")


@dataclass(frozen=True)
class Table:
    """Rows of text under headings; `faint` greys the rows whose second cell is 0."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    faint: bool = False

    def numeric(self) -> list[bool]:
        """Returns which columns hold numbers alone; never the first."""
        columns = zip(*self.rows, strict=True) if self.rows else ((),) * len(self.head)
        return [i > 0 and all(map(_NUMBER.fullmatch, column)) for i, column in enumerate(columns)]


@dataclass(frozen=True)
class Plot:
    """An SVG, what a reader who cannot see it is told, and what stands below it."""

    name: str
    title: str
    svg: str
    description: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, tables and plots below it."""

    title: str
    texts: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
