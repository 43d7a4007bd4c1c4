"""The knowledge bundle: everything that models are told about one cohort's codes and drugs.

    knowledge.json     schema, fingerprint, vocabulary, sources with licences and checksums,
                       options, coverage
    interactions.csv   atc3_a,atc3_b,severity
    structures.csv     atc3,drug,smiles
    titles.arrow       a row a node: name, title, and its parent's row (-1: none)
    relations.arrow    a row a triple (head, relation, tail): indices into nodes and relations
    nodes.arrow        names of the nodes of the relations
    text.npy           a row a row of titles.arrow: vector of the title
    coverage.md        the same for people

Written whole or not at all. Workers map the arrays, so that all of a node share one copy.
"""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int32

from medrec.cohort import KINDS, Cohort
from medrec.errors import KnowledgeError
from medrec.knowledge.coverage import Coverage
from medrec.knowledge.origin import Origin
from medrec.knowledge.relations import Relations
from medrec.raw_table import digests
from medrec.storage import read_arrow, replacing, write_arrow

SCHEMA = 1
_FILES = (
    "interactions.csv", "structures.csv", "titles.arrow", "relations.arrow", "nodes.arrow",
    "text.npy",
)  # fmt: skip
_LONGEST = 160  # characters of a rule in a table
Pair = tuple[str, str]


@dataclass(frozen=True)
class Bundle:
    """The knowledge about one vocabulary.

    Attributes:
        vocabulary: digest of the vocabulary that it is for, see `vocabulary_digest`.
        interactions: pairs of drug classes that interact, with their severity or "".
        structures: SMILES of each drug class.
        nodes: codes and their ancestors as "diagnoses/9:4280", ascending.
        titles: English title of each node, or "".
        parents: row of each node's parent in `nodes`, or -1.
        text: vector of each node's title; no columns where none was asked for.
        relations: the knowledge graph.
        coverage: what each source covers.
        origins: where everything comes from.
        options: how it was made.
    """

    vocabulary: str
    interactions: Mapping[Pair, str]
    structures: Mapping[str, tuple[str, ...]]
    nodes: tuple[str, ...]
    titles: tuple[str, ...]
    parents: Int32[np.ndarray, " nodes"]
    text: Float32[np.ndarray, "nodes dimension"]
    relations: Relations
    coverage: tuple[Coverage, ...]
    origins: tuple[Origin, ...]
    options: Mapping[str, Any]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over everything that a model can see of it."""
        digest = hashlib.sha256()
        head = {
            "schema": SCHEMA,
            "vocabulary": self.vocabulary,
            "interactions": sorted([*pair, grade] for pair, grade in self.interactions.items()),
            "structures": {name: list(smiles) for name, smiles in self.structures.items()},
            "nodes": self.nodes,
            "titles": self.titles,
            "graph": [self.relations.nodes, self.relations.relations],
        }
        digest.update(json.dumps(head, sort_keys=True).encode())
        for array in (self.parents, self.relations.triples):
            digest.update(np.ascontiguousarray(array, dtype=np.int32).tobytes())
        digest.update(np.ascontiguousarray(self.text).tobytes())
        return digest.hexdigest()

    def ancestors(self, node: str) -> tuple[str, ...]:
        """Returns the ancestors of a node, nearest first; none for an unknown one."""
        row = self._row.get(node, -1)
        found = []
        while row >= 0 and self.parents[row] >= 0:
            row = int(self.parents[row])
            found.append(self.nodes[row])
        return tuple(found)

    @cached_property
    def _row(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.nodes)}

    def save(self, folder: Path) -> None:
        """Writes the bundle aside, then renames it: whole or absent."""
        with replacing(folder) as fresh:
            self._write(fresh)

    def _write(self, folder: Path) -> None:
        pairs = [[*pair, grade] for pair, grade in sorted(self.interactions.items())]
        _write_csv(folder / "interactions.csv", ["atc3_a", "atc3_b", "severity"], pairs)
        drugs = [[name, "", smiles] for name, found in self.structures.items() for smiles in found]
        _write_csv(folder / "structures.csv", ["atc3", "drug", "smiles"], sorted(drugs))
        write_arrow(
            folder / "titles.arrow",
            {"node": list(self.nodes), "title": list(self.titles), "parent": self.parents},
        )
        triples = np.ascontiguousarray(self.relations.triples).reshape(-1)
        rows = pa.FixedSizeListArray.from_arrays(pa.array(triples, pa.int32()), 3)
        write_arrow(folder / "relations.arrow", {"triple": rows})
        write_arrow(folder / "nodes.arrow", {"node": list(self.relations.nodes)})
        np.save(folder / "text.npy", np.ascontiguousarray(self.text), allow_pickle=False)
        description = {
            "schema": SCHEMA,
            "fingerprint": self.fingerprint,
            "vocabulary": self.vocabulary,
            "relations": self.relations.relations,
            "graph": asdict(self.relations.origin),
            "sources": [asdict(origin) for origin in self.origins],
            "options": dict(self.options),
            "coverage": [each.as_dict() for each in self.coverage],
            "files": digests(folder / name for name in _FILES),
        }
        text = json.dumps(description, indent=2, sort_keys=True)
        (folder / "knowledge.json").write_text(text + "\n")
        (folder / "coverage.md").write_text(page(self))


def open_bundle(folder: Path) -> Bundle:
    """Returns the bundle in a folder, its arrays mapped from disk and its fingerprint checked.

    Raises:
        KnowledgeError: a file is missing or damaged, or the content was changed.
    """
    for name in ("knowledge.json", *_FILES):
        if not (folder / name).is_file():
            raise KnowledgeError(
                f"{folder} is no knowledge bundle: it has no {name}. Make one with "
                f"`medsweep data knowledge --cohort DIR --out {folder}`."
            )
    try:
        description = json.loads((folder / "knowledge.json").read_text())
        if description["schema"] != SCHEMA:
            raise ValueError(f"schema {description['schema']}, but {SCHEMA} is read")
        found = digests(folder / name for name in _FILES)
        changed = [name for name in _FILES if found[name] != description["files"][name]]
        if changed:
            raise KnowledgeError(
                f"{folder}: {', '.join(changed)} does not match its checksum in knowledge.json. "
                "A file was changed; make it again."
            )
        bundle = _opened(folder, description)
        expected = str(description["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise KnowledgeError(f"{folder} is damaged ({error}). Make it again.") from error
    if bundle.fingerprint != expected:
        raise KnowledgeError(
            f"{folder}: the content has fingerprint {bundle.fingerprint[:12]}, but knowledge.json "
            f"says {expected[:12]}. A file was changed; make it again."
        )
    return bundle


def _opened(folder: Path, description: dict[str, Any]) -> Bundle:
    titles = read_arrow(folder / "titles.arrow")
    triples = read_arrow(folder / "relations.arrow")["triple"].flatten()
    structures: dict[str, tuple[str, ...]] = {}
    for name, _, smiles in _read_csv(folder / "structures.csv"):
        structures[name] = (*structures.get(name, ()), smiles)
    return Bundle(
        vocabulary=description["vocabulary"],
        interactions={(a, b): grade for a, b, grade in _read_csv(folder / "interactions.csv")},
        structures=structures,
        nodes=tuple(titles["node"].to_pylist()),
        titles=tuple(titles["title"].to_pylist()),
        parents=titles["parent"].to_numpy(),
        text=np.load(folder / "text.npy", mmap_mode="r", allow_pickle=False),
        relations=Relations(
            Origin(**description["graph"]),
            tuple(read_arrow(folder / "nodes.arrow")["node"].to_pylist()),
            tuple(description["relations"]),
            triples.to_numpy().reshape(-1, 3),
        ),
        coverage=tuple(Coverage(**each) for each in description["coverage"]),
        origins=tuple(Origin(**each) for each in description["sources"]),
        options=description["options"],
    )


def vocabulary_digest(cohort: Cohort) -> str:
    """Returns the sha256 of a cohort's vocabularies."""
    text = json.dumps({kind: cohort.vocabulary[kind] for kind in KINDS}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def page(bundle: Bundle) -> str:
    """Returns coverage, graph and sources in Markdown."""
    lines = [
        "# Knowledge bundle", "", f"Fingerprint `{bundle.fingerprint}`", "", "## Coverage", "",
        "| source | kind | codes | of | share of uses |", "|---|---|---:|---:|---:|",
    ]  # fmt: skip
    lines += [
        f"| {c.source} | {c.kind} | {c.codes:,} | {c.of:,} | {c.uses:.1%} |"
        for c in bundle.coverage
    ]
    lines += ["", "## Relations", "", "| relation | triples |", "|---|---:|"]
    lines += [f"| {name} | {n:,} |" for name, n in bundle.relations.counts().items()]
    lines += [
        "",
        "## Sources",
        "",
        "| source | licence | files (sha256) | rules |",
        "|---|---|---|---|",
    ]
    for origin in bundle.origins:
        files = ", ".join(f"{name} `{sha[:12]}`" for name, sha in origin.inputs.items())
        rules = ", ".join(f"{k}: {_short(v)}" for k, v in origin.rules.items())
        lines.append(f"| {origin.title} | {origin.licence} | {files} | {rules} |")
    return "\n".join([*lines, ""])


def _short(rule: str) -> str:
    """Returns a rule for a table cell; an embedded table stands in its own as a whole."""
    return (
        rule
        if len(rule) <= _LONGEST
        else f"sha256 {hashlib.sha256(rule.encode()).hexdigest()[:12]}"
    )


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    path.write_text(text.getvalue())


def _read_csv(path: Path) -> list[list[str]]:
    with path.open(newline="") as stream:
        return list(csv.reader(stream))[1:]
