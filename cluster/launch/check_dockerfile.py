"""Dockerfiles: the pinned base, no root, nothing secret in a layer."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cluster.launch.findings import Finding, shorten
from cluster.launch.spec import tag_fits
from cluster.launch.tools import hadolint

_INSTRUCTIONS = {
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
}
_SECRET = re.compile(r"(?i)(token|passw|secret|api_?key|access_?key|credential)")
_NO_SECRET = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"}


@dataclass(frozen=True)
class _Instruction:
    line: int
    name: str
    text: str


def check(file: str, text: str, ray_version: str) -> list[Finding]:
    """Returns what is wrong with a Dockerfile."""
    instructions = _read(text)
    found = [*_unknown(file, instructions)]
    if found:
        return found
    found = list(_rules(file, instructions, ray_version))
    # What both know is said once.
    lines = {finding.line for finding in found}
    return found + [other for other in hadolint(file, text) if other.line not in lines]


def _read(text: str) -> list[_Instruction]:
    """Returns the instructions, lines that are continued taken together."""
    made: list[_Instruction] = []
    start = 0
    parts: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or not (line.strip() or parts):
            continue
        start = start if parts else number
        parts.append(line.rstrip().removesuffix("\\").strip())
        if line.rstrip().endswith("\\"):
            continue
        name, _, rest = " ".join(parts).partition(" ")
        made.append(_Instruction(start, name.upper(), rest.strip()))
        parts = []
    return made


def _unknown(file: str, instructions: list[_Instruction]) -> Iterator[Finding]:
    for one in instructions:
        if one.name not in _INSTRUCTIONS:
            yield Finding(
                file,
                one.line,
                "instruction",
                shorten(one.name),
                f"Use one of {sorted(_INSTRUCTIONS)}.",
            )


def _rules(file: str, instructions: list[_Instruction], ray: str) -> Iterator[Finding]:
    for one in instructions:
        yield from _base(file, one, ray)
        yield from _layers(file, one)
    last = max((one.line for one in instructions), default=1)
    users = [one for one in instructions if one.name == "USER"]
    if not users:
        yield Finding(file, last, "non-root", "no USER", "End with USER ray.")
    elif re.match(r"(root|0)\b", users[-1].text):
        yield Finding(
            file, users[-1].line, "non-root", "the last USER is root", "End with USER ray."
        )
    if not any(one.name == "HEALTHCHECK" and one.text != "NONE" for one in instructions):
        yield Finding(
            file, last, "healthcheck", "no HEALTHCHECK", 'Add HEALTHCHECK CMD ["ray", "status"].'
        )


def _base(file: str, one: _Instruction, ray: str) -> Iterator[Finding]:
    if one.name != "FROM":
        return
    image = one.text.split()[0]
    if "ray" in image.split(":")[0] and not tag_fits(image, ray):
        yield Finding(
            file,
            one.line,
            "ray-version",
            shorten(image),
            f"The tag must start with the locked Ray {ray}.",
        )
    elif re.search(r":latest$", image) or (":" not in image and "@" not in image):
        yield Finding(file, one.line, "pinned", shorten(image), "Name an exact tag or digest.")


def _layers(file: str, one: _Instruction) -> Iterator[Finding]:
    if one.name in {"ENV", "ARG"}:
        for name in re.findall(
            r"([A-Za-z_]\w*)(?==|\s|$)", re.sub(r"=(\"[^\"]*\"|\S*)", "= ", one.text)
        ):
            if _SECRET.search(name) and name not in _NO_SECRET:
                yield Finding(
                    file,
                    one.line,
                    "no-secrets",
                    f"{one.name} {name}",
                    "Layers keep it; mount it when the container runs.",
                )
                return
    if one.name in {"COPY", "ADD"}:
        sources = [word for word in one.text.split() if not word.startswith("--")][:-1]
        for source in sources:
            if re.search(r"(?i)(\.pem|\.key|token|id_rsa|\.env|credentials)$", source):
                yield Finding(
                    file,
                    one.line,
                    "no-secrets",
                    f"{one.name} {source}",
                    "Layers keep it; mount it when the container runs.",
                )
            elif source in {".", "./"}:
                yield Finding(
                    file,
                    one.line,
                    "layers",
                    f"{one.name} {source}",
                    "Name the files; a whole folder may hold secrets.",
                )
    if one.name == "ADD":
        yield Finding(file, one.line, "layers", shorten(f"ADD {one.text}"), "Use COPY.")
    if one.name == "RUN":
        yield from _run(file, one)


def _run(file: str, one: _Instruction) -> Iterator[Finding]:
    if re.search(r"\bpip3? install\b", one.text) and not re.search(
        r"(-c|--constraint|--require-hashes)\b", one.text
    ):
        yield Finding(
            file, one.line, "pinned", shorten(one.text), "Install with -c constraints.txt."
        )
    if re.search(r"(curl|wget)[^|]*\|\s*(sudo )?(ba)?sh\b", one.text):
        yield Finding(file, one.line, "pinned", shorten(one.text), "Run no script off the net.")
    if re.search(r"\bsudo\b", one.text):
        yield Finding(
            file, one.line, "non-root", shorten(one.text), "Use USER root for that step."
        )
