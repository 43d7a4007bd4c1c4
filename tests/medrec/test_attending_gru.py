"""The recurrence of many ragged visits against one visit at a time, and its gradients."""

import torch

from medrec.attending_gru import Places, Weights, advance, states

DIM, SIZES, CODES = 3, [4, 4, 2, 1], [3, 0, 1, 2]


def example():
    """Returns what `states` takes, in double precision; the second visit has no codes."""
    generator = torch.Generator().manual_seed(0)
    exists = torch.arange(max(CODES)) < torch.tensor(CODES)[:, None]

    def draw(*shape):
        drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return drawn.requires_grad_()

    tensors = [
        draw(4, DIM), draw(sum(SIZES), 3 * DIM), draw(6, DIM), draw(6, DIM),
        draw(DIM, DIM), draw(DIM), draw(3 * DIM, DIM), draw(3 * DIM, DIM), draw(3 * DIM),
    ]  # fmt: skip
    return Places.of(exists), tensors


def together(places, first, gates, keys, vectors, *weights):
    return states(first, gates, SIZES, keys, vectors, places, Weights(*weights))


def one_by_one(first, gates, keys, vectors, query, score, context, state_in, state_bias):
    """The states of each visit alone, from the equations."""
    found = {}
    for visit in range(len(CODES)):
        own = slice(sum(CODES[:visit]), sum(CODES[: visit + 1]))
        h = first[visit]
        for step, size in enumerate(SIZES):
            if visit >= size:
                break
            read = torch.zeros(DIM, dtype=h.dtype)
            if CODES[visit]:
                scores = torch.stack([score @ torch.tanh(k + query @ h) for k in keys[own]])
                read = torch.softmax(scores, 0) @ vectors[own]
            x = gates[sum(SIZES[:step]) + visit] + context @ read
            y = state_in @ h + state_bias
            reset, update = torch.sigmoid(x + y)[: 2 * DIM].split(DIM)
            new = torch.tanh(x[2 * DIM :] + reset * y[2 * DIM :])
            h = (1 - update) * new + update * h
            found[step, visit] = h
    return torch.stack([found[key] for key in sorted(found)])


def test_states_and_gradients_equal_those_of_each_visit_alone():
    places, tensors = example()
    results = []
    for function in (lambda *all_: together(places, *all_), one_by_one):
        found = function(*tensors)
        weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1)).double()
        results.append([found, *torch.autograd.grad((found * weights).sum(), tensors)])
    for one, other in zip(*results, strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_gradients_equal_differences():
    places, tensors = example()
    assert torch.autograd.gradcheck(lambda *all_: together(places, *all_), tensors)


def test_one_step_is_the_first_of_many():
    places, tensors = example()
    first, gates, keys, vectors, *weights = tensors
    one = advance(first, gates[:4], keys, vectors, places, Weights(*weights))
    torch.testing.assert_close(one, together(places, *tensors)[:4])
