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

    def first(self, visits: int) -> "Places":
        """Returns the places of the codes of the first visits."""
        ends = self.ends[: visits + 1]
        codes = (each[: ends[-1]] for each in (self.visit, self.cell, self.numbers))
        visit, cell, numbers = codes
        return Places(visit, cell, self.widest, self.offsets[: visits + 1], ends, numbers)

    def softmax(self, scores: Float[Tensor, " codes"]) -> Float[Tensor, " codes"]:
        """Returns the softmax over each visit's codes."""
        cells, lowest = (len(self.ends) - 1) * self.widest, torch.finfo(scores.dtype).min
        table = scores.new_full((cells,), lowest).index_copy_(0, self.cell, scores)
        return torch.softmax(table.view(-1, self.widest), 1).view(-1).index_select(0, self.cell)

    def sum(
        self,
        vectors: Float[Tensor, "codes dim"],
        weights: Float[Tensor, " codes"] | None = None,
    ) -> Float[Tensor, "visits dim"]:
        """Returns the sum of each visit's vectors, weighted if so asked."""
        found = torch.embedding_bag(
            vectors, self.numbers, self.offsets, False, 0, False, weights, True
        )
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
    reading = places.softmax(torch.tanh(keys + query) @ weights.score)
    context = places.sum(vectors, reading)
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
    What all codes at all steps need is too large for the caches and stays in the loop.
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
        dim = first.shape[1]
        from_state = torch.cat([query, state_in]).T  # one product for query and gates
        bias = torch.cat([state_bias.new_zeros(dim), state_bias])
        from_context = context_in.T
        states = token_gates.new_empty(len(token_gates), dim)
        state, read, switched = first, list[_Read](), []
        for size, gates, after in zip(
            sizes, token_gates.split(sizes), states.split(sizes), strict=True
        ):
            if size < len(state):
                state = state[:size]
            if not read or size < read[-1].size:
                codes = _Codes.of(places, keys, vectors, size)
            asked, old, new_state = torch.addmm(bias, state, from_state).split(
                [dim, 2 * dim, dim], dim=1
            )
            seen = asked.index_select(0, codes.places.visit).add_(codes.keys).tanh_()
            reading = codes.places.softmax(seen @ score)
            context = codes.places.sum(codes.vectors, reading)
            switches, new = torch.addmm(gates, context, from_context).split([2 * dim, dim], dim=1)
            switches = switches.add_(old).sigmoid_()
            reset, update = switches.chunk(2, dim=1)
            new = torch.addcmul(new, reset, new_state).tanh_()
            state = torch.lerp(new, state, update, out=after)
            read.append(_Read(size, codes, seen, reading, context))
            switched.append((switches, new, new_state))
        ctx.save_for_backward(first, states, keys, vectors, *weights)
        ctx.sizes, ctx.read, ctx.switched = sizes, read, switched
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        first, states, keys, vectors, query, score, context_in, state_in, _ = ctx.saved_tensors
        sizes, dim = ctx.sizes, query.shape[0]
        earlier = zip(states.split(sizes), sizes[1:], strict=False)
        befores = torch.cat([first, *(state[:size] for state, size in earlier)])
        contexts = torch.cat([step.context for step in ctx.read])
        switches, new, new_states = (torch.cat(each) for each in zip(*ctx.switched, strict=True))
        reset, update = switches.chunk(2, dim=1)
        at_new = (1 - update) * (1 - new * new)
        # Of the next state's gradient: what goes to the state itself, then to the sums in the
        # gates: new's own, reset, update, the state's part of new.
        shares = [
            update,
            at_new,
            at_new * new_states * (reset - reset * reset),
            (befores - new) * (update - update * update),
            at_new * reset,
        ]
        # Columns as in `shares`, at last what goes to the queries.
        found = gradient.new_empty(len(gradient), 6 * dim)
        to_input, to_state = found[:, dim : 4 * dim], found[:, 2 * dim :]
        columns = (found[:, : 5 * dim].unflatten(1, (5, dim)), found[:, :dim], to_input, to_state,
                   found[:, 5 * dim :], torch.stack(shares, dim=1), gradient.clone())  # fmt: skip
        back_context = torch.cat([context_in[2 * dim :], context_in[: 2 * dim]])
        back_state = torch.cat([state_in, query])
        of_keys, of_vectors = torch.zeros_like(keys), torch.zeros_like(vectors)
        of_score, ones = torch.zeros_like(score), score.new_ones(dim)
        carried = gradient.new_zeros(0, dim)
        steps = list(zip(ctx.read, *(each.split(sizes) for each in columns), strict=True))
        for step, all_five, itself, inputs, state, to_query, share, above in reversed(steps):
            codes, reading = step.codes, step.reading
            (above[: len(carried)] if len(carried) < step.size else above).add_(carried)
            torch.mul(above[:, None], share, out=all_five)
            # What was read: the softmax's sum over a visit's codes is at_context · context.
            at_context = inputs @ back_context
            both = at_context.mul(step.context) @ ones
            at_vectors = at_context.index_select(0, codes.places.visit)
            of_vectors[: len(reading)].addcmul_(at_vectors, reading[:, None])
            at_score = at_vectors.mul_(codes.vectors) @ ones
            at_score.sub_(both.index_select(0, codes.places.visit)).mul_(reading)
            of_score.addmv_(step.seen.T, at_score)
            # at_score (1 - seen²); the score's weights, the same for all codes, come in at last.
            at_keys = torch.ops.aten.tanh_backward(at_score[:, None], step.seen)
            of_keys[: len(reading)].add_(at_keys)
            torch.mul(codes.places.sum(at_keys), score, out=to_query)
            carried = torch.addmm(itself, state, back_state)
        of_gates = torch.cat([found[:, 2 * dim : 4 * dim], found[:, dim : 2 * dim]], dim=1)
        of_state = to_state.T @ befores
        return (
            None,
            None,
            carried,
            of_gates,
            of_keys.mul_(score),
            of_vectors,
            of_state[3 * dim :],
            of_score,
            of_gates.T @ contexts,
            of_state[: 3 * dim],
            found[:, 2 * dim : 5 * dim].sum(dim=0),
        )


@dataclass(frozen=True)
class _Codes:
    """Of the visits that make a step."""

    places: Places
    keys: Float[Tensor, "codes dim"]
    vectors: Float[Tensor, "codes dim"]

    @classmethod
    def of(cls, places: Places, keys: Tensor, vectors: Tensor, size: int) -> "_Codes":
        end = places.ends[size]
        return cls(places.first(size), keys[:end], vectors[:end])


@dataclass(frozen=True)
class _Read:
    """What a step of `size` visits has read."""

    size: int
    codes: _Codes
    seen: Float[Tensor, "codes dim"]
    reading: Float[Tensor, " codes"]
    context: Float[Tensor, "visits dim"]
