"""First level of a code: ATC letter, ICD-9-CM chapter, letter of ICD-10-CM, section of ICD-10-PCS.

For colours in pictures. A code of no known tree belongs to its first character.
"""

from collections.abc import Callable, Mapping, Sequence

from medrec import codes
from medrec.cohort import Kind
from medrec.knowledge.icd_chapters import CHAPTERS_9_PROCEDURES, SECTIONS_PCS
from medrec.knowledge.icd_known import diagnosis_tree_9, procedure_tree_9
from medrec.knowledge.icd_tree import IcdTree

# Short names of the chapters, in this project's own words; the chapters are the classifications'.
_ATC = {
    "A": "digestion, metabolism",
    "B": "blood",
    "C": "heart, vessels",
    "D": "skin",
    "G": "urogenital, sex hormones",
    "H": "other hormones",
    "J": "infections",
    "L": "cancer, immune system",
    "M": "muscles, bones",
    "N": "nervous system",
    "P": "parasites",
    "R": "breathing",
    "S": "eye, ear",
    "V": "various",
}
_DIAGNOSES_9 = {
    "001-139": "infections",
    "140-239": "neoplasms",
    "240-279": "endocrine, metabolic",
    "280-289": "blood",
    "290-319": "mental",
    "320-389": "nerves, senses",
    "390-459": "circulation",
    "460-519": "breathing",
    "520-579": "digestion",
    "580-629": "urogenital",
    "630-679": "pregnancy",
    "680-709": "skin",
    "710-739": "muscles, bones",
    "740-759": "congenital",
    "760-779": "perinatal",
    "780-799": "symptoms",
    "800-999": "injury, poisoning",
    "E000-E999": "external causes",
    "V01-V91": "factors of health",
}
_DIAGNOSES_10 = {
    "A": "infections",
    "B": "infections",
    "C": "neoplasms",
    "D": "neoplasms, blood",
    "E": "endocrine, metabolic",
    "F": "mental",
    "G": "nerves",
    "H": "eye, ear",
    "I": "circulation",
    "J": "breathing",
    "K": "digestion",
    "L": "skin",
    "M": "muscles, bones",
    "N": "urogenital",
    "O": "pregnancy",
    "P": "perinatal",
    "Q": "congenital",
    "R": "symptoms",
    "S": "injury",
    "T": "injury, poisoning",
    "U": "special purposes",
    "V": "external causes",
    "W": "external causes",
    "X": "external causes",
    "Y": "external causes",
    "Z": "factors of health",
}
_Build = Callable[[Mapping[str, str]], IcdTree]
_TREES: dict[tuple[Kind, str], _Build] = {
    ("diagnoses", "9"): diagnosis_tree_9,
    ("procedures", "9"): procedure_tree_9,
}
_NAMES: dict[tuple[Kind, str], Mapping[str, str]] = {
    ("diagnoses", "9"): _DIAGNOSES_9,
    ("diagnoses", "10"): _DIAGNOSES_10,
    ("procedures", "9"): {
        key: title.removeprefix("Operations on the ")
        for key, title in CHAPTERS_9_PROCEDURES.items()
    },
    ("procedures", "10"): SECTIONS_PCS,
    ("medications", ""): _ATC,
}
_CLASSIFICATION = {"9": "ICD-9", "10": "ICD-10", "": ""}


def chapters(kind: Kind, vocabulary: Sequence[str]) -> list[str]:
    """Returns the chapter of each code, with its name where it has one.

    Example:
        >>> chapters("diagnoses", ["9:4280", "10:I5023", "4280"])
        ['ICD-9 390-459 circulation', 'ICD-10 I circulation', '4']
        >>> chapters("medications", ["C03A"])
        ['C heart, vessels']
    """
    return [
        _titled(kind, version, above)
        for (version, _), above in zip(
            map(codes.split, vocabulary), _above(kind, vocabulary), strict=True
        )
    ]


def _above(kind: Kind, vocabulary: Sequence[str]) -> list[str]:
    """Returns the highest known ancestor of each code, or its first character."""
    parts = [codes.split(code) for code in vocabulary]
    found = [bare[:1] for _, bare in parts]
    for (of, version), build in _TREES.items():
        own = {bare: "" for each, bare in parts if each == version and bare}
        if of != kind or not own:
            continue
        tree = build(own).finish("", [], {})
        for row, code in enumerate(vocabulary):
            above = tree.ancestors(code) if parts[row][0] == version else ()
            if above:
                found[row] = codes.split(above[-1])[1]
    return found


def _titled(kind: Kind, version: str, chapter: str) -> str:
    name = _NAMES.get((kind, version), {}).get(chapter, "")
    return " ".join(part for part in (_CLASSIFICATION[version], chapter, name) if part)
