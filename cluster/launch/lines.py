"""YAML read with the line of every value; tags construct no objects, aliases stay in bounds."""

from dataclasses import dataclass, field
from typing import Any

import yaml

from cluster.launch.errors import UnreadableError

Path = tuple[str | int, ...]
MOST_BYTES = 1_000_000
MOST_VALUES = 20_000
MOST_DEPTH = 60
_PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map",
                                                   "seq", "timestamp")}  # fmt: skip


@dataclass
class Document:
    """One YAML document.

    Attributes:
        content: mappings, lists and plain values.
        lines: path of a value to its line, from 1; in a mapping, the line of its key.
    """

    content: Any
    lines: dict[Path, int] = field(default_factory=dict)

    def line(self, path: Path) -> int:
        """Returns the line of the value at `path`, or of the nearest one around it."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]

    def at(self, path: Path) -> Any:
        """Returns the value at `path`; None where there is none."""
        value = self.content
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value


def read_documents(text: str) -> list[Document]:
    """Returns the YAML documents in a text, empty ones left out.

    Raises:
        UnreadableError: no valid YAML, a tag, a key given twice, or more values than a launch
            file has (aliases counted as often as they are used).
    """
    if len(text.encode()) > MOST_BYTES:
        raise UnreadableError(1, f"a launch file has at most {MOST_BYTES:,} bytes")
    try:
        nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise UnreadableError(
            mark.line + 1 if mark else 1, f"not valid YAML: {problem}"
        ) from error
    except (RecursionError, ValueError) as error:
        raise UnreadableError(1, f"not valid YAML: {type(error).__name__}") from error
    return [_Reader().document(node) for node in nodes if node is not None]


class _Reader:
    def __init__(self) -> None:
        self._values = 0
        self._plain = yaml.constructor.SafeConstructor()

    def document(self, node: yaml.Node) -> Document:
        made = Document(None, {(): node.start_mark.line + 1})
        made.content = self._value(node, (), made.lines)
        return made

    def _value(self, node: yaml.Node, path: Path, lines: dict[Path, int]) -> Any:
        line = node.start_mark.line + 1
        self._values += 1
        if self._values > MOST_VALUES or len(path) > MOST_DEPTH:
            raise UnreadableError(
                line, f"more than {MOST_VALUES:,} values, or more than {MOST_DEPTH} levels"
            )
        if node.tag not in _PLAIN:
            raise UnreadableError(line, f"the tag {node.tag!r} is not plain YAML; leave it out")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, lines)
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                lines[(*path, index)] = item.start_mark.line + 1
                items.append(self._value(item, (*path, index), lines))
            return items
        try:
            return self._plain.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            raise UnreadableError(line, f"not valid YAML: {error}") from error

    def _mapping(self, node: yaml.MappingNode, path: Path, lines: dict[Path, int]) -> Any:
        made: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag not in _PLAIN:
                raise UnreadableError(line, "a key must be a plain word; no merge keys")
            if key.value in made:
                raise UnreadableError(line, f"the key {key.value!r} is given twice")
            lines[(*path, key.value)] = line
            made[key.value] = self._value(value, (*path, key.value), lines)
        return made
