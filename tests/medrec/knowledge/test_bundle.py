"""A bundle on disk: the same as in memory, refused when damaged or made for other codes."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from medrec.errors import KnowledgeError
from medrec.knowledge import tables
from medrec.knowledge.base import load_knowledge
from medrec.knowledge.bundle import open_bundle, page, vocabulary_digest
from medrec.spec import KnowledgeSpec
from tests.medrec.knowledge.bundles import changed, small_bundle
from tests.medrec.small import VOCABULARY, saved, small_cohort

ROOT = Path(__file__).resolve().parents[3]
FILES = {
    "knowledge.json", "interactions.csv", "structures.csv", "titles.arrow", "relations.arrow",
    "nodes.arrow", "text.npy", "coverage.md",
}  # fmt: skip
READ = sorted(FILES - {"coverage.md"})


@pytest.fixture
def folder(tmp_path):
    small_bundle().save(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_what_is_opened_is_what_was_saved(folder):
    saved_one, opened = small_bundle(), open_bundle(folder)
    assert {path.name for path in folder.iterdir()} == FILES
    assert opened.fingerprint == saved_one.fingerprint
    for name in ("vocabulary", "interactions", "structures", "nodes", "titles", "coverage",
                 "origins", "options"):  # fmt: skip
        assert getattr(opened, name) == getattr(saved_one, name), name
    assert np.array_equal(opened.parents, saved_one.parents)
    assert np.array_equal(opened.text, saved_one.text)
    assert opened.relations.origin == saved_one.relations.origin
    assert list(opened.relations.names()) == list(saved_one.relations.names())
    assert opened.relations.counts() == saved_one.relations.counts()


def test_text_and_parents_are_mapped_from_disk(folder):
    opened = open_bundle(folder)
    assert isinstance(opened.text, np.memmap)
    for array in (opened.text, opened.parents):
        assert not array.flags.owndata
        assert not array.flags.writeable


def test_another_bundle_takes_the_place_of_the_first_and_leaves_nothing_beside(folder):
    other = replace(small_bundle(), titles=("other",) * len(small_bundle().titles))
    other.save(folder)
    assert open_bundle(folder).fingerprint == other.fingerprint != small_bundle().fingerprint
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize("name", READ)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(KnowledgeError, match=f"{folder} is no knowledge bundle: it has no {name}"):
        open_bundle(folder)


def swap(old, new, path):
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


def flip_last_byte(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def other_triple(path):
    triples = np.ascontiguousarray(small_bundle().relations.triples, dtype=np.int32)
    swap(triples.tobytes(), np.roll(triples, 1, axis=0).tobytes(), path)


def other_parent(path):
    rows = small_bundle().parents.tobytes()
    swap(rows, rows[4:] + rows[:4], path)


def describe(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("interactions.csv", partial(swap, b"A02B", b"A03B")),
        ("structures.csv", partial(swap, b"C1", b"C2")),
        ("titles.arrow", partial(swap, b"insulins", b"insulinz")),
        ("titles.arrow", other_parent),
        ("relations.arrow", other_triple),
        ("nodes.arrow", partial(swap, b"medications/A02B", b"medications/A03B")),
        ("text.npy", flip_last_byte),
        ("knowledge.json", partial(describe, vocabulary="0" * 64)),
        ("knowledge.json", partial(describe, fingerprint="0" * 64)),
        ("knowledge.json", partial(describe, relations=["a", "b", "c", "d", "e", "f"])),
    ],
)
def test_changed_content_is_refused(folder, name, change):
    change(folder / name)
    with pytest.raises(KnowledgeError, match=r"A file was changed; make it again"):
        open_bundle(folder)


CUTS = [(name, kept) for name in READ for kept in (0, 0.5, 0.95)]


@pytest.mark.parametrize(("name", "kept"), CUTS)
def test_a_cut_file_is_refused(folder, name, kept):
    data = (folder / name).read_bytes()
    (folder / name).unlink()  # a new file, lest pages that a test before mapped are cut
    (folder / name).write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(KnowledgeError, match=r"is damaged|A file was changed"):
        open_bundle(folder)


@pytest.mark.parametrize("values", [{"schema": 99}, {"coverage": [{}]}, {"sources": 3}])
def test_a_description_of_another_form_is_refused(folder, values):
    describe(folder / "knowledge.json", **values)
    with pytest.raises(KnowledgeError, match=f"{folder} is damaged .*Make it again"):
        open_bundle(folder)


@pytest.mark.parametrize("field", ["interactions", "structures", "titles", "parents", "text"])
def test_the_fingerprint_tells_whatever_a_model_sees(field):
    bundle = small_bundle()
    value = {
        "interactions": {("A02B", "A10A"): "Critical"},
        "structures": {"A02B": ("C",)},
        "titles": tuple(reversed(bundle.titles)),
        "parents": bundle.parents[::-1].copy(),
        "text": bundle.text + np.float32(1e-3),
    }[field]
    assert replace(bundle, **{field: value}).fingerprint != bundle.fingerprint


def test_ancestors():
    bundle = small_bundle()
    assert bundle.ancestors("medications/A02B") == ("medications/A02", "medications/A")
    assert bundle.ancestors("medications/A") == ()
    assert bundle.ancestors("diagnoses/9:4280") == ()  # without a tree of ICD
    assert bundle.ancestors("medications/unknown") == ()


PROGRAM = """
import sys
from pathlib import Path
from medrec.cohort import Cohort
from medrec.knowledge.build import build_bundle
from medrec.knowledge.options import KnowledgeOptions
print(hash("x"))
cohort = Cohort.open(Path(sys.argv[1]))
build_bundle(cohort, None, KnowledgeOptions(text_dimension=16))[0].save(Path(sys.argv[2]))
"""


def test_the_same_bytes_in_another_process(folder, tmp_path):
    ref = saved(tmp_path / "cohort")
    hashes = set()
    for seed in ("1", "2"):
        out = tmp_path / seed
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, ref.path, str(out)],
            cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True,
        )  # fmt: skip
        hashes.add(done.stdout)
        for name in FILES:
            assert (out / name).read_bytes() == (folder / name).read_bytes(), name
    assert len(hashes) == 2


def test_a_trial_gets_the_bundle(folder):
    spec = KnowledgeSpec(bundle=str(folder), fingerprint=small_bundle().fingerprint)
    knowledge, plain = (
        load_knowledge(small_cohort(), spec),
        load_knowledge(small_cohort(), KnowledgeSpec()),
    )
    assert knowledge.bundle.fingerprint == small_bundle().fingerprint
    assert np.array_equal(knowledge.interacts, plain.interacts)
    assert knowledge.structures == plain.structures
    assert plain.bundle.fingerprint != small_bundle().fingerprint  # the built-in one


def test_a_bundle_for_other_codes_is_refused(folder):
    other = changed(diagnoses=(*VOCABULARY["diagnoses"][:-1], "9:V5862"))
    assert vocabulary_digest(other) != vocabulary_digest(small_cohort())
    with pytest.raises(KnowledgeError, match=r"was made for a cohort with other codes"):
        load_knowledge(other, KnowledgeSpec(bundle=str(folder)))


def test_a_bundle_that_is_not_what_the_plan_read_is_refused(folder):
    spec = KnowledgeSpec(bundle=str(folder), fingerprint="f" * 64)
    with pytest.raises(KnowledgeError, match=r"but the plan read f{12}\. It changed meanwhile"):
        load_knowledge(small_cohort(), spec)


def test_a_bundle_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(KnowledgeError, match=r"nowhere is no knowledge bundle"):
        load_knowledge(small_cohort(), KnowledgeSpec(bundle=str(tmp_path / "nowhere")))


@pytest.mark.parametrize("field", ["interactions", "structures"])
def test_a_spec_names_a_bundle_or_tables(field):
    with pytest.raises(ValidationError, match="bundle brings its own interactions and structures"):
        KnowledgeSpec(bundle="b", **{field: "mine.csv"})


def test_the_page_says_coverage_relations_and_sources(folder):
    text = (folder / "coverage.md").read_text()
    assert text == page(small_bundle())
    assert small_bundle().fingerprint in text
    assert "| Interactions, embedded | medications | 10 | 10 | 100.0% |" in text
    pairs = sum(
        {a, b} <= set(VOCABULARY["medications"]) for a, b in tables.read_interactions("embedded")
    )
    assert f"| interacts | {2 * pairs} |" in text
    assert all(len(line) < 400 for line in text.splitlines())  # an embedded table is cut short
