"""A study's cohort: opened, or made for the study, and never silently another one."""

import numpy as np
import pytest

from medrec import splits
from medrec.cohort import Cohort
from medrec.errors import CohortError
from sweeps.cohorts import study_data
from sweeps.errors import StudyError
from tests.sweeps import tiny


def test_planning_writes_nothing_and_materialising_writes_the_cohort_once(tmp_path):
    found = study_data(tiny.study(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    found.materialise()
    assert Cohort.open(tmp_path / "out/cohort").fingerprint == found.cohort.fingerprint
    written = (tmp_path / "out/cohort/visits.arrow").stat().st_mtime_ns
    again = study_data(tiny.study(tmp_path), tmp_path / "out")
    again.materialise()
    assert (tmp_path / "out/cohort/visits.arrow").stat().st_mtime_ns == written
    assert again.cohort.fingerprint == found.cohort.fingerprint


def test_other_options_are_another_cohort_even_where_one_lies(tmp_path):
    first = study_data(tiny.study(tmp_path), tmp_path / "out")
    first.materialise()
    changed = {"dataset": "synthetic", "options": {"patients": 60, "seed": 1}}
    second = study_data(tiny.study(tmp_path, cohort=changed), tmp_path / "out")
    assert second.cohort.fingerprint != first.cohort.fingerprint


def test_a_prepared_folder_is_opened_where_it_lies(tmp_path):
    tiny.data().cohort.save(tmp_path / "mine")
    found = study_data(tiny.study(tmp_path, cohort=str(tmp_path / "mine")), tmp_path / "out")
    assert (found.name, found.path, found.made) == ("mine", tmp_path / "mine", False)
    found.materialise()
    assert not (tmp_path / "out").exists()


def test_a_folder_without_cohort_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CohortError, match="medsweep data prepare"):
        study_data(tiny.study(tmp_path, cohort=str(tmp_path / "empty")), tmp_path)


def test_the_true_prescriptions_are_measured_on_the_test_split():
    found = tiny.data()
    pairs = interacting = drugs = visits = 0
    codes, offsets = found.cohort.codes["medications"], found.cohort.offsets
    rates = []
    for patient in np.flatnonzero(found.cohort.split == splits.TEST):
        for visit in range(offsets[patient], offsets[patient + 1]):
            given = codes.values[codes.offsets[visit] : codes.offsets[visit + 1]]
            drugs, visits = drugs + len(given), visits + 1
            for i, a in enumerate(given):
                for b in given[i + 1 :]:
                    pairs, interacting = pairs + 1, interacting + bool(found.interacts[a, b])
    rates.append(interacting / pairs)
    assert found.truth["medications"] == pytest.approx(drugs / visits)
    assert found.truth["ddi_rate"] == pytest.approx(rates[0])


def test_interacting_pairs_are_each_named_once_in_order():
    pairs = tiny.data().interacting_pairs()
    assert pairs == sorted(set(pairs))
    assert all(i < j for i, j in pairs)
    assert 2 * len(pairs) == tiny.data().interacts.sum()


@pytest.mark.parametrize("options", [{"patients": -1}, {"colour": 1}, {"split": "by_colour"}])
def test_a_wrong_option_is_named(tmp_path, options):
    request = {"dataset": "synthetic", "options": options}
    with pytest.raises(StudyError, match=f"options.{next(iter(options))}"):
        study_data(tiny.study(tmp_path, cohort=request), tmp_path)
