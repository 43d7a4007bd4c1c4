"""A comparison of two runs as JSON, as Markdown, and as tables on the screen."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from sweeps.compare import ArmChange, Change, Comparison, Result
from sweeps.statistics.inference import Value
from sweeps.statistics.intervals import LEVEL
from sweeps.statistics.results import INCOMPARABLE, INCOMPARABLE_TEXT

_MINUS, _NONE = "\u2212", "\u2013"
_LONG = 60  # characters of a value on the screen; Markdown and JSON have all of it


@dataclass(frozen=True)
class _Part:
    """A heading with a table, a sentence, or a table and what must be known of it."""

    title: str
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    text: str = ""


def to_json(found: Comparison) -> str:
    """Returns everything, numbers in full precision."""
    return json.dumps(asdict(found), indent=2, default=str)


def to_markdown(found: Comparison) -> str:
    """Returns headings and tables."""
    lines = ["# What changed from A to B", ""]
    for part in _parts(found):
        lines += [f"## {_markdown(part.title)}", ""]
        if part.rows:
            lines.append("| " + " | ".join(part.header) + " |")
            lines.append("|" + ":---|" * len(part.header))
            lines += ["| " + " | ".join(map(_markdown, row)) + " |" for row in part.rows]
            lines.append("")
        if part.text:
            lines += [_markdown(part.text), ""]
    return "\n".join(lines)


def to_screen(found: Comparison) -> None:
    """Prints headings and tables."""
    console = Console(highlight=False)
    for part in _parts(found):
        if part.rows:
            table = Table(
                *(Column(name, overflow="fold") for name in part.header),
                title=escape(part.title),
                title_justify="left",
            )
            for row in part.rows:
                table.add_row(*(escape(_short(cell)) for cell in row))
            console.print(table)
        else:
            console.print(part.title, style="bold", markup=False)
        if part.text:
            console.print(part.text, markup=False)


def _parts(found: Comparison) -> Iterator[_Part]:
    for title, changes in (
        ("Study", found.study),
        ("Data and knowledge", found.data),
        ("Code and packages", found.code),
    ):
        yield _Part(title, *_changed(changes), text="" if changes else "Nothing changed.")
    yield _arms(found)
    for arm in found.arms:
        if arm.changes:
            yield _Part(f"Settings of {arm.name}", *_changed(arm.changes))
    for metric, title in found.metrics.items():
        rows = tuple(
            _result(arm, arm.results[metric], found.decimals[metric]) for arm in found.arms
        )
        marked = any(INCOMPARABLE in cell for row in rows for cell in row)
        if rows:
            header = ("arm", "A", "B", f"{_MINUS}".join(("B ", " A")))
            yield _Part(title, header, rows, INCOMPARABLE_TEXT if marked else "")
    yield _Part("How to read this", text=_reading(found))


def _changed(
    changes: Sequence[Change],
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    rows = tuple((c.field, _value(c.before), _value(c.after)) for c in changes)
    return ("field", "A", "B"), rows


def _arms(found: Comparison) -> _Part:
    rows: list[tuple[str, ...]] = [(name, "only in B", _NONE, "") for name in found.added]
    rows += [(name, "only in A", "", _NONE) for name in found.removed]
    rows += [(arm.name, arm.state, *map(_seeds, arm.seeds)) for arm in found.arms]
    text = "" if rows else "There are no arms."
    return _Part("Arms", ("arm", "state", "seeds stored in A", "in B"), tuple(rows), text)


def _seeds(seeds: Sequence[str]) -> str:
    return " ".join(seeds) or "none"


def _result(arm: ArmChange, result: Result, decimals: int) -> tuple[str, ...]:
    return (
        arm.name,
        _number(result.before, decimals),
        _number(result.after, decimals),
        _number(result.difference, decimals, signed=True),
    )


def _number(value: Value | None, decimals: int, signed: bool = False) -> str:
    """Returns estimate and interval; a difference of exactly 0 is written as 0.

    Example:
        >>> _number(Value(0.5, 0.4, 0.6), 2), _number(Value(0.0, 0.0, 0.0), 2, signed=True)
        ('0.50 [0.40, 0.60]', '0')
    """
    if value is None:
        return _NONE
    if signed and value.estimate == value.low == value.high == 0.0:
        return "0"
    main = f"{value.estimate:{'+' if signed else ''}.{decimals}f}{value.mark}"
    if value.low is None or value.high is None:
        return main.replace("-", _MINUS)
    return f"{main} [{value.low:.{decimals}f}, {value.high:.{decimals}f}]".replace("-", _MINUS)


def _reading(found: Comparison) -> str:
    if found.why_no_difference:
        told = found.why_no_difference
    else:
        told = (
            f"B {_MINUS} A is taken on the same test patients, with a {LEVEL:.0%} interval over "
            "training seeds and patients; with one seed it is conditional on these trained "
            "models. 0 is exact: both runs have the same predictions. Without an interval it is "
            "of the same trials, computed or stored otherwise. Intervals are not corrected for "
            "the number of arms and metrics."
        )
    return " ".join([told, *found.notes])


def _value(value: Any) -> str:
    if value is None:
        return _NONE
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _short(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"


def _markdown(text: str) -> str:
    for mark in ("\\", "|", "*", "_", "<", ">", "`"):
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.split())
