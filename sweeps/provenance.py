"""What a trial was made by: source code, commit, machine, time; and what a study's trials share.

Neither host, user nor place is recorded.
"""

import ast
import functools
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medrec import plugins

ROOT = Path(__file__).resolve().parents[1]
_APART = ("medrec.rehearsal", "medrec.light")  # they look at trials and decide nothing of them


def code_digest(model: str, root: Path = ROOT) -> str:
    """Returns 16 hex digits over the source files that decide a trial of the model.

    These are what `medrec.trial`, the model and the metrics import, and what those import in turn:
    neither other models, nor data sets, cards and exports, whose outcome has a fingerprint of its
    own. A changed comment counts as a change.

    Args:
        model: name of the model.
        root: folder of the packages.
    """
    return _code_digest(model, root)


@functools.cache
def _code_digest(model: str, root: Path) -> str:
    found = hashlib.sha256()
    for module in code_modules(model, root):
        path = _file(module, root)
        found.update(f"{module}\n".encode() + (path.read_bytes() if path else b"") + b"\n")
    return found.hexdigest()[:16]


def code_modules(model: str, root: Path = ROOT) -> tuple[str, ...]:
    """Returns the modules of medrec that decide a trial of the model, sorted."""
    waiting = ["medrec.trial", *(f"{package}.{model}" for package in plugins.MODELS)]
    waiting += [f"medrec.metrics.{name}" for name in plugins.names("medrec.metrics")]
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module not in seen and module not in _APART and _file(module, root) is not None:
            seen.add(module)
            waiting += _imported(module, root)
    return tuple(sorted(seen))


def _file(module: str, root: Path) -> Path | None:
    path = root.joinpath(*module.split(".")).with_suffix(".py")
    return path if path.is_file() else None


@functools.cache
def _imported(module: str, root: Path) -> tuple[str, ...]:
    """Returns the names in medrec that a module imports; of modules and of what is in them."""
    path = _file(module, root)
    names = []
    for node in ast.walk(ast.parse(path.read_bytes())) if path else ():
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name.startswith("medrec."))


@functools.cache
def source_commit(root: Path = ROOT) -> str | None:
    """Returns the commit of the source tree, as `34ebfac`, or `34ebfac+dirty` if it was changed.

    None where the packages lie in no repository of their own, or git is not installed.
    """
    if _git(root, "rev-parse", "--show-prefix") != "":  # below the top: somebody else's repository
        return None
    commit = _git(root, "rev-parse", "--short=7", "HEAD")
    packages = [p.name for p in sorted(root.iterdir()) if (p / "__init__.py").is_file()]
    changed = _git(root, "status", "--porcelain", "--", "pyproject.toml", *packages)
    return commit and commit + ("+dirty" if changed else "")


def _git(root: Path, *arguments: str) -> str | None:
    """Returns what git answers; None if it refuses or there is none."""
    program = shutil.which("git")
    if program is None:
        return None
    command = [program, "--no-optional-locks", "-C", str(root), *arguments]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603  fixed arguments
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None


@functools.cache
def hardware() -> dict[str, str]:
    """Returns the processor's model, its cores and the memory in GiB, as far as they are known."""
    found = {"cpu": _processor(), "cores": str(os.cpu_count() or "")}
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        found["memory_gib"] = str(round(memory / 2**30))
    except (ValueError, OSError, AttributeError):
        pass
    return {name: value for name, value in found.items() if value}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def trial_environment(model: str, stated: Mapping[str, str], gpus: float) -> dict[str, str]:
    """Returns what is stored of the environment of a trial.

    Args:
        model: its model.
        stated: versions and device, as the trial states them.
        gpus: share of a GPU that the trial had.
    """
    commit = source_commit()
    return {
        **stated,
        **hardware(),
        **({"gpu": stated["device"]} if gpus and "device" in stated else {}),
        "code": code_digest(model),
        **({"git": commit} if commit else {}),
    }


def utc_now() -> str:
    """Returns the time as `2026-03-01T12:30:05Z`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def provenance(summaries: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Returns every distinct value that trials state of their environment, sorted, by name.

    `started` is the earliest start and `ended` the latest end. What no trial states is left out.

    Args:
        summaries: `trial.json` of some trials.
    """
    found: dict[str, set[str]] = {}
    for summary in summaries:
        stated = summary.get("versions") or summary.get("environment") or {}
        for name, value in stated.items():
            found.setdefault(str(name), set()).add(str(value))
        for name in ("started", "ended"):
            if summary.get(name):
                found.setdefault(name, set()).add(str(summary[name]))
    values = {name: tuple(sorted(found[name])) for name in sorted(found)}
    ends = {"started": slice(0, 1), "ended": slice(-1, None)}
    return {name: told[ends[name]] if name in ends else told for name, told in values.items()}


def trial_seconds(summary: Mapping[str, Any]) -> float | None:
    """Returns the wall seconds of a stored trial, over the attempts that it was made in."""
    told = summary.get("seconds") or {}
    if "wall" not in told:
        return None
    # Before `resumed` was recorded, training over all attempts is the best that is known.
    return float(max(told["wall"] + told.get("resumed", 0.0), told.get("training", 0.0)))
