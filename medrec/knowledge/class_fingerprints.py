"""Fixed vectors of drug classes: what substructures their molecules have, and how often."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from jaxtyping import Float32

from medrec.knowledge.tables import canonical_smiles

RADIUS = 2


def class_fingerprints(
    structures: Sequence[tuple[str, ...]], width: int
) -> Float32[np.ndarray, "drugs width"]:
    """Returns the mean Morgan count fingerprint of each class's molecules, at length 1.

    A class without a structure has the zero vector.

    Args:
        structures: SMILES of each drug class, maybe none.
        width: numbers of a vector, onto which environments of radius 2 are hashed.

    Raises:
        KnowledgeError: a SMILES is none to RDKit.
    """
    from rdkit import Chem
    from rdkit.Chem import rdFingerprintGenerator

    generator = cast(Any, rdFingerprintGenerator).GetMorganGenerator(radius=RADIUS, fpSize=width)
    vectors = np.zeros((len(structures), width), dtype=np.float32)
    for drug, smiles in enumerate(structures):
        for text in smiles:
            canonical = canonical_smiles(text, "Structures of the drug classes")
            molecule = Chem.MolFromSmiles(canonical)
            vectors[drug] += generator.GetCountFingerprintAsNumPy(molecule) / len(smiles)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
