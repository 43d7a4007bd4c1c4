"""Message passing over all molecules at once, each distinct atom environment computed once.

Equation of a layer (SafeDrug; Tsubaki et al. 2019): x ← relu(W x + b) + Σ_neighbours relu(W x + b)
Then x is summed (or averaged) over a molecule's atoms, and molecules averaged over a drug class.

Two atoms with the same environment so far have the same x. So layer k keeps one row for each
distinct environment of depth k (colour refinement), and since everything after the last relu is
linear, last step, read-out and class average are one sparse matrix. Exact, up to the order of
sums; for the embedded drug table it does about half the work of one row an atom.
"""

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy import sparse
from torch import Tensor, nn

from medrec.knowledge.molecules import Molecules
from medrec.layers import SparseProduct


class MoleculeEncoder(nn.Module):
    """Learned representation of each drug class from its molecules; zero where there is none."""

    def __init__(
        self, molecules: Molecules, drugs: int, dim: int, layers: int, readout: str
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(max(molecules.fingerprints, 1), dim)
        self.updates = nn.ModuleList(nn.Linear(dim, dim) for _ in range(layers))
        neighbours = _neighbours(molecules)
        environment = molecules.fingerprint
        steps = []
        for _ in range(layers - 1):
            refined, rows = _refine(environment, neighbours)
            steps.append(SparseProduct(sparse_tensor(_collapse(environment, neighbours)[rows])))
            environment = refined
        self.steps = nn.ModuleList(steps)
        pool = _pool(molecules, drugs, readout)
        self.readout = SparseProduct(sparse_tensor(pool @ _collapse(environment, neighbours)))

    def forward(self) -> Float[Tensor, "drugs dim"]:
        """Returns one vector a drug class."""
        x = self.embedding.weight
        for update, step in zip(self.updates, self.steps, strict=False):
            x = step(torch.relu(update(x)))
        return self.readout(torch.relu(self.updates[-1](x)))


def _neighbours(molecules: Molecules) -> sparse.csr_matrix:
    """Returns the atoms' adjacency matrix."""
    atoms = len(molecules.fingerprint)
    ones = np.ones(len(molecules.bonds))
    return sparse.csr_matrix((ones, molecules.bonds.T), shape=(atoms, atoms))


def _collapse(
    environment: Int64[np.ndarray, " atoms"], neighbours: sparse.csr_matrix
) -> sparse.csr_matrix:
    """Returns (I + A) from environments to atoms: row a sums x over atom a and its neighbours."""
    atoms = len(environment)
    pick = sparse.csr_matrix(
        (np.ones(atoms), (np.arange(atoms), environment)),
        shape=(atoms, int(environment.max(initial=-1)) + 1),
    )
    return (pick + neighbours @ pick).tocsr()


def _refine(
    environment: Int64[np.ndarray, " atoms"], neighbours: sparse.csr_matrix
) -> tuple[Int64[np.ndarray, " atoms"], Int64[np.ndarray, " environments"]]:
    """Returns each atom's environment one bond deeper, and an atom that has each of them.

    What matters is the row of (I + A): atoms with equal rows have equal x after the layer.
    """
    return distinct_rows(_collapse(environment, neighbours))


def distinct_rows(
    rows: sparse.csr_matrix,
) -> tuple[Int64[np.ndarray, " rows"], Int64[np.ndarray, " distinct"]]:
    """Returns the number of each row, equal rows sharing one, and a row that has each number."""
    rows.sort_indices()
    seen: dict[bytes, int] = {}
    number = np.empty(rows.shape[0], dtype=np.int64)
    representatives = []
    for row in range(rows.shape[0]):
        span = slice(rows.indptr[row], rows.indptr[row + 1])
        signature = rows.indices[span].tobytes() + rows.data[span].tobytes()
        if signature not in seen:
            seen[signature] = len(seen)
            representatives.append(row)
        number[row] = seen[signature]
    return number, np.array(representatives, dtype=np.int64)


def _pool(molecules: Molecules, drugs: int, readout: str) -> sparse.csr_matrix:
    """Returns [drugs, atoms]: read-out over atoms, then the mean over a class's molecules."""
    per_molecule = np.bincount(molecules.molecule, minlength=len(molecules.drug))
    per_drug = np.bincount(molecules.drug, minlength=drugs)
    drug = molecules.drug[molecules.molecule]
    weight = 1.0 / per_drug[drug]
    if readout == "mean":
        weight = weight / per_molecule[molecules.molecule]
    atoms = len(molecules.fingerprint)
    return sparse.csr_matrix((weight, (drug, np.arange(atoms))), shape=(drugs, atoms))


def sparse_tensor(matrix: sparse.csr_matrix) -> Float[Tensor, "rows columns"]:
    """Returns the matrix as torch keeps sparse ones, in coordinate form."""
    coordinates = matrix.tocoo()
    index = torch.from_numpy(np.stack([coordinates.row, coordinates.col]).astype(np.int64))
    values = torch.from_numpy(coordinates.data.astype(np.float32))
    return torch.sparse_coo_tensor(index, values, coordinates.shape, check_invariants=True)
