"""A plug-in is a module: its file name is its name, and it defines one constant."""

import difflib
import importlib
import pkgutil
from typing import Any

from medrec.errors import UnknownPluginError

MODELS = ("medrec.models", "medrec.generation", "medrec.hierarchy")
"""Packages of what a trial trains: recommenders, generators of records, builders of hierarchies.
No name is in two of them."""


def names(package: str) -> list[str]:
    """Returns the public module names of `package`, sorted. Imports none of them.

    Example:
        >>> "jaccard" in names("medrec.metrics")
        True
    """
    path = importlib.import_module(package).__path__
    found = pkgutil.iter_modules(path)
    return sorted(m.name for m in found if not m.ispkg and not m.name.startswith("_"))


def check(package: str, name: str) -> None:
    """Raises `UnknownPluginError`, with the nearest right name, unless `package` has `name`."""
    known = names(package)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UnknownPluginError(f"{package} has no {name!r}.{hint} It has {known}.")


def models() -> list[str]:
    """Returns the names of everything that a trial can train, sorted."""
    return sorted(name for package in MODELS for name in names(package))


def package_of(model: str) -> str:
    """Returns the package of `MODELS` that has `model`.

    Raises:
        UnknownPluginError: none has; the message suggests the nearest right name.
    """
    for package in MODELS:
        if model in names(package):
            return package
    near = difflib.get_close_matches(model, models(), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UnknownPluginError(f"There is no model {model!r}.{hint} There are {models()}.")


def load_model(model: str) -> Any:
    """Returns the `MODEL` of that name.

    Raises:
        UnknownPluginError: there is none.
    """
    return load(package_of(model), model, "MODEL")


def load(package: str, name: str, constant: str) -> Any:
    """Returns `constant` of the one module `package.name`.

    Raises:
        UnknownPluginError: there is no such module, or it lacks the constant.
    """
    check(package, name)
    module = importlib.import_module(f"{package}.{name}")
    if not hasattr(module, constant):
        raise UnknownPluginError(
            f"{package}/{name}.py defines no {constant}; a plug-in there must define it."
        )
    return getattr(module, constant)


def load_all(package: str, constant: str) -> dict[str, Any]:
    """Returns every plug-in of `package` by name."""
    return {name: load(package, name, constant) for name in names(package)}
