"""What every table plug-in promises."""

import re
import shutil

import pytest

from medrec import plugins
from sweeps.statistics.results import gather
from sweeps.store import ResultsStore
from sweeps.tables._base import Table
from sweeps.tables._render import FORMATS, to_html, to_latex
from tests.sweeps.fabricate import (
    ARMS,
    GRID_ARMS,
    fabricate,
    fabricate_measured,
    visit_facts,
    with_curves,
    with_design,
    with_published,
    with_search,
)

NAMES = plugins.names("sweeps.tables")
WRITERS = {**FORMATS, "html": to_html}


@pytest.fixture(scope="module", params=["whole", "one trial missing", "an arm missing"])
def results(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    record = with_published(
        root, fabricate(root, patients=150, resamples=50, arms=(*ARMS, *GRID_ARMS))
    )
    record = with_design(root, with_search(root, record))
    store = ResultsStore(root)
    store.write_visits(visit_facts(store.load(record.arms[0].trials["0"]).predictions))
    keys = {"whole": [], "one trial missing": ["1"], "an arm missing": ["0", "1", "2"]}
    holed = [record.arms[1], record.arms[4], *(a for a in record.arms if a.varied)]
    for arm in holed[:2] + holed[2::3]:  # of each table that has intervals
        for seed in keys[request.param]:
            shutil.rmtree(root / "trials" / arm.trials[seed])
    study = {"recommendation": with_curves(gather(ResultsStore(root)))}
    for task in ("generation", "hierarchy"):
        folder = tmp_path_factory.mktemp(task)
        fabricate_measured(folder, task, tuple(keys[request.param]))
        study[task] = gather(ResultsStore(folder))
    return request.param, study


def of_its_task(table, results):
    """Whether trials are missing, and a study of the first task that the table is made for."""
    return results[0], results[1][table.tasks[0]]


@pytest.fixture(params=NAMES)
def table(request) -> Table:
    return plugins.load("sweeps.tables", request.param, "TABLE")


def test_it_has_a_title_and_rows_that_fit_its_columns(table, results):
    assert table.title
    built = table.build(of_its_task(table, results)[1])
    assert built
    for data in built:
        assert data.rows
        assert {len(row.cells) for row in data.rows} == {len(data.columns)}
        assert len({column.key for column in data.columns}) == len(data.columns)


def test_every_format_is_text_and_the_same_twice(table, results):
    study = of_its_task(table, results)[1]
    first, second = table.build(study), table.build(study)
    for one, two in zip(first, second, strict=True):
        for write in WRITERS.values():
            assert write(one).strip()
            assert write(one) == write(two)


def test_marks_are_seen_in_columns_of_numbers(table, results):
    for data in table.build(of_its_task(table, results)[1]):
        numeric = {column.key for column in data.columns if column.numeric}
        assert all(row.marks.keys() & numeric for row in data.rows if row.marks)


def test_latex_is_plain_ascii_with_as_many_cells_a_row_as_columns(table, results):
    """So that any engine reads it, also where none is here to try."""
    for data in table.build(of_its_task(table, results)[1]):
        text = to_latex(data)
        assert text.isascii()
        assert text.count("{") == text.count("}")
        body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()
        cells = [
            len(re.split(r"(?<!\\)&", row)) for row in body if not row.startswith(r"\midrule")
        ]
        assert set(cells) == {len(data.columns)}
        assert len(cells) == len(data.rows)


def test_its_caption_names_what_its_numbers_rest_on(table, results):
    for data in table.build(of_its_task(table, results)[1]):
        assert "seed" in data.caption
        assert "resamples" in data.caption
        assert "fingerprint 0123456789ab" in data.caption
        if any(column.interval for column in data.columns):
            assert "training seeds (0, 1, 2)" in data.caption
            drawn = "50 resamples, bootstrap seed 11" in data.caption
            assert drawn or "analytic crossed-variance t intervals" in data.caption


def test_holes_are_named_where_numbers_have_intervals(table, results):
    what, study = of_its_task(table, results)
    for data in table.build(study):
        if any(column.interval for column in data.columns):
            expected = {
                "whole": "",
                "one trial missing": "2 of 3 seeds",
                "an arm missing": "no trial is stored",
            }[what]
            assert expected in data.caption
            assert ("Missing trials" in data.caption) == (what != "whole")


def test_columns_say_direction_and_unit_of_their_metric(table, results):
    study = of_its_task(table, results)[1]
    for data in table.build(study):
        for column in data.columns:
            metric = study.metrics.get(column.key.removeprefix("difference_"))
            if metric is not None:
                assert column.higher_is_better == metric.higher_is_better
                assert column.unit.startswith(metric.unit)
                assert column.decimals == metric.decimals
