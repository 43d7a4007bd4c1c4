"""`medsweep data prepare`: a command for each data set, its flags from the options' fields."""

import pytest
from click.testing import CliRunner

from medrec import plugins
from medrec.cohort import Cohort
from medrec.datasets._base import prepare
from sweeps.errors import StoreError
from sweeps.prepare import command

NAMES = plugins.names("medrec.datasets")


@pytest.mark.parametrize("name", NAMES)
def test_every_option_of_a_data_set_is_a_flag_with_its_description_and_default(name):
    dataset = plugins.load("medrec.datasets", name, "DATASET")
    text = CliRunner().invoke(command(name), ["--help"], terminal_width=200).output
    text = " ".join(text.split())
    for field, info in dataset.options.model_fields.items():
        assert f"--{field.replace('_', '-')}" in text
        assert " ".join(info.description.split()) in text
    assert ("--source" in text) == dataset.needs_source
    assert f"medsweep data prepare {name}" in text


def prepared(tmp_path, *flags) -> Cohort:
    arguments = ["--out", str(tmp_path / "cohort"), "--patients", "60", *flags]
    found = CliRunner().invoke(command("synthetic"), arguments, catch_exceptions=False)
    assert "60 patients" in found.output
    assert (tmp_path / "cohort/card.md").is_file()
    return Cohort.open(tmp_path / "cohort")


def test_flags_are_the_options(tmp_path):
    cohort = prepared(
        tmp_path, "--seed", "3", "--split", "sequential", "--fractions", "0.5,0.25,0.25",
        "--require", "diagnoses,procedures,medications",
    )  # fmt: skip
    options = plugins.load("medrec.datasets", "synthetic", "DATASET").options(
        patients=60,
        seed=3,
        split="sequential",
        fractions=(0.5, 0.25, 0.25),
        require=("diagnoses", "procedures", "medications"),
    )
    assert cohort.fingerprint == prepare("synthetic", None, options).fingerprint
    assert cohort.provenance.options["fractions"] == [0.5, 0.25, 0.25]


def test_preparing_again_gives_the_same_cohort_and_never_replaces_another(tmp_path):
    first = prepared(tmp_path).fingerprint
    with pytest.raises(StoreError, match="holds another cohort"):
        prepared(tmp_path, "--seed", "4")
    assert prepared(tmp_path).fingerprint == first
