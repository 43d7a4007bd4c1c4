"""Finding plug-ins by name."""

import pkgutil
import subprocess
import sys

import pytest

from medrec import plugins
from medrec.errors import UnknownPluginError


def test_names_are_the_public_modules_sorted():
    found = plugins.names("medrec.metrics")
    assert found == sorted(found)
    assert {"jaccard", "f1", "prauc", "ddi_rate", "medications"} <= set(found)
    assert not [name for name in found if name.startswith("_")]


def test_listing_models_imports_none_of_them():
    code = (
        "import sys; from medrec import plugins\n"
        "assert 'gamenet' in plugins.names('medrec.models')\n"
        "bad = [m for m in sys.modules if m.split('.')[0] in ('torch', 'ray', 'sklearn')]\n"
        "assert not bad, bad\n"
        "assert 'medrec.models.gamenet' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("jacard", "Did you mean 'jaccard'"), ("ddi_rat", "Did you mean 'ddi_rate'"), ("zzz", "has")],
)
def test_a_wrong_name(name, hint):
    with pytest.raises(UnknownPluginError, match=hint) as caught:
        plugins.load("medrec.metrics", name, "METRIC")
    assert repr(name) in str(caught.value)
    assert "'jaccard'" in str(caught.value)


def test_private_modules_are_no_plug_ins():
    with pytest.raises(UnknownPluginError):
        plugins.load("medrec.metrics", "_base", "Metric")


def test_a_module_without_the_constant():
    with pytest.raises(UnknownPluginError, match=r"jaccard\.py defines no WRONG"):
        plugins.load("medrec.metrics", "jaccard", "WRONG")


def test_a_new_file_is_a_plug_in_at_once(tmp_path, monkeypatch):
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "__init__.py").touch()
    (tmp_path / "extra" / "_helper.py").write_text("METRIC = 0")
    monkeypatch.syspath_prepend(tmp_path)
    assert plugins.names("extra") == []
    (tmp_path / "extra" / "mine.py").write_text("METRIC = 42")
    assert plugins.load_all("extra", "METRIC") == {"mine": 42}


@pytest.mark.parametrize(
    ("package", "constant"),
    [("medrec.metrics", "METRIC"), ("medrec.models", "MODEL"), ("medrec.datasets", "DATASET")],
)
def test_every_plug_in_has_its_constant(package, constant):
    path = __import__(package, fromlist=["x"]).__path__
    public = {m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_")}
    packages = {m.name for m in pkgutil.iter_modules(path) if m.ispkg}
    assert set(plugins.load_all(package, constant)) == public - packages
