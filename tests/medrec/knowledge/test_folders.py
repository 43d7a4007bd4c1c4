import pytest

from medrec.errors import KnowledgeError
from medrec.knowledge.folders import knowledge_folders
from tests.medrec.datasets.mimic4_files import write_csv


def test_the_folder_in_the_source_comes_before_that_beside_it_and_the_source(tmp_path):
    source = tmp_path / "hospital"
    for folder in (source / "knowledge", tmp_path / "knowledge"):
        folder.mkdir(parents=True)
    inner, beside = source / "knowledge", tmp_path / "knowledge"
    assert knowledge_folders(source, None) == (inner, beside, source)
    inner.rmdir()
    assert knowledge_folders(source, None) == (beside, source)
    beside.rmdir()
    assert knowledge_folders(source, None) == (source,)


def test_a_file_of_that_name_is_no_folder(tmp_path):
    (tmp_path / "hospital").mkdir()
    write_csv(tmp_path / "knowledge", "a\n")
    assert knowledge_folders(tmp_path / "hospital", None) == (tmp_path / "hospital",)


def test_a_named_folder_is_the_only_one(tmp_path, monkeypatch):
    (tmp_path / "hospital" / "knowledge").mkdir(parents=True)
    mine = tmp_path / "mine"
    mine.mkdir()
    assert knowledge_folders(tmp_path / "hospital", str(mine)) == (mine,)
    monkeypatch.chdir(tmp_path)
    assert knowledge_folders(tmp_path / "hospital", "mine") == (mine,)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert knowledge_folders(tmp_path / "hospital", "~/mine") == (mine,)


@pytest.mark.parametrize("name", ["nowhere", "file.csv"])
def test_a_named_folder_must_be_one(tmp_path, name):
    write_csv(tmp_path / "file.csv", "a\n")
    with pytest.raises(KnowledgeError, match=f"`knowledge` must name a folder, but .*{name}"):
        knowledge_folders(tmp_path, str(tmp_path / name))
