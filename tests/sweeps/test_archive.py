"""`medsweep export results`: a slim copy yields the same tables; nothing else is in it."""

import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from sweeps.archive import export_results, without_places
from sweeps.errors import DamagedTrialError, StoreError
from sweeps.regenerate import regenerate
from sweeps.store import ResultsStore
from tests.sweeps import tiny
from tests.sweeps.fabricate import fabricate


@pytest.fixture
def results(tmp_path):
    root = tmp_path / "results"
    fabricate(root)
    store = ResultsStore(root)
    reason = "RuntimeError at train.py:3: /home/ann/secret/study.yaml of node 10.0.0.7 is gone"
    store.record_failure("0" * 16, reason)
    for folder in ("cohort", "tensorboard", "cache", "running"):
        (root / folder).mkdir()
        (root / folder / "file").write_text("not for others")
    return root


def files(folder) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_tables_of_the_copy_are_those_of_the_original_to_the_byte(results, tmp_path):
    export_results(results, tmp_path / "copy")
    for root in (results, tmp_path / "copy"):
        regenerate(root, ("md", "csv", "tex"))
    assert files(results / "tables")
    assert files(tmp_path / "copy/tables") == files(results / "tables")


def test_predictions_without_half_are_the_same_numbers(results, tmp_path):
    export_results(results, tmp_path / "copy")
    store, copy = ResultsStore(results), ResultsStore(tmp_path / "copy")
    assert copy.trial_keys() == store.trial_keys()
    for key in store.trial_keys():
        copy.check(key)
        one, two = store.load(key), copy.load(key)
        for name in ("patient", "visit", "truth", "chosen", "scores"):
            a, b = (getattr(each.predictions, name) for each in (one, two))
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        assert one.history == two.history
        assert one.summary == two.summary


def test_half_precision_touches_scores_alone_and_is_smaller(results, tmp_path):
    whole = export_results(results, tmp_path / "copy")
    half = export_results(results, tmp_path / "half", half=True)
    assert half.after < whole.after < whole.before + (results / "study.json").stat().st_size
    store, copy = ResultsStore(results), ResultsStore(tmp_path / "half")
    for key in store.trial_keys():
        one, two = store.load(key).predictions, copy.load(key).predictions
        np.testing.assert_array_equal(one.truth, two.truth)
        np.testing.assert_array_equal(one.chosen, two.chosen)
        np.testing.assert_array_equal(one.scores.astype(np.float16), two.scores)
        path = copy.root / "trials" / key / "predictions.parquet"
        column = pq.ParquetFile(path).metadata.row_group(0).column(4)
        assert "BYTE_STREAM_SPLIT" in column.encodings
    regenerate(tmp_path / "half", ("csv",))
    regenerate(results, ("csv",))
    pairs = zip(
        files(results / "tables").values(), files(tmp_path / "half/tables").values(), strict=True
    )
    for a, b in pairs:  # PRAUC alone may move, and little; its false discovery rates with it
        numbers = [np.array(re.findall(rb"\d+\.\d+", text), dtype=float) for text in (a, b)]
        np.testing.assert_allclose(*numbers, atol=2e-2)


def test_nothing_but_results_is_copied(results, tmp_path):
    export_results(results, tmp_path / "copy")
    tops = {path.name for path in (tmp_path / "copy").iterdir()}
    assert tops == {"copy.json", "study.json", "trials", "searches", "failed"}
    for name, content in files(tmp_path / "copy").items():
        assert not name.endswith((".safetensors", ".log"))
        for word in (b"/home", b"ann", b"secret", b"10.0.0.7", str(tmp_path).encode()):
            assert word not in content, (name, word)
    failed = json.loads((tmp_path / "copy/failed/0000000000000000.json").read_text())
    assert failed["reason"].startswith("RuntimeError at train.py:3: study.yaml of node")


@pytest.mark.parametrize(
    ("value", "without"),
    [
        ("no place 0.5/0.6 here, and/or there", "no place 0.5/0.6 here, and/or there"),
        ("see ~/a/b.txt", "see b.txt"),
        ("'/x/y/z.csv', line 3", "'z.csv', line 3"),
        (r"C:\Users\ann\file.py", "file.py"),
        ([{"host": "n7", "os": "Linux"}], [{"os": "Linux"}]),
        ("10.1.2.3:8265 lost", "(address) lost"),
        (3, 3),
    ],
)
def test_places_and_machines_are_taken_out(value, without):
    assert without_places(value) == without


def test_the_same_copy_has_the_same_bytes(results, tmp_path):
    export_results(results, tmp_path / "one")
    export_results(results, tmp_path / "two")
    export_results(results, tmp_path / "two")  # an earlier copy is replaced
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_what_needs_weights_says_that_the_copy_has_none(results, tmp_path):
    export_results(results, tmp_path / "copy")
    copy = ResultsStore(tmp_path / "copy")
    key = copy.trial_keys()[0]
    assert copy.intact(key)
    assert not copy.has_weights(key)
    with pytest.raises(StoreError, match="this copy was made without weights"):
        copy.weights(key)


def test_a_trial_whose_weights_were_deleted_is_damaged_and_no_copy(results):
    store = ResultsStore(results)
    key = store.trial_keys()[0]
    (results / "trials" / key / "model.safetensors").unlink()
    assert not store.intact(key)
    with pytest.raises(DamagedTrialError):
        store.check(key)


def test_a_damaged_trial_is_refused_and_nothing_is_written(results, tmp_path):
    path = next((results / "trials").glob("*/predictions.parquet"))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DamagedTrialError, match=re.escape(str(path))):
        export_results(results, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_other_things_are_not_overwritten(results, tmp_path):
    before = files(results)
    for out in (results, results / "copy"):
        with pytest.raises(StoreError, match="Choose another --out"):
            export_results(results, out)
    assert files(results) == before
    other = tmp_path / "other"
    fabricate(other)
    mine = files(other)
    with pytest.raises(StoreError, match="no earlier copy"):
        export_results(results, other)
    assert files(other) == mine
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="is a file"):
        export_results(results, tmp_path / "file")


def test_a_copy_that_was_worked_on_is_not_overwritten(results, tmp_path):
    export_results(results, tmp_path / "copy")
    tiny.save(ResultsStore(tmp_path / "copy"), tiny.spec())  # somebody ran a trial there
    with pytest.raises(StoreError, match="or more than that"):
        export_results(results, tmp_path / "copy")


def test_a_directory_without_a_study_is_refused(tmp_path):
    with pytest.raises(StoreError, match="holds no study"):
        export_results(tmp_path / "nothing", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
