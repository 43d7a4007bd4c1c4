"""A graph for each visit: its codes, their ancestors, relations among them, and the patient.

    nodes   the distinct codes of the visit, all their ancestors, and one node for the patient
    edges   every known relation whose two ends are nodes of that visit (`GraphTables`), and an
            edge from each observed code to the patient; ancestors have none

What is fixed lies in flat tables; the graphs of all visits of a batch are assembled from them by
index arithmetic. Ids of relations never depend on which relations there are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from medrec.cohort import Kind
from medrec.knowledge.bundle import Bundle
from medrec.knowledge.relations import node

Edges = Int64[np.ndarray, "edges 3"]  # source node, relation, target node


@dataclass(frozen=True)
class NodeTable:
    """The nodes of some kinds of codes: each kind's codes in their order, then its ancestors.

    Attributes:
        names: of the nodes, as in `medrec.knowledge.relations`.
        sizes: number of nodes of each kind.
        codes: node of each code; the codes of all kinds in a row.
        parents: node above each node, or -1.
    """

    names: tuple[str, ...]
    sizes: Mapping[Kind, int]
    codes: Int64[np.ndarray, " codes"]
    parents: Int64[np.ndarray, " nodes"]


def node_table(
    vocabulary: Mapping[Kind, tuple[str, ...]],
    kinds: Sequence[Kind],
    bundle: Bundle,
    *,
    ancestors: bool,
) -> NodeTable:
    """Returns the nodes of the codes of these kinds, with or without their ancestors."""
    names: list[str] = []
    sizes: dict[Kind, int] = {}
    codes: list[int] = []
    for kind in kinds:
        own = [node(kind, code) for code in vocabulary[kind]]
        codes += range(len(names), len(names) + len(own))
        found = {name for code in own for name in bundle.ancestors(code)} if ancestors else set()
        above = sorted(found.difference(own))
        sizes[kind] = len(own) + len(above)
        names += own + above
    row = {name: i for i, name in enumerate(names)}
    nearest = [bundle.ancestors(name)[:1] if ancestors else () for name in names]
    parents = [row[above[0]] if above else -1 for above in nearest]
    return NodeTable(tuple(names), sizes, _integers(codes), _integers(parents))


def hierarchy_edges(table: NodeTable, relations: Mapping[Kind, int], direction: str) -> Edges:
    """Returns an edge between each node and its parent.

    Args:
        table: the nodes.
        relations: id of the hierarchy of each kind.
        direction: "parent_to_child", "child_to_parent" or "both"; both have one id.
    """
    child = np.flatnonzero(table.parents >= 0)
    parent = table.parents[child]
    relation = np.repeat([relations[kind] for kind in table.sizes], list(table.sizes.values()))
    down = np.stack([parent, relation[child], child], axis=1).astype(np.int64)
    up = down[:, ::-1]
    chosen = {"parent_to_child": [down], "child_to_parent": [up], "both": [down, up]}
    return np.concatenate(chosen[direction])


def related_edges(table: NodeTable, bundle: Bundle, relations: Mapping[str, int]) -> Edges:
    """Returns the bundle's triples between these nodes, of the relations that are given an id."""
    graph = bundle.relations
    row = {name: i for i, name in enumerate(table.names)}
    place = _integers([row.get(name, -1) for name in graph.nodes])
    label = _integers([relations.get(name, -1) for name in graph.relations])
    head, relation, tail = graph.triples.astype(np.int64).T
    found = np.stack([place[head], label[relation], place[tail]], axis=1)
    return found[(found >= 0).all(axis=1)]


def interaction_edges(
    table: NodeTable, interacts: Bool[np.ndarray, "codes codes"], relation: int
) -> Edges:
    """Returns an edge in either direction between interacting codes."""
    first, second = np.nonzero(interacts)
    middle = np.full(len(first), relation)
    return np.stack([table.codes[first], middle, table.codes[second]], axis=1).astype(np.int64)


def _integers(values: Sequence[int]) -> Int64[np.ndarray, " values"]:
    return np.array(values, dtype=np.int64)


@dataclass(frozen=True)
class GraphBatch:
    """The graphs of some visits side by side.

    Attributes:
        node: row of each code node in the node table, ascending within a visit.
        visit: visit of each code node, ascending.
        source, target: ends of each edge: positions in `node`; the patient of visit v stands at
            len(node) + v.
        relation: id of each edge's relation.
        edge_visit: visit of each edge.
        visits: number of graphs.
    """

    node: Int64[Tensor, " nodes"]
    visit: Int64[Tensor, " nodes"]
    source: Int64[Tensor, " edges"]
    target: Int64[Tensor, " edges"]
    relation: Int64[Tensor, " edges"]
    edge_visit: Int64[Tensor, " edges"]
    visits: int

    def select(self, edges: Bool[Tensor, " edges"]) -> "GraphBatch":
        """Returns the graphs with these edges only; all nodes stay."""
        rows = edges.nonzero()[:, 0]
        return replace(
            self,
            source=self.source[rows],
            target=self.target[rows],
            relation=self.relation[rows],
            edge_visit=self.edge_visit[rows],
        )


def drop_edges(graph: GraphBatch, share: float, probability: float) -> GraphBatch:
    """Returns the graphs with edges dropped at random.

    Args:
        graph: the graphs.
        share: probability of each edge of a chosen graph to be dropped.
        probability: of each graph to be chosen.
    """
    device = graph.source.device
    chosen = torch.rand(graph.visits, device=device) < probability
    drawn = torch.rand(len(graph.source), device=device) < share
    return graph.select(~(drawn & chosen.index_select(0, graph.edge_visit)))


class VisitGraphs(nn.Module):
    """Assembles the graphs of visits from their codes.

    Args:
        table: the nodes.
        edges: relations between the nodes, any order, without repeats.
        belongs: id of the relation from a code of each kind to the patient; none without patients.
    """

    def __init__(self, table: NodeTable, edges: Edges, belongs: Mapping[Kind, int] | None) -> None:
        super().__init__()
        self.nodes = len(table.names)
        self.patients = belongs is not None
        ids = [(belongs or {}).get(kind, 0) for kind in table.sizes]
        paths = [_path(table.parents, code) for code in table.codes.tolist()]
        lengths = _integers([len(path) for path in paths])
        edges = edges[np.argsort(edges[:, 0], kind="stable")]
        outgoing = np.bincount(edges[:, 0], minlength=self.nodes)
        arrays = {
            "belongs": np.repeat(_integers(ids), list(table.sizes.values())),
            "codes": table.codes,
            "path": _integers([row for path in paths for row in path]),
            "path_count": lengths,
            "path_start": np.cumsum(lengths) - lengths,
            "relation": edges[:, 1],
            "tail": edges[:, 2],
            "tail_count": outgoing,
            "tail_start": np.cumsum(outgoing) - outgoing,
        }
        for name, array in arrays.items():
            tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))
            self.register_buffer(name, tensor, persistent=False)
        self.belongs: Tensor
        self.codes: Tensor
        self.path: Tensor
        self.path_count: Tensor
        self.path_start: Tensor
        self.relation: Tensor
        self.tail: Tensor
        self.tail_count: Tensor
        self.tail_start: Tensor

    def forward(
        self, visit: Int64[Tensor, " pairs"], code: Int64[Tensor, " pairs"], visits: int
    ) -> GraphBatch:
        """Returns the graphs of visits 0 to `visits` - 1.

        Args:
            visit: of each observed code.
            code: what is observed; the codes of all kinds in a row.
            visits: number of visits; one without codes has the patient alone.
        """
        present = torch.zeros(visits * self.nodes, dtype=torch.bool, device=visit.device)
        owner, at = _expand(self.path_start[code], self.path_count[code])
        present[visit[owner] * self.nodes + self.path[at]] = True
        keys = present.nonzero()[:, 0]
        place = torch.div(keys, max(self.nodes, 1), rounding_mode="floor")
        rows = keys - place * self.nodes
        inner = self._inner_edges(keys, place, rows, present)
        parts = [inner]
        if self.patients:
            parts.append(self._patient_edges(visit, code, keys))
        source, target, relation = (torch.cat(part) for part in zip(*parts, strict=True))
        return GraphBatch(rows, place, source, target, relation, place[source], visits)

    def _inner_edges(
        self,
        keys: Int64[Tensor, " nodes"],
        visit: Int64[Tensor, " nodes"],
        rows: Int64[Tensor, " nodes"],
        present: Bool[Tensor, " table"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns source, target and relation of the edges between code nodes."""
        owner, at = _expand(self.tail_start[rows], self.tail_count[rows])
        ends = (visit * self.nodes)[owner] + self.tail[at]
        kept = present[ends].nonzero()[:, 0]
        return owner[kept], torch.searchsorted(keys, ends[kept]), self.relation[at[kept]]

    def _patient_edges(
        self,
        visit: Int64[Tensor, " pairs"],
        code: Int64[Tensor, " pairs"],
        keys: Int64[Tensor, " nodes"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns source, target and relation of the edges from observed codes to patients."""
        observed = torch.unique(visit * self.nodes + self.codes[code])
        place = torch.div(observed, max(self.nodes, 1), rounding_mode="floor")
        relation = self.belongs[observed - place * self.nodes]
        return torch.searchsorted(keys, observed), len(keys) + place, relation


def _path(parents: Int64[np.ndarray, " nodes"], code: int) -> list[int]:
    """Returns the code and its ancestors."""
    found = [code]
    while parents[found[-1]] >= 0:
        found.append(int(parents[found[-1]]))
    return found


def _expand(
    start: Int64[Tensor, " rows"], count: Int64[Tensor, " rows"]
) -> tuple[Int64[Tensor, " items"], Int64[Tensor, " items"]]:
    """Returns the row of each item, and its place, of rows in compressed sparse row form."""
    owner = torch.repeat_interleave(count)
    shift = start - (torch.cumsum(count, 0) - count)
    return owner, shift[owner] + torch.arange(len(owner), device=owner.device)


def observed_codes(
    codes: Int64[Tensor, "patients visits codes"],
    size: int,
    exists: Bool[Tensor, "patients visits"],
) -> tuple[Int64[Tensor, " pairs"], Int64[Tensor, " pairs"]]:
    """Returns which code is observed at which of the visits that exist, counted through.

    Args:
        codes: of each visit; those from `size` on are padding.
        size: of the vocabulary.
        exists: visits to look at.
    """
    rows = codes[exists]
    visit, slot = torch.nonzero(rows < size, as_tuple=True)
    return visit, rows[visit, slot]


def readout(x: Float[Tensor, "all dim"], graph: GraphBatch) -> Float[Tensor, "visits dim"]:
    """Returns the sum over all nodes of each visit, ancestors and patient included.

    Args:
        x: vectors of the code nodes, followed by those of the patients, if there are any.
        graph: the graphs.
    """
    inner, patients = x[: len(graph.visit)], x[len(graph.visit) :]
    total = x.new_zeros(graph.visits, x.shape[1]).index_add(0, graph.visit, inner)
    return total + patients if len(patients) else total
