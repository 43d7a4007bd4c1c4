"""The cache: what it finds again, what it notices, and many processes at once."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from medrec.knowledge import cache as module
from medrec.knowledge.cache import Entry, cached

ARRAYS = {
    "matrix": np.arange(12, dtype=np.float32).reshape(3, 4),
    "none": np.zeros((0, 5), dtype=np.int64),
    "one": np.array(7, dtype=np.int16),
    "words": np.array(["9:4280", "10:I5023", ""]),
    "turned": np.asfortranarray(np.arange(6).reshape(2, 3)),
}
FACTS = {"names": ("a", "b"), "rate": 0.5}


class Builder:
    """Builds one entry and counts how often."""

    def __init__(self, arrays=ARRAYS, facts=FACTS):
        self.calls = 0
        self.entry = Entry(arrays, facts)

    def __call__(self):
        self.calls += 1
        return self.entry


def holds(entry: Entry) -> bool:
    assert entry.facts == {"names": ["a", "b"], "rate": 0.5}
    assert set(entry.arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        found = entry.arrays[name]
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert found.tolist() == array.tolist()
        assert not found.flags.writeable
    return True


def test_builds_once_and_finds_it_again_mapped_into_memory(tmp_path):
    build = Builder()
    first = cached(tmp_path / "new" / "folder", "some_2", {"b": 1, "a": [2]}, build)
    again = cached(tmp_path / "new" / "folder", "some_2", {"a": [2], "b": 1}, build)
    assert build.calls == 1
    assert holds(first)
    assert holds(again)
    for entry in (first, again):
        assert isinstance(entry.arrays["matrix"], np.memmap)
    [folder] = (tmp_path / "new" / "folder").iterdir()
    assert folder.name.startswith("some_2-")


def test_without_a_folder_the_result_is_the_same():
    build = Builder()
    assert holds(cached(None, "some", 1, build))
    assert holds(cached(None, "some", 1, build))
    assert build.calls == 2


@pytest.mark.parametrize("other", [("some", 2), ("other", 1), ("some", "1"), ("some", [1])])
def test_another_key_or_name_is_another_entry(tmp_path, other):
    build = Builder()
    cached(tmp_path, "some", 1, build)
    cached(tmp_path, *other, build)
    assert build.calls == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_the_code_s_schema_is_part_of_the_key(tmp_path, monkeypatch):
    build = Builder()
    cached(tmp_path, "some", 1, build)
    monkeypatch.setattr(module, "SCHEMA", module.SCHEMA + 1)
    cached(tmp_path, "some", 1, build)
    assert build.calls == 2


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def edit(path):
    """Changes a fact and leaves good JSON."""
    path.write_text(path.read_text().replace("0.5", "0.6"))


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b" x"),
    "other": lambda path: path.write_bytes(b"[1]"),
    "removed": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "one bit": flip,
}


@pytest.mark.parametrize("kind", [*DAMAGE])
@pytest.mark.parametrize("name", ["manifest.json", "matrix.npy", "words.npy"])
def test_damage_is_noticed_said_and_mended(tmp_path, caplog, name, kind):
    build = Builder()
    cached(tmp_path, "some", 1, build)
    [folder] = tmp_path.iterdir()
    DAMAGE[kind](folder / name)
    assert holds(cached(tmp_path, "some", 1, build))
    assert build.calls == 2
    assert caplog.text.count("is damaged") == 1
    assert str(folder) in caplog.text
    assert holds(cached(tmp_path, "some", 1, build))
    assert build.calls == 2
    assert [*tmp_path.iterdir()] == [folder]


def test_a_changed_fact_is_damage(tmp_path):
    build = Builder()
    cached(tmp_path, "some", 1, build)
    [folder] = tmp_path.iterdir()
    edit(folder / "manifest.json")
    assert json.loads((folder / "manifest.json").read_text())["facts"]["rate"] == 0.6
    assert holds(cached(tmp_path, "some", 1, build))


def test_a_copy_under_another_name_is_damage(tmp_path):
    cached(tmp_path, "some", 1, Builder())
    [one] = tmp_path.iterdir()
    cached(tmp_path, "some", 2, Builder({}, {"key": 2}))
    [two] = set(tmp_path.iterdir()) - {one}
    for file in two.iterdir():
        file.unlink()
    two.rmdir()
    one.rename(two)
    assert cached(tmp_path, "some", 2, Builder({}, {"key": 2})).facts == {"key": 2}


@pytest.mark.parametrize("obstacle", ["file", "link", "folder"])
def test_what_stands_in_the_place_makes_way(tmp_path, obstacle):
    cached(tmp_path, "some", 1, Builder())
    [folder] = tmp_path.iterdir()
    folder.rename(tmp_path / "aside")
    if obstacle == "file":
        folder.write_text("")
    elif obstacle == "link":
        folder.symlink_to(tmp_path / "nowhere")
    else:
        folder.mkdir()
    assert holds(cached(tmp_path, "some", 1, Builder()))
    build = Builder()
    assert holds(cached(tmp_path, "some", 1, build))
    assert build.calls == 0


def test_large_files_are_checked_by_size_and_form_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SMALL", 150)  # the matrix has 128 + 48 bytes
    build = Builder()
    cached(tmp_path, "some", 1, build)
    [folder] = tmp_path.iterdir()
    flip(folder / "matrix.npy")
    assert cached(tmp_path, "some", 1, build).arrays["matrix"][2, 3] != 11
    assert build.calls == 1
    header = (folder / "matrix.npy").read_bytes()
    (folder / "matrix.npy").write_bytes(header.replace(b"(3, 4)", b"(4, 3)"))
    assert holds(cached(tmp_path, "some", 1, build))
    assert build.calls == 2


def test_arrays_stay_valid_when_their_entry_is_replaced(tmp_path):
    entry = cached(tmp_path, "some", 1, Builder())
    [folder] = tmp_path.iterdir()
    (folder / "manifest.json").write_bytes(b"")
    cached(tmp_path, "some", 1, Builder())
    assert holds(entry)


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    assert holds(cached(tmp_path / "file" / "cache", "some", 1, Builder()))
    assert "could not be kept" in caplog.text


def test_a_full_disk_is_no_obstacle_and_leaves_nothing(tmp_path, caplog, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert holds(cached(tmp_path, "some", 1, Builder()))
    assert "No space left" in caplog.text
    assert not list(tmp_path.iterdir())


def test_what_fails_to_build_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        cached(tmp_path, "some", 1, lambda: Entry({}, {"one": 1 / 0}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "A", "../x", "a-b", "a.b", "a\n"])
def test_names_are_plain(tmp_path, name):
    with pytest.raises(ValueError, match="A name has letters"):
        cached(tmp_path, name, 1, Builder())
    with pytest.raises(ValueError, match="A name has letters"):
        cached(tmp_path, "some", 1, Builder({name: np.zeros(1)}))


def test_python_objects_are_refused(tmp_path):
    with pytest.raises(ValueError, match="'words' holds Python objects"):
        cached(tmp_path, "some", 1, Builder({"words": np.array(["a", None])}))
    with pytest.raises(TypeError):
        cached(tmp_path, "some", {1, 2}, Builder())


DIES = """
import os, sys
from pathlib import Path
import numpy as np
from medrec.knowledge.cache import Entry, cached
save = np.save
def dying(file, *args, **kwargs):
    save(file, *args, **kwargs)
    os._exit(3)
np.save = dying
cached(Path(sys.argv[1]), "some", 1, lambda: Entry({"a": np.zeros(1000)}))
"""


def test_what_a_dead_writer_leaves_is_no_entry_and_goes_when_it_is_old(tmp_path):
    assert subprocess.run([sys.executable, "-c", DIES, str(tmp_path)]).returncode == 3
    [left] = tmp_path.iterdir()
    assert holds(cached(tmp_path, "some", 1, Builder()))
    assert left.exists()  # a living writer's might look the same
    old = time.time() - module.STALE - 10
    os.utime(left, (old, old))
    cached(tmp_path, "some", 2, Builder())
    assert not left.exists()
    assert len(list(tmp_path.iterdir())) == 2


RACES = """
import logging, sys, time
from pathlib import Path
import numpy as np
from medrec.knowledge.cache import Entry, cached
cache, rounds = Path(sys.argv[1]), int(sys.argv[2])
logging.disable()
print("ready", flush=True)
start, built = float(sys.stdin.readline()), 0
for key in range(rounds):
    def build():
        global built
        built += 1
        time.sleep(0.005)
        return Entry({"a": np.full(20_000, key), "b": np.arange(key)}, {"key": key})
    time.sleep(max(0.0, start + 0.05 * key - time.time()))
    entry = cached(cache, "some", key, build)
    assert entry.facts == {"key": key}
    assert (entry.arrays["a"] == key).all() and len(entry.arrays["b"]) == key
print(built)
"""


@pytest.mark.parametrize("damaged", [False, True])
def test_processes_that_build_the_same_leave_one_good_copy(tmp_path, damaged):
    rounds, processes = 30, 3
    if damaged:
        cached_rounds(tmp_path, rounds)
        for folder in tmp_path.iterdir():
            (folder / "a.npy").write_bytes(b"")
    command = [sys.executable, "-c", RACES, str(tmp_path), str(rounds)]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    start = f"{time.time() + 0.1}\n"
    for worker in workers:
        worker.stdin.write(start)
        worker.stdin.flush()
    built = [int(worker.communicate(timeout=60)[0]) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * processes
    assert sum(built) > rounds  # else no two were ever at it at once
    names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == rounds
    assert all(name.startswith("some-") for name in names)
    again = cached_rounds(tmp_path, rounds)
    assert again == 0  # all copies are good


def cached_rounds(folder, rounds: int) -> int:
    """Returns how many of the entries had to be built."""
    built = 0
    for key in range(rounds):
        build = Builder({"a": np.full(20_000, key), "b": np.arange(key)}, {"key": key})
        cached(folder, "some", key, build)
        built += build.calls
    return built
