"""One table, four formats: Markdown, CSV, LaTeX (booktabs) and an HTML fragment.

Every function is pure: the same table gives the same bytes. For people numbers are rounded; CSV
has every digit, so that what is read back is the same number to the last bit.

What is marked is a verdict (`Row.marks`), never the largest number: ▲ better, in bold too; ▼
worse; ≈ equivalent. The sign says it to those who see neither weight nor colour.
"""

import csv
import html
import io
from collections.abc import Callable, Mapping
from types import MappingProxyType

from sweeps.statistics.inference import Value
from sweeps.tables._base import Cell, Column, Mark, Row, TableData

_MINUS, _NONE = "\u2212", "\u2013"  # a true minus sign; an en dash for an empty cell
_ARROWS = {True: " ↑", False: " ↓", None: ""}
SIGNS: Mapping[Mark, str] = MappingProxyType({"better": "▲", "worse": "▼", "equivalent": "≈"})
_WORDS: Mapping[Mark, str] = MappingProxyType(
    {
        "better": "better than the reference",
        "worse": "worse than the reference",
        "equivalent": "equivalent to the reference",
    }
)
_LONG = 20  # characters of a first cell, above which it asks for room
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "▲": r"$\bigtriangleup$",
    "▼": r"$\bigtriangledown$",
    "≈": r"$\approx$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "²": r"$^2$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "Δ": r"$\Delta$",
    _MINUS: r"$-$",
    _NONE: "--",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "◊": r"$\diamond$",
    "§": r"\S{}",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "ρ": r"$\rho$",
    "σ": r"$\sigma$",
}


def begins_block(table: TableData, index: int) -> bool:
    """Returns whether a row is the first of a block that follows another."""
    return index > 0 and table.rows[index].block != table.rows[index - 1].block


def number(value: float, column: Column) -> str:
    r"""Returns the number as printed: fixed decimals, a true minus sign, no negative zero.

    Example:
        >>> number(-0.01234, Column("d", "Δ", decimals=3, signed=True)) == "\u22120.012"
        True
    """
    rounded = round(value, column.decimals) + 0.0
    sign = "+" if column.signed and rounded > 0 else ""
    return f"{sign}{rounded:,.{column.decimals}f}".replace("-", _MINUS)


def cell_text(cell: Cell, column: Column) -> tuple[str, str]:
    """Returns the cell as printed, and its interval in brackets (empty if it has none)."""
    if cell is None:
        return _NONE, ""
    if not isinstance(cell, Value):
        return (f"{cell:,}" if isinstance(cell, int) else cell), ""
    main = number(cell.estimate, column) + cell.mark
    if cell.low is None or cell.high is None:
        return main, ""
    return (
        main,
        f"[{number(cell.low, column)}, {number(cell.high, column)}]",
    )


def mark_of(row: Row, column: Column) -> Mark | None:
    """Returns the verdict that a row shows in a column."""
    return row.marks.get(column.key)


def heading(column: Column) -> str:
    """Returns the column's title with its direction."""
    return column.title + ("" if column.signed else _ARROWS[column.higher_is_better])


def to_markdown(table: TableData) -> str:
    """Returns the table as Markdown: heading, table, caption."""
    lines = [f"## {table.title}", ""]
    lines.append("| " + " | ".join(_markdown(heading(c)) for c in table.columns) + " |")
    lines.append("|" + "|".join("---:" if c.numeric else ":---" for c in table.columns) + "|")
    for row in table.rows:
        texts = []
        for cell, column in zip(row.cells, table.columns, strict=True):
            main, interval = cell_text(cell, column)
            mark, main = mark_of(row, column), _markdown(main)
            main = f"**{main}**" if mark == "better" else main
            texts.append(" ".join(filter(None, (main, SIGNS[mark] if mark else "", interval))))
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join([*lines, "", _markdown(table.caption), ""])


def _markdown(text: str) -> str:
    for mark in ("\\", "|", "*", "_", "<", ">", "`"):
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.split())


def to_csv(table: TableData) -> str:
    """Returns the table as CSV: numbers in full, intervals in columns of their own."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    header = []
    for column in table.columns:
        header += [column.key]
        header += [f"{column.key}_low", f"{column.key}_high"] if column.interval else []
    writer.writerow(header)
    for row in table.rows:
        out: list[str] = []
        for cell, column in zip(row.cells, table.columns, strict=True):
            out += _csv_cells(cell, column)
        writer.writerow(out)
    return sink.getvalue()


def _csv_cells(cell: Cell, column: Column) -> list[str]:
    if not isinstance(cell, Value):
        blank = ["", ""] if column.interval else []
        return ["" if cell is None else str(cell), *blank]
    values = [cell.estimate, cell.low, cell.high] if column.interval else [cell.estimate]
    return ["" if value is None else repr(float(value)) for value in values]


def to_latex(table: TableData) -> str:
    """Returns the table for LaTeX: needs the packages booktabs and graphicx."""
    layout = "".join("r" if c.numeric else "l" for c in table.columns)
    lines = [
        "% needs \\usepackage{booktabs,graphicx}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{_latex(table.title)}. {_latex(table.caption)}}}",
        f"\\label{{tab:{table.name.replace('_', '-')}}}",
        "\\resizebox{\\linewidth}{!}{%",
        f"\\begin{{tabular}}{{{layout}}}",
        "\\toprule",
        " & ".join(_latex(heading(c)) for c in table.columns) + " \\\\",
        "\\midrule",
    ]
    for index, row in enumerate(table.rows):
        texts = []
        for cell, column in zip(row.cells, table.columns, strict=True):
            main, interval = (_latex(part) for part in cell_text(cell, column))
            mark = mark_of(row, column)
            main = f"\\textbf{{{main}}}" if mark == "better" else main
            sign = _latex(SIGNS[mark]) if mark else ""
            small = f"{{\\scriptsize {interval}}}" if interval else ""
            texts.append(" ".join(filter(None, (main, sign, small))))
        if begins_block(table, index):
            lines.append("\\midrule")
        line = " & ".join(texts)
        # Or \\ of the line before would take a bracket or star for its argument.
        lines.append(("{}" if line.startswith(("[", "*")) else "") + line + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}}", "\\end{table}", ""])


def _latex(text: str) -> str:
    return "".join(_LATEX.get(mark, mark) for mark in " ".join(text.split()))


def to_html(table: TableData) -> str:
    """Returns the table as an HTML fragment: a figure whose table scrolls in its own box."""
    label = f"table-{table.name}"
    head = "".join(_html_heading(column) for column in table.columns)
    lines = [
        f'<figure class="table" id="{html.escape(label)}">',
        f'<div class="scroll" role="region" aria-label="{html.escape(table.title)}" tabindex="0">',
        f"<table><thead><tr>{head}</tr></thead><tbody>",
    ]
    for index, row in enumerate(table.rows):
        cells = ""
        for place, (cell, column) in enumerate(zip(row.cells, table.columns, strict=True)):
            cells += _html_cell(cell, column, mark_of(row, column), first=place == 0)
        kind = ' class="block"' if begins_block(table, index) else ""
        lines.append(f"<tr{kind}>{cells}</tr>")
    lines += [
        "</tbody></table></div>",
        f"<figcaption>{html.escape(table.caption)}</figcaption></figure>",
    ]
    return "\n".join(lines) + "\n"


def _html_heading(column: Column) -> str:
    kind = ' class="number"' if column.numeric else ""
    unit = f' title="{html.escape(column.unit)}"' if column.unit else ""
    return f'<th scope="col"{kind}{unit}>{html.escape(heading(column))}</th>'


def _html_cell(cell: Cell, column: Column, mark: Mark | None, first: bool) -> str:
    main, interval = (html.escape(part) for part in cell_text(cell, column))
    main = f"<strong>{main}</strong>" if mark == "better" else main
    sign = (
        f' <span class="mark" role="img" aria-label="{_WORDS[mark]}" title="{_WORDS[mark]}">'
        f"{SIGNS[mark]}</span>"
        if mark
        else ""
    )
    small = f'<span class="interval">{interval}</span>' if interval else ""
    if first:
        kind = ' class="long"' if len(main) > _LONG else ""  # or it would stand word below word
        return f'<th scope="row"{kind}>{main}</th>'
    kind = ' class="number"' if column.numeric else ""
    return f"<td{kind}>{main}{sign}{small}</td>"


FORMATS: Mapping[str, Callable[[TableData], str]] = MappingProxyType(
    {"md": to_markdown, "csv": to_csv, "tex": to_latex}
)
