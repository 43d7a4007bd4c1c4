"""Draws records token by token from any network that predicts the next one.

A batch of records grows in step. Of each, the next token is drawn among those that the grammar
allows; finished records leave the batch once they are a quarter of it, since to copy the state of
the others costs as much as a step. Records without a visit are drawn anew.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from medrec.errors import TrialError
from medrec.generation._histories import Histories
from medrec.generation._records import Tokens

_BATCH = 256  # records drawn together
_KEPT = 0.75  # share of unfinished records below which the others leave
_ROUNDS = 20  # without a single new patient


@runtime_checkable
class State(Protocol):
    """What a network remembers of the records so far."""

    def keep(self, patients: Int64[Tensor, " some"]) -> None:
        """Forgets all other records."""


@runtime_checkable
class NextToken(Protocol):
    """A network that predicts the next token from the last one and a state."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def begin(self, patients: int) -> State:
        """Returns the state before the first token."""

    def advance(
        self, last: Int64[Tensor, " patients"], state: Any
    ) -> Float[Tensor, "patients size"]:
        """Returns logits of the next token, and updates the state."""


@dataclass(frozen=True)
class Rule:
    """How a token is drawn.

    Attributes:
        tokens: the grammar.
        context: most tokens of a record; one that is unfinished then ends at its last whole visit.
        temperature: divides the logits.
        top_k: draw among so many likeliest tokens.
    """

    tokens: Tokens
    context: int
    temperature: float = 1.0
    top_k: int | None = None


def draw(network: NextToken, rule: Rule, patients: int, seed: int) -> Histories:
    """Returns new patients; the same for the same network, rule and seed.

    Raises:
        TrialError: the network draws no visit with a code, however often it is asked.
    """
    generator = torch.Generator().manual_seed(seed)
    lengths, values = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    missing, failures = patients, 0
    while missing:
        found = _records(network, rule, min(_BATCH, missing), generator).cpu().numpy()
        exists = found != rule.tokens.pad
        lengths.append(exists.sum(axis=1))
        values.append(found[exists])
        ends = np.concatenate([[0], np.cumsum(lengths[-1])])
        drawn = len(rule.tokens.decode(ends, values[-1]).visits)
        missing -= drawn
        failures = 0 if drawn else failures + 1
        if failures == _ROUNDS:
            raise TrialError(
                f"The generator drew {_ROUNDS} times no patient with a visit. Train it longer, "
                "or draw with a higher `temperature` or `top_k`."
            )
    ends = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
    return rule.tokens.decode(ends, np.concatenate(values))


def _records(
    network: NextToken, rule: Rule, count: int, generator: torch.Generator
) -> Int64[Tensor, "count context"]:
    """Returns records, padded at the end."""
    tokens, device = rule.tokens, network.device
    found = torch.full((count, rule.context), tokens.pad, device=device)
    found[:, 0] = tokens.start
    rows = torch.arange(count, device=device)
    last, state = found[:, 0].clone(), network.begin(count)
    for place in range(1, rule.context):
        last = next_tokens(network.advance(last, state), last, rule, generator)
        found[rows, place] = last
        unfinished = last < tokens.end_record
        left = int(unfinished.sum())
        if not left:
            break
        if left <= _KEPT * len(rows):
            kept = unfinished.nonzero()[:, 0]
            state.keep(kept)
            rows, last = rows[kept], last[kept]
    return found


def next_tokens(
    logits: Float[Tensor, "patients size"],
    last: Int64[Tensor, " patients"],
    rule: Rule,
    generator: torch.Generator,
) -> Int64[Tensor, " patients"]:
    """Returns a token for each record, drawn by inverting the distribution function.

    That is done on the host and in float64: sums along a row are not monotone on every device, and
    a token that must not follow could be drawn.
    """
    scores = logits.float().masked_fill(~rule.tokens.allowed(last), -torch.inf)
    if rule.top_k is not None and rule.top_k < scores.shape[1]:
        highest, which = scores.topk(rule.top_k)
        scores = torch.full_like(scores, -torch.inf).scatter(1, which, highest)
    scores = (scores - scores.amax(dim=1, keepdim=True)) / rule.temperature
    below = scores.cpu().double().exp().cumsum(dim=1)
    total = below[:, -1:]
    drawn = torch.rand(total.shape, generator=generator, dtype=torch.float64) * total
    # Rounding must not lead to the total, which lies beyond the last token.
    drawn = torch.minimum(drawn, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(below, drawn, right=True)[:, 0].to(logits.device)
