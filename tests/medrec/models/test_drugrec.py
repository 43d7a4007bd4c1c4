"""DrugRec against its equations, one visit at a time."""

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from medrec import trial
from medrec.code_texts import code_texts
from medrec.errors import KnowledgeError
from medrec.knowledge.class_fingerprints import class_fingerprints
from medrec.models._base import Step
from medrec.models.drugrec import DrugRecConfig
from tests.medrec.models import reference
from tests.medrec.models.reference import last_state, linear, relu, sigmoid, softmax
from tests.medrec.models.test_mkgnn import norm
from tests.medrec.small import (
    VOCABULARY,
    WITHOUT_STRUCTURE,
    make_spec,
    shaken,
    small_knowledge,
    whole_batch,
)

VARIANTS = [
    {},
    {"variant": "released"},
    {"history": "none", "heads": 2, "text_layers": 1},
    {"window": 1},
    {"drug_vectors": "learned"},
]
TITLES = {
    "diagnoses/9:4280": "Congestive heart failure, unspecified",
    "diagnoses/9:486": "Pneumonia",
    "diagnoses/9:390-459": "Diseases of the circulatory system",
    "procedures/9:9604": "Insertion of endotracheal tube",
    "procedures/9:9671": "Insertion of endotracheal tube",
}


def titled():
    """The small knowledge where a few codes have titles, two of them the same one."""
    knowledge = small_knowledge()
    bundle = knowledge.bundle
    titles = tuple(TITLES.get(name, "") for name in bundle.nodes)
    return replace(knowledge, bundle=replace(bundle, titles=titles))


def words_of(kind, code, bundle):
    """The words of a code's text: of its title, or of its place in the tree."""

    def title(name):
        text = dict(zip(bundle.nodes, bundle.titles, strict=True))[name].lower()
        return "".join(c if c.isalnum() else " " for c in text).split()

    name = f"{kind}/{code}"
    if title(name):
        return title(name)
    return [name] + [w for above in bundle.ancestors(name) for w in title(above) or [above]]


def test_words_of_codes():
    bundle = titled().bundle
    assert words_of("diagnoses", "9:486", bundle) == ["pneumonia"]
    assert words_of("diagnoses", "9:4019", bundle) == [
        *("diagnoses/9:4019", "diagnoses/9:401", "diagnoses/9:401-405"),
        *("diseases", "of", "the", "circulatory", "system"),
    ]


@pytest.mark.parametrize("make", [small_knowledge, titled])
def test_texts_are_those_words_each_once_shortest_first(make):
    knowledge = make()
    texts = code_texts(knowledge)
    spelt = [
        words_of(kind, code, knowledge.bundle)
        for kind in ("diagnoses", "procedures")
        for code in VOCABULARY[kind]
    ]
    alphabet = sorted({word for words in spelt for word in words})
    assert texts.words == len(alphabet)
    assert len(texts.lengths) == len({tuple(words) for words in spelt})
    assert (np.diff(texts.lengths) >= 0).all()
    for text, words in zip(texts.text, spelt, strict=True):
        found = [alphabet[token] for token in texts.tokens[text, : texts.lengths[text]]]
        assert found == words
    same = [VOCABULARY["procedures"].index(code) + 12 for code in ("9:9604", "9:9671")]
    assert (texts.text[same[0]] == texts.text[same[1]]) == (make is titled)


def attention(state, name, queries, xs, heads):
    """Multi-head attention of rows `queries` of x over all its rows, before the last layer."""
    width = xs.shape[1]
    projected = [linear(state, name, x) for x in xs]
    q, k, v = (np.array([p[i * width : (i + 1) * width] for p in projected]) for i in range(3))
    rows = []
    for at in queries:
        parts = []
        for start in range(0, width, width // heads):
            own = slice(start, start + width // heads)
            weights = softmax(k[:, own] @ q[at, own] / math.sqrt(width // heads))
            parts.append(weights @ v[:, own])
        rows.append(np.concatenate(parts))
    return np.array(rows)


def text_vector(state, config, texts, code):
    text = texts.text[code]
    tokens = texts.tokens[text, : texts.lengths[text]]
    x = np.array(
        [
            norm(
                state,
                "texts.norm",
                state["texts.words.weight"][token] + state["texts.positions.weight"][place],
            )
            for place, token in enumerate(tokens)
        ]
    )
    for layer in range(config.text_layers):
        at = f"texts.layers.{layer}"
        read = attention(state, f"{at}.project", range(len(x)), x, config.heads)
        rows = []
        for own, seen in zip(x, read, strict=True):
            mixed = norm(state, f"{at}.first_norm", own + linear(state, f"{at}.mix", seen))
            inner = relu(linear(state, f"{at}.inner", mixed))
            outer = linear(state, f"{at}.outer", inner)
            rows.append(norm(state, f"{at}.second_norm", mixed + outer))
        x = np.array(rows)
    return x.mean(axis=0)


def window_state(state, name, xs, config):
    """The last visit with what it reads of itself and the visits just before it."""
    near = xs[-(config.window + 1) :]
    merged = {
        f"qkv.{part}": np.concatenate(
            [state[f"{name}.{p}.{part}"] for p in ("query", "key", "value")]
        )
        for part in ("weight", "bias")
    }
    read = attention(merged, "qkv", [len(near) - 1], np.array(near), config.heads)[0]
    return norm(state, f"{name}.norm", xs[-1] + linear(state, f"{name}.mix", read))


def drug_vectors(state, config, knowledge):
    if config.drug_vectors == "learned":
        return state["drugs.vectors"]
    rows = []
    for drug, vector in enumerate(class_fingerprints(knowledge.structures, 1024)):
        hidden = relu(linear(state, "drugs.first", vector.astype(np.float64)))
        own = linear(state, "drugs.second", hidden)
        rows.append(state["drugs.free"][0] if drug == WITHOUT_STRUCTURE else own)
    return np.array(rows)


def all_logits(model, knowledge):
    state, config = reference.state_of(model), model.config
    texts, drugs = code_texts(knowledge), drug_vectors(state, config, knowledge)
    codes = range(knowledge.diagnoses + knowledge.procedures)
    vectors = [text_vector(state, config, texts, code) for code in codes]
    found = []
    for patient in reference.patients():
        for visit in range(len(patient)):
            parts = []
            for kind, name, start in (
                (0, "diagnosis", 0),
                (1, "procedure", knowledge.diagnoses),
            ):
                xs = [
                    np.mean([vectors[start + code] for code in each[kind]], axis=0)
                    if each[kind]
                    else np.zeros(config.dim)
                    for each in patient[: visit + 1]
                ]
                if config.history == "window":
                    parts.append(window_state(state, f"{name}_history", xs, config))
                elif config.history == "gru":
                    parts.append(last_state(state, f"{name}_gru", xs))
                else:
                    parts.append(xs[-1])
            found.append(drugs @ linear(state, "query", relu(np.concatenate(parts))))
    return found


def build(changes, knowledge=None):
    spec = make_spec("drugrec", {**changes, "dropout": 0.0})
    return shaken(trial.build(spec, knowledge or small_knowledge()))


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize("make", [small_knowledge, titled])
def test_logits_equal_the_equations(changes, make):
    knowledge = make()
    model, batch = build(changes, knowledge), whole_batch()
    found = model(batch)[batch.visit_mask].detach().double().numpy()
    np.testing.assert_allclose(found, all_logits(model, knowledge), rtol=1e-4, atol=1e-4)


def pair_loss(p, given):
    """Mean cross-entropy of the products of two scores, pair by pair."""
    terms = []
    for i, j in combinations(range(len(p)), 2):
        both = p[i] * p[j]
        terms.append(-np.log(both) if i in given and j in given else -np.log(1 - both))
    return np.mean(terms)


def row_rate(chosen, interacts):
    """Rate of the list that has each visit's number, instead of its drugs, once per drug."""
    listed = [visit for visit, drugs in enumerate(chosen) for _ in drugs]
    pairs = list(combinations(listed, 2))
    return sum(bool(interacts[a, b]) for a, b in pairs) / len(pairs) if pairs else 0.0


@pytest.mark.parametrize(
    "changes",
    [
        {"ddi_target": 0.3},
        {"variant": "released", "ddi_target": 0.02},
        {"controller": "safedrug_paper", "pair_weight": 0.0, "ddi_target": 0.3},
    ],
    ids=str,
)
def test_training_loss_equals_the_equations(changes):
    knowledge = small_knowledge()
    # Visit numbers 0 and 2 must interact if they are taken for drugs.
    knowledge = replace(knowledge, interacts=knowledge.interacts.copy())
    knowledge.interacts[0, 2] = knowledge.interacts[2, 0] = True
    batch = whole_batch()
    # Scores of learned vectors lie on both sides of the threshold.
    model = build({**changes, "drug_vectors": "learned"}, knowledge).train()
    config = model.config
    found = model.loss(model(batch), batch, Step(0, 0.5)).item()
    logits = iter(all_logits(model, knowledge))
    total, outcomes, visits = 0.0, set(), 0
    for patient in reference.patients():
        scores = [sigmoid(next(logits)) for _ in patient]
        chosen = [[drug for drug, q in enumerate(p) if q >= 0.5] for p in scores]
        for p, visit, drugs in zip(scores, patient, chosen, strict=True):
            given = visit[2]
            marked = range(len(given)) if config.pair_index == "position" else given
            accuracy = reference.cross_entropy(p, given) + 0.1 * reference.margin(p, given)
            accuracy += config.pair_weight * pair_loss(p, marked)
            by_rows = config.ddi_gate == "rows"
            rate = (
                row_rate(chosen, knowledge.interacts)
                if by_rows
                else reference.rate(drugs, knowledge.interacts)
            )
            weights = (1.0, 0.5 * (rate > config.ddi_target))
            if config.controller == "safedrug_paper":
                beta = min(max(1 - (rate - config.ddi_target) / config.ddi_gain, 0.0), 1.0)
                weights = (beta, 1 - beta)
            outcomes.add(weights)
            penalty = reference.interaction(p, knowledge.interacts) / knowledge.drugs
            total += weights[0] * accuracy + weights[1] * penalty
            visits += 1
    assert found == pytest.approx(total / visits, abs=2e-5)
    assert len(outcomes) > 1, "the example must show both sides of the controller"


def test_the_chosen_set_has_no_forbidden_pair_and_scores_stay():
    batch = whole_batch()
    # Scores of learned vectors differ more; no pair is excused.
    made = {"drug_vectors": "learned", "co_prescribed_at_least": 1.0}
    with torch.no_grad():
        plain = build({**made, "post_processing": "none"}).predict(batch, 0.3)
        model = build(made)
        found = model.predict(batch, 0.3)
        lenient = build({**made, "co_prescribed_at_least": 0.0}).predict(batch, 0.3)
    assert torch.equal(found.scores, plain.scores)
    assert torch.equal(lenient.chosen, plain.chosen)
    pairs = (found.chosen.float() @ model.interacts * found.chosen).sum()
    assert pairs == 0 < (plain.chosen.float() @ model.interacts * plain.chosen).sum()
    assert not (found.chosen & ~plain.chosen).any()


def test_only_texts_that_occur_are_read_and_only_once(monkeypatch):
    model, batch = build({}, titled()), whole_batch()
    read = []
    layer = model.texts.layers[0]
    monkeypatch.setattr(layer, "forward", lambda x, runs: read.append(runs) or x)
    model(replace(batch, diagnoses=torch.full_like(batch.diagnoses, 7)))  # pneumonia
    assert read[0] == [(1, 1)]
    assert sum(texts for texts, _ in read[1]) == 5  # six procedures, two with one title


def test_fingerprints_are_mean_counts_at_length_one():
    found = class_fingerprints((("CCO",), ("CCO", "c1ccccc1"), (), ("OCC",)), 64)
    assert found.shape == (4, 64)
    assert np.linalg.norm(found, axis=1) == pytest.approx([1, 1, 0, 1], abs=1e-6)
    np.testing.assert_array_equal(found[0], found[3])  # another spelling
    both = np.linalg.norm(found[1] - found[0])
    assert both > 0.1
    with pytest.raises(KnowledgeError, match="SMILES"):
        class_fingerprints((("not a molecule",),), 64)


def test_no_structure_at_all_is_an_error_unless_vectors_are_learned():
    none = replace(small_knowledge(), structures=((),) * 10)
    with pytest.raises(KnowledgeError, match="structure"):
        trial.build(make_spec("drugrec"), none)
    trial.build(make_spec("drugrec", {"drug_vectors": "learned"}), none)


def test_settings_are_those_of_the_sources():
    paper, released = DrugRecConfig(), DrugRecConfig(variant="released")
    assert (paper.dim, paper.heads, paper.text_layers, paper.window) == (64, 4, 2, 3)
    assert (paper.bce_weight, paper.margin_weight, paper.pair_weight) == (1.0, 0.1, 1.0)
    assert (paper.controller, paper.ddi_target, paper.ddi_gain) == ("threshold", 0.05, 0.5)
    assert (paper.post_processing, paper.co_prescribed_at_least) == ("two_sat", 0.1)
    assert (paper.pair_index, paper.ddi_gate, paper.history) == ("drug", "drugs", "window")
    assert (released.pair_index, released.ddi_gate, released.history) == (
        "position",
        "rows",
        "gru",
    )
