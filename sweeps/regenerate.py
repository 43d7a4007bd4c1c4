"""Regenerates every table, figure and the report from the results directory alone.

No model, no cohort, no Ray: stored predictions are read, checked, resampled and printed. Doing it
twice gives the same bytes.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from medrec import plugins
from medrec.errors import ConfigError
from medrec.hierarchy._page import page
from medrec.hierarchy._tree_json import from_json
from sweeps.cases import find_cases
from sweeps.cases_page import NO_RECOMMENDER, NONE_COUNT, NOT_OPEN, render_cases
from sweeps.embeddings import Method, find_pictures
from sweeps.figures._base import Drawing, Plot, to_png, to_svg
from sweeps.figures._embeddings import draw as draw_embeddings
from sweeps.report import render
from sweeps.statistics.results import StudyResults, gather
from sweeps.store import ResultsStore
from sweeps.tables._base import Table, TableData, footnotes, holes_sentence
from sweeps.tables._render import FORMATS

ALL_FORMATS = (*FORMATS, "html")


def regenerate(
    root: Path,
    formats: Sequence[str] = ALL_FORMATS,
    embeddings: Method | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> list[Path]:
    """Writes `tables/<name>.<format>`; for html figures (SVG, PNG) and pages.

    Args:
        root: a results directory.
        formats: of md, csv, tex, html.
        embeddings: how to picture vectors of codes in the report; none if None.
        warn: told of damaged trials, which count as missing, of missing ones, and of tables that
            an earlier run left.

    Returns:
        The files written, in order.

    Raises:
        ConfigError: a format or table is unknown.
        StoreError: there is no study, trials were tested on different visits, or no arm has
            vectors to picture.
    """
    _check(formats)
    store = ResultsStore(root)
    results = gather(store, store.study().tables or plugins.names("sweeps.tables"))
    for why in (*results.damaged.values(), *_holes(results), *_outdated(store, results)):
        warn(why)
    # First, since it alone can be refused: then nothing has been written yet.
    further = [_draw_embeddings(store, results, embeddings)] if embeddings else []
    tables = build_tables(results)
    written = [
        store.write_text(f"tables/{table.name}.{form}", FORMATS[form](table))
        for group in tables.values()
        for table in group
        for form in formats
        if form in FORMATS
    ]
    if "html" in formats:
        drawings = [*draw_figures(results), *further]
        for drawing, svg in drawings:
            written.append(store.write_text(f"figures/{drawing.name}.svg", svg))
            written.append(store.write_bytes(f"figures/{drawing.name}.png", to_png(drawing)))
        pages, why_not = _case_pages(store, results)
        written += [*pages, *_tree_pages(store, results)]
        report = render(results, tables, drawings, why_not)
        written.append(store.write_text("report.html", report))
    return written


def _holes(results: StudyResults) -> list[str]:
    text = holes_sentence(results, results.record.arms).strip()
    return [text] if text else []


def _outdated(store: ResultsStore, results: StudyResults) -> list[str]:
    """Returns a sentence that names tables of an earlier run; empty if there is none."""
    if not results.record.tables:
        return []
    known = plugins.names("sweeps.tables")
    apart = set(known) - set(results.record.tables)
    stems = {path.stem for path in (store.root / "tables").glob("*.*")}
    old = sorted(stem for stem in stems if _plugin(stem, known) in apart)
    if not old:
        return []
    return [f"Of an earlier run, not asked for now and left as they are: tables/{', '.join(old)}."]


def _plugin(stem: str, known: Sequence[str]) -> str:
    """Returns the plug-in that makes the table of this file name; empty if none does."""
    fits = [name for name in known if stem == name or stem.startswith(f"{name}_")]
    return max(fits, key=len, default="")


def _draw_embeddings(
    store: ResultsStore, results: StudyResults, method: Method
) -> tuple[Drawing, str]:
    pictures = find_pictures(store, results.record, method)
    plot = Plot("Vectors of codes", lambda _: draw_embeddings(pictures))
    drawn = to_svg(plot, results)
    assert drawn is not None  # noqa: S101  it always draws
    return drawn


def _case_pages(store: ResultsStore, results: StudyResults) -> tuple[list[Path], str]:
    """Writes the page of cases, or removes an old one and returns why there is none."""
    record = results.record
    if record.task != "recommendation":
        store.remove("cases.html")
        return [], NO_RECOMMENDER
    cases = find_cases(store, record) if record.cohort.open_data else None
    if cases is None:
        store.remove("cases.html")
        return [], NONE_COUNT if record.cohort.open_data else NOT_OPEN
    return [store.write_text("cases.html", render_cases(cases, record))], ""


def _tree_pages(store: ResultsStore, results: StudyResults) -> list[Path]:
    """Writes `trees/<arm>.html`: the learned hierarchy of each arm's first stored seed."""
    written = []
    for arm in results.record.arms if results.record.task == "hierarchy" else ():
        ordered = sorted((int(seed), key) for seed, key in arm.trials.items())
        stored = [(seed, key) for seed, key in ordered if key in results.summaries]
        text = store.further(stored[0][1]).get("tree.json") if stored else None
        if text is not None:
            note = f"Study {results.record.name}, arm {arm.name}, seed {stored[0][0]}."
            made = page(from_json(text.decode()), arm.title, note)
            written.append(store.write_text(f"trees/{arm.name}.html", made))
    return written


def _check(formats: Sequence[str]) -> None:
    for form in formats:
        if form not in ALL_FORMATS:
            raise ConfigError(
                f"A table's format is one of {', '.join(ALL_FORMATS)}, not {form!r}. "
                "Give --format with some of them, separated by commas."
            )


def build_tables(results: StudyResults) -> dict[str, list[TableData]]:
    """Returns the tables that the study asks for and that apply, by plug-in.

    Raises:
        UnknownPluginError: the study names a table that does not exist.
    """
    found = {}
    for name in results.record.tables or plugins.names("sweeps.tables"):
        table: Table = plugins.load("sweeps.tables", name, "TABLE")
        built = table.build(results) if results.record.task in table.tasks else None
        if built:
            found[name] = [footnotes(results, table) for table in built]
    return found


def draw_figures(results: StudyResults) -> list[tuple[Drawing, str]]:
    """Returns every figure that applies, with its SVG text, sorted by plug-in name."""
    found = []
    for name in plugins.names("sweeps.figures"):
        plot: Plot = plugins.load("sweeps.figures", name, "FIGURE")
        drawn = to_svg(plot, results) if results.record.task in plot.tasks else None
        if drawn is not None:
            found.append(drawn)
    return found
