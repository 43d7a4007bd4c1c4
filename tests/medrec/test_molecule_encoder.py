"""The molecule encoder against message passing atom by atom."""

import numpy as np
import pytest
import torch

from medrec.knowledge.molecules import build_molecules
from medrec.molecule_encoder import MoleculeEncoder
from tests.medrec.small import shaken

# acetaminophen and aspirin; none; metformin; sodium fluoride (two atoms without a bond);
# neopentane and benzene, whose atoms look alike; water, a single atom
STRUCTURES = (
    ("CC(=O)Nc1ccc(O)cc1", "CC(=O)Oc1ccccc1C(=O)O"),
    (),
    ("CN(C)C(=N)NC(=N)N",),
    ("[F-].[Na+]",),
    ("CC(C)(C)C", "c1ccccc1"),
    ("O",),
)
DIM = 5


def by_atom(encoder, molecules, layers, readout):
    """The definition: each atom adds its neighbours, layer by layer, in double precision."""
    neighbours = [[] for _ in molecules.fingerprint]
    for a, b in molecules.bonds.tolist():
        neighbours[a].append(b)
    table = encoder.embedding.weight.double()
    x = [table[int(token)] for token in molecules.fingerprint]
    for layer in range(layers):
        update = encoder.updates[layer]
        weight, bias = update.weight.double(), update.bias.double()
        y = [torch.relu(weight @ atom + bias) for atom in x]
        x = [y[a] + sum((y[b] for b in near), torch.zeros(DIM).double())
             for a, near in enumerate(neighbours)]  # fmt: skip
    rows = []
    for drug in range(len(STRUCTURES)):
        vectors = []
        for molecule in np.flatnonzero(molecules.drug == drug):
            atoms = [x[a] for a in np.flatnonzero(molecules.molecule == molecule)]
            total = torch.stack(atoms).sum(dim=0)
            vectors.append(total / len(atoms) if readout == "mean" else total)
        rows.append(torch.stack(vectors).mean(dim=0) if vectors else torch.zeros(DIM).double())
    return torch.stack(rows)


@pytest.fixture(scope="module")
def molecules():
    return build_molecules(STRUCTURES)


def build(molecules, layers, readout):
    encoder = MoleculeEncoder(molecules, len(STRUCTURES), DIM, layers, readout)
    return shaken(encoder, seed=layers)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("readout", ["sum", "mean"])
def test_it_equals_the_loop_over_atoms(molecules, layers, readout):
    encoder = build(molecules, layers, readout)
    expected = by_atom(encoder, molecules, layers, readout)
    torch.testing.assert_close(encoder().double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_its_gradients_equal_those_of_the_loop(molecules, layers):
    encoder = build(molecules, layers, "sum")
    weights = torch.from_numpy(np.random.default_rng(0).normal(size=(len(STRUCTURES), DIM)))
    parameters = list(encoder.parameters())
    mine = torch.autograd.grad((encoder() * weights.float()).sum(), parameters)
    loop = by_atom(encoder, molecules, layers, "sum")
    theirs = torch.autograd.grad((loop * weights).sum(), parameters)
    for one, two in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layers", [1, 3])
def test_a_class_without_structure_is_zero(molecules, layers):
    found = build(molecules, layers, "sum")()
    assert found[1].tolist() == [0.0] * DIM
    assert (found.abs().sum(dim=1) > 0).tolist() == [True, False, True, True, True, True]


def test_sum_and_mean_differ_by_the_number_of_atoms():
    ethanol = build_molecules((("CCO",),))
    total, mean = (
        shaken(MoleculeEncoder(ethanol, 1, DIM, 2, readout), seed=1)()
        for readout in ("sum", "mean")
    )
    torch.testing.assert_close(total, 3 * mean)
