"""A gated recurrent unit that, at each step, reads anew from a set of vectors.

a_l  softmax over l of w·tanh(k_l + Q h), k_l the key of vector e_l
c    Σ_l a_l e_l
h'   GRU(x + U c, h), x what the step's token adds to the gates

The sets are ragged and laid flat, and the visits sorted so that those that make a step are the
first ones: neither short sets nor short sequences are padded. The steps' gradients are written out
here because in torch's own every step's gradient of the keys and of the vectors is a tensor of
their full size.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


@dataclass(frozen=True)
class Places:
    """Where the codes of each visit stand when all are laid flat, visit after visit.

    Attributes:
        visit: of each code.
        cell: of each code in a padded table [visits, widest].
        widest: most codes of a visit.
        offsets: codes before each visit, and at the end the number of all.
        ends: the same on the host.
        numbers: 0, 1, ..., a number a code.
    """

    visit: Int64[Tensor, " codes"]
    cell: Int64[Tensor, " codes"]
    widest: int
    offsets: Int64[Tensor, " ends"]
    ends: list[int]
    numbers: Int64[Tensor, " codes"]

    @classmethod
    def of(cls, exists: Bool[Tensor, "visits widest"]) -> "Places":
        """Returns the places of the codes that exist, in the order of `exists.nonzero()`."""
        counts = exists.sum(dim=1)
        offsets = functional.pad(counts.cumsum(0), (1, 0))
        return cls(
            visit=torch.repeat_interleave(counts),
            cell=exists.flatten().nonzero()[:, 0],
            widest=exists.shape[1],
            offsets=offsets,
            ends=offsets.tolist(),
            numbers=torch.arange(int(offsets[-1]), device=offsets.device),
        )

    def softmax(self, scores: Float[Tensor, " codes"], visits: int) -> Float[Tensor, " codes"]:
        """Returns the softmax over each visit's codes, of the first `visits`."""
        lowest = torch.finfo(scores.dtype).min
        cells = self.cell[: len(scores)]
        table = scores.new_full((visits * self.widest,), lowest).index_copy(0, cells, scores)
        return torch.softmax(table.view(visits, -1), dim=1).flatten().index_select(0, cells)

    def sum(
        self,
        vectors: Float[Tensor, "codes dim"],
        visits: int,
        weights: Float[Tensor, " codes"] | None = None,
    ) -> Float[Tensor, "visits dim"]:
        """Returns the sum of each visit's vectors, weighted if so asked."""
        ends = self.offsets[: visits + 1]
        numbers = self.numbers[: len(vectors)]
        found = torch.embedding_bag(vectors, numbers, ends, False, 0, False, weights, True)
        return torch.as_tensor(found[0])


@dataclass(frozen=True)
class Weights:
    """Of the recurrence; the gates are reset, update and new, in this order, as torch's.

    Attributes:
        query: Q.
        score: w.
        context: U.
        state: from the state to the gates.
        state_bias: likewise.
    """

    query: Float[Tensor, "dim dim"]
    score: Float[Tensor, " dim"]
    context: Float[Tensor, "gates dim"]
    state: Float[Tensor, "gates dim"]
    state_bias: Float[Tensor, " gates"]


def advance(
    state: Float[Tensor, "visits dim"],
    token_gates: Float[Tensor, "visits gates"],
    keys: Float[Tensor, "codes dim"],
    vectors: Float[Tensor, "codes dim"],
    places: Places,
    weights: Weights,
) -> Float[Tensor, "visits dim"]:
    """Returns the states after one step.

    Args:
        state: before it.
        token_gates: x, what the tokens written before add to the gates.
        keys: k, of the codes of these visits.
        vectors: e, likewise.
        places: of the codes.
        weights: of the recurrence.
    """
    query = (state @ weights.query.T).index_select(0, places.visit)
    reading = places.softmax(torch.tanh(keys + query) @ weights.score, len(state))
    context = places.sum(vectors, len(state), reading)
    return gated(
        state,
        token_gates + context @ weights.context.T,
        state @ weights.state.T + weights.state_bias,
    )


def gated(
    state: Float[Tensor, "visits dim"],
    from_input: Float[Tensor, "visits gates"],
    from_state: Float[Tensor, "visits gates"],
) -> Float[Tensor, "visits dim"]:
    """Returns the GRU's next state from what input and state add to the gates."""
    dim = state.shape[1]
    reset, update = torch.sigmoid(from_input[:, : 2 * dim] + from_state[:, : 2 * dim]).chunk(
        2, dim=1
    )
    new = torch.tanh(from_input[:, 2 * dim :] + reset * from_state[:, 2 * dim :])
    return new + update * (state - new)


def states(
    first: Float[Tensor, "visits dim"],
    token_gates: Float[Tensor, "written gates"],
    sizes: list[int],
    keys: Float[Tensor, "codes dim"],
    vectors: Float[Tensor, "codes dim"],
    places: Places,
    weights: Weights,
) -> Float[Tensor, "written dim"]:
    """Returns the states of all steps of sequences whose tokens are known.

    Args:
        first: before the first step.
        token_gates: x of all steps, step after step.
        sizes: visits that make each step, never more than made the step before.
        keys: k of each code.
        vectors: e of each code.
        places: of the codes.
        weights: of the recurrence.
    """
    found = _Recurrence.apply(  # type: ignore[no-untyped-call]
        sizes, places, first, token_gates, keys, vectors, *vars(weights).values()
    )
    return torch.as_tensor(found)


class _Recurrence(torch.autograd.Function):
    """`advance`, step by step; one product of all steps for each matrix's gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        sizes: list[int],
        places: Places,
        first: Tensor,
        token_gates: Tensor,
        keys: Tensor,
        vectors: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        query, score, context_in, state_in, state_bias = weights
        dim = first.shape[1]
        from_state = torch.cat([query, state_in]).T  # one product for query and gates
        bias = torch.cat([state_bias.new_zeros(dim), state_bias])
        states = first.new_empty(len(token_gates), dim)
        contexts, kept, state, done = torch.empty_like(states), [], first, 0
        for size in sizes:
            rows, codes = slice(done, done + size), places.ends[size]
            state = state[:size]
            asked = torch.addmm(bias, state, from_state)
            seen = asked[:, :dim].index_select(0, places.visit[:codes])
            seen.add_(keys[:codes]).tanh_()
            reading = places.softmax(seen @ score, size)
            contexts[rows] = places.sum(vectors[:codes], size, reading)
            gates = torch.addmm(token_gates[rows], contexts[rows], context_in.T)
            switches = (gates[:, : 2 * dim] + asked[:, dim : 3 * dim]).sigmoid_()
            new = (gates[:, 2 * dim :] + switches[:, :dim] * asked[:, 3 * dim :]).tanh_()
            kept.append((seen, reading, switches, new, asked[:, 3 * dim :]))
            torch.lerp(new, state, switches[:, dim:], out=states[rows])
            state, done = states[rows], done + size
        ctx.save_for_backward(first, states, keys, vectors, *weights)
        ctx.sizes, ctx.places, ctx.kept, ctx.contexts = sizes, places, kept, contexts
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        first, states, keys, vectors, query, score, context_in, state_in, _ = ctx.saved_tensors
        places, dim = ctx.places, query.shape[0]
        starts = [0, *accumulate(ctx.sizes)]
        befores = [
            first,
            *(states[a : a + n] for a, n in zip(starts, ctx.sizes[1:], strict=False)),
        ]
        from_state = torch.cat([query, state_in])
        of_gates = gradient.new_empty(len(gradient), 3 * dim)
        of_asked = gradient.new_empty(len(gradient), 4 * dim)
        of_keys, of_vectors = torch.zeros_like(keys), torch.zeros_like(vectors)
        of_score = torch.zeros_like(score)
        carried = gradient.new_zeros(0, dim)
        for step in range(len(ctx.sizes) - 1, -1, -1):
            state, size = befores[step], ctx.sizes[step]
            seen, reading, switches, new, new_state = ctx.kept[step]
            rows, codes = slice(starts[step], starts[step + 1]), places.ends[size]
            above = gradient[rows].clone()
            above[: len(carried)] += carried
            reset, update = switches[:, :dim], switches[:, dim:]
            gates, asked = of_gates[rows], of_asked[rows]
            at_new = above * (1 - update) * (1 - new * new)
            gates[:, :dim] = at_new * new_state
            gates[:, dim : 2 * dim] = above * (state - new)
            gates[:, : 2 * dim] *= switches * (1 - switches)
            gates[:, 2 * dim :] = at_new
            asked[:, dim : 3 * dim] = gates[:, : 2 * dim]
            asked[:, 3 * dim :] = at_new * reset
            # What was read: the softmax's sum over a visit's codes is at_context · context.
            at_context = gates @ context_in
            both = (at_context * ctx.contexts[rows]).sum(dim=1)
            visit = places.visit[:codes]
            at_vectors = at_context.index_select(0, visit)
            of_vectors[:codes].addcmul_(at_vectors, reading[:, None])
            at_reading = (at_vectors * vectors[:codes]).sum(dim=1)
            at_score = reading * (at_reading - both.index_select(0, visit))
            of_score += at_score @ seen
            below = at_score[:, None] * score
            at_keys = below.addcmul(below * seen, seen, value=-1.0)
            of_keys[:codes] += at_keys
            asked[:, :dim] = places.sum(at_keys, size)
            carried = torch.addmm(above * update, asked, from_state)
        of_from_state = of_asked.T @ torch.cat(befores)
        return (
            None,
            None,
            carried,
            of_gates,
            of_keys,
            of_vectors,
            of_from_state[:dim],
            of_score,
            of_gates.T @ ctx.contexts,
            of_from_state[dim:],
            of_asked[:, dim:].sum(dim=0),
        )
