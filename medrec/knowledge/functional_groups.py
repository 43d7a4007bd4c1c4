"""Functional groups of molecules, and the structures of drug classes from DrugCentral.

The ten groups and their patterns are those of BH3-MedRec. They are wider than their names where
the patterns are: `carboxyl` finds esters too, `ketone` each carbonyl beside carbon, and `ester`
none at a carbon with exactly one hydrogen (an isopropyl ester), for `!H` says just that.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from medrec.errors import KnowledgeError
from medrec.knowledge.drug_names import DrugNames
from medrec.knowledge.origin import Origin
from medrec.knowledge.tables import canonical_smiles
from medrec.raw_files import read_table
from medrec.raw_table import Table, digests

SMARTS = {
    "hydroxyl": "[OH]",
    "carboxyl": "C(=O)O",
    "amine": "[NH2]",
    "sulfhydryl": "[SH]",
    "aldehyde": "[CX3H1](=O)[#6]",
    "ketone": "[CX3](=O)[#6]",
    "aromatic": "c1ccccc1",
    "ether": "[CX4][OX2][CX4]",
    "phenol": "c[OH]",
    "ester": "C(=O)O[C;!H]",
}
_DRUGCENTRAL = {"smiles": ("smiles",), "name": ("inn",)}


@dataclass(frozen=True)
class Structures:
    """Molecules of drug classes.

    Attributes:
        origin: where they come from.
        smiles: canonical SMILES of each ATC class of level 3, sorted and unique.
        failures: drugs whose structure RDKit cannot read, sorted; they are left out.
    """

    origin: Origin
    smiles: dict[str, tuple[str, ...]]
    failures: tuple[str, ...]


def functional_groups(smiles: Sequence[str]) -> Bool[np.ndarray, "molecules 10"]:
    """Returns which of the ten groups, in the order of `SMARTS`, each molecule has.

    Raises:
        KnowledgeError: a SMILES is none to RDKit; see `readable`.
    """
    from rdkit import Chem

    patterns = [Chem.MolFromSmarts(pattern) for pattern in SMARTS.values()]
    found = np.zeros((len(smiles), len(patterns)), dtype=bool)
    for row, text in enumerate(smiles):
        molecule = _molecule(text)
        found[row] = [molecule.HasSubstructMatch(pattern) for pattern in patterns]
    return found


def parent_structure(smiles: str) -> str:
    """Returns the largest part of a salt or mixture, as canonical SMILES.

    The part with most heavy atoms; of equals the one whose SMILES is first in the alphabet.

    Raises:
        KnowledgeError: RDKit cannot read it.
    """
    from rdkit import Chem

    parts = Chem.GetMolFrags(_molecule(smiles), asMols=True)
    ranked = sorted((-part.GetNumHeavyAtoms(), str(Chem.MolToSmiles(part))) for part in parts)
    return ranked[0][1]


def readable(smiles: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns what RDKit can read, as canonical SMILES, and what it cannot, both in order."""
    kept, failures = [], []
    for text in smiles:
        try:
            kept.append(canonical_smiles(text, "structure"))
        except KnowledgeError:
            failures.append(text)
    return tuple(kept), tuple(failures)


def load_drugcentral(path: Path, names: DrugNames, *, parents: bool = True) -> Structures:
    """Returns the molecules of each drug class whose drugs DrugCentral has.

    A molecule counts in the classes that `names` gives its international name (INN), which must
    be known as a whole; with the rule `all` a drug counts in every class of it.

    Args:
        path: tab-separated table with the columns SMILES and INN.
        names: drug names.
        parents: take the largest part of a salt.

    Raises:
        KnowledgeError: the file is missing or malformed, or holds no drug known.
    """
    table = read_table(path, _DRUGCENTRAL, KnowledgeError, delimiter="\t")
    found: dict[str, set[str]] = {}
    failures: set[str] = set()
    for name, text in _rows(table):
        classes = names.exact(name).classes
        kept = readable([text])[0] if classes else ()
        if classes and not kept:
            failures.add(name)
        for smiles in kept:
            parent = parent_structure(smiles) if parents else smiles
            for code in classes:
                found.setdefault(code, set()).add(parent)
    if not found:
        raise KnowledgeError(
            f"{path} must hold drugs with a structure whose names are known, but has none. "
            "Give tables of drug names too, or use the file as published."
        )
    origin = Origin(
        "DrugCentral structures",
        "CC BY-SA 4.0; classes: terms of the tables of drug names",
        digests([path]) | names.origin.inputs,
        names.origin.rules | {"salts": "largest part" if parents else "whole"},
    )
    smiles_of = {code: tuple(sorted(found[code])) for code in sorted(found)}
    return Structures(origin, smiles_of, tuple(sorted(failures)))


def _rows(table: Table) -> set[tuple[str, str]]:
    names, smiles = table["name"], table["smiles"]
    pairs = set(zip(names.index.tolist(), smiles.index.tolist(), strict=True))
    return {(names.names[i], smiles.names[j]) for i, j in pairs}


def _molecule(smiles: str) -> Any:
    from rdkit import Chem

    return Chem.MolFromSmiles(canonical_smiles(smiles, "structure"))
