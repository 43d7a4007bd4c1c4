"""The one value that says what a trial is. Its hash is the trial's key.

Nothing here imports torch: plans are made and printed where it is not installed.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA = 1
Task = Literal["recommendation", "generation", "hierarchy"]
TASKS: Mapping[str, Task] = {
    "medrec.models": "recommendation",
    "medrec.generation": "generation",
    "medrec.hierarchy": "hierarchy",
}
"""What the models of each package are for."""
SELECT: Mapping[Task, tuple[str, ...]] = {
    "recommendation": ("jaccard", "f1", "prauc"),
    "generation": ("log_likelihood",),
    "hierarchy": ("parent_recall",),
}
"""Validation metrics that may choose the epoch, of each task; the first is the default."""
Ontology = Literal["icd", "ccs", "mash", "none"]


class Frozen(BaseModel):
    """A value that refuses to exist when wrong and does not change."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ModelConfig(Frozen):
    """Base of every model's settings: each field has a default, a range and its source."""

    variant: Literal["paper", "released"] = Field(
        default="paper",
        description="paper: as published, defects mended; released: as its code behaves",
    )

    @property
    def first_visit(self) -> str:
        """What a first visit is answered with by a model that predicts none; empty if it does."""
        return ""

    @property
    def comparable_scores(self) -> bool:
        """Whether scores say how probable each drug is, as those of most models do."""
        return True

    def unreached(self, epochs: int) -> str:
        """Returns what training of so many epochs never comes to; empty if nothing."""
        return ""

    @property
    def leak(self) -> str:
        """What the model reads that is not known when prescribing; empty if nothing."""
        return ""


class Training(Frozen):
    """The training loop's settings; fitted models ignore all of them."""

    epochs: int = Field(default=20, ge=1, description="passes over the training patients")
    batch_size: int = Field(default=16, ge=1, description="patients per step")
    learning_rate: float = Field(default=1e-3, gt=0, le=1, description="of Adam")
    schedule: Literal["constant", "linear"] = Field(
        default="constant",
        description="of the learning rate; linear: in epoch e of n, from 0, it is 1 - e/n of it",
    )
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="of Adam (L2)")
    clip_norm: float | None = Field(
        default=None, gt=0, description="largest gradient norm; none clips nothing"
    )
    precision: Literal["float32", "bf16"] = Field(
        default="float32",
        description="of the forward pass; bf16: mixed precision, weights stay float32",
    )


class Protocol(Frozen):
    """How a trial is measured; one protocol for every arm of a comparison."""

    threshold: float = Field(
        default=0.5, gt=0, lt=1, description="score from which a drug is recommended"
    )
    select: Literal["jaccard", "f1", "prauc", "log_likelihood", "parent_recall"] = Field(
        default="jaccard",
        description="validation metric that chooses the epoch; higher is better. Generators have "
        "log_likelihood, builders of hierarchies parent_recall, which a study of these need not "
        "say",
    )
    visits: Literal["all", "transitions"] = Field(
        default="all", description="visits that validation counts; transitions leave out the first"
    )


class KnowledgeSpec(Frozen):
    """Which knowledge tables a trial reads, and the sha256 of what they hold."""

    interactions: str = Field(
        default="embedded", description="pair table (csv: two ATC codes a row), or `embedded`"
    )
    structures: str = Field(
        default="embedded", description="csv with columns atc3,drug,smiles, or `embedded`"
    )
    bundle: str | None = Field(
        default=None,
        description="folder made by `medsweep data knowledge`; it stands for both tables and adds "
        "hierarchies, relations and text vectors",
    )
    ontology: Ontology = Field(
        default="icd",
        description="hierarchy over the codes: icd (and ATC), ccs (one level of categories over "
        "diagnoses and procedures, ATC over drugs; needs a bundle with CCS), mash (learned from "
        "the training visits and titles, anew for each seed), or none",
    )
    fingerprint: str = Field(
        default="", description="sha256 of the content; filled in by the plan"
    )

    @model_validator(mode="after")
    def _one_source(self) -> "KnowledgeSpec":
        tables = {self.interactions, self.structures}
        if self.bundle is not None and tables != {"embedded"}:
            raise ValueError("bundle brings its own interactions and structures; leave these out")
        return self


class Augment(Frozen):
    """Generated patients that a recommender is trained on beside the real ones.

    The generator is trained on the real training patients, with the trial's own seed.
    """

    generator: str = Field(description="a generator, such as hisgt or bigram")
    ratio: float = Field(
        default=0.5,
        gt=0,
        le=20,
        allow_inf_nan=False,
        description="generated patients for each real training patient",
    )
    real: bool = Field(
        default=True, description="whether real training patients are trained on at all"
    )
    config: dict[str, Any] = Field(default_factory=dict, description="the generator's settings")
    training: dict[str, Any] = Field(
        default_factory=dict, description="of the training loop of the generator"
    )


class CohortRef(Frozen):
    """Where a cohort lies and which one it must be."""

    path: str
    fingerprint: str


class Resources(Frozen):
    """What a trial asks of the cluster."""

    cpus: float = Field(
        default=1.0, gt=0, description="CPU cores of each worker; also its number of threads"
    )
    gpus: float = Field(default=0.0, ge=0, le=1, description="share of one GPU for each worker")
    workers: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="data-parallel workers of one trial; the patients of a batch are shared out",
    )
    memory: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="GiB of main memory that each worker reserves; 0: none",
    )

    @model_validator(mode="after")
    def _whole_gpus(self) -> "Resources":
        if self.workers > 1 and self.gpus not in (0.0, 1.0):
            raise ValueError("workers of one trial take a whole GPU each, or none: gpus 0 or 1")
        return self


class TrialSpec(Frozen):
    """Everything that determines a trial's result, and where it runs.

    The key covers what determines the result: not the cohort's or tables' place on disk, nor the
    resources. A model's settings are complete: defaults are written out, so that a later change
    of a default is another key.
    """

    model: str
    config: dict[str, Any]
    training: Training = Training()
    protocol: Protocol = Protocol()
    knowledge: KnowledgeSpec = KnowledgeSpec()
    cohort: CohortRef
    seed: int = Field(ge=0)
    resources: Resources = Resources()
    augment: Augment | None = None

    def without_places(self) -> "TrialSpec":
        """Returns the spec with names instead of paths, for records that may be shared."""
        places = self.knowledge.model_dump(include={"interactions", "structures", "bundle"})
        tables = {name: place and _last_part(place) for name, place in places.items()}
        return self.model_copy(
            update={
                "cohort": self.cohort.model_copy(update={"path": ""}),
                "knowledge": self.knowledge.model_copy(update=tables),
            }
        )

    @property
    def key(self) -> str:
        """First 16 hex digits of the sha256 of the result-determining fields."""
        decisive = self.model_dump(mode="json", exclude={"resources"})
        decisive["cohort"] = self.cohort.fingerprint
        decisive["knowledge"] = self.knowledge.fingerprint
        decisive["schema"] = SCHEMA
        if self.training.precision == "float32":  # came later; earlier keys stay what they were
            del decisive["training"]["precision"]
        if self.training.schedule == "constant":  # likewise
            del decisive["training"]["schedule"]
        if self.augment is None:  # likewise
            del decisive["augment"]
        text = json.dumps(decisive, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _last_part(place: str) -> str:
    """Returns the last name of a path or URI; options of a URI may name a machine."""
    return PurePath(place.partition("?")[0] if "://" in place else place).name


def whole_heads() -> Any:
    """Returns a validator that refuses a width which the attention heads do not divide."""

    def check(settings: Any) -> Any:
        if settings.dim % settings.heads:
            raise ValueError(
                f"`dim` {settings.dim} is no multiple of `heads` {settings.heads}; change one"
            )
        return settings

    return model_validator(mode="after")(check)


def preset(released: dict[str, Any]) -> Any:
    """Returns a validator that fills unset fields from `released` when that variant is asked for.

    A field that is set keeps its value: `variant: released` with `controller: none` is the
    released code without a DDI controller. The gain belongs to the preset's own controller: with
    another one it is left to that controller's published gain.
    """

    def fill(data: Any) -> Any:
        if not isinstance(data, dict) or data.get("variant") != "released":
            return data
        filled = {**released, **data}
        own = released.get("controller", filled.get("controller"))
        if filled.get("controller") != own and "ddi_gain" not in data:
            filled.pop("ddi_gain", None)
        return filled

    return model_validator(mode="before")(fill)
