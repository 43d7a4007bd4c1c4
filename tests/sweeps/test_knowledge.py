"""`medsweep data knowledge`: the bundle of a cohort, its coverage printed, nothing overwritten."""

import pytest
from click.testing import CliRunner

from medrec.errors import CohortError, KnowledgeError
from medrec.knowledge.build import build_bundle
from medrec.knowledge.bundle import open_bundle
from medrec.knowledge.options import KnowledgeOptions
from sweeps.errors import StoreError, StudyError
from sweeps.knowledge import command
from tests.medrec.card.reading import described
from tests.medrec.knowledge.test_icd import DX, write
from tests.medrec.small import saved, small_cohort


@pytest.fixture
def cohort(tmp_path):
    return saved(tmp_path / "cohort").path


def run(cohort, out, *flags):
    arguments = ["--cohort", cohort, "--out", str(out), "--text-dimension", "4", *flags]
    return CliRunner().invoke(command(), arguments, catch_exceptions=False).output


def test_every_option_is_a_flag_with_its_description():
    text = CliRunner().invoke(command(), ["--help"], terminal_width=200).output
    text = " ".join(text.split())
    for field, info in KnowledgeOptions.model_fields.items():
        assert f"--{field.replace('_', '-')}" in text
        assert " ".join(info.description.split()) in text
    assert "medsweep data knowledge --cohort m4 --sources tables --out m4-knowledge" in text


def test_prints_coverage_and_what_is_missing(cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    out = tmp_path / "bundle"
    text = run(cohort, out)
    bundle, missing = build_bundle(small_cohort(), None, KnowledgeOptions(text_dimension=4))
    assert open_bundle(out).fingerprint == bundle.fingerprint
    lines = [" ".join(line.replace("│", " ").split()) for line in text.splitlines()]
    for each in bundle.coverage:
        row = f"{each.source} {each.kind} {each.codes:,} of {each.of:,} {each.uses:.1%}"
        assert row in lines
    assert f"Not there, left out: {', '.join(missing)}." in lines
    assert f"{len(bundle.interactions):,} interacting pairs" in text
    assert "4-dimensional text vectors" in text
    assert f"knowledge: {{bundle: {out}}}" in text


def test_flags_are_the_options_and_sources_are_read(cohort, tmp_path):
    write(tmp_path / "tables/below/CMS32_DESC_LONG_DX.txt", DX)
    text = run(cohort, tmp_path / "bundle", "--sources", str(tmp_path / "tables"), "--siblings")
    bundle = open_bundle(tmp_path / "bundle")
    assert bundle.options["siblings"] is True
    assert bundle.options["text_dimension"] == bundle.text.shape[1] == 4
    assert bundle.ancestors("diagnoses/9:V5861")
    assert "tree of ICD-9 diagnoses" not in text
    assert "tree of ICD-9 procedures" in text


def test_a_cohort_of_a_preset_gets_the_published_interactions(tmp_path):
    path = saved(tmp_path / "cohort", described(options={"preset": "safedrug"})).path
    with pytest.raises(KnowledgeError, match=r"drug-atc\.csv is needed"):
        run(path, tmp_path / "none")
    write(tmp_path / "tables/drug-DDI-TOP40.csv", "STITCH 1,STITCH 2\nCID1,CID2\n")
    write(tmp_path / "tables/drug-atc.csv", "CID1,C03CA01\nCID2,B01AA03\n")
    run(path, tmp_path / "published", "--sources", str(tmp_path / "tables"))
    bundle = open_bundle(tmp_path / "published")
    assert (bundle.options["preset"], bundle.options["interactions"]) == ("safedrug", "twosides")
    assert set(bundle.interactions) == {("B01A", "C03C")}
    run(path, tmp_path / "own", "--interactions", "embedded")
    assert open_bundle(tmp_path / "own").options["interactions"] == "embedded"


def test_the_same_again_is_no_overwriting_and_another_is_refused(cohort, tmp_path):
    out = tmp_path / "bundle"
    run(cohort, out)
    first = open_bundle(out).fingerprint
    run(cohort, out)
    assert open_bundle(out).fingerprint == first
    with pytest.raises(StoreError, match=rf"holds another bundle \({first[:12]}; .*another --out"):
        run(cohort, out, "--text", "none")
    assert open_bundle(out).fingerprint == first


def test_a_damaged_bundle_may_be_made_again(cohort, tmp_path):
    out = tmp_path / "bundle"
    run(cohort, out)
    first = open_bundle(out).fingerprint
    (out / "nodes.arrow").unlink()
    run(cohort, out, "--text", "none")
    assert open_bundle(out).fingerprint != first


@pytest.mark.parametrize("below", [True, False])
def test_a_folder_with_other_things_and_a_file_are_left_alone(cohort, tmp_path, below):
    out = tmp_path / "mine"
    mine = write(out / "thesis.txt" if below else out, "years of work")
    with pytest.raises(StoreError, match=r"is not empty and holds no knowledge bundle"):
        run(cohort, out)
    assert mine.read_text() == "years of work"


def test_an_empty_folder_is_filled(cohort, tmp_path):
    (tmp_path / "empty").mkdir()
    run(cohort, tmp_path / "empty")
    assert open_bundle(tmp_path / "empty").nodes


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_text("x")])
def test_sources_must_be_a_folder(cohort, tmp_path, make):
    make(tmp_path / "tables")
    with pytest.raises(
        KnowledgeError, match=r"`--sources` must be a folder, but .*tables is none"
    ):
        run(cohort, tmp_path / "bundle", "--sources", str(tmp_path / "tables"))
    assert not (tmp_path / "bundle").exists()


def test_a_cohort_must_be_one(tmp_path):
    with pytest.raises(CohortError, match="nowhere"):
        run(str(tmp_path / "nowhere"), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    "flags", [("--hops", "9"), ("--graph", "opne"), ("--text-dimension", "0")]
)
def test_a_value_out_of_range_is_named(cohort, tmp_path, flags):
    with pytest.raises(StudyError, match=flags[0][2:].replace("-", "_")):
        run(cohort, tmp_path / "bundle", *flags)
    assert not (tmp_path / "bundle").exists()
