"""MASH: a hierarchy over codes, learned from titles, visits and known parents.

Wang, Zhou, Liu, Lu, Cai, arXiv 2509.06576. What is published of stage I, the data that the stages
use and the shapes of three resulting trees we follow; losses, sizes and cuts of stages II and III
are our reconstruction. The stages are in `_stage_one`, `_stage_two` and `_growing`.

Parents of some codes are hidden, and everything is measured on these codes.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from pydantic import Field, model_validator
from scipy import sparse
from torch import Tensor

from medrec.errors import ConfigError
from medrec.hierarchy import _evaluation
from medrec.hierarchy._base import HierarchyBuilder
from medrec.hierarchy._batches import Known, StageTwo, Weights
from medrec.hierarchy._growing import Grown, Growth, Keep, as_tree, grow
from medrec.hierarchy._hyperbolic import Geometry
from medrec.hierarchy._institutions import Titles
from medrec.hierarchy._matching import hits, reciprocal_ranks
from medrec.hierarchy._node_vectors import nearest, node_vectors
from medrec.hierarchy._parents import parent_ranks, parent_scores, parent_terms, predicted
from medrec.hierarchy._skeleton import Skeleton, hold_out, skeleton
from medrec.hierarchy._stage_one import Alignment, Division, Matches, StageOne, stage_one
from medrec.hierarchy._stage_two import embed
from medrec.hierarchy._tree import Tree, shape
from medrec.hierarchy._tree_json import to_json
from medrec.knowledge.base import Knowledge
from medrec.knowledge.open_graph import EQUIVALENT, HAS_PARENT, IN_CATEGORY, SAME_CATEGORY
from medrec.knowledge.relations import Relations
from medrec.measures import Measured, Terms
from medrec.models._base import Model
from medrec.spec import ModelConfig

# Hierarchies are known parents, not relations; equivalents are what alignment is measured on.
_NO_RELATIONS = (HAS_PARENT, IN_CATEGORY, SAME_CATEGORY, EQUIVALENT)
UNSUPERVISED: dict[str, Any] = {"use_labels": False, "skeleton": "none"}
"""Settings under which no known parent or relation is read."""


class MashConfig(ModelConfig):
    """Settings; what has no source is ours, chosen on validation codes of the synthetic cohort."""

    institutions: Division = Field(
        default="whole",
        description="whole: one; renamed: halves of the patients, the second with other codes; "
        "versions: visits coded in ICD-9 against ICD-10",
    )
    second_titles: Titles = Field(
        default="abbreviated", description="titles of the second half where codes are renamed"
    )
    alignment: Alignment = Field(
        default="neural_ot",
        description="of two institutions: neural optimal transport (paper), or a baseline; none: "
        "codes are not matched",
    )
    anchors: float = Field(
        default=0.0, ge=0, le=0.9, description="share of the true matches that alignment is told"
    )
    transport_steps: int = Field(
        default=200, ge=1, le=100_000, description="of f in neural transport, ten of T each"
    )
    merge_threshold: float = Field(
        default=0.5, ge=-1, le=1, description="cosine from which matched codes share one vector"
    )
    code_dim: int = Field(
        default=512, ge=4, le=2048, multiple_of=2,
        description="d of stage I: half text, half co-occurrence (halves: paper; d is ours)",
    )  # fmt: skip
    shift: float = Field(default=1.0, ge=1, le=50, description="κ of SPPMI (Levy & Goldberg 2014)")
    prior_visits: float = Field(
        default=30.0, ge=0, le=1000,
        description="visits of a code at which its co-occurrence counts half as much as its title",
    )  # fmt: skip
    use_text: bool = Field(default=True, description="text half of stage I (paper)")
    use_cooccurrence: bool = Field(
        default=True, description="co-occurrence half of stage I (paper)"
    )
    use_labels: bool = Field(
        default=True, description="known parents and relations in stage II (paper)"
    )
    geometry: Geometry = Field(
        default="hyperbolic", description="of stage II; hyperbolic is the paper's"
    )
    dim: int = Field(default=16, ge=2, le=256, description="of stage II; searched from 8 to 64")
    hidden: int = Field(default=256, ge=4, le=4096, description="width of the hidden layer")
    steps: int = Field(default=600, ge=1, le=100_000, description="of Adam in stage II")
    batch: int = Field(default=256, ge=2, le=8192, description="pairs, and triplets, of a step")
    learning_rate: float = Field(default=2e-3, gt=0, le=1, description="highest, of Adam")
    temperature: float = Field(default=0.1, gt=0, le=10, description="τ of InfoNCE")
    hierarchy_weight: float = Field(
        default=1.0, ge=0, le=100, description="λ1: InfoNCE on children and parents, and siblings"
    )
    relation_weight: float = Field(
        default=0.1, ge=0, le=100, description="InfoNCE on other known relations of codes"
    )
    neighbour_weight: float = Field(
        default=0.1, ge=0, le=100, description="InfoNCE on codes near one another in stage I"
    )
    neighbours: int = Field(default=5, ge=1, le=100, description="near codes of a code")
    margin_weight: float = Field(default=0.5, ge=0, le=100, description="λ2: parent margin")
    margin: float = Field(default=0.5, ge=0, le=10, description="m of the parent margin")
    negatives: int = Field(default=8, ge=1, le=1000, description="wrong parents of a child")
    order_weight: float = Field(default=0.1, ge=0, le=100, description="λ3: radial order")
    gap: float = Field(default=0.05, ge=0, le=1, description="ε of the radial order")
    triplet_weight: float = Field(default=0.1, ge=0, le=100, description="λ4: HypHC triplets")
    triplet_temperature: float = Field(
        default=0.1, gt=0, le=10, description="of HypHC's softmax over depths"
    )
    skeleton: Keep = Field(
        default="top",
        description="known nodes that the tree keeps: none, the highest (as the published trees "
        "seem to), or all",
    )
    latent_levels: int = Field(
        default=1, ge=0, le=5, description="below known nodes (published trees: 1)"
    )
    unknown_levels: int = Field(
        default=3, ge=0, le=5, description="where no node is known (published lab tree: up to 3)"
    )
    latent_size: int = Field(
        default=6, ge=2, le=20,
        description="units of a latent node in the mean (published trees: 5.0 to 7.6)",
    )  # fmt: skip
    validation_share: float = Field(
        default=0.05, gt=0, le=0.4, description="of the codes with a parent, hidden for validation"
    )
    test_share: float = Field(default=0.1, gt=0, le=0.4, description="likewise, for the test")

    @model_validator(mode="after")
    def _something_to_read(self) -> "MashConfig":
        if not (self.use_text or self.use_cooccurrence):
            raise ValueError("`use_text` and `use_cooccurrence` cannot both be false")
        if not self.use_labels and self.skeleton != "none":
            raise ValueError("without `use_labels`, `skeleton` must be none: it is known nodes")
        return self

    def stage_one(self) -> StageOne:
        """Returns the settings of stage I."""
        return StageOne(**{name: getattr(self, name) for name in StageOne.__dataclass_fields__})

    def stage_two(self) -> StageTwo:
        """Returns the settings of stage II."""
        names = [name for name in StageTwo.__dataclass_fields__ if name != "weights"]
        weights = Weights(
            hierarchy=self.hierarchy_weight,
            relations=self.relation_weight if self.use_labels else 0.0,
            neighbours=self.neighbour_weight,
            margin=self.margin_weight,
            order=self.order_weight,
            triplets=self.triplet_weight,
        )
        return StageTwo(**{name: getattr(self, name) for name in names}, weights=weights)

    def growth(self) -> Growth:
        """Returns the settings of stage III."""
        return Growth(self.skeleton, self.latent_levels, self.unknown_levels, self.latent_size)


class Mash(HierarchyBuilder):
    """The three stages."""

    def __init__(self, config: MashConfig, knowledge: Knowledge) -> None:
        self._config = config
        self._known = skeleton(knowledge)
        self._related = _related(knowledge.bundle.relations, self._known)
        self._learned: dict[str, Tensor] = {}

    def fit(self, knowledge: Knowledge, seed: int) -> None:
        """Learns vectors and tree.

        Raises:
            ConfigError: the training visits do not divide into the institutions asked for.
        """
        config, known = self._config, self._known
        validation, test = hold_out(known, config.validation_share, config.test_share, seed)
        hidden = np.concatenate([validation, test])
        visible = known.without(hidden)
        made = stage_one(knowledge, known, config.stage_one(), seed)
        x = node_vectors(made.codes, made.titles, visible)
        seen = visible if config.use_labels else known.without(np.arange(len(known.parents)))
        told = ~np.isin(self._related, hidden).any(axis=1)
        near = nearest(x[: known.codes], known.kinds[: known.codes], config.neighbours)
        z = embed(Known(x, seen, self._related[told], near), config.stage_two(), seed)
        placed = predicted(z, seen, config.geometry)
        grown = grow(z, known, placed, config.geometry, config.growth())
        matches = made.matches or Matches(
            np.full(known.codes, np.nan), np.zeros(known.codes, dtype=bool), 0
        )
        arrays = {
            "points": z.numpy(),
            "validation": validation,
            "test": test,
            "tree_parents": grown.parents,
            "tree_kinds": grown.kinds,
            "tree_rows": grown.rows,
            "match_ranks": matches.rank,
            "match_scored": matches.scored,
            "match_pairs": np.array(matches.pairs),
            "seed": np.array(seed),
        }
        self.restore({name: torch.from_numpy(np.asarray(a)) for name, a in arrays.items()})

    def tensors(self) -> dict[str, Tensor]:
        """Returns points of all nodes, held-out codes, tree, ranks of matches, and the seed."""
        return dict(self._learned)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes back what `tensors` returned."""
        self._learned = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}

    @property
    def tree(self) -> Tree:
        """The learned hierarchy; its first rows are the codes by number."""
        return as_tree(self._grown, self._known)

    @property
    def vectors(self) -> Float64[np.ndarray, "codes dim"]:
        """Vector of each code, by number."""
        return self._points[: self._known.codes].numpy()

    @property
    def held_out(self) -> Int64[np.ndarray, " codes"]:
        """Numbers of the codes whose parent was hidden for the test."""
        return self._array("test")

    def validation(self) -> dict[str, float]:
        """Returns the measures of the codes held out for validation; none of matches.

        Where no code has a parent to hide, the recall of parents is 0 and alone.
        """
        terms = self._terms(self._array("validation"))
        return {"parent_recall": 0.0} | {name: _ratio(each) for name, each in terms.items()}

    def measured(self) -> Measured:
        """Returns the measures of the codes held out for the test, and of all matches."""
        terms = self._terms(self.held_out)
        rank, scored = self._array("match_ranks"), self._array("match_scored")
        if scored.any():
            terms["match_first"] = hits(rank, scored, 1)
            terms["match_ten"] = hits(rank, scored, 10)
            terms["match_reciprocal_rank"] = reciprocal_ranks(rank, scored)
        units = np.arange(self._known.codes, dtype=np.int32)
        files = {"tree.json": to_json(self.tree).encode()}
        return Measured(units, terms, self._facts(), files)

    def _terms(self, rows: Int64[np.ndarray, " rows"]) -> dict[str, Terms]:
        """Returns the terms of held-out codes, by name of the measure."""
        known, geometry, z = self._known, self._config.geometry, self._points
        if not len(rows):
            return {}
        visible = known.without(np.concatenate([self._array("validation"), self._array("test")]))
        scores = parent_scores(z, visible, rows, geometry)
        ranks = parent_ranks(scores, visible.candidates, known.parents[rows])
        codes, parents = z[: known.codes], self._grown.parents
        pairs = _evaluation.sampled(known, rows, int(self._learned["seed"]))
        found = parent_terms(ranks, rows, visible)
        siblings = _evaluation.siblings(known)
        found["sibling_auc"] = _evaluation.pair_auc(codes, known, siblings, rows, geometry)
        found["related_auc"] = _evaluation.pair_auc(
            codes, known, _matrix(self._related, known.codes), rows, geometry
        )
        found["purity"] = _evaluation.purity(parents, known, rows)
        found["cophenetic"] = _evaluation.cophenetic(parents, known, rows, pairs)
        found["distortion"] = _evaluation.distortion(codes, known, rows, pairs, geometry)
        return {name: terms for name, terms in found.items() if terms[1].any()}

    def _facts(self) -> dict[str, float]:
        """Returns the shape of the tree, and counts of what was there to learn from."""
        found = shape(self.tree)
        least, mean, most = found.latent_children
        return {
            "nodes": float(found.nodes),
            "codes": float(found.codes),
            "latent_nodes": float(found.latent),
            "categories": float(found.categories),
            "depth": float(found.depth),
            "mean_branching": found.mean_branching,
            "max_branching": float(found.max_branching),
            "least_latent_children": float(least),
            "mean_latent_children": mean,
            "most_latent_children": float(most),
            "titled_codes": float(self._known.titled[: self._known.codes].sum()),
            "held_out_codes": float(len(self.held_out)),
            "related_pairs": float(len(self._related)),
            "merged_pairs": float(self._learned["match_pairs"]),
        }

    @property
    def _grown(self) -> Grown:
        return Grown(*(self._array(f"tree_{name}") for name in ("parents", "kinds", "rows")))

    @property
    def _points(self) -> Float64[Tensor, "nodes dim"]:
        return self._fitted("points")

    def _array(self, name: str) -> np.ndarray:
        return self._fitted(name).numpy()

    def _fitted(self, name: str) -> Tensor:
        if name not in self._learned:
            raise ConfigError("This hierarchy has not been learned yet: fit or restore it first.")
        return self._learned[name]


def _ratio(terms: Terms) -> float:
    return float(terms[0].sum() / terms[1].sum())


def _related(relations: Relations, known: Skeleton) -> Int64[np.ndarray, "pairs 2"]:
    """Returns each pair of codes (numbers) once that a relation joins which is no hierarchy's."""
    number = {name: i for i, name in enumerate(known.names[: known.codes])}
    place = np.array([number.get(name, -1) for name in relations.nodes], dtype=np.int64)
    kept = np.array([name not in _NO_RELATIONS for name in relations.relations], dtype=bool)
    head, relation, tail = relations.triples.astype(np.int64).T
    if not len(head):
        return np.empty((0, 2), dtype=np.int64)
    pairs = np.sort(np.stack([place[head], place[tail]], axis=1), axis=1)
    there = kept[relation] & (pairs[:, 0] >= 0) & (pairs[:, 0] < pairs[:, 1])
    return np.unique(pairs[there], axis=0)


def _matrix(pairs: Int64[np.ndarray, "pairs 2"], codes: int) -> _evaluation.Related:
    """Returns the pairs as a symmetric sparse matrix."""
    row, column = np.concatenate([pairs, pairs[:, ::-1]]).T
    return sparse.csr_array((np.ones(len(row)), (row, column)), shape=(codes, codes))


MODEL = Model(
    title="MASH",
    source="arXiv 2509.06576, reconstructed",
    config=MashConfig,
    build=Mash,
)
