"""Checking launch files offline, each as what its content shows it to be."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from cluster.launch import check_dockerfile, check_kuberay, check_launcher, check_slurm, tools
from cluster.launch.errors import LaunchError, UnreadableError
from cluster.launch.findings import Finding
from cluster.launch.lines import Document, read_documents
from cluster.launch.literals import secrets

Kind = Literal["slurm", "dockerfile", "yaml", "unknown"]
_KUBERNETES = {"apiVersion", "kind", "metadata", "spec"}
_LAUNCHER = {"cluster_name", "provider", "available_node_types", "head_node_type",
             "head_start_ray_commands", "worker_start_ray_commands"}  # fmt: skip


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        findings: by file and line.
        notes: what could not be checked, and why.
    """

    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def failed(self) -> bool:
        """Whether there is an error."""
        return any(finding.level == "error" for finding in self.findings)


def locked_ray() -> str:
    """Returns the version of Ray that medsweep is locked to: the installed one."""
    return version("ray")


def check_files(paths: Iterable[Path]) -> Checked:
    """Checks launch files.

    Raises:
        LaunchError: a file cannot be read, or is no text.
    """
    found: list[Finding] = []
    kinds: set[Kind] = set()
    for path in paths:
        try:
            text = path.read_text()
        except UnicodeDecodeError as error:
            raise LaunchError(f"{path}: is no text file.") from error
        except OSError as error:
            raise LaunchError(f"{path}: cannot be read: {error.strerror}.") from error
        if path.name.endswith(".dockerignore"):
            continue
        kinds.add(kind_of(text))
        found += check_text(str(path), text)
    return Checked(tuple(sorted(found)), tuple(_notes(kinds)))


def check_text(file: str, text: str, ray_version: str | None = None) -> list[Finding]:
    """Returns what is wrong with the text of a launch file, by line.

    Args:
        file: name for the findings.
        text: content.
        ray_version: the Ray that it must be made for; the locked one by default.
    """
    ray = ray_version or locked_ray()
    kind = kind_of(text)
    found = secrets(file, text)
    if kind == "slurm":
        found += check_slurm.check(file, text, ray)
    elif kind == "dockerfile":
        found += check_dockerfile.check(file, text, ray)
    elif kind == "yaml":
        found += _yaml(file, text, ray)
    else:
        found.append(
            Finding(file, 1, "kind", "not a launch file", "Known are Slurm scripts, Dockerfiles, "
                    "ray.io/v1 objects and files of Ray's cluster launcher.")
        )  # fmt: skip
    # One line, one rule, one finding: a secret is also seen by the kind's own rules.
    return sorted({(finding.line, finding.rule): finding for finding in found}.values())


def kind_of(text: str) -> Kind:
    """Returns what a text is by its content.

    Example:
        >>> kind_of("FROM rayproject/ray:2.60.0-py311-cpu")
        'dockerfile'
    """
    if text.startswith("#!") or re.search(r"^#SBATCH\b", text, flags=re.MULTILINE):
        return "slurm" if re.search(r"\b(bash|sh)\b", text.partition("\n")[0]) else "unknown"
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if lines and re.match(r"(FROM|ARG)\s", lines[0], flags=re.IGNORECASE):
        return "dockerfile"
    names = {match[1] for line in lines if (match := re.match(r"[\"']?(\w+)[\"']?:", line))}
    return "yaml" if names & (_KUBERNETES | _LAUNCHER) else "unknown"


def _yaml(file: str, text: str, ray: str) -> list[Finding]:
    try:
        documents = read_documents(text)
    except UnreadableError as error:
        return [Finding(file, error.line, "yaml", str(error), "Write plain YAML.")]
    return [finding for document in documents for finding in _document(file, document, ray)]


def _document(file: str, document: Document, ray: str) -> list[Finding]:
    if not isinstance(document.content, dict):
        return [Finding(file, document.line(()), "yaml", "no mapping", "Write fields.")]
    if document.content.keys() & _LAUNCHER:
        return check_launcher.check(file, document, ray)
    return check_kuberay.check(file, document, ray)


def _notes(kinds: set[Kind]) -> list[str]:
    notes = []
    for kind, program in (("slurm", "shellcheck"), ("dockerfile", "hadolint")):
        if kind in kinds and tools.found(program) is None:
            notes.append(f"{program} is not installed, so it was not run.")
    return notes
