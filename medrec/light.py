"""Reads what plans need of a model without importing what trains it.

A model is one file: settings and network together, torch imported at its top. Plans, lists and
studies need the settings alone and must work, and start fast, where torch is absent. So the file
is imported with inert placeholders for the heavy packages, its settings are taken, and everything
that saw a placeholder is forgotten again (as documentation builders do). Where torch is loaded
already, the file is imported as usual. tests/contracts/test_models.py compares both ways.
"""

import abc
import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from medrec import plugins
from medrec.spec import TASKS, ModelConfig, Task, Training

_HEAVY = ("torch", "torch_geometric", "rdkit", "sklearn", "scipy", "ot", "geoopt")


@dataclass(frozen=True)
class ModelFacts:
    """What a plan needs to know of a model; see `medrec.models._base.Model`."""

    name: str
    title: str
    source: str
    config: type[ModelConfig]
    seeded: bool
    training: Training
    task: Task


def model_facts(name: str) -> ModelFacts:
    """Returns the facts of the named model, without torch where it is not loaded yet.

    Raises:
        UnknownPluginError: there is no such model.
    """
    task = TASKS[plugins.package_of(name)]
    if "torch" in sys.modules:
        model = plugins.load_model(name)
    else:
        with _placeholders():
            model = plugins.load_model(name)
    return ModelFacts(
        name, model.title, model.source, model.config, model.seeded, model.training, task
    )


class _InertMeta(abc.ABCMeta):
    """Classes that answer every public attribute with another such class."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _InertMeta(name, (), {"__init__": lambda self, *a, **k: None})


class _InertModule(ModuleType):
    """A module that holds whatever is asked of it."""

    __path__: MutableSequence[str] = []  # noqa: RUF012  shared and empty

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _InertMeta(name, (), {"__init__": lambda self, *a, **k: None})


class _InertFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the heavy packages, and gives an inert module for each."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname.split(".")[0] not in _HEAVY:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _InertModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        return None


@contextmanager
def _placeholders() -> Iterator[None]:
    before = set(sys.modules)
    finder = _InertFinder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in set(sys.modules) - before:
            top, _, last = name.rpartition(".")
            if name.split(".")[0] in (*_HEAVY, "medrec"):
                del sys.modules[name]
                if top in sys.modules and last in vars(sys.modules[top]):
                    delattr(sys.modules[top], last)
