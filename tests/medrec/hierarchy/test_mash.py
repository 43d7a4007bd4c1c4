"""The plug-in: seeded, blind to what is hidden, restored whole, true to its settings."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from medrec import plugins
from medrec.errors import ConfigError
from medrec.hierarchy._measures import MEASURES
from medrec.hierarchy._parents import parent_ranks, parent_scores
from medrec.hierarchy._tree_json import from_json
from medrec.hierarchy.mash import MODEL, UNSUPERVISED, Mash, MashConfig
from medrec.knowledge.base import Knowledge
from medrec.knowledge.origin import Origin
from medrec.knowledge.relations import from_names
from search_spaces.mash import ABLATIONS
from tests.medrec.small import lists_of, small_cohort, small_knowledge, to_codes

FAST = {"steps": 6, "batch": 8, "hidden": 16, "dim": 4, "code_dim": 16, "test_share": 0.2}


def fitted(seed: int = 0, knowledge: Knowledge | None = None, **changes) -> Mash:
    knowledge = knowledge or small_knowledge()
    builder = Mash(MashConfig(**{**FAST, **changes}), knowledge)
    builder.fit(knowledge, seed)
    return builder


def digest(builder: Mash) -> str:
    found = hashlib.sha256(builder.vectors.tobytes())
    for name, tensor in sorted(builder.tensors().items()):
        found.update(name.encode() + tensor.numpy().tobytes())
    found.update(builder.measured().files["tree.json"])
    return found.hexdigest()


def test_the_same_seed_gives_the_same_bits_here_and_elsewhere():
    first = digest(fitted(3))
    assert digest(fitted(3)) == first
    assert digest(fitted(4)) != first
    code = (
        f"import torch; torch.set_num_threads({torch.get_num_threads()})\n"
        "from tests.medrec.hierarchy.test_mash import digest, fitted\n"
        "print(digest(fitted(3)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == first


def test_what_is_restored_is_what_was_learned():
    first = fitted()
    second = Mash(MashConfig(**FAST), small_knowledge())
    with pytest.raises(ConfigError, match="not been learned"):
        _ = second.tree
    second.restore(first.tensors())
    assert digest(second) == digest(first)
    assert second.validation() == first.validation()
    assert second.held_out.tolist() == first.held_out.tolist()


def test_hidden_parents_do_not_influence_what_is_learned(monkeypatch):
    first, second = fitted(), Mash(MashConfig(**FAST), small_knowledge())
    draw = tuple(first.tensors()[name].numpy() for name in ("validation", "test"))
    hidden = np.concatenate(draw)
    known = first._known
    parents = known.parents.copy()
    for code in hidden:  # to the next candidate
        place = int(np.searchsorted(known.candidates, known.parents[code]))
        parents[code] = known.candidates[(place + 1) % len(known.candidates)]
    second._known = replace(known, parents=parents)
    monkeypatch.setattr("medrec.hierarchy.mash.hold_out", lambda *_: draw)  # the same codes
    second.fit(small_knowledge(), 0)
    assert np.array_equal(second.vectors, first.vectors)
    assert torch.equal(second.tensors()["tree_parents"], first.tensors()["tree_parents"])
    assert second.measured().terms.keys() == first.measured().terms.keys()
    assert (
        second.measured().terms["parent_rank"][0] != first.measured().terms["parent_rank"][0]
    ).any()


def test_relations_of_hidden_codes_do_not_influence_what_is_learned():
    knowledge = small_knowledge()
    first = fitted(0, knowledge)
    hidden = first._known.names[int(first.held_out[0])]
    graph = knowledge.bundle.relations
    kept = [each for each in graph.names() if hidden not in (each[0], each[2])]
    added = [*kept, *[(hidden, "interacts", name) for name in first._known.names[:28:3]]]
    for triples in (kept, added):
        relations = from_names(
            Origin("", ""), triples, nodes=graph.nodes, relations=graph.relations
        )
        other = replace(knowledge, bundle=replace(knowledge.bundle, relations=relations))
        assert np.array_equal(fitted(0, other).vectors, first.vectors)


def test_without_labels_no_parent_and_no_relation_is_read():
    knowledge = small_knowledge()
    bundle = knowledge.bundle
    nothing = from_names(Origin("", ""), [], nodes=bundle.relations.nodes)
    parents = np.full_like(bundle.parents, -1)
    blind = replace(knowledge, bundle=replace(bundle, parents=parents, relations=nothing))
    first, second = fitted(0, knowledge, **UNSUPERVISED), fitted(0, blind, **UNSUPERVISED)
    np.testing.assert_allclose(first.vectors, second.vectors)
    names = set(first.tree.names[28:])
    assert not [name for name in names if not name.startswith(("category/", "latent/"))]
    assert from_json(first.measured().files["tree.json"].decode()).names
    assert second.validation() == {"parent_recall": 0.0}
    assert set(second.measured().terms) == set()


SWITCHES = {
    "use_text": False, "use_cooccurrence": False, "use_labels": False, "geometry": "euclidean",
    "code_dim": 8, "shift": 2.0, "prior_visits": 50.0, "hierarchy_weight": 0.0,
    "relation_weight": 0.0, "neighbour_weight": 0.0, "neighbours": 2, "margin_weight": 0.0,
    "order_weight": 0.0, "triplet_weight": 0.0, "skeleton": "none", "latent_size": 2,
    "latent_levels": 0, "institutions": "renamed", "validation_share": 0.2, "temperature": 0.3,
}  # fmt: skip


@pytest.mark.parametrize("name", SWITCHES)
def test_every_switch_changes_something(name):
    base = {"latent_size": 3}
    change = {name: SWITCHES[name]}
    if name == "use_labels":
        base["skeleton"] = "none"
    if name == "institutions":
        change["alignment"] = "procrustes"
    assert digest(fitted(**base)) != digest(fitted(**{**base, **change}))


def test_alignments_and_institutions_change_the_vectors_and_are_measured():
    found = {}
    for settings in (
        {"alignment": "none"},
        {"alignment": "identity"},
        {"alignment": "procrustes"},
        {"alignment": "procrustes", "second_titles": "none"},
        {"alignment": "procrustes", "anchors": 0.5},
        {"alignment": "procrustes", "merge_threshold": 1.0},
    ):
        builder = fitted(institutions="renamed", **settings)
        found[json.dumps(settings)] = builder.vectors.tobytes()
        terms = builder.measured().terms
        assert ("match_first" in terms) == (settings["alignment"] != "none")
        if settings.get("anchors"):
            assert terms["match_first"][1].sum() <= 15
    assert len(set(found.values())) == len(found)


def in_two_versions() -> Knowledge:
    """Returns knowledge in which the second half of the visits is coded in ICD-10."""
    knowledge = small_knowledge()
    cohort = small_cohort()
    visits = len(knowledge.training_visits["diagnoses"].counts)
    nine = len(cohort.vocabulary["diagnoses"])
    lists = lists_of(cohort, "diagnoses")[:visits]
    procedures = lists_of(cohort, "procedures")[:visits]
    for row in range(visits // 2, visits):
        lists[row], procedures[row] = [code + nine for code in lists[row]], []
    ten = tuple(f"10:I{i:02d}" for i in range(nine))
    names = (*knowledge.vocabulary["diagnoses"], *ten)
    return replace(
        knowledge,
        diagnoses=2 * nine,
        vocabulary={**knowledge.vocabulary, "diagnoses": names},
        training_visits={
            **knowledge.training_visits,
            "diagnoses": to_codes(lists),
            "procedures": to_codes(procedures),
        },
    )


def test_codes_of_two_versions_share_vectors_where_they_match():
    knowledge = in_two_versions()
    settings = {"institutions": "versions", "merge_threshold": -1.0}
    aligned = fitted(0, knowledge, **settings, alignment="procrustes")
    apart = fitted(0, knowledge, **settings, alignment="none")
    assert aligned.vectors.shape == (40, 4)
    assert np.isfinite(aligned.vectors).all()
    merged = int(aligned.measured().facts["merged_pairs"])
    same = (aligned.vectors[:12, None] == aligned.vectors[None, 12:24]).all(axis=2)
    assert same.sum() > 5
    assert merged - 10 <= same.sum() < merged  # the rest are drug classes that both halves have
    assert not (apart.vectors[:12, None] == apart.vectors[None, 12:24]).all(axis=2).any()
    assert "match_first" not in apart.measured().terms


def test_versions_need_both_versions():
    with pytest.raises(ConfigError, match="ICD-10"):
        fitted(institutions="versions")


def test_measures_are_registered_and_units_are_codes():
    builder = fitted()
    measured = builder.measured()
    assert set(measured.terms) <= set(MEASURES)
    assert {"parent_recall", "purity", "sibling_auc", "distortion"} <= set(measured.terms)
    assert measured.units.tolist() == list(range(28))
    hidden = np.flatnonzero(measured.terms["parent_recall"][1])
    assert hidden.tolist() == sorted(builder.held_out.tolist())
    assert "parent_recall" in builder.validation()
    assert measured.facts["held_out_codes"] == len(builder.held_out)
    assert measured.facts["nodes"] == len(builder.tree.names)
    assert builder.vectors.shape == (28, 4)


def test_the_tree_has_every_code_and_goes_out_as_json():
    builder = fitted()
    tree = from_json(builder.measured().files["tree.json"].decode())
    own = {f"{kind}/{code}" for kind, codes in small_cohort().vocabulary.items() for code in codes}
    assert own == {
        name for name, kind in zip(tree.names, tree.kinds, strict=True) if kind == "code"
    }
    assert set(tree.names) == set(builder.tree.names)


def test_known_parents_are_learned_when_there_is_text():
    knowledge = small_knowledge()
    builder = fitted(0, knowledge, steps=150, batch=32, dim=8)
    known, hidden = builder._known, [*builder.tensors()["validation"], *builder.held_out]
    seen = [c for c in range(28) if c not in hidden]
    z = builder.tensors()["points"]
    scores = parent_scores(z, known, np.array(seen), "hyperbolic")
    ranks = parent_ranks(scores, known.candidates, known.parents[seen])
    assert (ranks == 1).mean() > 0.9


def test_settings_that_contradict_are_refused():
    with pytest.raises(ValidationError, match="cannot both be false"):
        MashConfig(use_text=False, use_cooccurrence=False)
    with pytest.raises(ValidationError, match="must be none"):
        MashConfig(use_labels=False)


def test_the_plug_in_is_found_and_its_ablations_can_be_built():
    assert "mash" in plugins.names("medrec.hierarchy")
    for ablation in ABLATIONS.values():
        builder = MODEL.build(MashConfig(**ablation.changes), small_knowledge())
        assert isinstance(builder, Mash)
