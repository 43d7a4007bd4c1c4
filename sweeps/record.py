"""`study.json`: what a results directory is about. Written before the first trial starts.

With the trials beside it, this is all that tables and reports need: neither the study file, nor
the cohort, nor the knowledge tables are read again.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from medrec.spec import Frozen, Protocol, Task, TrialSpec

SCHEMA: Literal[2] = 2
"""Of what is written now. Schema 1 had neither analysis nor designs; it is read for ever."""


LEAKING = "§"
"""End of the title of an arm that reads what is not known when prescribing."""
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
Key = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]


class Arm(Frozen):
    """One variant under comparison and its trials."""

    name: Name
    title: str
    model: str
    ablation: str | None = Field(default=None, description="which ablation of the model, if any")
    full: str | None = Field(
        default=None, description="name of the arm that an ablation is taken from, and compared to"
    )
    family: str | None = Field(
        default=None, description="name of the study's entry that it comes from"
    )
    varied: dict[str, Any] = Field(
        default_factory=dict, description="settings of the entry's grid, as this arm has them"
    )
    seeded: bool = Field(description="whether training depends on the seed")
    trials: dict[str, Key] = Field(
        description="seed to trial key; empty for a re-tuned arm whose search has not ended"
    )
    parts: tuple[str, ...] = Field(
        default=(), description="parts of the full model that are changed in this arm"
    )
    design: Name | None = Field(default=None, description="name of the design it belongs to")
    tuned_by: Name | None = Field(
        default=None, description="search whose best settings it has; None for fixed settings"
    )
    first_visit: str = Field(
        default="", description="what it answers first visits with, if it predicts none"
    )
    comparable_scores: bool = Field(
        default=True, description="whether its scores say how probable each drug is"
    )
    leak: str = Field(
        default="",
        description="what it reads that is not known when prescribing; its title ends in §",
    )

    @model_validator(mode="before")
    @classmethod
    def _marked(cls, content: Any) -> Any:
        """Ends the title of an arm that reads its target with `LEAKING`, wherever it is made."""
        if isinstance(content, dict) and content.get("leak"):
            title = str(content["title"]).removesuffix(f" {LEAKING}")
            return {**content, "title": f"{title} {LEAKING}"}
        return content

    @property
    def is_waiting(self) -> bool:
        """Whether its trials depend on a search that has not said what is best."""
        return self.tuned_by is not None and not self.trials


class Analysis(Frozen):
    """How arms are judged; fixed in the study file, before there are results."""

    primary: str = Field(
        default="jaccard", description="metric that verdicts are about; the others are exploratory"
    )
    margin: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="difference in the primary metric up to which two arms count as equivalent; "
        "without one no arm is called equivalent",
    )


class Design(Frozen):
    """A designed ablation of one model: which arms it has, and what they say together."""

    name: Name
    kind: str = Field(description="one of sweeps/designs")
    title: str
    full: Name = Field(description="arm with every part at its reference level")
    factors: tuple[str, ...] = Field(description="parts that are varied, in the order asked for")
    levels: dict[str, tuple[int, ...]] = Field(
        description="name of an arm to the level of each factor in it, 0 as in the full model"
    )
    settings: Literal["fixed", "retuned"] = "fixed"
    notes: tuple[str, ...] = ()


class CohortFacts(Frozen):
    """What captions say of the cohort."""

    name: str
    fingerprint: str
    counts: dict[str, float]
    split: str
    visit_order: str
    open_data: bool = Field(
        default=False,
        description="whether single patients may be shown: they are made up, or of an open demo",
    )
    dataset: str = Field(default="", description="data set plug-in; empty in records made before")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="options that every data set has: split, order of visits, what was left out",
    )
    drug_quartiles: tuple[int, ...] = Field(
        default=(),
        description="of each drug by its number of training visits, 1 the rarest; empty in "
        "records made before",
    )


class DdiGraph(Frozen):
    """The interaction graph over the cohort's drug classes."""

    name: str
    fingerprint: str
    pairs: list[tuple[int, int]] = Field(description="indices into `medications`, i < j")


class SearchPlan(Frozen):
    """A search as the study asked for it."""

    name: Name
    model: str
    config: dict[str, Any] = Field(
        default_factory=dict, description="settings the study fixes; others are defaults"
    )
    trials: int
    objectives: tuple[str, ...]
    ddi_ceiling: float | None
    medication_floor: float | None
    base: TrialSpec
    space: dict[str, dict[str, Any]] = Field(
        description="dimension to its distribution (Optuna's JSON form)"
    )
    conditions: dict[str, tuple[str, tuple[Any, ...]]] = Field(
        default_factory=dict,
        description="dimension to the setting it depends on, and values that open it",
    )
    early_stopping: dict[str, int] | None
    comparable_scores: bool = Field(default=True, description="as of an arm of this model")
    concurrent: int | None
    sampler_seed: int


class PublishedValue(Frozen):
    """A number as a paper prints it; what ± is stands with its table."""

    mean: float = Field(ge=0)
    spread: float | None = Field(default=None, ge=0)


class PublishedCohort(Frozen):
    """What a paper says of its cohort; None where it says nothing."""

    title: str
    patients: int = Field(gt=0)
    visits: int = Field(gt=0)
    diagnoses: int | None = Field(gt=0)
    procedures: int | None = Field(gt=0)
    medications: int = Field(gt=0)
    notes: tuple[str, ...] = ()


class PublishedRow(Frozen):
    """One row of a paper's table."""

    row: str = Field(description="what study files call it")
    label: str = Field(description="as printed, or what it stands for")
    values: dict[str, PublishedValue] = Field(min_length=1, description="by metric")
    mark: str = Field(default="", description="as printed at the row's numbers")
    comparable_scores: bool = Field(default=True, description="False for a sequence decoder")
    notes: tuple[str, ...] = ()


class PublishedTable(Frozen):
    """A paper's table, and which of our arms stand beside which of its rows."""

    document: str
    citation: str
    table: str = Field(description="what study files call it")
    number: str = Field(description="as the paper counts it")
    title: str
    cohort: PublishedCohort
    spread: str = Field(description="what ± is")
    mark: str = Field(default="", description="what a row's mark means")
    rows: tuple[PublishedRow, ...] = Field(min_length=1)
    notes: tuple[str, ...] = ()
    arms: dict[str, str] = Field(default_factory=dict, description="name of an arm to its row")


class StudyRecord(Frozen):
    """Everything about a study that is not a trial's result."""

    schema_version: Literal[1, 2] = SCHEMA
    name: str
    task: Task = Field(default="recommendation", description="what its models are for")
    question: str
    arms: tuple[Arm, ...]
    reference: str = Field(description="arm that every arm but an ablation is compared to")
    searches: tuple[SearchPlan, ...]
    published: tuple[PublishedTable, ...] = ()
    designs: tuple[Design, ...] = ()
    analysis: Analysis = Analysis()
    tables: tuple[str, ...]
    protocol: Protocol
    seeds: tuple[int, ...]
    cohort: CohortFacts
    ddi: DdiGraph
    medications: tuple[str, ...]
    vocabulary: dict[Literal["diagnoses", "procedures"], tuple[str, ...]] = Field(
        default_factory=dict, description="the other codes; empty in records made before"
    )
    true_ddi_rate: float = Field(description="DDI rate of the true test prescriptions")
    true_medications: float = Field(description="drugs per visit of the true test prescriptions")
    resamples: int
    bootstrap_seed: int

    def without_places(self) -> "StudyRecord":
        """Returns the record with names instead of paths."""
        searches = tuple(
            search.model_copy(update={"base": search.base.without_places()})
            for search in self.searches
        )
        return self.model_copy(update={"searches": searches})
