"""Molecule graphs: small molecules by hand, independence of order, the cache."""

import os
import subprocess
import sys

import numpy as np
import pytest
from rdkit import Chem

from medrec.errors import KnowledgeError
from medrec.knowledge.molecules import Molecules, build_molecules, load_molecules

SALT = "[Na+].[Cl-]"
SOME = (("CCO", "CC(=O)Nc1ccc(O)cc1"), (), ("c1ccccc1", SALT))
FIELDS = ("fingerprint", "bonds", "molecule", "drug", "contains")


def same(a: Molecules, b: Molecules) -> bool:
    arrays = all(np.array_equal(getattr(a, name), getattr(b, name)) for name in FIELDS)
    return arrays and (a.fragments, a.fingerprints) == (b.fragments, b.fingerprints)


def test_ethanol_by_hand():
    # Round 0: C 0, C 0, O 1; one bond type 0.  Round 1: the middle C has two neighbours, so its
    # signature (0, ((0,0),(1,0))) comes after (0, ((0,0),)) of the end and before O's.
    ethanol = build_molecules([("CCO",)])
    assert ethanol.fingerprint.tolist() == [0, 1, 2]
    assert ethanol.fingerprints == 3
    assert ethanol.bonds.tolist() == [[0, 1], [1, 0], [1, 2], [2, 1]]
    assert ethanol.molecule.tolist() == [0, 0, 0]
    assert ethanol.drug.tolist() == [0]


def test_atoms_of_benzene_are_alike_and_of_toluene_tell_their_place():
    benzene = build_molecules([("c1ccccc1",)])
    assert benzene.fingerprint.tolist() == [0] * 6
    assert len(benzene.bonds) == 12
    # methyl, ipso, two ortho; meta and para see only aromatic carbons two bonds around
    toluene = build_molecules([("Cc1ccccc1",)])
    assert toluene.fingerprints == 4
    assert sorted(np.bincount(toluene.fingerprint).tolist()) == [1, 1, 2, 3]


def test_bond_types_tell_environments_apart():
    pair = build_molecules([("CC", "C=C")])
    ethane, ethene = pair.fingerprint[:2], pair.fingerprint[2:]
    assert ethane[0] == ethane[1] != ethene[0] == ethene[1]


def test_ids_tell_apart_just_the_trees_of_depth_two():
    smiles = "CC(=O)CC(c1ccccc1)c1c(O)c2ccccc2oc1=O"  # warfarin, in RDKit's canonical atom order
    molecule = Chem.MolFromSmiles(Chem.CanonSmiles(smiles))

    def tree(atom, depth):
        bonds = atom.GetBonds() if depth else ()
        branches = sorted(
            (tree(bond.GetOtherAtom(atom), depth - 1), str(bond.GetBondType())) for bond in bonds
        )
        return (atom.GetSymbol(), atom.GetIsAromatic(), tuple(branches))

    trees = [tree(atom, 2) for atom in molecule.GetAtoms()]
    ids = build_molecules([(smiles,)]).fingerprint.tolist()
    assert len(set(zip(trees, ids, strict=True))) == len(set(trees)) == len(set(ids)) > 8


def test_salts_and_single_atoms_stay_one_molecule():
    salt = build_molecules([(SALT, "[Li+]")])
    assert salt.bonds.shape == (0, 2)
    assert salt.molecule.tolist() == [0, 0, 1]
    assert salt.fingerprints == 3
    assert salt.fragments == ("[Cl-]", "[Li+]", "[Na+]")


def test_fragments_of_an_amide_keep_their_dummy_atoms():
    # Paracetamol: BRICS cuts the amide bond and the bond from nitrogen to the ring.
    molecules = build_molecules([("CC(=O)Nc1ccc(O)cc1",), (), ("CCO",)])
    assert molecules.fragments == ("CCO", "[1*]C(C)=O", "[16*]c1ccc(O)cc1", "[5*]N[5*]")
    assert molecules.contains.tolist() == [[False] + [True] * 3, [False] * 4, [True] + [False] * 3]


def test_no_structures_at_all():
    none = build_molecules([(), ()])
    assert none.fingerprints == 0
    assert none.contains.shape == (2, 0)


def test_order_of_molecules_and_spelling_change_no_environment():
    forward = build_molecules([("CCO", "CC(=O)O", "Cc1ccccc1")])
    backward = build_molecules([("c1ccccc1C", "OC(C)=O", "OCC")])
    starts = {0: (0, 3), 1: (3, 7), 2: (7, 14)}
    mirrored = {0: (11, 14), 1: (7, 11), 2: (0, 7)}
    assert forward.fragments == backward.fragments
    for index in range(3):
        a, b = slice(*starts[index]), slice(*mirrored[index])
        assert forward.fingerprint[a].tolist() == backward.fingerprint[b].tolist()


def test_numbers_do_not_depend_on_the_hash_seed():
    code = (
        "from medrec.knowledge.molecules import build_molecules as build;"
        f"m = build({SOME!r}); print(m.fingerprint.tolist(), m.fragments, m.bonds.tolist())"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(answers) == 1
    built = build_molecules(SOME)
    assert answers == {f"{built.fingerprint.tolist()} {built.fragments} {built.bonds.tolist()}\n"}


def test_cache_returns_the_same_and_survives_damage(tmp_path):
    built = build_molecules(SOME)
    assert same(load_molecules(SOME, None), built)
    assert same(load_molecules(SOME, tmp_path / "a"), built)
    [folder] = (tmp_path / "a").iterdir()
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == sorted(
        [*(f"{n}.npy" for n in FIELDS), "manifest.json"]
    )
    before = folder.stat().st_ino
    assert same(load_molecules(SOME, tmp_path / "a"), built)
    assert folder.stat().st_ino == before  # read, not built again
    for file in files:
        for content in (b"", file.read_bytes()[:-9], b"{}"):
            file.write_bytes(content)
            assert same(load_molecules(SOME, tmp_path / "a"), built)
    assert [*(tmp_path / "a").iterdir()] == [folder]


def test_arrays_from_the_cache_can_be_written_to(tmp_path):
    load_molecules(SOME, tmp_path)
    found = load_molecules(SOME, tmp_path)
    assert all(getattr(found, name).flags.writeable for name in FIELDS)  # or torch would warn


def test_other_structures_have_another_entry(tmp_path):
    load_molecules(SOME, tmp_path)
    load_molecules(SOME[:1], tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert same(load_molecules(SOME, blocked / "cache"), build_molecules(SOME))
    assert "could not be kept" in caplog.text


def test_a_wrong_structure_is_named():
    with pytest.raises(KnowledgeError, match="C1CC"):
        build_molecules([("C1CC",)])
