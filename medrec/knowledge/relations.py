"""Relations between codes and concepts: triples kept as arrays.

A node's name begins with its kind: "diagnoses/9:4280", "procedures/10:0BH17EZ",
"medications/C03C", "cui/C0011849" (a UMLS concept), "sty/A1.2" (a semantic type).
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Int32, Integer
from pyarrow import compute

from medrec.errors import KnowledgeError
from medrec.knowledge.origin import Origin

COLUMNS = ("head", "relation", "tail")


@dataclass(frozen=True)
class Relations:
    """Directed relations of several names between nodes.

    Attributes:
        origin: where they come from.
        nodes: names, ascending; a node may have no relation.
        relations: names, ascending; a relation may have no triple.
        triples: head (index of a node), relation, tail; ascending, distinct, no self-loop.
    """

    origin: Origin
    nodes: tuple[str, ...]
    relations: tuple[str, ...]
    triples: Int32[np.ndarray, "triples 3"]

    def counts(self) -> dict[str, int]:
        """Returns the number of triples of each relation, 0 included."""
        found = np.bincount(self.triples[:, 1], minlength=len(self.relations))
        return dict(zip(self.relations, found.tolist(), strict=True))

    def names(self) -> Iterator[tuple[str, str, str]]:
        """Yields the triples by name, in their order. Slow for millions."""
        for head, relation, tail in self.triples.tolist():
            yield self.nodes[head], self.relations[relation], self.nodes[tail]


def node(kind: str, name: str) -> str:
    """Returns the node's name.

    Example:
        >>> node("diagnoses", "9:4280")
        'diagnoses/9:4280'
    """
    return f"{kind}/{name}"


def kind_of(name: str) -> str:
    """Returns the kind of a node.

    Example:
        >>> kind_of("cui/C0011849")
        'cui'
    """
    return name.partition("/")[0]


def from_names(
    origin: Origin,
    triples: Iterable[tuple[str, str, str]],
    *,
    nodes: Iterable[str] = (),
    relations: Iterable[str] = (),
) -> Relations:
    """Returns the relations of (head, relation, tail) by name; repeats and self-loops are dropped.

    Args:
        origin: where they come from.
        triples: in any order.
        nodes: further nodes, which may have no relation.
        relations: further relations, which may have no triple.

    Example:
        >>> two = from_names(Origin("", ""), [("b/2", "isa", "a/1"), ("b/2", "isa", "b/2")])
        >>> two.nodes, two.triples.tolist()
        (('a/1', 'b/2'), [[1, 0, 0]])
    """
    columns = list(zip(*triples, strict=True)) or [()] * len(COLUMNS)
    arrays = [pa.array(column, pa.string()) for column in columns]
    table = pa.table(dict(zip(COLUMNS, arrays, strict=True)))
    return from_table(origin, table, nodes=nodes, relations=relations)


def from_table(
    origin: Origin, table: pa.Table, *, nodes: Iterable[str] = (), relations: Iterable[str] = ()
) -> Relations:
    """Returns the relations of a table with the text columns head, relation and tail.

    As `from_names`, without a Python object for each triple.
    """
    table = table.filter(compute.not_equal(table["head"], table["tail"]))
    every, kinds = set(nodes), set(relations)
    for column, found in zip(COLUMNS, (every, kinds, every), strict=True):
        found.update(compute.unique(table[column]).to_pylist())
    names, labels = sorted(every), sorted(kinds)
    indices = [
        positions(table["head"], names),
        positions(table["relation"], labels),
        positions(table["tail"], names),
    ]
    return from_indices(origin, names, labels, np.stack(indices, axis=1))


def from_indices(
    origin: Origin,
    nodes: Sequence[str],
    relations: Sequence[str],
    triples: Integer[np.ndarray, "rows 3"],
) -> Relations:
    """Returns the relations of triples of indices into names in any order, repeats allowed."""
    names, labels = sorted(set(nodes)), sorted(set(relations))
    place, label = positions(nodes, names), positions(relations, labels)
    head, kind, tail = place[triples[:, 0]], label[triples[:, 1]], place[triples[:, 2]]
    proper = head != tail
    shape = (max(1, len(names)), max(1, len(labels)), max(1, len(names)))
    # Sorted by hand: np.unique hashes first, and takes ten times as long for millions of keys.
    keys = np.sort(np.ravel_multi_index((head[proper], kind[proper], tail[proper]), shape))
    keys = keys[np.diff(keys, prepend=-1) > 0]
    distinct = np.stack(np.unravel_index(keys, shape), axis=1).astype(np.int32)
    return Relations(origin, tuple(names), tuple(labels), distinct)


def positions(values: pa.ChunkedArray | Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Returns the index of each value in `names`, which must have it: int64, one a value."""
    if not isinstance(values, pa.ChunkedArray):
        values = pa.chunked_array([pa.array(values, pa.string())])
    found = compute.index_in(values, value_set=pa.array(names, pa.string()))
    return found.to_numpy().astype(np.int64)


def union(*parts: Relations) -> Relations:
    """Returns the relations of all parts; nodes and relations of one name become one."""
    nodes: list[str] = []
    relations: list[str] = []
    triples = [np.empty((0, 3), np.int64)]
    for part in parts:
        triples.append(part.triples + np.array([len(nodes), len(relations), len(nodes)]))
        nodes += part.nodes
        relations += part.relations
    origin = joined_origin([part.origin for part in parts])
    return from_indices(origin, nodes, relations, np.concatenate(triples))


def restrict(relations: Relations, nodes: Iterable[str], hops: int = 0) -> Relations:
    """Returns the neighbourhood of the given nodes; unknown ones are ignored.

    Args:
        relations: the relations; all of their names stay, so that they keep their order.
        nodes: where to start.
        hops: 0 keeps the relations between the given nodes. k keeps those that a walk of at most
            k steps from a given node meets, whatever their direction.

    Raises:
        KnowledgeError: `hops` is negative.
    """
    require_hops(hops)
    wanted = frozenset(nodes)
    given = np.fromiter((name in wanted for name in relations.nodes), bool, len(relations.nodes))
    head, _, tail = relations.triples.T
    reached = given.copy()
    for _ in range(hops - 1):
        touched = reached[head] | reached[tail]
        reached[head[touched]] = reached[tail[touched]] = True
    met = reached[head] | reached[tail] if hops else reached[head] & reached[tail]
    kept = relations.triples[met]
    given[kept[:, 0]] = given[kept[:, 2]] = True
    place = np.cumsum(given, dtype=np.int32) - 1
    renumbered = np.stack([place[kept[:, 0]], kept[:, 1], place[kept[:, 2]]], axis=1)
    rules = relations.origin.rules | {"hops": str(hops), "around": names_digest(wanted)}
    origin = Origin(
        relations.origin.title, relations.origin.licence, relations.origin.inputs, rules
    )
    names = tuple(relations.nodes[i] for i in np.flatnonzero(given))
    return Relations(origin, names, relations.relations, renumbered)


def require_hops(hops: int) -> None:
    """Raises a KnowledgeError for a negative number of hops."""
    if hops < 0:
        raise KnowledgeError(f"`hops` must be 0 or more, but got {hops=}.")


def names_digest(names: Iterable[str]) -> str:
    """Returns 16 hexadecimal digits that stand for a set of names."""
    return hashlib.sha256("\n".join(sorted(set(names))).encode()).hexdigest()[:16]


def joined_origin(origins: Sequence[Origin]) -> Origin:
    """Returns the origin of something made of several sources; their order does not matter."""
    inputs = sorted({item for origin in origins for item in origin.inputs.items()})
    names = [name for name, _ in inputs]
    values: dict[str, set[str]] = {}
    for origin in origins:
        for rule, value in origin.rules.items():
            values.setdefault(rule, set()).add(value)
    return Origin(
        title=" + ".join(sorted({origin.title for origin in origins})),
        licence="; ".join(sorted({origin.licence for origin in origins})),
        inputs={
            name if names.count(name) == 1 else f"{name} ({digest[:8]})": digest
            for name, digest in inputs
        },
        rules={rule: " | ".join(sorted(found)) for rule, found in sorted(values.items())},
    )
