"""Secrets that stand in a file, whatever the file's kind."""

import re

from cluster.launch.findings import Finding

_LONGEST = 2_000  # characters of a line that are looked at
_PATTERNS = (
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|hf_[A-Za-z0-9]{30,}|xox[bap]-[A-Za-z0-9-]{20,})"),
    re.compile(r"://[^/\s:@]{1,100}:[^/\s:@$]{1,200}@"),
)
# NAME=VALUE and NAME: VALUE, where the value is no path, variable, command or plain word.
_ASSIGNED = re.compile(
    r"(?i)(?:token|passw|secret|api_?key|access_?key)[a-z0-9_-]{0,30}[\"']?\s{0,4}[:=]\s{0,4}[\"']?"
    r"(?=[a-z0-9+/_=-]{0,60}[0-9])[a-z0-9+_=-]{16}"
)
# Names of secrets and places of files are what should stand there.
_REFERENCE = re.compile(r"(?i)secret_?name|(token|secret|password|key)_(path|file)\b")
_NAMED = re.compile(r"name:\s*[\"']?(RAY_AUTH_TOKEN|\w*(?:PASSWORD|SECRET|ACCESS_KEY)\w*)\b")


def secrets(file: str, text: str) -> list[Finding]:
    """Returns the lines that seem to hold a secret; the secret itself is not repeated."""
    lines = [line[:_LONGEST] for line in text.splitlines()]
    found = []
    for number, line in enumerate(lines, 1):
        hit = any(pattern.search(line) for pattern in _PATTERNS)
        hit = hit or bool(_ASSIGNED.search(line) and not _REFERENCE.search(line))
        previous = lines[number - 2] if number > 1 else ""
        if _NAMED.search(previous) and re.match(r"\s*value:\s*\S", line):
            hit = True
        if hit:
            found.append(
                Finding(
                    file, number, "no-secrets", "a secret seems to stand here",
                    "Take it out, make a new one, and refer to a file or a secret's name.",
                )
            )  # fmt: skip
    return found
