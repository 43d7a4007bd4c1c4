"""The shape of launcher files: Ray's schema, what Ray itself refuses, the machines of a cloud."""

import contextlib
import importlib.util
import io
import json
from collections.abc import Iterator
from pathlib import Path as File
from typing import Any

from cluster.launch.findings import Finding, shorten
from cluster.launch.launcher_schema import NODE, PROVIDER, SCHEDULING
from cluster.launch.lines import Document, Path
from cluster.launch.schemas import mismatches


def ray_schema() -> dict[str, Any]:
    """Returns the schema that the installed Ray has for launcher files."""
    spec = importlib.util.find_spec("ray")
    assert spec is not None  # noqa: S101  a dependency
    assert spec.origin is not None  # noqa: S101
    return json.loads((File(spec.origin).parent / "autoscaler" / "ray-schema.json").read_text())


def rays_own(file: str, document: Document) -> list[Finding]:
    """Returns the first thing that Ray's own preparation of the file refuses."""
    from ray.autoscaler._private import util

    # It exits and prints where others raise.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            util.validate_config(util.prepare_config(json.loads(json.dumps(document.content))))
        except (Exception, SystemExit) as error:  # whatever it is, Ray cannot use the file
            words = shorten(error)
            named = [key for key in document.content if f"`{key}`" in words]
            field = min(named, key=lambda key: words.index(f"`{key}`"), default=None)
            line = document.line((field,) if field else ())
            return [Finding(file, line, "ray-schema", words, "Mend it as Ray asks.")]
    return []


def machines(file: str, document: Document) -> Iterator[Finding]:
    """Yields what is wrong with the machines of a cloud."""
    provider = PROVIDER.get(str(document.at(("provider", "type"))))
    if provider is not None:
        yield from mismatches(file, document, provider, ("provider",), "machine-schema")
    schema = NODE.get(str(document.at(("provider", "type"))))
    types = document.at(("available_node_types",))
    if schema is None or not isinstance(types, dict):
        return
    for name in types:
        at: Path = ("available_node_types", name, "node_config")
        yield from mismatches(file, document, schema, at, "machine-schema")
        scheduling = document.at((*at, "scheduling"))
        for index in range(len(scheduling)) if isinstance(scheduling, list) else ():
            place = (*at, "scheduling", index)
            yield from mismatches(file, document, SCHEDULING, place, "machine-schema")
