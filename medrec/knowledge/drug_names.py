"""From a drug name as a prescription writes it to ATC classes of level 3.

"5 ML VIAL : DILTIAZEM HCL 25 MG/5ML IV SOLN" names diltiazem among strengths, forms, routes and a
salt. The text is cut into words, and from left to right the longest run of words that is known is
taken. Known are, and where two say different things the earlier one counts:

    embedded/drug_overrides.csv      name,atc3,reason: corrections; atc3 may be `exclude`
    embedded/drugs.csv               atc3 and drug
    ingredient_atc*.csv (of users)   in_rxcui, in_name and atc5; before drugs.csv under the rules
                                     `listed` and `all`
    drug_synonyms*.csv (of users)    variant and canonical: brands, other languages, misspellings

The first drug of the text counts, unless the table of ingredients has that very combination. What
is marked `exclude` (carrier fluids, supplies) counts only if the text has no drug.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from medrec.errors import KnowledgeError
from medrec.knowledge.atc import Rule, choose
from medrec.knowledge.origin import Origin
from medrec.knowledge.source_files import distinct_rows, files_named
from medrec.raw_files import read_table
from medrec.raw_table import Table, digests

Step = Literal["override", "name", "synonym", "excluded", "unknown"]

_EMBEDDED = Path(__file__).parent / "embedded"
_EXCLUDE = "exclude"
_INGREDIENT_FILES = re.compile(r"ingredient_atc.*\.csv(\.gz)?")
_SYNONYM_FILES = re.compile(r"drug_synonyms.*\.csv(\.gz)?")
_OVERRIDES = {"name": ("name",), "atc3": ("atc3",), "reason": ("reason",)}
_DRUGS = {"name": ("drug",), "atc": ("atc3",)}
_INGREDIENTS = {
    "rxcui": ("in_rxcui", "rxcui"),
    "name": ("in_name", "name"),
    "atc": ("atc5", "atc4", "atc3", "atc"),
}
_SYNONYMS = {"variant": ("variant",), "canonical": ("canonical",)}
_ATC = re.compile(r"([A-Z][0-9]{2}[A-Z]([A-Z]([0-9]{2})?)?)?")
_LISTED = re.compile(r"exclude|[A-Z][0-9]{2}[A-Z](\|[A-Z][0-9]{2}[A-Z])*")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_WORD = re.compile(r"[0-9]+(?:\.[0-9]+)?(?: ?%)?|[a-z][a-z0-9]*")
_WORDS = 48  # of a text; what stands behind is not read

# Written short in orders.
_SHORT = {
    "na": "sodium", "sod": "sodium", "pot": "potassium", "chl": "chloride", "cl": "chloride",
    "mag": "magnesium", "sulf": "sulfate", "so4": "sulfate", "sulphate": "sulfate",
    "phos": "phosphate", "phosphates": "phosphate", "bicarb": "bicarbonate", "gluc": "gluconate",
    "hcl": "hydrochloride",
}  # fmt: skip
# The salt of a drug does not change its class: "ipratropium bromide" is known as "ipratropium".
_SALTS = _set(
    "acetate anhydrous besilate besylate bitartrate bromide calcium chloride citrate dihydrate "
    "disodium disoproxil fumarate gluconate hydrobromide hydrochloride lactate maleate mesilate "
    "mesylate monohydrate nitrate phosphate potassium propionate sodium succinate sulfate "
    "tartrate tosylate trihydrate"
)
# Without their salt these are elements and acids, not drugs.
_MINERALS = _set(
    "aluminium aluminum ammonium barium calcium cupric iron lithium magnesium manganese phosphate "
    "potassium sodium silver zinc"
)
# Forms, routes, units and places that lists of synonyms also know as brands or drugs.
_NOISE = _set(
    "g gm iv l lb lvp mcg meq mg ml mmol pf po "
    "abboject bag bags bolus bottle buccal cap caps capsule chew chewable cont cream dose dosing "
    "drip drop drops enema enteric excel extended film flex flush foam gel gran gram immediate "
    "in infusion inhaler inhalation inj injection insert intravenous irrigation ivpb jelly kit "
    "liquid liter long lotion lozenge mask mini nasal nebulizer oil ointment ophthalmic oral "
    "order pack packet patch piggyback plas plus pharmacy powder premix prefilled protocol "
    "pump rectal release ring rinse scale single sliding soln solution spray stick strip "
    "subcutaneous sublingual supp suppository susp suspension sustained swab syringe syrup tab "
    "table tablet tabs topical unit units vaginal vial wafer wash water"
)


class Match(NamedTuple):
    """What a name says.

    Attributes:
        step: how it was understood: `override`, `name` or `synonym` (the table that knows it),
            `excluded` (no drug for the patient) or `unknown`.
        classes: ATC classes of level 3, four characters; none in the last two steps.
    """

    step: Step
    classes: tuple[str, ...]


_UNKNOWN, _EXCLUDED = Match("unknown", ()), Match("excluded", ())
Known = dict[str, Match]  # by the words of the name, joined by blanks


@dataclass(frozen=True)
class DrugNames:
    """The names known, and what each says.

    Attributes:
        origin: the tables and the rule.
        known: by words in lower case joined by blanks.
        mixtures: classes of combinations, by the names of their drugs.
        rxcui: classes by the RXCUI of an ingredient; empty without a table of ingredients.
    """

    origin: Origin
    known: Mapping[str, Match]
    mixtures: Mapping[frozenset[str], Match]
    rxcui: Mapping[str, tuple[str, ...]]

    @cached_property
    def _longest(self) -> dict[str, int]:
        return _longest(self.known)

    def find(self, name: str) -> Match:
        """Returns the classes of a drug name as a prescription writes it."""
        runs = _runs(_words(name), self.known, self._longest)
        found = [(run, self.known[run]) for run in runs]
        drugs = [(run, match) for run, match in found if match.classes]
        if not drugs:
            return _EXCLUDED if found else _UNKNOWN
        mixture = frozenset(_bare(run) for run, _ in drugs)
        return self.mixtures.get(mixture, drugs[0][1])

    def exact(self, name: str) -> Match:
        """Returns the classes of a text that is a drug name and, maybe, a salt: nothing else."""
        key = _key(name)
        return self.known.get(key) or self.known.get(_bare(key)) or _UNKNOWN

    def of_ingredient(self, rxcui: str, name: str) -> tuple[str, ...]:
        """Returns the classes of an ingredient of RxNorm, by its name if its number is unknown."""
        return self.rxcui.get(rxcui) or self.exact(name).classes


def load_drug_names(folders: Sequence[Path], rule: Rule) -> DrugNames:
    """Returns the names of the embedded tables and of the tables found in folders.

    Args:
        folders: where tables of users are looked for, at any depth. Of two tables of one kind
            that know a name, the first by path counts.
        rule: which classes count of a drug that has several, see `medrec.knowledge.atc.choose`.

    Raises:
        KnowledgeError: a table is malformed.
    """
    overrides = read_table(_EMBEDDED / "drug_overrides.csv", _OVERRIDES, KnowledgeError)
    drugs = read_table(_EMBEDDED / "drugs.csv", _DRUGS, KnowledgeError)
    ingredients = _tables(folders, _INGREDIENT_FILES, _INGREDIENTS)
    synonyms = _tables(folders, _SYNONYM_FILES, _SYNONYMS)
    known = _overridden(overrides, rule)
    mixtures: dict[frozenset[str], Match] = {}
    # The embedded table has the one class that hospitals mostly give a drug for; tables of users
    # have all of them, of which a rule may want more.
    for table in [drugs, *ingredients] if rule == "systemic" else [*ingredients, drugs]:
        # "fluticasone propionate" here says what "fluticasone" says in a table before.
        names = _names(table, rule).items()
        known = {name: known.get(_bare(name), match) for name, match in names} | known
        mixtures = _mixtures(table, rule) | mixtures
    for name, match in _without_salt(known).items():
        known.setdefault(name, match)
    for table in synonyms:
        for name, match in _synonyms(table, known).items():
            known.setdefault(name, match)
    paths = [table.path for table in (overrides, drugs, *ingredients, *synonyms)]
    licence = "embedded tables: as this project; tables of users: their own terms"
    origin = Origin("Drug names", licence, digests(paths), {"rule": rule})
    return DrugNames(origin, known, mixtures, _rxcui(ingredients, rule))


def _tables(
    folders: Sequence[Path], pattern: re.Pattern[str], columns: Mapping[str, tuple[str, ...]]
) -> list[Table]:
    return [read_table(path, columns, KnowledgeError) for path in files_named(folders, pattern)]


def _words(text: str) -> list[str]:
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    words = [word.replace(" ", "") for word in _WORD.findall(text.lower())]
    return [_SHORT.get(word, word) for word in words[:_WORDS]]


def _key(text: str) -> str:
    return " ".join(_words(text))


def _longest(known: Iterable[str]) -> dict[str, int]:
    """Returns the number of words of the longest name that begins with each word."""
    longest: dict[str, int] = {}
    for name in known:
        first, _, rest = name.partition(" ")
        longest[first] = max(longest.get(first, 0), len(rest.split()) + 1)
    return longest


def _runs(
    words: list[str], known: Mapping[str, Match], longest: Mapping[str, int]
) -> Iterator[str]:
    """Yields the longest known run of words at each place that no run before it covers.

    A mineral alone, behind a word that is not known, is the salt of an unknown drug.
    """
    start = 0
    strange = False
    while start < len(words):
        furthest = start + longest.get(words[start], 0)
        for stop in range(min(furthest, len(words)), start, -1):
            run = " ".join(words[start:stop])
            if run in known and not (strange and run in _MINERALS):
                yield run
                start, strange = stop, False
                break
        else:
            strange = words[start][0].isalpha() and words[start] not in _NOISE
            start += 1


def _overridden(table: Table, rule: Rule) -> Known:
    rule_text = f"must be ATC classes as C03C|C03D, or `{_EXCLUDE}`"
    table.require("atc3", lambda value: bool(_LISTED.fullmatch(value)), rule_text)
    return {
        _key(name): _EXCLUDED
        if atc3 == _EXCLUDE
        else Match("override", choose(atc3.split("|"), rule))
        for name, atc3 in distinct_rows(table, "name", "atc3")
    }


def _names(table: Table, rule: Rule) -> Known:
    """Returns what each name says; names without class are left out."""
    table.require(
        "atc", lambda v: bool(_ATC.fullmatch(v.upper())), "must be an ATC code as C03C or C03CA01"
    )
    found: dict[str, list[str]] = {}
    for name, atc in distinct_rows(table, "name", "atc"):
        key = _key(name)
        if atc and _is_name(key):
            found.setdefault(key, []).append(atc[:4].upper())
    return {name: Match("name", choose(listed, rule)) for name, listed in found.items()}


def _mixtures(table: Table, rule: Rule) -> dict[frozenset[str], Match]:
    """Returns the classes of RxNorm's combinations, written "codeine / paracetamol"."""
    found: dict[frozenset[str], list[str]] = {}
    for name, atc in distinct_rows(table, "name", "atc"):
        if atc and " / " in name:
            parts = frozenset(_bare(_key(part)) for part in name.split(" / "))
            found.setdefault(parts, []).append(atc[:4].upper())
    return {parts: Match("name", choose(listed, rule)) for parts, listed in found.items()}


def _rxcui(tables: Iterable[Table], rule: Rule) -> dict[str, tuple[str, ...]]:
    classes: dict[str, tuple[str, ...]] = {}
    for table in tables:
        found: dict[str, list[str]] = {}
        for rxcui, atc in distinct_rows(table, "rxcui", "atc"):
            if atc:
                found.setdefault(rxcui, []).append(atc[:4].upper())
        classes = {rxcui: choose(listed, rule) for rxcui, listed in found.items()} | classes
    return classes


def _is_name(key: str) -> bool:
    words = key.split()
    said_little = (w in _NOISE or w in _SALTS or not w[0].isalpha() for w in words)
    return len(key) > 2 and not all(said_little)


def _bare(key: str) -> str:
    """Returns the name without the salts at its end, unless only a mineral would remain."""
    words = key.split()
    while len(words) > 1 and words[-1] in _SALTS and words[-2] not in _MINERALS:
        words.pop()
    return " ".join(words)


def _without_salt(known: Known) -> Known:
    found: Known = {}
    for name in sorted(known):
        bare = _bare(name)
        if bare != name and _is_name(bare):
            found.setdefault(bare, known[name])
    return found


def _synonyms(table: Table, known: Known) -> Known:
    """Returns what each variant says: what its canonical name says, or else a fellow variant.

    A fellow helps where the list and the tables of drugs have different canonical names, US and
    international, say. A variant of several canonical names follows the first in the alphabet.
    """
    keys = {name: _key(name) for name in set(table["canonical"].names)}
    variants: dict[str, set[str]] = {}
    for variant, canonical in distinct_rows(table, "variant", "canonical"):
        if canonical and _is_name(key := _key(variant)) and len(key) > 3:
            variants.setdefault(keys[canonical], set()).add(key)
    longest = _longest(known)
    found: Known = {}
    for canonical in sorted(variants):
        fellows = (known[key] for key in sorted(variants[canonical]) if key in known)
        runs = (known[run] for run in _runs(canonical.split(), known, longest))
        said = next((match for match in (*runs, *fellows) if match.classes), None)
        if said is not None:
            for key in variants[canonical]:
                found.setdefault(key, Match("synonym", said.classes))
    return found
