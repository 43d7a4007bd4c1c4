"""The clinical tables behind the synthetic cohort: conditions, their codes and treatments.

`embedded/conditions.csv` has one line a condition, `embedded/pools.csv` one line a pool of codes
that appear beside any condition. Codes are ICD-9-CM without dots (ICD-9-CM is in the public
domain), drugs are ATC level 3. Frequencies and treatments are the authors' rough clinical
judgement, made for testing software; they are no evidence about care.

Patterns are written so that every expansion is a real code:

    428(0|2[0-3]|9)   4280 42820 42821 42822 42823 4289
    [..]              one character out of a list; a-b stands for a range
    (..|..)           one of the alternatives, which may hold lists but no further groups
"""

import csv
import itertools
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from medrec.errors import InputError


@dataclass(frozen=True)
class Treatment:
    """What a condition is treated with.

    Attributes:
        classes: ATC level 3 classes of which one is given; earlier ones are commoner.
        probability: that a patient with the condition gets it at a visit, in [0, 1].
    """

    classes: tuple[str, ...]
    probability: float


@dataclass(frozen=True)
class Condition:
    """A clinical condition.

    Attributes:
        name: unique.
        chronic: stays with the patient once it is there; otherwise drawn anew at each visit.
        prevalence: share of patients (chronic) or visits (acute) in a typical hospital, in (0, 1].
        age: change of its log-odds per 15 years of age.
        sex: "F" or "M" where it is commoner in one sex, otherwise "".
        system: conditions of one system tend to come together.
        diagnoses: ICD-9-CM codes, commoner ones first.
        procedure_rate: mean number of procedures at a visit with the condition.
        procedures: ICD-9-CM volume 3 codes, commoner ones first.
        treatments: independent of one another.
    """

    name: str
    chronic: bool
    prevalence: float
    age: float
    sex: str
    system: str
    diagnoses: tuple[str, ...]
    procedure_rate: float
    procedures: tuple[str, ...]
    treatments: tuple[Treatment, ...]


@dataclass(frozen=True)
class Pool:
    """Codes that any visit may have, commoner ones first, and the pool's share of such codes."""

    name: str
    kind: Literal["diagnoses", "procedures"]
    weight: float
    codes: tuple[str, ...]


def expand(pattern: str) -> tuple[str, ...]:
    """Returns the codes that one pattern stands for, in the order written.

    Raises:
        InputError: a bracket is not closed, or nothing stands between brackets.

    Example:
        >>> expand("428(0|2[0-2])")
        ('4280', '42820', '42821', '42822')
    """
    return tuple("".join(parts) for parts in itertools.product(*_parts(pattern)))


def expand_all(patterns: str) -> tuple[str, ...]:
    """Returns the codes of patterns separated by blanks, each once, in the order written.

    Example:
        >>> expand_all("486 48[56]")
        ('486', '485')
    """
    return tuple(dict.fromkeys(code for text in patterns.split() for code in expand(text)))


def read_conditions() -> tuple[Condition, ...]:
    """Returns the embedded conditions in the order of the file."""
    return tuple(_condition(row) for row in _rows("conditions.csv"))


def read_pools() -> tuple[Pool, ...]:
    """Returns the embedded pools; a diagnosis that belongs to a condition is in no pool.

    So a diagnosis code tells its condition without doubt.
    """
    taken = {code for condition in read_conditions() for code in condition.diagnoses}
    pools = []
    for row in _rows("pools.csv"):
        kind: Literal["diagnoses", "procedures"] = (
            "diagnoses" if row["kind"] == "diagnoses" else "procedures"
        )
        codes = expand_all(row["patterns"])
        if kind == "diagnoses":
            codes = tuple(code for code in codes if code not in taken)
            taken.update(codes)
        pools.append(Pool(row["pool"], kind, float(row["weight"]), codes))
    return tuple(pools)


def drug_classes(conditions: tuple[Condition, ...]) -> tuple[str, ...]:
    """Returns every ATC class that a condition is treated with, sorted."""
    return tuple(
        sorted({code for c in conditions for t in c.treatments for code in t.classes}),
    )


def _rows(name: str) -> list[dict[str, str]]:
    text = resources.files("medrec.datasets.embedded").joinpath(name).read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))


def _condition(row: dict[str, str]) -> Condition:
    return Condition(
        name=row["condition"],
        chronic=row["chronic"] == "1",
        prevalence=float(row["prevalence"]),
        age=float(row["age"]),
        sex=row["sex"],
        system=row["system"],
        diagnoses=expand_all(row["diagnoses"]),
        procedure_rate=float(row["procedure_rate"]),
        procedures=expand_all(row["procedures"]),
        treatments=tuple(_treatment(text) for text in row["treatments"].split()),
    )


def _treatment(text: str) -> Treatment:
    classes, _, probability = text.partition(":")
    return Treatment(tuple(classes.split("|")), float(probability))


def _parts(pattern: str) -> list[tuple[str, ...]]:
    """Returns, for each place of a pattern, what may stand there."""
    closing = {"[": "]", "(": ")"}
    parts: list[tuple[str, ...]] = []
    at = 0
    while at < len(pattern):
        if pattern[at] not in closing:
            parts.append((pattern[at],))
            at += 1
            continue
        end = pattern.find(closing[pattern[at]], at)
        if end <= at + 1:
            raise InputError(
                f"Code pattern {pattern!r}: the bracket at character {at + 1} is empty or not "
                f"closed. Write a list such as [0-3] or alternatives such as (0|1[0-9])."
            )
        inside = pattern[at + 1 : end]
        parts.append(_listed(inside) if pattern[at] == "[" else _alternatives(inside))
        at = end + 1
    return parts


def _alternatives(inside: str) -> tuple[str, ...]:
    return tuple(code for text in inside.split("|") for code in expand(text))


def _listed(inside: str) -> tuple[str, ...]:
    characters: list[str] = []
    at = 0
    while at < len(inside):
        if inside[at + 1 : at + 2] == "-" and at + 2 < len(inside):
            characters += [chr(c) for c in range(ord(inside[at]), ord(inside[at + 2]) + 1)]
            at += 3
        else:
            characters.append(inside[at])
            at += 1
    return tuple(characters)
