"""YAML files with comments, made from plain values."""

from collections.abc import Mapping
from typing import Any

import yaml

from cluster.launch.lines import Path, read_documents


def yaml_text(content: Any, header: str, notes: Mapping[Path, str] | None = None) -> str:
    """Returns `content` as YAML.

    Args:
        content: mappings, lists and plain values.
        header: comment at the top, without its #.
        notes: path of a value to a comment that stands above it.
    """
    body = yaml.safe_dump(content, sort_keys=False, width=1_000_000).splitlines()
    where = read_documents("\n".join(body))[0].lines
    above: dict[int, str] = {}
    for path, note in (notes or {}).items():
        if path in where:
            above.setdefault(where[path] - 1, note)
    lines = [f"# {line}".rstrip() for line in header.strip().splitlines()]
    for index, line in enumerate(body):
        if index in above:
            indent = line[: len(line) - len(line.lstrip())]
            lines.append(f"{indent}# {above[index]}")
        lines.append(line)
    return "\n".join(lines) + "\n"
