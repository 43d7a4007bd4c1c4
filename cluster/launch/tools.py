"""Checkers of others that are run where they are installed: bash, shellcheck, hadolint."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from cluster.launch.findings import Finding, shorten

# hadolint: what the base image and its tag already settle.
_IGNORED = ("DL3013", "DL3042")


def found(name: str) -> str | None:
    """Returns where a program is: beside Python, or on the path; None where it is not."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.is_file() else shutil.which(name)


def bash_syntax(file: str, text: str) -> list[Finding]:
    """Returns the first syntax error of a script."""
    answer = _run(["bash", "-n"], text)
    match = re.search(r"line (\d+): (.*)", answer.stderr)
    if not answer.returncode or match is None:
        return []
    return [Finding(file, int(match[1]), "bash-syntax", shorten(match[2]), "Mend the syntax.")]


def shellcheck(file: str, text: str) -> list[Finding]:
    """Returns what shellcheck says; nothing where it is not installed."""
    program = found("shellcheck")
    if program is None:
        return []
    answer = _run([program, "--format=json", "--shell=bash", "-"], text)
    return [
        Finding(file, entry["line"], f"shellcheck-SC{entry['code']}", shorten(entry["message"]),
                f"See shellcheck's SC{entry['code']}.")
        for entry in _list(answer.stdout)
        if entry["level"] in {"error", "warning"}
    ]  # fmt: skip


def hadolint(file: str, text: str) -> list[Finding]:
    """Returns what hadolint says; nothing where it is not installed."""
    program = found("hadolint")
    if program is None:
        return []
    ignored = [f"--ignore={code}" for code in _IGNORED]
    answer = _run([program, "--no-color", "--format=json", *ignored, "-"], text)
    return [
        Finding(file, entry["line"], f"hadolint-{entry['code']}", shorten(entry["message"]),
                f"See hadolint's {entry['code']}.")
        for entry in _list(answer.stdout)
        if entry["level"] in {"error", "warning"}
    ]  # fmt: skip


def _list(text: str) -> list[dict[str, Any]]:
    try:
        entries = json.loads(text)
    except ValueError:
        return []
    return entries if isinstance(entries, list) else []


def _run(command: list[str], text: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603  a checker, and the text is only read by it
        command, input=text, capture_output=True, text=True, timeout=60, check=False
    )
