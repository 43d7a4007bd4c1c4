"""What made a trial is told by its source files, commit and machine; what did not is left out."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from sweeps.provenance import (
    ROOT,
    code_digest,
    code_modules,
    hardware,
    provenance,
    source_commit,
    trial_environment,
)
from tests.sweeps import tiny

MODELS = ("safedrug", "dkinet", "logistic_regression")


def python_alone(place, names):
    return [name for name in names if "." in name and not name.endswith(".py")]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "medrec", root / "medrec", ignore=python_alone)
    return root


@pytest.mark.parametrize(
    ("changed", "stale"),
    [
        ("medrec/models/dkinet.py", {"dkinet"}),
        ("medrec/models/safedrug.py", {"safedrug"}),
        ("medrec/molecule_encoder.py", {"safedrug"}),
        ("medrec/models/_base.py", set(MODELS)),
        ("medrec/training.py", set(MODELS)),
        ("medrec/metrics/jaccard.py", set(MODELS)),
        ("medrec/knowledge/base.py", set(MODELS)),
        ("medrec/datasets/synthetic.py", set()),
        ("medrec/exports/meds.py", set()),
        ("medrec/card/contents.py", set()),
        ("medrec/rehearsal.py", set()),
        ("medrec/light.py", set()),
    ],
)
def test_a_changed_file_makes_those_trials_stale_that_it_decides(tree, tmp_path, changed, stale):
    shutil.copytree(tree, tmp_path / "changed", ignore=python_alone)
    with (tmp_path / "changed" / changed).open("a") as file:
        file.write("\n# changed\n")
    digests = {model: {code_digest(model, root) for root in (tree, tmp_path / "changed")}
               for model in MODELS}  # fmt: skip
    assert {model for model, found in digests.items() if len(found) == 2} == stale


def test_all_that_a_trial_imports_is_among_its_code(tmp_path):
    """In a process of its own, where nothing else was imported."""
    tiny.data().cohort.save(tmp_path / "cohort")
    fingerprint = tiny.data().cohort.fingerprint
    code = f"""
import json, sys
from pathlib import Path
from medrec.spec import CohortRef, Training, TrialSpec
from medrec import trial
place = CohortRef(path={str(tmp_path / "cohort")!r}, fingerprint={fingerprint!r})
spec = TrialSpec(model="gamenet", config={{"dim": 8}}, training=Training(epochs=1), cohort=place,
                 seed=0)
trial.run(spec, lambda row: None)
print(json.dumps([name for name in sys.modules if name.startswith("medrec.")]))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 0, found.stderr
    imported = set(json.loads(found.stdout.splitlines()[-1]))
    packages = {name for name in imported if (ROOT / name.replace(".", "/")).is_dir()}
    known = set(code_modules("gamenet")) | {"medrec.rehearsal"}
    assert imported - packages - known == set()


# ------------------------------------------------------------------ the commit


def git(root, *arguments):
    settings = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(["git", *settings, "-C", root, *arguments], check=True, capture_output=True,
                   env=env)  # fmt: skip


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_is_told_and_whether_the_packages_differ_from_it(tmp_path):
    source_commit.cache_clear()
    (tmp_path / "code").mkdir()
    assert source_commit(tmp_path / "code") is None  # no repository
    source_commit.cache_clear()
    package = tmp_path / "code" / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    git(tmp_path / "code", "init")
    git(tmp_path / "code", "add", ".")
    git(tmp_path / "code", "commit", "-m", "first")
    head = subprocess.run(["git", "-C", tmp_path / "code", "rev-parse", "HEAD"], text=True,
                          capture_output=True, check=True).stdout  # fmt: skip
    assert source_commit(tmp_path / "code") == head[:7]
    source_commit.cache_clear()
    (tmp_path / "code" / "results.txt").write_text("made by a run")
    assert source_commit(tmp_path / "code") == head[:7]
    source_commit.cache_clear()
    (package / "new.py").write_text("x = 1\n")
    assert source_commit(tmp_path / "code") == f"{head[:7]}+dirty"
    source_commit.cache_clear()
    assert source_commit(package) is None  # below the top of somebody's repository
    source_commit.cache_clear()


def test_without_git_no_commit_is_told(tmp_path, monkeypatch):
    source_commit.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source_commit(tmp_path) is None
    assert "git" not in trial_environment("gamenet", {"torch": "2"}, 0.0)
    source_commit.cache_clear()


def test_a_gpu_is_told_where_a_trial_had_one():
    stated = {"device": "Some GPU"}
    assert trial_environment("gamenet", stated, 0.5)["gpu"] == "Some GPU"
    assert "gpu" not in trial_environment("gamenet", {"device": "x86_64"}, 0.0)
    assert int(hardware()["cores"]) == os.cpu_count()


# ------------------------------------------------------------------ of many trials


def test_distinct_values_are_gathered_with_the_earliest_start_and_the_latest_end():
    def summary(start: str, end: str, **environment):
        return {"started": start, "ended": end, "environment": environment}

    found = provenance(
        [
            summary("2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z", torch="2.8", code="b"),
            summary("2026-02-28T23:59:59Z", "2026-03-01T00:10:00Z", torch="2.8", code="a"),
            {"versions": {"torch": "2.7"}},  # of an older version
            {},
        ]
    )
    assert found == {
        "code": ("a", "b"),
        "ended": ("2026-03-01T11:00:00Z",),
        "started": ("2026-02-28T23:59:59Z",),
        "torch": ("2.7", "2.8"),
    }
    assert provenance([]) == {}


def test_the_code_of_a_generator_is_its_own_too():
    assert "medrec.generation.bigram" in code_modules("bigram")
    assert "medrec.generation.gpt" in code_modules("hisgt")  # which it builds upon
    assert "medrec.generation.hisgt" not in code_modules("bigram")
