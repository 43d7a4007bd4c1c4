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
    """`advance`, step by step.

    What a step's gradient multiplies is computed for all steps at once before the loop backwards,
    and the gradients of the matrices after it: the loop is left with what needs the step after.
    """

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
        dim, rows = first.shape[1], _parts(sizes)
        codes = _parts([places.ends[size] for size in sizes])
        from_state = torch.cat([query, state_in]).T  # one product for query and gates
        bias = torch.cat([state_bias.new_zeros(dim), state_bias])
        from_context = context_in.T
        states, contexts, new_gates = (token_gates.new_empty(len(token_gates), dim) for _ in "123")
        new_states, switches = torch.empty_like(states), states.new_empty(len(states), 2 * dim)
        seen = keys.new_empty(codes[-1].stop, dim)
        state, readings = first, []
        for size, row, code in zip(sizes, rows, codes, strict=True):
            state = state[:size]
            asked = torch.addmm(bias, state, from_state)
            found, count = seen[code], code.stop - code.start
            torch.index_select(asked[:, :dim], 0, places.visit[:count], out=found)
            found.add_(keys[:count]).tanh_()
            reading = places.softmax(found @ score, size)
            context = places.sum(vectors[:count], size, reading)
            gates = torch.addmm(token_gates[row], context, from_context)
            switch = torch.add(gates[:, : 2 * dim], asked[:, dim : 3 * dim], out=switches[row])
            reset, update = switch.sigmoid_().chunk(2, dim=1)
            new_state = asked[:, 3 * dim :]
            new = torch.addcmul(gates[:, 2 * dim :], reset, new_state, out=new_gates[row])
            state = torch.lerp(new.tanh_(), state, update, out=states[row])
            contexts[row], new_states[row] = context, new_state
            readings.append(reading)
        ctx.save_for_backward(first, states, keys, vectors, *weights)
        ctx.sizes, ctx.places, ctx.readings, ctx.seen = sizes, places, readings, seen
        ctx.kept = contexts, switches, new_gates, new_states
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        first, states, keys, vectors, query, score, context_in, state_in, _ = ctx.saved_tensors
        places, dim, rows = ctx.places, query.shape[0], _parts(ctx.sizes)
        codes = _parts([places.ends[size] for size in ctx.sizes])
        contexts, switches, new, new_states = ctx.kept
        befores = torch.cat([first, *(states[row][:size] for row, size in
                                      zip(rows, ctx.sizes[1:], strict=False))])  # fmt: skip
        reset, update = switches.chunk(2, dim=1)
        at_new = (1 - update) * (1 - new * new)
        # Of the next state's gradient: what goes to the state itself, then to the sums in the
        # gates: new's own, reset, update, the state's part of new.
        shares = torch.stack(
            [
                update,
                at_new,
                at_new * new_states * reset * (1 - reset),
                (befores - new) * update * (1 - update),
                at_new * reset,
            ],
            dim=1,
        )
        bends = 1 - ctx.seen * ctx.seen  # of tanh
        # Columns as in `shares`, at last what goes to the queries.
        found = gradient.new_empty(len(gradient), 6 * dim)
        to_input, to_state = slice(dim, 4 * dim), slice(2 * dim, 6 * dim)
        back_context = torch.cat([context_in[2 * dim :], context_in[: 2 * dim]])
        back_state = torch.cat([state_in, query])
        of_keys, of_vectors = torch.zeros_like(keys), torch.zeros_like(vectors)
        at_scores, ones = gradient.new_empty(len(bends)), score.new_ones(dim)
        above, carried = gradient.clone(), gradient.new_zeros(0, dim)
        for row, code, reading in zip(rows[::-1], codes[::-1], ctx.readings[::-1], strict=True):
            at, here, size = above[row], found[row], row.stop - row.start
            at[: len(carried)] += carried
            torch.mul(at[:, None], shares[row], out=here[:, : 5 * dim].unflatten(1, (5, dim)))
            # What was read: the softmax's sum over a visit's codes is at_context · context.
            at_context = here[:, to_input] @ back_context
            count = code.stop - code.start
            visit, bend = places.visit[:count], bends[code]
            at_vectors = at_context.index_select(0, visit)
            of_vectors[:count].addcmul_(at_vectors, reading[:, None])
            at_reading = at_vectors.mul_(vectors[:count]) @ ones
            both = ((at_context * contexts[row]) @ ones).index_select(0, visit)
            at_score = torch.mul(at_reading.sub_(both), reading, out=at_scores[code])
            of_keys[:count].addcmul_(bend, at_score[:, None])
            torch.mul(places.sum(bend, size, at_score), score, out=here[:, 5 * dim :])
            carried = torch.addmm(here[:, :dim], here[:, to_state], back_state)
        of_gates = torch.cat([found[:, 2 * dim : 4 * dim], found[:, dim : 2 * dim]], dim=1)
        of_state = found[:, to_state].T @ befores
        return (
            None,
            None,
            carried,
            of_gates,
            of_keys * score,
            of_vectors,
            of_state[3 * dim :],
            at_scores @ ctx.seen,
            of_gates.T @ contexts,
            of_state[: 3 * dim],
            found[:, 2 * dim : 5 * dim].sum(dim=0),
        )


def _parts(sizes: list[int]) -> list[slice]:
    """Returns where each of some parts stands when one follows the other."""
    return [slice(end - size, end) for size, end in zip(sizes, accumulate(sizes), strict=True)]
