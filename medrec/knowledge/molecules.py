"""Molecule graphs of the drug classes: atom environments, bonds and BRICS fragments.

Atoms are the heavy atoms; hydrogens stay implicit. An atom's fingerprint is the number of its
radius-2 environment under Weisfeiler-Lehman refinement (Tsubaki et al., Bioinformatics 2019, whose
ids SafeDrug takes as tokens). Fragments come from cutting all BRICS bonds of a molecule at once;
each keeps its dummy atoms, e.g. [16*]c1ccccc1, so that the same ring cut at other bonds differs.

Whatever is numbered is sorted first: the numbers depend on the set of molecules, not on hash
seeds or on the order of processing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from jaxtyping import Bool, Int64

from medrec.knowledge.cache import Entry, cached

SCHEMA = 2  # of what is cached
RADIUS = 2
_ARRAYS = ("fingerprint", "bonds", "molecule", "drug", "contains")
Key = TypeVar("Key", bound=tuple[Any, ...])
Pair = tuple[int, int]


@dataclass(frozen=True)
class Molecules:
    """Molecule graphs of all drug classes in one flat graph, and BRICS fragments.

    Attributes:
        fingerprint: radius-2 Weisfeiler-Lehman id of each atom, 0..fingerprints-1.
        fingerprints: number of distinct ids.
        bonds: ordered pairs of bonded atoms, both directions, ascending.
        molecule: molecule of each atom; a salt is one molecule.
        drug: drug class of each molecule, ascending.
        fragments: BRICS fragments as SMILES with dummy atoms, sorted.
        contains: whether some molecule of the class has the fragment.
    """

    fingerprint: Int64[np.ndarray, " atoms"]
    fingerprints: int
    bonds: Int64[np.ndarray, "bonds 2"]
    molecule: Int64[np.ndarray, " atoms"]
    drug: Int64[np.ndarray, " molecules"]
    fragments: tuple[str, ...]
    contains: Bool[np.ndarray, "drugs fragments"]


def build_molecules(structures: Sequence[tuple[str, ...]]) -> Molecules:
    """Returns the graphs of all molecules.

    Args:
        structures: SMILES of each drug class, maybe none.

    Raises:
        KnowledgeError: a SMILES is none to RDKit.
    """
    drug = [index for index, smiles in enumerate(structures) for _ in smiles]
    parsed = [_parse(text) for smiles in structures for text in smiles]
    counts = np.array([molecule.GetNumAtoms() for molecule in parsed], dtype=np.int64)
    atoms, bonds = _flat_graph(parsed)
    fingerprint, distinct = weisfeiler_lehman(atoms, bonds, RADIUS)
    fragments, contains = _fragment_table(parsed, drug, len(structures))
    return Molecules(
        fingerprint=np.array(fingerprint, dtype=np.int64),
        fingerprints=distinct,
        bonds=np.array(sorted(bonds), dtype=np.int64).reshape(-1, 2),
        molecule=np.repeat(np.arange(len(parsed), dtype=np.int64), counts),
        drug=np.array(drug, dtype=np.int64),
        fragments=fragments,
        contains=contains,
    )


def load_molecules(structures: Sequence[tuple[str, ...]], cache: Path | None) -> Molecules:
    """Returns `build_molecules(structures)`, kept in the folder `cache` if there is one.

    Raises:
        KnowledgeError: a SMILES is none to RDKit.
    """
    import rdkit

    key = [SCHEMA, RADIUS, rdkit.__version__, [list(smiles) for smiles in structures]]
    entry = cached(cache, "molecules", key, lambda: _entry(build_molecules(structures)))
    # Copies: torch warns of arrays that cannot be written to, and these are small.
    return Molecules(
        **{name: np.array(entry.arrays[name]) for name in _ARRAYS},
        fingerprints=entry.facts["fingerprints"],
        fragments=tuple(entry.facts["fragments"]),
    )


def weisfeiler_lehman(
    atoms: Sequence[tuple[str, bool]], bonds: dict[Pair, str], radius: int
) -> tuple[list[int], int]:
    """Returns the id of each atom's environment of that radius, and how many there are.

    Round 0 numbers (element, aromatic) and the bond types. Each round gives an atom the number of
    (own id, sorted (neighbour id, bond id)), then a bond that of (sorted new ids of its ends, own
    id).

    Args:
        atoms: element symbol of each atom and whether it is aromatic.
        bonds: type of each ordered pair of bonded atoms, both directions.
        radius: rounds, at least 0.
    """
    ids = _number(list(atoms))
    bond_ids = dict(zip(bonds, _number([(kind,) for kind in bonds.values()]), strict=True))
    for _ in range(radius):
        around: list[list[Pair]] = [[] for _ in ids]
        for (a, b), bond in bond_ids.items():
            around[a].append((ids[b], bond))
        ids = _number([(own, tuple(sorted(near))) for own, near in zip(ids, around, strict=True)])
        ends = [(*sorted((ids[a], ids[b])), bond) for (a, b), bond in bond_ids.items()]
        bond_ids = dict(zip(bond_ids, _number(ends), strict=True))
    return ids, len(set(ids))


def _number(keys: Sequence[Key]) -> list[int]:
    index = {key: i for i, key in enumerate(sorted(set(keys)))}
    return [index[key] for key in keys]


def _parse(smiles: str) -> Any:
    from rdkit import Chem

    from medrec.knowledge.tables import canonical_smiles

    # Reading the canonical form back makes the atom order one of the molecule, not of its writer.
    return Chem.MolFromSmiles(canonical_smiles(smiles, "Structures of the drug classes"))


def _flat_graph(parsed: Sequence[Any]) -> tuple[list[tuple[str, bool]], dict[Pair, str]]:
    """Returns atoms and bonds of all molecules, atoms numbered through."""
    atoms: list[tuple[str, bool]] = []
    bonds: dict[Pair, str] = {}
    for molecule in parsed:
        first = len(atoms)
        atoms += [(atom.GetSymbol(), atom.GetIsAromatic()) for atom in molecule.GetAtoms()]
        for bond in molecule.GetBonds():
            a, b = first + bond.GetBeginAtomIdx(), first + bond.GetEndAtomIdx()
            bonds[a, b] = bonds[b, a] = str(bond.GetBondType())
    return atoms, bonds


def _fragment_table(
    parsed: Sequence[Any], drug: Sequence[int], drugs: int
) -> tuple[tuple[str, ...], Bool[np.ndarray, "drugs fragments"]]:
    found = [_fragments(molecule) for molecule in parsed]
    names = tuple(sorted(set().union(*found)))
    index = {name: i for i, name in enumerate(names)}
    contains = np.zeros((drugs, len(names)), dtype=bool)
    for row, fragments in zip(drug, found, strict=True):
        contains[row, [index[name] for name in fragments]] = True
    return names, contains


def _fragments(molecule: Any) -> set[str]:
    # One cut of all bonds: exhaustive recursion grows exponentially with large molecules.
    from rdkit import Chem
    from rdkit.Chem import BRICS

    cut = cast(Any, BRICS).BreakBRICSBonds(molecule)
    pieces = Chem.GetMolFrags(cut, asMols=True)
    return {str(Chem.MolToSmiles(piece)) for piece in pieces}


def _entry(molecules: Molecules) -> Entry:
    return Entry(
        {name: getattr(molecules, name) for name in _ARRAYS},
        {"fingerprints": molecules.fingerprints, "fragments": molecules.fragments},
    )
