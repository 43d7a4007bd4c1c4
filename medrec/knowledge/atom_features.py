"""Molecules as graphs with the categorical features of atoms and bonds that graph networks read.

Features and their values are those of the Open Graph Benchmark (Hu et al., NeurIPS 2020): nine of
an atom, three of a bond. A value that a list does not name counts as its last one, `other`.
Atoms are the heavy atoms and, in fragments, the dummies where a bond was cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from medrec.errors import KnowledgeError
from medrec.knowledge.cache import Entry, cached

SCHEMA = 1  # of what is cached
OTHER = "other"

ATOM_FEATURES: dict[str, tuple[Any, ...]] = {
    "atomic number": (*range(1, 119), OTHER),
    "chirality": (
        "CHI_UNSPECIFIED", "CHI_TETRAHEDRAL_CW", "CHI_TETRAHEDRAL_CCW", "CHI_OTHER", OTHER,
    ),
    "degree": (*range(11), OTHER),
    "formal charge": (*range(-5, 6), OTHER),
    "hydrogens": (*range(9), OTHER),
    "radical electrons": (*range(5), OTHER),
    "hybridisation": ("SP", "SP2", "SP3", "SP3D", "SP3D2", OTHER),
    "aromatic": (False, True),
    "in a ring": (False, True),
}  # fmt: skip
BOND_FEATURES: dict[str, tuple[Any, ...]] = {
    "type": ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC", OTHER),
    "stereo": (
        "STEREONONE", "STEREOZ", "STEREOE", "STEREOCIS", "STEREOTRANS", "STEREOANY", OTHER,
    ),
    "conjugated": (False, True),
}  # fmt: skip
_ARRAYS = ("atoms", "graph", "bonds", "bond_features")


@dataclass(frozen=True)
class FeatureGraphs:
    """Several molecules in one flat graph.

    Attributes:
        atoms: place of each atom's value in each list of `ATOM_FEATURES`.
        graph: molecule of each atom, ascending.
        bonds: ordered pairs of bonded atoms, both directions.
        bond_features: place of each bond's value in each list of `BOND_FEATURES`.
        graphs: number of molecules.
    """

    atoms: Int64[np.ndarray, "atoms traits"]
    graph: Int64[np.ndarray, " atoms"]
    bonds: Int64[np.ndarray, "bonds 2"]
    bond_features: Int64[np.ndarray, "bonds kinds"]
    graphs: int


def build_graphs(smiles: Sequence[str]) -> FeatureGraphs:
    """Returns the graphs of molecules or fragments.

    Raises:
        KnowledgeError: one is none to RDKit.

    Example:
        >>> build_graphs(["CO", "[Na+]"]).graph.tolist()
        [0, 0, 1]
    """
    atoms: list[list[int]] = []
    graph: list[int] = []
    bonds: list[tuple[int, int]] = []
    kinds: list[list[int]] = []
    for number, text in enumerate(smiles):
        molecule, first = _parse(text), len(atoms)
        atoms += [_places(ATOM_FEATURES, _of_atom(atom)) for atom in molecule.GetAtoms()]
        graph += [number] * (len(atoms) - first)
        for bond in molecule.GetBonds():
            a, b = first + bond.GetBeginAtomIdx(), first + bond.GetEndAtomIdx()
            bonds += [(a, b), (b, a)]
            kinds += [_places(BOND_FEATURES, _of_bond(bond))] * 2
    return FeatureGraphs(
        atoms=np.array(atoms, dtype=np.int64).reshape(-1, len(ATOM_FEATURES)),
        graph=np.array(graph, dtype=np.int64),
        bonds=np.array(bonds, dtype=np.int64).reshape(-1, 2),
        bond_features=np.array(kinds, dtype=np.int64).reshape(-1, len(BOND_FEATURES)),
        graphs=len(smiles),
    )


def load_graphs(smiles: Sequence[str], cache: Path | None) -> FeatureGraphs:
    """Returns `build_graphs(smiles)`, kept in the folder `cache` if there is one.

    Raises:
        KnowledgeError: one is none to RDKit.
    """
    import rdkit

    key = [SCHEMA, rdkit.__version__, list(smiles)]
    entry = cached(cache, "atom_features", key, lambda: _entry(build_graphs(smiles)))
    arrays = {name: np.array(entry.arrays[name]) for name in _ARRAYS}
    return FeatureGraphs(**arrays, graphs=len(smiles))


def _entry(graphs: FeatureGraphs) -> Entry:
    return Entry({name: getattr(graphs, name) for name in _ARRAYS})


def _parse(text: str) -> Any:
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(text)
    if molecule is None:
        raise KnowledgeError(f"RDKit reads no molecule from {text!r}. Mend it or leave it out.")
    return molecule


def _of_atom(atom: Any) -> tuple[Any, ...]:
    return (
        atom.GetAtomicNum(),
        str(atom.GetChiralTag()),
        atom.GetTotalDegree(),
        atom.GetFormalCharge(),
        atom.GetTotalNumHs(),
        atom.GetNumRadicalElectrons(),
        str(atom.GetHybridization()),
        atom.GetIsAromatic(),
        atom.IsInRing(),
    )


def _of_bond(bond: Any) -> tuple[Any, ...]:
    return str(bond.GetBondType()), str(bond.GetStereo()), bond.GetIsConjugated()


def _places(features: dict[str, tuple[Any, ...]], values: tuple[Any, ...]) -> list[int]:
    pairs = zip(features.values(), values, strict=True)
    return [known.index(value) if value in known else len(known) - 1 for known, value in pairs]
