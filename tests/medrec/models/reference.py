"""Models once more, one visit at a time, from their equations, in double precision.

Nothing here is batched, padded or masked: a patient is a list of visits, a visit three lists of
codes, and each visit is computed from its own growing prefix.
"""

from itertools import pairwise

import numpy as np

from medrec.knowledge.relations import node
from tests.medrec.small import lists_of, small_cohort


def patients(cohort=None):
    """Returns patients → visits → (diagnoses, procedures, medications) as plain lists."""
    cohort = cohort or small_cohort()
    kinds = [lists_of(cohort, kind) for kind in ("diagnoses", "procedures", "medications")]
    visits = list(zip(*kinds, strict=True))
    ends = cohort.offsets
    return [visits[a:b] for a, b in pairwise(ends)]


def state_of(model):
    """Returns the weights as double-precision arrays."""
    return {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


def softmax(x):
    raised = np.exp(x - x.max())
    return raised / raised.sum()


def linear(state, name, x):
    return state[f"{name}.weight"] @ x + state[f"{name}.bias"]


def last_state(state, name, inputs):
    """The state of a gated recurrent unit after all inputs, from zero (Cho et al. 2014)."""
    w_in, w_state = state[f"{name}.weight_ih_l0"], state[f"{name}.weight_hh_l0"]
    b_in, b_state = state[f"{name}.bias_ih_l0"], state[f"{name}.bias_hh_l0"]
    h = np.zeros(w_state.shape[1])
    for x in inputs:
        reset_in, update_in, new_in = np.split(w_in @ x + b_in, 3)
        reset_state, update_state, new_state = np.split(w_state @ h + b_state, 3)
        reset, update = sigmoid(reset_in + reset_state), sigmoid(update_in + update_state)
        new = np.tanh(new_in + reset * new_state)
        h = (1 - update) * new + update * h
    return h


def bag(table, codes, mean):
    total = np.zeros(table.shape[1])
    for code in codes:
        total = total + table[code]
    return total / len(codes) if mean and codes else total


def query_of(state, prefix, mean):
    """The query of the prefix's last visit."""
    parts = []
    for position, (kind, name) in enumerate(
        [("diagnoses", "diagnosis_gru"), ("procedures", "procedure_gru")]
    ):
        table = state[f"encoder.{kind}.embedding.weight"]
        inputs = [bag(table, visit[position], mean) for visit in prefix]
        parts.append(last_state(state, f"encoder.{name}", inputs))
    return linear(state, "query", relu(np.concatenate(parts)))


def cross_entropy(p, given):
    """Mean binary cross-entropy of one visit."""
    terms = [-np.log(q) if drug in given else -np.log(1 - q) for drug, q in enumerate(p)]
    return sum(terms) / len(p)


def margin(p, given):
    """Multi-label margin loss of one visit, pair by pair."""
    total = 0.0
    for i in range(len(p)):
        for j in range(len(p)):
            if i in given and j not in given:
                total += max(0.0, 1 - (p[i] - p[j]))
    return total / len(p)


def interaction(p, interacts):
    """Sum over ordered interacting pairs of the product of their scores."""
    return sum(p[i] * p[j] for i in range(len(p)) for j in range(len(p)) if interacts[i, j])


def rate(chosen, interacts):
    """Share of pairs among the chosen drugs that interact; 0 without a pair."""
    pairs = [(i, j) for i in chosen for j in chosen if i < j]
    return sum(bool(interacts[i, j]) for i, j in pairs) / len(pairs) if pairs else 0.0


def loss(all_logits, all_given, interacts, config, scale, weigh):
    """Mean over visits of the weighted accuracy and interaction losses.

    Args:
        all_logits: per visit.
        all_given: drugs prescribed, per visit.
        interacts: drug pairs that interact.
        config: settings with the weights of cross-entropy and margin.
        scale: factor of the interaction term.
        weigh: (visit's number, rate) to (weight on accuracy, weight on interactions).
    """
    total = 0.0
    for visit, (logits, given) in enumerate(zip(all_logits, all_given, strict=True)):
        p = sigmoid(logits)
        accuracy = config.bce_weight * cross_entropy(p, given)
        accuracy += config.margin_weight * margin(p, given)
        chosen = [drug for drug, score in enumerate(p) if score >= 0.5]
        on_accuracy, on_ddi = weigh(visit, rate(chosen, interacts))
        total += on_accuracy * accuracy + on_ddi * scale * interaction(p, interacts)
    return total / len(all_given)


def ontology_vectors(state, prefix, knowledge, kind, heads):
    """Vector of each code of a kind after attention up its tree and down again.

    Args:
        state: weights.
        prefix: of the attention's names in it.
        knowledge: with the trees.
        kind: of the codes.
        heads: of the attention.
    """
    codes = [node(kind, code) for code in knowledge.vocabulary[kind]]
    paths = {code: list(knowledge.bundle.ancestors(code)) for code in codes}
    above = sorted({name for path in paths.values() for name in path} - set(codes))
    weight = state[f"{prefix}project.weight"]
    own, other = state[f"{prefix}of_node"], state[f"{prefix}of_neighbour"]
    vectors = dict(zip([*codes, *above], state[f"{prefix}embedding.weight"], strict=True))

    def attend(name, neighbours, known):
        members = [name, *neighbours]
        moved = [(weight @ known[member]).reshape(heads, -1) for member in members]
        parts = []
        for head in range(heads):
            scores = [own[head] @ moved[0][head] + other[head] @ each[head] for each in moved]
            alpha = softmax(np.array([s if s > 0 else 0.2 * s for s in scores]))
            parts.append(sum(a * each[head] for a, each in zip(alpha, moved, strict=True)))
        mixed = np.concatenate(parts)
        return np.where(mixed > 0, mixed, np.exp(np.minimum(mixed, 0)) - 1)

    children = {}
    for name in vectors:
        for parent in knowledge.bundle.ancestors(name)[:1]:
            children.setdefault(parent, []).append(name)
    upper = {name: attend(name, below, vectors) for name, below in children.items()}
    known = {**vectors, **upper}
    return np.array([attend(code, paths[code], known) for code in codes]).reshape(len(codes), -1)
