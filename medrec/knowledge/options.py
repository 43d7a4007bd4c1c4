"""What a user may choose about a knowledge bundle."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medrec import presets
from medrec.knowledge.ddi import Severity, SideEffects


class KnowledgeOptions(BaseModel):
    """What to put into a bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: presets.Name | None = Field(
        default=None,
        description="published pipeline whose interactions are taken (TWOSIDES, the 40 rarest "
        "side effects); by default that of the cohort",
    )
    interactions: Literal["embedded", "twosides", "ndfrt"] = Field(
        default="embedded", description="source of drug-drug interactions"
    )
    side_effects: SideEffects = Field(
        default="rarest40",
        description="which side effects of TWOSIDES make two drugs interact; published: the 40 "
        "rarest, which the papers call the most severe",
    )
    severity: Severity = Field(default="critical", description="least severity of NDF-RT")
    structures: Literal["embedded", "drugcentral"] = Field(
        default="embedded", description="source of molecules"
    )
    graph: tuple[Literal["open", "umls", "semmeddb", "kindmed"], ...] = Field(
        default=("open",),
        description="relations: open (needs no licence), umls (MRREL), semmeddb, or kindmed (the "
        "26 semantic relations of that paper, out of SemMedDB)",
    )
    umls: str | None = Field(
        default=None, description="folder of the user's MRCONSO.RRF, MRREL.RRF and MRSTY.RRF"
    )
    semmeddb: str | None = Field(default=None, description="the user's PREDICATION csv")
    hops: int = Field(default=1, ge=0, le=3, description="of UMLS relations around the codes")
    siblings: bool = Field(
        default=False, description="join codes of one CCS category directly, not through it"
    )
    text: str = Field(
        default="ngrams",
        description="encoder of titles: ngrams (offline), the folder of a language model, or none",
    )
    text_dimension: int = Field(default=128, ge=1, le=4096, description="of n-gram vectors")

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("preset") in presets.NAMES:
            return {**presets.KNOWLEDGE, **given}
        return given

    @model_validator(mode="after")
    def _licensed(self) -> "KnowledgeOptions":
        wanted = sorted({"umls", "semmeddb", "kindmed"} & set(self.graph))
        if wanted and self.umls is None:
            raise ValueError(f"graph {', '.join(wanted)} needs `umls`, the folder of MRCONSO.RRF")
        if {"semmeddb", "kindmed"} & set(wanted) and self.semmeddb is None:
            raise ValueError(f"graph {', '.join(wanted)} needs `semmeddb`, the PREDICATION csv")
        if (self.umls or self.semmeddb) and not wanted:
            raise ValueError("umls and semmeddb are read for graph umls, semmeddb or kindmed only")
        return self
