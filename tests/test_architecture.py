"""Rules of the house that no single test would see, read from the syntax trees."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import jaxtyping
import pytest
import torch

from medrec import losses

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("medrec", "search_spaces", "sweeps", "cluster")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
# Who may import whom; sweeps alone joins the three leaves, which do not know one another.
ALLOWED = {
    "medrec": {"medrec"},
    "search_spaces": {"search_spaces"},
    "cluster": {"cluster"},
    "sweeps": {"sweeps", "medrec", "search_spaces", "cluster"},
}
FORBIDDEN = {
    "medrec": {"ray", "optuna"},
    "search_spaces": {"torch", "ray"},
    "cluster": {"torch", "optuna"},
}
# Inside medrec a part imports from its own level or below. What is not named here is a block.
BLOCKS = 2
LEVELS = {
    "errors": 0, "plugins": 0, "splits": 0, "spec": 0, "raw_table": 0, "raw_files": 0,
    "codes": 0, "demographics": 0, "presets": 0, "storage": 0,
    "cohort": 1, "records": 1, "datasets": 1, "knowledge": 1,
    "models": 3, "generation": 3, "hierarchy": 3, "precision": 4, "data": 4, "steps": 4,
    "predicting": 4, "validation": 4, "training": 4, "rehearsal": 4, "judging": 4, "producing": 4,
    "trial": 5, "apply": 6, "measuring": 6, "drawing": 7, "arranging": 7,
}  # fmt: skip
LIGHT = {"plugins", "spec"}  # all that medrec.light may rest on
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
CALLS = {"eval", "exec", "compile", "__import__"}
LOADERS = {"torch.load", "torch.save", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path) for path in FILES}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imported(node: ast.AST) -> list[str]:
    """Modules that an import statement names; `from package import module` names the module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        whole = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in MODULES else str(node.module) for name in whole]
    return []


def imports(path: Path) -> set[str]:
    return {name for node in ast.walk(tree(path)) for name in imported(node)}


def imports_at_top(path: Path) -> set[str]:
    return {name for node in tree(path).body for name in imported(node)}


every_file = pytest.mark.parametrize("path", FILES, ids=module_name)


@every_file
def test_imports_run_one_way_between_packages(path):
    package = module_name(path).split(".")[0]
    tops = {name.split(".")[0] for name in imports(path)}
    assert tops & set(PACKAGES) <= ALLOWED[package]
    assert not tops & FORBIDDEN.get(package, set())
    assert "tests" not in tops


def part(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize(
    "path", [p for p in FILES if module_name(p).startswith("medrec.")], ids=module_name
)
def test_imports_run_downwards_inside_medrec(path):
    mine = part(module_name(path))
    theirs = {part(name) for name in imports(path) if name.startswith("medrec.")} - {mine}
    if mine == "light":
        assert theirs <= LIGHT
        return
    level = LEVELS.get(mine, BLOCKS)
    above = {name for name in theirs if LEVELS.get(name, BLOCKS) > level}
    assert not above, f"{module_name(path)} imports {sorted(above)} from above"


def test_no_import_runs_in_a_circle():
    graph = {module_name(p): imports_at_top(p) & MODULES for p in FILES}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


@pytest.mark.parametrize(
    "path", [p for p in FILES if module_name(p).split(".")[0] == "sweeps"], ids=module_name
)
def test_sweeps_import_torch_only_inside_functions(path):
    tops = {name.split(".")[0] for name in imports_at_top(path)}
    assert "torch" not in tops
    heavy = {"medrec.trial", "medrec.apply", "medrec.training", "medrec.batching"}
    assert not imports_at_top(path) & heavy


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@every_file
def test_nothing_is_unpickled_or_evaluated(path):
    assert not {name.split(".")[0] for name in imports(path)} & PICKLES
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        assert name not in CALLS | LOADERS, f"{path}:{node.lineno} calls {name}"
        assert not name.endswith(("read_pickle", "to_pickle")), f"{path}:{node.lineno}"
        for word in node.keywords:
            if word.arg == "allow_pickle":
                assert isinstance(word.value, ast.Constant)
                assert word.value.value is False, f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", [p for p in FILES if p.name != "cli.py"], ids=module_name)
def test_nothing_prints_but_the_command_line(path):
    calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    assert not [f"{path}:{call.lineno}" for call in calls if dotted(call.func) == "print"]


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=module_name)
def test_folders_of_plug_ins_import_nothing(path):
    assert path.read_text() == ""


def test_shapes_are_checked():
    """The other tests rely on it: a wrong shape must raise, in functions and in dataclasses."""
    with pytest.raises(jaxtyping.TypeCheckError):
        losses.cross_entropy(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(jaxtyping.TypeCheckError):
        losses.visit_ddi_rate(torch.zeros(2, 3), torch.zeros(3, 3))  # bool is asked for
