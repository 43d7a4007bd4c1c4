"""Options that several data sets of hospitals share."""

from typing import Literal

from pydantic import Field

from medrec.datasets._icd import Icd
from medrec.knowledge.atc import Rule
from medrec.records import CohortOptions

Window = Literal["stay", "first_24_hours", "first_date"]


class CodingOptions(CohortOptions):
    """How diagnoses and drugs become codes."""

    icd: Icd = Field(
        default="both",
        description="ICD versions to keep, each code with its version; or the one to map to by "
        "the General Equivalence Mappings (unmapped codes are counted and listed)",
    )
    atc_rule: Rule = Field(
        default="systemic",
        description="classes of a drug that has several: the first that is not for local use, "
        "the one listed first in the table (published), or all",
    )
    knowledge: str | None = Field(
        default=None,
        description="folder of mapping tables (NDC, RXCUI, ATC, GEM, drug names); by default "
        "SOURCE, SOURCE/knowledge and the folder knowledge beside SOURCE",
    )


class HospitalOptions(CodingOptions):
    """What MIMIC-III and MIMIC-IV share."""

    service: tuple[str, ...] = Field(
        default=(),
        description="keep stays that a service of these codes cared for, e.g. CMED,CSURG; "
        "default all",
    )
    code_version: Literal["kept", "dropped"] = Field(
        default="kept",
        description="whether codes carry their ICD version; dropped makes different codes of two "
        "versions one, as some published pipelines do",
    )
    medication_window: Window = Field(
        default="stay",
        description="prescriptions that count: all of the stay, those that start less than 24 "
        "hours after admission, or those of the first date of each stay or ICU stay (published)",
    )
    forward_fill: bool = Field(
        default=False,
        description="fill empty cells of a prescription row from the row above, whoever's it is, "
        "as the published pipelines do",
    )
    drug_names: bool = Field(
        default=True,
        description="classify prescriptions without a known NDC by the name of the drug",
    )
    ndc_rxcui: str | None = Field(
        default=None,
        description="csv table NDC to RXCUI; by default all found in the knowledge folders",
    )
    rxcui_atc: str | None = Field(
        default=None,
        description="csv table RXCUI to ATC; by default all found in the knowledge folders",
    )
