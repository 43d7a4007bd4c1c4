"""LaTeX tables compile, where an engine is installed."""

import shutil
import subprocess
from pathlib import Path

import pytest

from medrec import plugins
from sweeps.statistics.results import gather
from sweeps.store import ResultsStore
from sweeps.tables._base import Column, Row, TableData
from sweeps.tables._render import to_latex
from tests.sweeps.fabricate import (
    ARMS,
    GRID_ARMS,
    fabricate,
    visit_facts,
    with_published,
    with_search,
)

ENGINES = {
    "pdflatex": ("-interaction=nonstopmode", "-halt-on-error"),
    "lualatex": ("-interaction=nonstopmode", "-halt-on-error"),
    "xelatex": ("-interaction=nonstopmode", "-halt-on-error"),
    "tectonic": ("--only-cached",),
}
DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs,graphicx}
\begin{document}
%s
\end{document}
"""
ODD = TableData(
    name="odd_name",
    title=r"100% & #1 of $5 {a} ~ ^ \ _ < >",
    columns=(Column("a", "A_%"), Column("b", "Δ ↑ ↓", "", 2, numeric=True)),
    rows=(
        Row(("[1] *", None), marks={"b": "worse"}),
        Row(("* first", "± × ≤ ≥ ≈"), marks={"b": "better"}, block="second"),
    ),
    caption="† \u2013 \u2212 β ▲ ▼",
)


def tables(root: Path) -> list[TableData]:
    record = with_published(root, fabricate(root, resamples=20, arms=(*ARMS, *GRID_ARMS)))
    record, store = with_search(root, record), ResultsStore(root)
    store.write_visits(visit_facts(store.load(record.arms[0].trials["0"]).predictions))
    results = gather(store)
    names = plugins.names("sweeps.tables")
    built = (plugins.load("sweeps.tables", name, "TABLE").build(results) for name in names)
    return [ODD, *(table for group in built for table in group or ())]


def test_every_table_compiles(tmp_path):
    engine = next((name for name in ENGINES if shutil.which(name)), None)
    if engine is None:
        pytest.skip(f"no LaTeX engine is installed (one of {', '.join(ENGINES)})")
    text = "\\clearpage\n".join(map(to_latex, tables(tmp_path / "results")))
    (tmp_path / "tables.tex").write_text(DOCUMENT % text)
    done = subprocess.run(
        [engine, *ENGINES[engine], "tables.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "tables.pdf").stat().st_size > 1000


def test_odd_letters_become_ascii():
    assert to_latex(ODD).isascii()
