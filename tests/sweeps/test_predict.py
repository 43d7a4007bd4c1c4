"""`medsweep predict`: the stored predictions again, and other cohorts in the model's codes."""

import hashlib
import itertools
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from medrec.cohort import KINDS, Codes, Cohort
from sweeps.cli import main
from sweeps.export_best import export_best
from sweeps.predict import command
from sweeps.run import run_study
from sweeps.store import ResultsStore
from tests.sweeps import tiny

MODELS = ("gamenet", "safedrug")  # the first reads its training patients' prescriptions


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A study, and the folder of an exported model by its name."""
    root = tmp_path_factory.mktemp("ran")
    arms = [{"model": name, "config": {"dim": 8}} for name in MODELS]
    study = tiny.study(root, arms=arms, seeds=[3], training={"epochs": 1}, reference=MODELS[0])
    run_study(study, root / "out", tiny.quiet(), tiny.INLINE)
    for name in MODELS:
        export_best(root / "out", root / name, arm=name)
    return root


def run(*arguments) -> str:
    done = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def predicted(ran, model, cohort, out, *further):
    run("--model", ran / model, "--cohort", cohort, "--out", out, *further)
    return pq.read_table(out)


def refused(capsys, *arguments) -> str:
    """Runs a command that must fail; returns its message."""
    with pytest.raises(SystemExit) as caught:
        main(["predict", *map(str, arguments)])
    found = capsys.readouterr()
    assert caught.value.code == 1
    assert "Traceback" not in found.err + found.out
    return " ".join(found.err.split())


def shuffled(cohort: Cohort, seed: int = 0) -> Cohort:
    """The same patients, with every vocabulary in another order."""
    rng = np.random.default_rng(seed)
    vocabulary, codes = {}, {}
    for kind in KINDS:
        order = rng.permutation(len(cohort.vocabulary[kind]))
        place = np.argsort(order).astype(np.int32)
        vocabulary[kind] = tuple(cohort.vocabulary[kind][i] for i in order)
        old = cohort.codes[kind]
        ends = zip(old.offsets[:-1], old.offsets[1:], strict=True)
        rows = [sorted(place[old.values[a:b]].tolist()) for a, b in ends]
        codes[kind] = Codes(old.offsets, np.array(list(itertools.chain(*rows)), dtype=np.int32))
    genders = cohort.genders[::-1]
    gender = (len(genders) - 1 - cohort.gender).astype(np.int8)
    return replace(cohort, vocabulary=vocabulary, codes=codes, genders=genders, gender=gender)


def with_unknown(cohort: Cohort, kind: str, code: str) -> tuple[Cohort, int]:
    """The same cohort with a further code at every second visit; and how often."""
    old, names = cohort.codes[kind], (*cohort.vocabulary[kind], code)
    rows, added = [], 0
    for visit, (a, b) in enumerate(zip(old.offsets[:-1], old.offsets[1:], strict=True)):
        further = [len(names) - 1] if visit % 2 == 0 else []
        added += len(further)
        rows.append([*old.values[a:b].tolist(), *further])
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int32)
    codes = Codes(offsets, np.array(list(itertools.chain(*rows)), dtype=np.int32))
    made = replace(
        cohort,
        vocabulary={**cohort.vocabulary, kind: names},
        codes={**cohort.codes, kind: codes},
    )
    return made, added


# ------------------------------------------------------------------ the study's own cohort


@pytest.mark.parametrize("model", MODELS)
def test_test_predictions_are_those_stored_to_the_bit(ran, tmp_path, model):
    found = predicted(ran, model, ran / "out/cohort", tmp_path / "p.parquet", "--split", "test")
    store = ResultsStore(ran / "out")
    arm = next(arm for arm in store.study().arms if arm.name == model)
    stored = store.load(arm.trials["3"]).predictions
    drugs = json.loads(found.schema.metadata[b"drugs"])
    assert tuple(drugs) == store.study().medications
    np.testing.assert_array_equal(found["patient"].to_numpy(), stored.patient)
    np.testing.assert_array_equal(found["visit"].to_numpy(), stored.visit)
    scores = np.array(found["scores"].to_pylist(), dtype=np.float32)
    np.testing.assert_array_equal(scores.view(np.int32), stored.scores.view(np.int32))
    for name in ("chosen", "truth"):
        hot = getattr(stored, name)
        assert found[name].to_pylist() == [[drugs[i] for i in np.flatnonzero(row)] for row in hot]


def test_metrics_are_those_of_the_trial(ran, tmp_path):
    text = run(
        *("--model", ran / "gamenet", "--cohort", ran / "out/cohort", "--split", "validation"),
        *("--out", tmp_path / "p.parquet"),
    )
    store = ResultsStore(ran / "out")
    key = next(arm for arm in store.study().arms if arm.name == "gamenet").trials["3"]
    assert f"Jaccard {store.summary(key)['validation']['jaccard']:.4f}" in text


def test_all_patients_and_what_the_file_says_of_itself(ran, tmp_path):
    found = predicted(ran, "gamenet", ran / "out/cohort", tmp_path / "p.parquet")
    cohort = Cohort.open(ran / "out/cohort")
    assert found.num_rows == cohort.visits.sum()
    facts = json.loads(found.schema.metadata[b"medsweep"])
    assert facts["cohort"] == facts["trained_on"] == cohort.fingerprint
    assert facts["split"] == "all"
    names = json.loads(found.schema.metadata[b"names"])
    drugs = json.loads(found.schema.metadata[b"drugs"])
    assert len(names) == len(drugs) == cohort.drugs
    assert all(names)
    assert found.schema.field("scores").type.value_type == "float"
    again = predicted(ran, "gamenet", ran / "out/cohort", tmp_path / "q.parquet")
    assert (tmp_path / "p.parquet").read_bytes() == (tmp_path / "q.parquet").read_bytes()
    assert again.equals(found)


# ------------------------------------------------------------------ other cohorts


@pytest.mark.parametrize("trained_on", [False, True])
def test_the_same_patients_in_other_codes_get_the_same_answers(ran, tmp_path, trained_on):
    home = ran / "out/cohort"
    shuffled(Cohort.open(home)).save(tmp_path / "other")
    further = ["--trained-on", home] if trained_on else []
    here = predicted(ran, "safedrug", home, tmp_path / "a.parquet", "--split", "test")
    there = predicted(
        ran, "safedrug", tmp_path / "other", tmp_path / "b.parquet", "--split", "test", *further
    )
    assert there.equals(here)  # but for the cohort's name in the metadata


def test_unknown_codes_are_left_out_and_counted(ran, tmp_path):
    home = Cohort.open(ran / "out/cohort")
    other, drugs = with_unknown(home, "medications", "Z99Z")
    other, diagnoses = with_unknown(other, "diagnoses", "10:Z999")
    other.save(tmp_path / "other")
    here = predicted(ran, "safedrug", ran / "out/cohort", tmp_path / "a.parquet")
    text = run(
        *("--model", ran / "safedrug", "--cohort", tmp_path / "other"),
        *("--out", tmp_path / "b.parquet"),
    )
    assert f"left out: {diagnoses:,} diagnoses" in text
    assert f"left out: {drugs:,} medications" in text
    assert "procedures that" not in text
    assert pq.read_table(tmp_path / "b.parquet").equals(here)


def test_new_patients_get_an_answer(ran, tmp_path):
    tiny.data(40).cohort.save(tmp_path / "other")
    found = predicted(
        *(ran, "gamenet", tmp_path / "other", tmp_path / "p.parquet"),
        *("--trained-on", ran / "out/cohort"),
    )
    assert found.num_rows == tiny.data(40).cohort.visits.sum()
    drugs = json.loads(found.schema.metadata[b"drugs"])
    assert tuple(drugs) == ResultsStore(ran / "out").study().medications


def test_a_model_that_reads_its_training_patients_needs_them(ran, tmp_path, capsys):
    tiny.data(40).cohort.save(tmp_path / "other")
    given = ("--model", ran / "gamenet", "--out", tmp_path / "p.parquet")
    message = refused(capsys, *given, "--cohort", tmp_path / "other")
    assert "co prescribed" in message
    assert "--trained-on" in message
    assert not (tmp_path / "p.parquet").exists()
    wrong = ("--trained-on", tmp_path / "other")
    assert "has fingerprint" in refused(capsys, *given, "--cohort", tmp_path / "other", *wrong)


def test_an_unknown_gender_becomes_unknown_or_is_refused(ran, tmp_path, capsys):
    home = Cohort.open(ran / "out/cohort")
    replace(home, genders=("F", "diverse")).save(tmp_path / "other")
    given = ("--model", ran / "safedrug", "--cohort", tmp_path / "other")
    message = refused(capsys, *given, "--out", tmp_path / "p.parquet")
    assert "'diverse'" in message


def test_a_cohort_without_medications_has_no_truth(ran, tmp_path):
    home = Cohort.open(ran / "out/cohort")
    none = Codes(np.zeros(len(home.age) + 1, dtype=np.int32), np.zeros(0, dtype=np.int32))
    replace(home, codes={**home.codes, "medications": none}).save(tmp_path / "other")
    text = run(
        *("--model", ran / "safedrug", "--cohort", tmp_path / "other"),
        *("--out", tmp_path / "p.parquet"),
    )
    assert "no metrics" in text
    assert "truth" not in pq.read_table(tmp_path / "p.parquet").column_names


# ------------------------------------------------------------------ refusals


def _cut(path):
    path.write_bytes(path.read_bytes()[:-10])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def _remove(path):
    path.unlink()


@pytest.mark.parametrize("harm", [_cut, _flip, _remove])
@pytest.mark.parametrize("name", ["model.safetensors", "vocabulary.json", "spec.json"])
def test_damage_is_named(ran, tmp_path, capsys, name, harm):
    for each in (ran / "gamenet").iterdir():
        (tmp_path / each.name).write_bytes(each.read_bytes())
    harm(tmp_path / name)
    given = ("--model", tmp_path, "--cohort", ran / "out/cohort")
    message = refused(capsys, *given, "--out", tmp_path / "p.parquet")
    assert name in message
    assert "medsweep export best" in message
    assert not (tmp_path / "p.parquet").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"schema": 99}, "schema 99"),
        ({"key": "0" * 16}, "was changed"),
        ({"spec": {"model": "gamenet"}}, "field spec.config"),
        ({"spec": None}, "field spec"),
        ({"sha256": None}, "is damaged"),
    ],
)
def test_a_changed_head_is_refused(ran, tmp_path, capsys, change, named):
    for each in (ran / "gamenet").iterdir():
        (tmp_path / each.name).write_bytes(each.read_bytes())
    head = json.loads((tmp_path / "spec.json").read_text())
    (tmp_path / "spec.json").write_text(json.dumps({**head, **change}))
    given = ("--model", tmp_path, "--cohort", ran / "out/cohort")
    assert named in refused(capsys, *given, "--out", tmp_path / "p.parquet")


def test_weights_of_another_model_are_refused(ran, tmp_path, capsys):
    for each in (ran / "gamenet").iterdir():
        (tmp_path / each.name).write_bytes(each.read_bytes())
    given = ("--model", tmp_path, "--cohort", ran / "out/cohort", "--out", tmp_path / "p.parquet")
    for weights in ((ran / "safedrug/model.safetensors").read_bytes(), b"no weights at all"):
        (tmp_path / "model.safetensors").write_bytes(weights)
        head = json.loads((tmp_path / "spec.json").read_text())
        head["sha256"]["model.safetensors"] = hashlib.sha256(weights).hexdigest()
        (tmp_path / "spec.json").write_text(json.dumps(head))
        assert "Export the model again" in refused(capsys, *given)


def test_other_knowledge_is_refused(ran, tmp_path, capsys):
    (tmp_path / "pairs.csv").write_text("A01A,B01A\n")
    given = ("--model", ran / "gamenet", "--cohort", ran / "out/cohort")
    further = ("--interactions", tmp_path / "pairs.csv", "--out", tmp_path / "p.parquet")
    assert "was trained with the knowledge" in refused(capsys, *given, *further)
    further = ("--bundle", tmp_path / "nothing", "--out", tmp_path / "p.parquet")
    refused(capsys, *given, *further)


@pytest.mark.parametrize(
    ("option", "value"), [("--model", "nothing"), ("--cohort", "nothing"), ("--model", "out")]
)
def test_missing_folders_are_named(ran, tmp_path, capsys, option, value):
    given = {"--model": ran / "gamenet", "--cohort": ran / "out/cohort"}
    given |= {"--out": tmp_path / "p.parquet", option: ran / value}
    message = refused(capsys, *(part for pair in given.items() for part in pair))
    assert str(ran / value) in message


def test_other_files_are_not_overwritten(ran, tmp_path, capsys):
    out = tmp_path / "p.parquet"
    out.write_text("mine")
    given = ("--model", ran / "gamenet", "--cohort", ran / "out/cohort", "--out")
    assert "Choose another --out" in refused(capsys, *given, out)
    assert out.read_text() == "mine"
    refused(capsys, *given, tmp_path)
    out.unlink()
    run(*given, out, "--split", "test")
    run(*given, out, "--split", "train")  # its own file it may replace
    facts = json.loads(pq.read_schema(out).metadata[b"medsweep"])
    assert facts["split"] == "train"
