"""Subgroups: each block equals a study of its visits, or of its drugs, alone."""

import shutil

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from medrec.evaluation import evaluate
from sweeps.evaluate import interaction_matrix
from sweeps.statistics.results import gather
from sweeps.store import ResultsStore
from sweeps.subgroups import DIVISIONS
from sweeps.tables import subgroups
from tests.sweeps.fabricate import fabricate, visit_facts

RESAMPLES = 20


def write(root, **changes):
    record = fabricate(root, patients=60, resamples=RESAMPLES)
    cohort = record.cohort.model_copy(update=changes)
    record = record.model_copy(update={"cohort": cohort})
    store = ResultsStore(root)
    store.write_study(record)
    layout = store.load(record.arms[0].trials["0"]).predictions
    return store, record, layout


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    # 12 drugs: 2 rarest, then 4, 3 and 3.
    quartiles = (1, 2, 3, 4, 1, 2, 3, 4, 2, 2, 3, 4)
    store, record, layout = write(tmp_path_factory.mktemp("groups"), drug_quartiles=quartiles)
    store.write_visits(visit_facts(layout))
    return store, record, layout, {t.name: t for t in subgroups.build(gather(store))}


def labels(layout, name) -> list[str]:
    """The label of each visit of the predictions, in their order."""
    facts = visit_facts(layout)
    keys = zip(facts.patient.tolist(), facts.visit.tolist(), strict=True)
    found = dict(zip(keys, facts.labels[name], strict=True))
    return [found[key] for key in zip(layout.patient.tolist(), layout.visit.tolist(), strict=True)]


def expected_rows(layout) -> dict[str, dict[str, np.ndarray]]:
    """Visits of each group, from a loop over the predictions."""
    patients, visits = layout.patient.tolist(), layout.visit.tolist()
    many = [patients.count(patient) for patient in patients]
    age, gender, rarity = (labels(layout, name) for name in ("age", "gender", "rarity"))
    groups = {
        "history": {
            "first visits": [visit == 0 for visit in visits],
            "later visits": [visit > 0 for visit in visits],
        },
        "visits": {
            "1 visit": [n == 1 for n in many],
            "2 visits": [n == 2 for n in many],
            "3-4 visits": [n in (3, 4) for n in many],
        },
        "rarity": {
            title: [each == label for each in rarity]
            for title, label in (
                ("1st (rarest)", "1"),
                ("2nd", "2"),
                ("3rd", "3"),
                ("4th (most common)", "4"),
            )
        },
        "age": {band: [each == band for each in age] for band in ("45-64", "65-79", "80+")},
        "gender": {name: [each == name for each in gender] for name in ("F", "M")},
    }
    return {
        division: {title: np.array(rows) for title, rows in found.items()}
        for division, found in groups.items()
    }


@pytest.mark.parametrize("division", ["history", "visits", "rarity", "age", "gender"])
def test_each_block_equals_its_visits_alone(made, division):
    store, record, layout, tables = made
    table = tables[f"subgroups_{division}"]
    keys = [column.key for column in table.columns]
    expected = expected_rows(layout)[division]
    large = [
        title
        for title, rows in expected.items()
        if rows.sum() >= 30 and len(set(layout.patient[rows])) >= 10
    ]
    assert list(dict.fromkeys(row.cells[0] for row in table.rows)) == large
    for title in expected.keys() - set(large):
        assert title in table.caption.split("Left out")[1].split(".")[0]
    interacts = interaction_matrix(record.ddi, len(record.medications))
    trials = {key: store.load(key).predictions for a in record.arms for key in a.trials.values()}
    for title in large:
        rows, jaccard = expected[title], {}
        block = [row.cells for row in table.rows if row.cells[0] == title]
        for cells, arm in zip(block, record.arms, strict=True):
            cell = dict(zip(keys, cells, strict=True))
            assert cell["visits"] == rows.sum()
            assert cell["patients"] == len(set(layout.patient[rows].tolist()))
            each = [evaluate(trials[key].select(rows), interacts) for key in arm.trials.values()]
            for name in ("jaccard", "f1", "prauc", "ddi_rate"):
                mean = np.mean([values[name] for values in each])
                assert cell[name].estimate == pytest.approx(mean)
                assert cell[name].low < cell[name].high
            jaccard[arm.name] = cell["jaccard"].estimate, cell["difference_jaccard"]
        assert jaccard["full"][1] is None
        for name in ("popular", "gamenet", "no_ddi", "no_graph"):
            level, gap = jaccard[name]
            assert gap.estimate == pytest.approx(level - jaccard["full"][0])
            assert gap.low < gap.high


def test_rare_drugs_are_judged_without_the_others(made):
    """Loops over visits with one of the drugs: sets and sklearn."""
    store, record, layout, tables = made
    table = tables["subgroups_drugs"]
    keys = [column.key for column in table.columns]
    assert "ddi_rate" not in keys
    drugs = np.array([0, 4])
    truth = layout.truth[:, drugs]
    rows = [row for row in range(len(truth)) if truth[row].any()]
    patients = layout.patient[rows]
    block = [row.cells for row in table.rows if row.cells[0] == "1st (rarest), 2 drugs"]
    for cells, arm in zip(block, record.arms, strict=True):
        cell = dict(zip(keys, cells, strict=True))
        assert (cell["visits"], cell["patients"]) == (len(rows), len(set(patients.tolist())))
        found = {"jaccard": [], "f1": [], "prauc": []}
        for key in arm.trials.values():
            made_by = store.load(key).predictions
            of_visit = {name: [] for name in found}
            for row in rows:
                true = {d for d in drugs if made_by.truth[row, d]}
                chosen = {d for d in drugs if made_by.chosen[row, d]}
                of_visit["jaccard"].append(len(true & chosen) / len(true | chosen))
                of_visit["f1"].append(2 * len(true & chosen) / (len(true) + len(chosen)))
                of_visit["prauc"].append(
                    average_precision_score(made_by.truth[row, drugs], made_by.scores[row, drugs])
                )
            for name, values in of_visit.items():
                means = [np.mean(np.array(values)[patients == p]) for p in np.unique(patients)]
                found[name].append(np.mean(means))
        for name, values in found.items():
            assert cell[name].estimate == pytest.approx(np.mean(values))
    counts = [row.cells[0].split(", ")[1] for row in table.rows[:: len(record.arms)]]
    assert counts == ["2 drugs", "4 drugs", "3 drugs", "3 drugs"]


def test_captions_say_how_little_a_subgroup_shows(made):
    tables = made[-1]
    assert list(tables) == [f"subgroups_{division}" for division in DIVISIONS]
    for table in tables.values():
        assert "not corrected for the number of subgroups" in table.caption
        assert "is no evidence of interaction" in table.caption
        assert "does not tell" not in table.caption
        assert not any(row.marks for row in table.rows)
    assert "fewer than 10 patients of the cohort" in tables["subgroups_age"].caption


def test_small_groups_are_named_and_those_without_visits_are_not(made):
    caption = made[-1]["subgroups_age"].caption
    assert "Left out" not in caption  # nobody is below 45
    assert "5+ visits" not in made[-1]["subgroups_visits"].caption


def test_what_an_old_directory_does_not_tell_is_absent_and_said(tmp_path):
    store, _, _ = write(tmp_path, drug_quartiles=())
    tables = {table.name: table for table in subgroups.build(gather(store))}
    assert list(tables) == ["subgroups_history", "subgroups_visits"]
    for table in tables.values():
        assert (
            "does not tell how common a visit's codes are, how common drugs are, age, gender"
            in table.caption
        )


def test_without_trials_there_is_no_table(tmp_path):
    store, _, layout = write(tmp_path)
    store.write_visits(visit_facts(layout))
    shutil.rmtree(tmp_path / "trials")
    assert subgroups.build(gather(store)) is None
