"""Checking values against a JSON schema, with the line and a remedy for each mismatch."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from cluster.launch.findings import Finding, shorten
from cluster.launch.lines import Document, Path

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
BOOLEAN: Schema = {"type": "boolean"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
ANY: Schema = {}


def fields(required: Iterable[str] = (), **properties: Schema) -> Schema:
    """Returns the schema of a mapping that has these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def items(schema: Schema) -> Schema:
    """Returns the schema of a list."""
    return {"type": "array", "items": schema}


def choice(*values: str) -> Schema:
    """Returns the schema of one of some words."""
    return {"enum": list(values)}


def mismatches(
    file: str, document: Document, schema: Schema, at: Path = (), rule: str = "schema"
) -> Iterator[Finding]:
    """Yields where the value at a path of a document is not as its schema says."""
    import jsonschema

    for error in jsonschema.Draft7Validator(schema).iter_errors(document.at(at)):
        path = (*at, *error.absolute_path)
        place = ".".join(map(str, path)) or "the file"
        if error.validator == "additionalProperties" and isinstance(error.schema, dict):
            known = list(error.schema.get("properties", {}))
            for name in sorted(set(error.instance) - set(known), key=str):
                line = document.line((*path, name))
                yield Finding(
                    file, line, rule, f"{place} has no field {name!r}", _near(name, known)
                )
        elif error.validator == "required":
            unknown = set(error.instance) - set(error.schema.get("properties", {}))
            for name in error.validator_value:
                # A misspelt field is said once, as the field that there is not.
                misspelt = difflib.get_close_matches(name, map(str, unknown), n=1, cutoff=0.5)
                if name not in error.instance and not misspelt:
                    value = f"{place} lacks {name!r}"
                    yield Finding(file, document.line(path), rule, value, f"Add {name!r}.")
        elif error.validator != "anyOf" or not _unknown(error):
            value = f"{place} is {shorten(repr(error.instance))}"
            yield Finding(file, document.line(path), rule, value, _remedy(error))


def _unknown(error: Any) -> bool:
    """Returns whether there are fields that the schema does not know, which are said already."""
    known = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
    return isinstance(error.instance, dict) and bool(set(error.instance) - set(known))


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    return f"Did you mean {near[0]!r}?" if near else f"It has {sorted(known)}."


def _remedy(error: Any) -> str:
    if error.validator == "enum":
        return f"It must be one of {error.validator_value}."
    if error.validator == "type":
        asked = {"object": "a mapping", "array": "a list", "string": "text, in quotes"}
        return f"It must be {asked.get(error.validator_value, error.validator_value)}."
    return f"{shorten(error.message)}."
