"""`medsweep data export`: formats are the plug-ins, the last line says counts and where."""

import pytest
from click.testing import CliRunner

from medrec import plugins
from medrec.cohort import Cohort
from medrec.errors import InputError
from sweeps.export import command
from sweeps.prepare import command as prepare
from tests.medrec.small import small_cohort

FORMATS = plugins.names("medrec.exports")


def run(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


def test_help_shows_the_formats_and_an_example():
    text = " ".join(CliRunner().invoke(command, ["--help"], terminal_width=200).output.split())
    assert "[meds|parquet]" in text
    assert "medsweep data export --cohort" in text
    assert "no identifiers and no dates" in text


@pytest.mark.parametrize("form", FORMATS)
def test_the_last_line_says_counts_and_where(form, tmp_path):
    cohort = small_cohort()
    cohort.save(tmp_path / "cohort")
    done = run("--cohort", tmp_path / "cohort", "--format", form, "--out", tmp_path / "out")
    assert done.exit_code == 0
    last = done.output.strip().splitlines()[-1]
    assert last.startswith(f"{tmp_path / 'out'}: 24 patients, {cohort.visits.sum()} visits")
    assert list((tmp_path / "out").rglob("*.parquet"))


def test_meds_goes_and_comes_back_on_the_command_line(tmp_path):
    cohort = small_cohort()
    cohort.save(tmp_path / "cohort")
    done = run("--cohort", tmp_path / "cohort", "--format", "meds", "--out", tmp_path / "meds")
    # Per visit admission and age, per patient gender, group and birth, and a row a code.
    events = 2 * cohort.visits.sum() + 3 * cohort.patients
    events += sum(len(codes.values) for codes in cohort.codes.values())
    assert f"{events:,} events" in done.output
    back = ["--source", str(tmp_path / "meds"), "--out", str(tmp_path / "back"), "--require", ""]
    found = CliRunner().invoke(prepare("meds"), back, catch_exceptions=False)
    assert "24 patients" in found.output
    again = Cohort.open(tmp_path / "back")
    assert again.vocabulary == cohort.vocabulary
    assert again.age.tolist() == cohort.age.tolist()


def test_refusals(tmp_path):
    assert run("--cohort", tmp_path, "--format", "csv", "--out", tmp_path / "x").exit_code == 2
    assert run("--cohort", tmp_path, "--out", tmp_path / "x").exit_code == 2
    with pytest.raises(InputError, match="is no cohort"):
        run("--cohort", tmp_path, "--format", "meds", "--out", tmp_path / "x")
