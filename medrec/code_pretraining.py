"""Vectors of ICD codes from their hierarchy: attention among relatives, before training.

A code's group is its category with everything below, levels count down from the category:

    H_l = LN(X_l + intra(X_l))                among the codes of one level of a group
    Z   = [X_(l-1); H_l], LN(Z + inter(Z))    among two adjacent levels of a group

first from the deepest level up, where the upper level takes the result, then down, where the lower
one does. One `intra` and one `inter` serve all groups and levels. Trained on

    parent   -log softmax over candidates p of the parent's level of cos(h_c, h_p) / 0.1
    masked   the same over all codes, of cos(mean of a visit's other codes, v_c) / 0.1

where v = h + mean of the ancestors' h, the vector that a code gets downstream.

Source: BH3-MedRec's released icd_tree.py has the two attentions alone: never run, no loss, no
vectors for categories. Residuals, norms, both directions and both losses are reconstructed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from medrec import codes
from medrec.cohort import Codes, Kind
from medrec.knowledge.bundle import Bundle
from medrec.knowledge.relations import node

ICD_KINDS: tuple[Kind, ...] = ("diagnoses", "procedures")
CATEGORY = 3  # characters of a category, icd_tree.py
TEMPERATURE = 0.1
_SAMPLE = 256  # children, and visits, of a step
_RATE = 1e-2  # of Adam


@dataclass(frozen=True)
class CodeTree:
    """Codes and their ancestors up to the category; the codes are the first nodes.

    Attributes:
        codes: number of codes, diagnoses before procedures.
        names: of all nodes, as in the bundle.
        parent: row of each node's parent, -1 for a category and for a code without parents.
    """

    codes: int
    names: tuple[str, ...]
    parent: Int64[np.ndarray, " nodes"]

    def path(self, row: int) -> list[int]:
        """Returns the rows of the node's ancestors, nearest first."""
        found = []
        while self.parent[row] >= 0:
            row = int(self.parent[row])
            found.append(row)
        return found


def code_tree(bundle: Bundle, vocabulary: Mapping[Kind, tuple[str, ...]]) -> CodeTree:
    """Returns the tree of the vocabulary's ICD codes.

    Parents are the bundle's, as long as they are prefixes of at least three characters: those of
    icd_tree.py, except that the bundle knows which codes are none of ICD (they have no parent)
    and that the category of an E code has four. Blocks and chapters are left out: a group would
    have hundreds of codes.
    """
    names = [node(kind, code) for kind in ICD_KINDS for code in vocabulary[kind]]
    row = {name: i for i, name in enumerate(names)}
    above: dict[str, str] = {}
    for name in list(names):
        for ancestor in bundle.ancestors(name):
            if not _is_prefix(ancestor, name):
                break
            if name in above:
                break
            above[name] = ancestor
            row.setdefault(ancestor, len(row))
            name = ancestor  # noqa: PLW2901  the next ancestor is this one's parent
    parent = [row[above[name]] if name in above else -1 for name in row]
    return CodeTree(len(names), tuple(row), np.array(parent, dtype=np.int64))


def _is_prefix(ancestor: str, name: str) -> bool:
    kind, _, code = name.partition("/")
    other, _, start = ancestor.partition("/")
    (version, bare), (versions, prefix) = codes.split(code), codes.split(start)
    return (
        (kind, version) == (other, versions)
        and bare.startswith(prefix)
        and (len(prefix) >= CATEGORY)
    )


@dataclass(frozen=True)
class Sequences:
    """What attends to one another, in blocks of similar length so that little is padding.

    Attributes:
        rows: all rows that lie in a sequence, each once, sequence after sequence.
        sizes: number of rows of each block.
        places: of each block, [sequences, width], places among the block's rows, 0 in padding.
        exists: of each block, [sequences, width], which places are no padding.
    """

    rows: Int64[Tensor, " rows"]
    sizes: tuple[int, ...]
    places: tuple[Int64[Tensor, "_ _"], ...]
    exists: tuple[Bool[Tensor, "_ _"], ...]


def padded(sequences: Sequence[Sequence[int]]) -> Sequences:
    """Returns the sequences, none of them empty, in blocks by the powers of two of their lengths.

    Example:
        >>> found = padded([[7], [5, 2, 3], [4, 1, 0, 6]])
        >>> found.rows.tolist(), found.sizes, found.places[1].tolist()
        ([7, 5, 2, 3, 4, 1, 0, 6], (1, 7), [[0, 1, 2, 0], [3, 4, 5, 6]])
    """
    blocks: dict[int, list[Sequence[int]]] = {}
    for sequence in sequences:
        blocks.setdefault((len(sequence) - 1).bit_length(), []).append(sequence)
    ordered = [blocks[size] for size in sorted(blocks)]
    rows = [row for block in ordered for sequence in block for row in sequence]
    placed = [_places([len(sequence) for sequence in block]) for block in ordered]
    return Sequences(
        rows=torch.tensor(rows, dtype=torch.int64),
        sizes=tuple(sum(map(len, block)) for block in ordered),
        places=tuple(places for places, _ in placed),
        exists=tuple(exists for _, exists in placed),
    )


def _places(lengths: list[int]) -> tuple[Tensor, Tensor]:
    exists = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    places = torch.zeros(exists.shape, dtype=torch.int64)
    places[exists] = torch.arange(sum(lengths))
    return places, exists


class GroupAttention(nn.Module):
    """LN(x + multi-head self-attention of x within sequences); other rows stay as they are."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(dim, 3 * dim)
        self.join = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, x: Float[Tensor, "rows dim"], sequences: Sequences
    ) -> Float[Tensor, "rows dim"]:
        """Returns the rows after attention."""
        if not sequences.sizes:
            return x
        own = x.index_select(0, sequences.rows)
        # Projected before padding; split, not sliced, whose gradient fills the whole each time.
        parts = self.project(own).split(sequences.sizes)
        blocks = zip(parts, sequences.places, sequences.exists, strict=True)
        mixed = torch.cat([self._mix(*block) for block in blocks])
        return x.index_copy(0, sequences.rows, self.norm(own + self.join(mixed)))

    def _mix(
        self,
        projected: Float[Tensor, "rows three_dims"],
        places: Int64[Tensor, "sequences width"],
        exists: Bool[Tensor, "sequences width"],
    ) -> Float[Tensor, "rows dim"]:
        split = functional.embedding(places, projected).unflatten(-1, (3, self.heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=exists[:, None, None, :]
        )
        return mixed.transpose(1, 2).flatten(2)[exists]


class TreeAttention(nn.Module):
    """The tree's nodes as vectors: embeddings after attention up and down the tree."""

    def __init__(self, tree: CodeTree, dim: int, heads: int) -> None:
        super().__init__()
        paths = [tree.path(row) for row in range(len(tree.parent))]
        depth = np.array([len(path) for path in paths], dtype=np.int64)
        root = [path[-1] if path else row for row, path in enumerate(paths)]
        self.levels = int(depth.max(initial=0))
        self.embedding = nn.Embedding(len(tree.parent), dim)
        self.intra = GroupAttention(dim, heads)
        self.inter = GroupAttention(dim, heads)
        self.within = [padded(_groups(root, depth, (level,))) for level in self._lower()]
        self.across = [padded(_groups(root, depth, (level - 1, level))) for level in self._lower()]
        self.rows = [
            torch.from_numpy(np.flatnonzero(depth == each)) for each in range(self.levels + 1)
        ]
        longest = max(self.levels, 1)
        above = [path + [-1] * (longest - len(path)) for path in paths]
        self.above = torch.tensor(above, dtype=torch.int64).view(len(paths), longest)

    def _lower(self) -> range:
        return range(1, self.levels + 1)

    def forward(self) -> Float[Tensor, "nodes dim"]:
        """Returns h of each node."""
        x = self.embedding.weight
        for level in reversed(self._lower()):
            x = self.intra(x, self.within[level - 1])
            upper = self.rows[level - 1]
            x = x.index_copy(0, upper, self.inter(x, self.across[level - 1])[upper])
        for level in self._lower():
            x = self.intra(x, self.within[level - 1])
            lower = self.rows[level]
            x = x.index_copy(0, lower, self.inter(x, self.across[level - 1])[lower])
        return x

    def with_ancestors(self, h: Float[Tensor, "nodes dim"]) -> Float[Tensor, "nodes dim"]:
        """Returns v = h + mean of the ancestors' h; h itself where there is none."""
        exists = self.above >= 0
        total = (functional.embedding(self.above.clamp(min=0), h) * exists[..., None]).sum(dim=1)
        return h + total / exists.sum(dim=1).clamp(min=1)[:, None]


def _groups(
    root: list[int], depth: Int64[np.ndarray, " nodes"], levels: tuple[int, ...]
) -> list[list[int]]:
    """Returns the nodes of these levels, group by group; groups without the last are left out."""
    found: dict[int, list[int]] = {}
    for level in levels:
        for row in np.flatnonzero(depth == level).tolist():
            found.setdefault(root[row], []).append(row)
    deep = {root[row] for row in np.flatnonzero(depth == levels[-1]).tolist()}
    return [found[group] for group in sorted(deep)]


def parent_loss(
    h: Float[Tensor, "nodes dim"],
    children: Int64[Tensor, " some"],
    parents: Int64[Tensor, " some"],
    candidates: Int64[Tensor, " candidates"],
) -> Float[Tensor, ""]:
    """Returns the mean of -log softmax_p(cos(h_c, h_p) / 0.1) at each child's own parent.

    Args:
        h: vectors of all nodes.
        children: nodes of one level.
        parents: place of each one's parent among the candidates.
        candidates: all nodes of the level above.
    """
    unit = functional.normalize(h, dim=1)
    return functional.cross_entropy(unit[children] @ unit[candidates].T / TEMPERATURE, parents)


def masked_loss(
    v: Float[Tensor, "codes dim"],
    visit: Int64[Tensor, " occurrences"],
    code: Int64[Tensor, " occurrences"],
    hidden: Int64[Tensor, " visits"],
) -> Float[Tensor, ""]:
    """Returns the mean of -log softmax_c(cos(context, v_c) / 0.1) at each visit's hidden code.

    Args:
        v: vectors of the codes.
        visit: visit of each code seen; the context is the mean of a visit's codes.
        code: each code seen.
        hidden: the code of each visit that is not seen.
    """
    total = v.new_zeros(len(hidden), v.shape[1]).index_add(0, visit, v[code])
    # Cosines are those of the mean, since they do not depend on length.
    scores = functional.normalize(total, dim=1) @ functional.normalize(v, dim=1).T
    return functional.cross_entropy(scores / TEMPERATURE, hidden)


class _Visits:
    """Training visits with at least two ICD codes, sampled with one code hidden in each."""

    def __init__(self, visits: Mapping[Kind, Codes], sizes: Sequence[int]) -> None:
        rows, found, first = [], [], 0
        for kind, size in zip(ICD_KINDS, sizes, strict=True):
            counts = visits[kind].counts
            rows.append(np.repeat(np.arange(len(counts)), counts))
            found.append(visits[kind].values.astype(np.int64) + first)
            first += size
        row = np.concatenate(rows)
        order = np.argsort(row, kind="stable")
        self.values = torch.from_numpy(np.concatenate(found)[order])
        counts = np.bincount(row, minlength=len(visits[ICD_KINDS[0]].counts))
        starts = np.cumsum(counts) - counts
        self.counts = torch.from_numpy(counts[counts > 1])
        self.starts = torch.from_numpy(starts[counts > 1])

    def sample(self, most: int) -> tuple[Tensor, Tensor, Tensor]:
        """Returns visit and code of each code seen, and the hidden code of each visit."""
        chosen = torch.randint(len(self.counts), (most,))
        counts, starts = self.counts[chosen], self.starts[chosen]
        visit = torch.repeat_interleave(counts)
        within = torch.arange(len(visit)) - (counts.cumsum(0) - counts)[visit]
        gap = (torch.rand(most) * counts).long().clamp(max=counts - 1)
        seen = within != gap[visit]
        return visit[seen], self.values[(starts[visit] + within)[seen]], self.values[starts + gap]


@dataclass(frozen=True)
class Pretrained:
    """What pre-training gives.

    Attributes:
        codes: v of each code, for models.
        nodes: h of each node of the tree, all levels.
        losses: parent and masked loss of each step.
    """

    codes: Float[Tensor, "codes dim"]
    nodes: Float[Tensor, "nodes dim"]
    losses: tuple[tuple[float, float], ...]


def pretrain_codes(
    tree: CodeTree,
    visits: Mapping[Kind, Codes],
    sizes: Sequence[int],
    *,
    dim: int,
    heads: int,
    steps: int,
    held_out: Sequence[int] = (),
) -> Pretrained:
    """Trains the tree's vectors; draws from torch's global generator.

    Args:
        tree: of the codes.
        visits: of training patients.
        sizes: number of diagnoses and of procedures.
        dim: of the vectors.
        heads: of both attentions, a divisor of dim.
        steps: of Adam, each with 256 children of each level and 256 visits.
        held_out: nodes whose parents are not trained on, for evaluation.
    """
    network, sampler = TreeAttention(tree, dim, heads), _Visits(visits, sizes)
    families = _families(network, tree, set(held_out))
    losses = []
    optimiser = torch.optim.Adam(network.parameters(), lr=_RATE, fused=True)
    for _ in range(steps if families or len(sampler.counts) else 0):
        h = network()
        parent = torch.stack([h.new_zeros(()), *(parent_loss(h, *f.sample()) for f in families)])
        masked = h.new_zeros(())
        if len(sampler.counts):
            v = network.with_ancestors(h)[: tree.codes]
            masked = masked_loss(v, *sampler.sample(_SAMPLE))
        optimiser.zero_grad(set_to_none=True)
        (parent.sum() + masked).backward()
        optimiser.step()
        losses.append((parent.sum().item(), masked.item()))
    with torch.no_grad():
        h = network()
        return Pretrained(network.with_ancestors(h)[: tree.codes], h, tuple(losses))


@dataclass(frozen=True)
class _Family:
    """Two adjacent levels: children, place of each one's parent among the upper level's nodes."""

    children: Int64[Tensor, " children"]
    parents: Int64[Tensor, " children"]
    candidates: Int64[Tensor, " candidates"]

    def sample(self) -> tuple[Tensor, Tensor, Tensor]:
        if len(self.children) <= _SAMPLE:
            return self.children, self.parents, self.candidates
        chosen = torch.randint(len(self.children), (_SAMPLE,))
        return self.children[chosen], self.parents[chosen], self.candidates


def _families(network: TreeAttention, tree: CodeTree, held_out: set[int]) -> list[_Family]:
    found = []
    for upper, lower in zip(network.rows, network.rows[1:], strict=False):
        children = torch.tensor([c for c in lower.tolist() if c not in held_out])
        if len(children) and len(upper) > 1:
            parents = torch.from_numpy(tree.parent)[children]
            found.append(_Family(children, torch.searchsorted(upper, parents), upper))
    return found
