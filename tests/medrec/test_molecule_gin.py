"""The molecule network against message passing atom by atom."""

import numpy as np
import pytest
import torch
from rdkit import Chem

from medrec.errors import KnowledgeError
from medrec.knowledge.atom_features import ATOM_FEATURES, BOND_FEATURES, build_graphs, load_graphs
from medrec.molecule_gin import GraphIsomorphismEncoder
from tests.medrec.small import shaken

# Two of one group; sodium fluoride (two atoms without a bond); neopentane and benzene, whose atoms
# look alike; two fragments with a dummy; (E)-2-butene; water, a single atom
SMILES = ("CC(=O)Nc1ccc(O)cc1", "CC(=O)Oc1ccccc1C(=O)O", "[F-].[Na+]", "CC(C)(C)C", "c1ccccc1",
          "[16*]c1ccccc1", "[1*]C(C)=O", "C/C=C/C", "O")  # fmt: skip
GROUP = np.array([0, 0, 2, 3, 3, 4, 5, 6, 7])
GROUPS = 8  # of which 1 has no molecule
DIM, HIDDEN = 6, 5


def start_of(encoder, text):
    """The sum of the vectors of each atom's features; vectors stand feature after feature."""
    graph, table = build_graphs([text]), encoder.embedding.double()
    found = []
    for row in graph.atoms:
        first, total = 0, torch.zeros(DIM).double()
        for place, known in zip(row, ATOM_FEATURES.values(), strict=True):
            total = total + table[first + int(place)]
            first += len(known)
        found.append(total)
    return found


def bond_vector(layer, features):
    first, total = 0, torch.zeros(DIM).double()
    for place, known in zip(features, BOND_FEATURES.values(), strict=True):
        total = total + layer.embedding.double()[first + int(place)]
        first += len(known)
    return total


def by_atom(encoder, training):
    """The definition in double precision: each atom its own row, each bond its own message."""
    x = [start_of(encoder, text) for text in SMILES]
    graphs = [build_graphs([text]) for text in SMILES]
    for number, layer in enumerate(encoder.layers):
        rows = []
        for vectors, graph in zip(x, graphs, strict=True):
            told = [vector.clone() for vector in vectors]
            for (a, b), features in zip(graph.bonds, graph.bond_features, strict=True):
                told[a] = told[a] + vectors[b] + bond_vector(layer, features)
            for y in told:
                hidden = torch.relu(layer.widen.weight.double() @ y)
                rows.append(layer.narrow.weight.double() @ hidden)
        rows, norm = torch.stack(rows), layer.norm
        mean, variance = norm.running_mean.double(), norm.running_var.double()
        if training:
            mean, variance = rows.mean(dim=0), rows.var(dim=0, unbiased=False)
        rows = (rows - mean) / torch.sqrt(variance + 1e-5)
        rows = rows * norm.weight.double() + norm.bias.double()
        if number < len(encoder.layers) - 1:
            rows = torch.relu(rows)
        x = [list(part) for part in rows.split([len(vectors) for vectors in x])]
    read = [torch.stack(vectors).mean(dim=0) for vectors in x]
    empty = torch.zeros(DIM).double()
    of_group = [[read[i] for i in np.flatnonzero(group == GROUP)] for group in range(GROUPS)]
    return torch.stack([sum(each, empty) / max(len(each), 1) for each in of_group])


def build(layers, dropout=0.0):
    graphs = build_graphs(SMILES)
    torch.manual_seed(0)
    encoder = GraphIsomorphismEncoder(graphs, GROUP, GROUPS, DIM, HIDDEN, layers, dropout)
    return shaken(encoder, seed=layers)


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_in_training_it_equals_the_loop_over_atoms(layers):
    encoder = build(layers).train()
    torch.testing.assert_close(encoder().double(), by_atom(encoder, True), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_its_gradients_equal_those_of_the_loop(layers):
    encoder = build(layers).train()
    weights = torch.from_numpy(np.random.default_rng(0).normal(size=(GROUPS, DIM)))
    parameters = list(encoder.parameters())
    mine = torch.autograd.grad((encoder() * weights.float()).sum(), parameters)
    theirs = torch.autograd.grad((by_atom(encoder, True) * weights).sum(), parameters)
    for one, two in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, two.float(), rtol=2e-3, atol=1e-3)


def test_afterwards_it_uses_the_running_moments():
    encoder = build(3).train()
    for _ in range(200):
        encoder()
    encoder.eval()
    torch.testing.assert_close(encoder().double(), by_atom(encoder, False), rtol=1e-4, atol=1e-4)
    # After many passes with the same weights these are the moments of a pass, but for n / (n - 1).
    settled = encoder.train()().detach()
    assert (encoder.eval()().detach() - settled).norm() < 0.1 * settled.norm()
    assert (build(3)().detach() - settled).norm() > 0.1 * settled.norm()


def test_the_running_moments_are_those_of_torch():
    encoder, torch_norm = build(1).train(), torch.nn.BatchNorm1d(DIM)
    layer, seen = encoder.layers[0], []
    layer.norm.register_forward_hook(
        lambda norm, inputs, output: seen.append((inputs[0] @ inputs[1].T).detach())
    )
    encoder()
    counts = (layer.norm.share * sum(len(build_graphs([text]).atoms) for text in SMILES)).round()
    torch_norm(seen[0].repeat_interleave(counts.long(), dim=0))
    for name in ("running_mean", "running_var"):
        mine, theirs = getattr(layer.norm, name), getattr(torch_norm, name)
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
        assert name in "".join(encoder.state_dict())


def test_dropout_keeps_its_share_and_is_off_in_evaluation():
    encoder = build(2, dropout=0.7)
    norm, rows = encoder.layers[0].norm, torch.randn(len(encoder.layers[0].norm.share), DIM)
    with torch.no_grad():
        norm.weight.fill_(0.0)
        norm.bias.fill_(1.0)
    torch.manual_seed(0)
    kept = torch.stack([norm.train()(rows, torch.eye(DIM)).detach() for _ in range(200)])
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / 0.3])
    assert float((kept > 0).float().mean()) == pytest.approx(0.3, abs=0.02)
    assert norm.eval()(rows, torch.eye(DIM)).unique().tolist() == [1.0]


def test_gradients_with_dropout_equal_numeric_ones():
    encoder = build(2, dropout=0.5).train()
    norm = encoder.layers[0].norm.double()
    for last in (True, False):
        norm.rectify = not last

        def pass_of(x, matrix, weight, bias):
            torch.manual_seed(1)
            return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, (x, matrix))

        x = torch.randn(len(norm.share), HIDDEN, dtype=torch.float64, requires_grad=True)
        matrix = torch.randn(DIM, HIDDEN, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(DIM, dtype=torch.float64, requires_grad=True)
        bias = torch.randn(DIM, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(pass_of, (x, matrix, weight, bias))


def test_atoms_that_look_alike_share_a_row():
    graphs = build_graphs(["c1ccccc1", "CC(C)(C)C"])
    encoder = GraphIsomorphismEncoder(graphs, np.arange(2), 2, DIM, HIDDEN, 2, 0.0)
    assert [len(layer.norm.share) for layer in encoder.layers] == [3, 3]
    shares = sorted(encoder.layers[0].norm.share.tolist())
    assert shares == pytest.approx([1 / 11, 4 / 11, 6 / 11])


def test_a_group_without_molecule_is_zero():
    found = build(2)()
    assert found[1].tolist() == [0.0] * DIM
    assert (found.abs().sum(dim=1) > 0).tolist() == [True, False] + [True] * 6


def values_of(features, places):
    pairs = zip(features.items(), places, strict=True)
    return {name: known[place] for (name, known), place in pairs}


def test_features_of_atoms_and_bonds():
    graphs = build_graphs(["C/C=C/[C@H](O)N", "[16*]c1ccccc1", "[NH4+]"])
    named = [values_of(ATOM_FEATURES, row) for row in graphs.atoms]
    assert named[0]["atomic number"] == 6
    assert (named[0]["hydrogens"], named[0]["degree"]) == (3, 4)
    assert named[0]["hybridisation"] == "SP3"
    assert named[3]["chirality"] in ("CHI_TETRAHEDRAL_CW", "CHI_TETRAHEDRAL_CCW")
    assert named[6]["atomic number"] == "other"  # the dummy
    assert (named[7]["aromatic"], named[7]["in a ring"]) == (True, True)
    assert (named[-1]["formal charge"], named[-1]["radical electrons"]) == (1, 0)
    kinds = [values_of(BOND_FEATURES, row) for row in graphs.bond_features]
    bonds = {tuple(pair): kind for pair, kind in zip(graphs.bonds.tolist(), kinds, strict=True)}
    double = {"type": "DOUBLE", "stereo": "STEREOE", "conjugated": False}
    assert bonds[1, 2] == bonds[2, 1] == double
    assert bonds[7, 8] == {"type": "AROMATIC", "stereo": "STEREONONE", "conjugated": True}
    assert graphs.graph.tolist() == [0] * 6 + [1] * 7 + [2]


def test_graphs_are_kept_and_found_again(tmp_path, monkeypatch):
    first = load_graphs(SMILES, tmp_path)
    monkeypatch.setattr(Chem, "MolFromSmiles", None)
    again = load_graphs(SMILES, tmp_path)
    for name in ("atoms", "graph", "bonds", "bond_features"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert again.graphs == len(SMILES)


def test_what_is_no_molecule_is_named():
    with pytest.raises(KnowledgeError, match="nonsense"):
        build_graphs(["C", "nonsense"])
