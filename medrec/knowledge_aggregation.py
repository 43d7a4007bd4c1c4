"""Vectors of codes out of a knowledge graph: aggregation through filters (DKINet).

The nodes are the codes of a cohort and the entities of the graph. A code is an entity, too, when
it is the tail of a triple. Every triple (c, r, u) whose head is a code c is a link of c to u, a
code or an entity; N_c are its links. Every triple (h, r, t) but those of `co_occur`, which only
say which concept a code stands for, carries the vector e_r of its relation.

With x⁰ a trained vector for each node, layer l makes

    m_h = mean over the triples (h, r, t) of e_r ∘ x_t^{l-1}                          (3), (6)
    F_i = Σ_r softmax_r(w_ri) e_r                                                     (4)
    a_c = (1 / |N_c|) Σ_{u in N_c} n_u,  n_u = x_u^{l-1} (paper) or m_u (released)
    x_c^l = a_c ∘ Σ_i softmax_i(k_iᵀ x_c^{l-1}) F_i  [+ a_c as released]              (5), (7)
    x_h^l = m_h for an entity h

with keys k_i = F_i (paper) or vectors of their own (released). In the paper's form of (5) one
layer reads the linked nodes' own vectors and no triple between entities; two layers read both.
A node without triples has m = 0, and a code without links a = 0: it has no knowledge.

Only what reaches a code is kept: nodes and triples beyond, which could change no code's vector,
have no weights. Initial vectors are drawn as if all were there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from medrec.errors import KnowledgeError
from medrec.knowledge.relations import Relations
from medrec.knowledge.umls import CO_OCCUR
from medrec.layers import Dropout, keep_mask

# Triples handled at once: few enough for their vectors to stay in a CPU's cache, where the
# vectors of 200,000 would take twice the time; a GPU wants many.
_AT_ONCE = {"cpu": 512, "cuda": 65_536}


@dataclass(frozen=True)
class AggregationOptions:
    """How knowledge is aggregated.

    Attributes:
        dim: of all vectors.
        layers: number of aggregations.
        filters: number of filters; 0 takes a_c as it is.
        filter_keys: what a code's attention to a filter is taken with.
        neighbours: what a code collects of a linked node: its vector, or what it aggregated.
        filter_residual: add a_c to the filtered a_c.
        normalise: give each new vector length 1.
        summed: the result is the sum over all layers and x⁰; otherwise the last layer's.
        edge_dropout: share of triples, and of links, that a training step leaves out.
        message_dropout: share of a new vector's elements that a training step zeroes.
    """

    dim: int
    layers: int
    filters: int
    filter_keys: Literal["filters", "latent"]
    neighbours: Literal["previous", "aggregated"]
    filter_residual: bool
    normalise: bool
    summed: bool
    edge_dropout: float
    message_dropout: float


@dataclass(frozen=True)
class Hop:
    """One layer's edges, in rows of what it reads and writes.

    Attributes:
        heads: number of nodes that aggregate.
        head, relation, tail: the triples: row of the aggregate, of the relation, of x^{l-1}.
        code, neighbour: the links: row of the code, and of what is collected.
        entity: rows of the aggregates that follow the codes in x^l.
    """

    heads: int
    head: Int64[np.ndarray, " triples"]
    relation: Int64[np.ndarray, " triples"]
    tail: Int64[np.ndarray, " triples"]
    code: Int64[np.ndarray, " links"]
    neighbour: Int64[np.ndarray, " links"]
    entity: Int64[np.ndarray, " entities"]


@dataclass(frozen=True)
class Neighbourhood:
    """What reaches the codes within some layers.

    Attributes:
        codes: number of codes, the first rows of every layer.
        nodes: number of all nodes of the graph, also of those that reach no code.
        names: of the nodes with an initial vector, codes first.
        relations: names of the relations that carry a vector.
        hops: the layers, first to last.
    """

    codes: int
    nodes: int
    names: tuple[str, ...]
    relations: tuple[str, ...]
    hops: tuple[Hop, ...]


def neighbourhood(
    relations: Relations, codes: Sequence[str], layers: int, *, aggregated: bool
) -> Neighbourhood:
    """Returns what reaches the codes.

    Args:
        relations: the graph.
        codes: nodes' names of the codes; they need not be in the graph.
        layers: number of aggregations, at least 1.
        aggregated: whether codes collect what linked nodes aggregated.

    Raises:
        KnowledgeError: no triple begins at a code, or all of them are `co_occur`.
    """
    names, head, relation, tail = _codes_first(relations, codes)
    carries = np.array([name != CO_OCCUR for name in relations.relations])[relation]
    linked = head < len(codes)
    if not linked.any() or not carries.any():
        missing = "starts at one of the cohort's codes" if carries.any() else "carries a meaning"
        raise KnowledgeError(
            f"The knowledge graph has {len(head)} relations, but none {missing}. Make a bundle "
            "for this cohort with `medsweep data knowledge`, or set `knowledge_graph: false`."
        )
    kinds, kind = np.unique(relation[carries], return_inverse=True)
    triples = np.stack([head[carries], kind.reshape(-1), tail[carries]])
    links = np.stack([head[linked], tail[linked]])
    always = np.arange(len(names)) < len(codes)
    needed, hops = always, []
    for _ in range(layers):
        needed, hop = _hop(needed, always, triples, links, aggregated=aggregated)
        hops.append(hop)
    return Neighbourhood(
        codes=len(codes),
        nodes=len(names),
        names=tuple(names[i] for i in np.flatnonzero(needed)),
        relations=tuple(relations.relations[i] for i in kinds),
        hops=tuple(reversed(hops)),
    )


def _codes_first(
    relations: Relations, codes: Sequence[str]
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Returns the nodes' names, codes first, and head, relation and tail in their order."""
    own = {name: i for i, name in enumerate(codes)}
    names, place = list(codes), []
    for name in relations.nodes:
        place.append(own.get(name, len(names)))
        if name not in own:
            names.append(name)
    head, relation, tail = relations.triples.T.astype(np.int64)
    places = np.array(place, dtype=np.int64)
    return names, places[head], relation, places[tail]


def _hop(
    needed: Bool[np.ndarray, " nodes"],
    always: Bool[np.ndarray, " nodes"],
    triples: Int64[np.ndarray, "3 triples"],
    links: Int64[np.ndarray, "2 links"],
    *,
    aggregated: bool,
) -> tuple[Bool[np.ndarray, " nodes"], Hop]:
    """Returns the nodes whose x^{l-1} are needed for the given nodes' x^l, and the layer.

    Codes (`always`) are needed everywhere: each layer's filters look at the layer before.
    """
    head, relation, tail = triples
    code, neighbour = links
    entities = needed & ~always
    heads, before = entities.copy(), always.copy()
    (heads if aggregated else before)[neighbour] = True
    kept = heads[head]
    before[tail[kept]] = True
    row_of_head, row_before = np.cumsum(heads) - 1, np.cumsum(before) - 1
    hop = Hop(
        heads=int(heads.sum()),
        head=row_of_head[head[kept]],
        relation=relation[kept],
        tail=row_before[tail[kept]],
        code=code,
        neighbour=(row_of_head if aggregated else row_before)[neighbour],
        entity=row_of_head[entities],
    )
    return before, hop


def filter_vectors(
    logits: Float[Tensor, "filters relations"], relations: Float[Tensor, "relations dim"]
) -> Float[Tensor, "filters dim"]:
    """Equation 4: returns F_i = Σ_r softmax_r(w_ri) e_r."""
    return torch.softmax(logits, dim=1) @ relations


def filter_attention(
    codes: Float[Tensor, "codes dim"], keys: Float[Tensor, "filters dim"]
) -> Float[Tensor, "codes filters"]:
    """The weights of equation 5: returns softmax_i(k_iᵀ x_c)."""
    return torch.softmax(codes @ keys.T, dim=1)


def collect(
    vectors: Float[Tensor, "rows dim"],
    code: Int64[Tensor, " links"],
    neighbour: Int64[Tensor, " links"],
    weight: Float[Tensor, " links"],
    codes: int,
) -> Float[Tensor, "codes dim"]:
    """Returns Σ over each code's links of weight · the linked node's vector."""
    carried = vectors.index_select(0, neighbour) * weight[:, None]
    return vectors.new_zeros(codes, vectors.shape[1]).index_add(0, code, carried)


def mean_of_products(
    nodes: Float[Tensor, "nodes dim"],
    relations: Float[Tensor, "relations dim"],
    head: Int64[Tensor, " triples"],
    relation: Int64[Tensor, " triples"],
    tail: Int64[Tensor, " triples"],
    heads: int,
) -> Float[Tensor, "heads dim"]:
    """Equations 3 and 6: returns the mean over each head's triples of e_r ∘ x_t; 0 without any."""
    count = torch.bincount(head, minlength=heads).clamp(min=1)
    total = _SumOfProducts.apply(nodes, relations, head, relation, tail, heads)  # type: ignore[no-untyped-call]
    return total / count[:, None]


class _SumOfProducts(torch.autograd.Function):
    """Σ e_r ∘ x_t over each head's triples, a few at a time.

    A matrix of a row a triple never exists: for 200,000 triples it would be as large as all of
    the graph's vectors, and the backward pass would need three.
    """

    @staticmethod
    def forward(ctx, nodes, relations, head, relation, tail, heads):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(nodes, relations, head, relation, tail)
        total = nodes.new_zeros(heads, nodes.shape[1])
        for h, r, t in _pieces(head, relation, tail):
            total.index_add_(0, h, nodes.index_select(0, t).mul_(relations.index_select(0, r)))
        return total

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        nodes, relations, head, relation, tail = ctx.saved_tensors
        for_nodes, for_relations = torch.zeros_like(nodes), torch.zeros_like(relations)
        for h, r, t in _pieces(head, relation, tail):
            arrived = gradient.index_select(0, h)
            for_relations.index_add_(0, r, nodes.index_select(0, t).mul_(arrived))
            for_nodes.index_add_(0, t, arrived.mul_(relations.index_select(0, r)))
        return for_nodes, for_relations, None, None, None, None


def _pieces(*columns: Tensor) -> Iterator[tuple[Tensor, ...]]:
    size = _AT_ONCE.get(columns[0].device.type, _AT_ONCE["cpu"])
    return zip(*(column.split(size) for column in columns), strict=True)


class _Edges(nn.Module):
    """A hop's indices on the device of the model."""

    def __init__(self, hop: Hop, codes: int) -> None:
        super().__init__()
        self.heads = hop.heads
        for name in ("head", "relation", "tail", "code", "neighbour", "entity"):
            self.register_buffer(name, torch.from_numpy(getattr(hop, name)), persistent=False)
        links = np.bincount(hop.code, minlength=codes)[hop.code]
        share = torch.from_numpy((1.0 / links).astype(np.float32))
        self.register_buffer("share", share, persistent=False)
        self.head: Tensor
        self.relation: Tensor
        self.tail: Tensor
        self.code: Tensor
        self.neighbour: Tensor
        self.entity: Tensor
        self.share: Tensor


class KnowledgeGraph(nn.Module):
    """Knowledge of every code, out of the graph: see the module's text."""

    def __init__(self, field: Neighbourhood, options: AggregationOptions) -> None:
        super().__init__()
        self.options, self.codes = options, field.codes
        dim, relations = options.dim, len(field.relations)
        self.nodes = nn.Parameter(_xavier(len(field.names), dim, field.nodes))
        # Without filters, and where no triple is read, relations have no part in anything.
        reads = any(len(hop.head) for hop in field.hops)
        if options.filters or reads:
            self.relations = nn.Parameter(_xavier(relations, dim, relations))
        if options.filters:
            self.filter_logits = nn.Parameter(_xavier(options.filters, relations, options.filters))
            if options.filter_keys == "latent":
                self.latent = nn.Parameter(_xavier(options.filters, dim, options.filters))
        self.hops = nn.ModuleList(_Edges(hop, field.codes) for hop in field.hops)
        self.message_dropout = Dropout(options.message_dropout)

    def filters(self) -> Float[Tensor, "filters dim"]:
        """Returns the filters F, equation 4."""
        return filter_vectors(self.filter_logits, self.relations)

    def forward(self) -> Float[Tensor, "codes dim"]:
        """Returns the knowledge of each code."""
        options = self.options
        filters = self.filters() if options.filters else None
        nodes: Tensor = self.nodes
        total = message = nodes[: self.codes]
        for edges in self.hops:
            assert isinstance(edges, _Edges)  # noqa: S101  what a ModuleList cannot say
            aggregate = self._aggregate(nodes, edges)
            source = aggregate if options.neighbours == "aggregated" else nodes
            collected = self._collect(source, edges)
            message = self._finish(self._filter(collected, nodes[: self.codes], filters))
            total = total + message
            nodes = message
            if len(edges.entity):
                nodes = torch.cat([message, self._finish(aggregate[edges.entity])])
        return total if options.summed else message

    def _aggregate(
        self, nodes: Float[Tensor, "nodes dim"], edges: _Edges
    ) -> Float[Tensor, "heads dim"]:
        triples = (edges.head, edges.relation, edges.tail)
        if not len(edges.head):
            return nodes.new_zeros(edges.heads, nodes.shape[1])
        if self.training and self.options.edge_dropout > 0:
            kept = keep_mask((len(edges.head),), self.options.edge_dropout, nodes.device)
            triples = (edges.head[kept], edges.relation[kept], edges.tail[kept])
        return mean_of_products(nodes, self.relations, *triples, edges.heads)

    def _collect(
        self, source: Float[Tensor, "rows dim"], edges: _Edges
    ) -> Float[Tensor, "codes dim"]:
        weight = edges.share
        if self.training and self.options.edge_dropout > 0:
            kept = keep_mask((len(weight),), self.options.edge_dropout, weight.device)
            weight = weight * kept / (1.0 - self.options.edge_dropout)
        return collect(source, edges.code, edges.neighbour, weight, self.codes)

    def _filter(
        self,
        collected: Float[Tensor, "codes dim"],
        before: Float[Tensor, "codes dim"],
        filters: Float[Tensor, "filters dim"] | None,
    ) -> Float[Tensor, "codes dim"]:
        """Equations 5 and 7; every link of a code has the same filter weights."""
        if filters is None:
            return collected
        keys = self.latent if self.options.filter_keys == "latent" else filters
        filtered = collected * (filter_attention(before, keys) @ filters)
        return filtered + collected if self.options.filter_residual else filtered

    def _finish(self, vectors: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
        vectors = self.message_dropout(vectors)
        return functional.normalize(vectors, dim=1) if self.options.normalise else vectors


def _xavier(rows: int, columns: int, of: int) -> Float[Tensor, "rows columns"]:
    """Returns uniform numbers as Xavier's rule draws them for a matrix of `of` rows."""
    bound = (6.0 / (of + columns)) ** 0.5
    return torch.empty(rows, columns).uniform_(-bound, bound)
