"""Networks that predict each token of a record from the state before it.

    p(x_{t+1} | x_1 .. x_t) = softmax(E h_t)        E: a vector of each token, no offset

over all tokens, as published, or over those that the grammar allows. The latter is what is drawn
from, and costs a third: after a diagnosis, say, the products with drugs and procedures are never
made. A record's probability is always the one under the grammar.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from medrec.generation._base import NeuralGenerator
from medrec.generation._histories import Histories
from medrec.generation._records import Sequences, Tokens
from medrec.generation._sampling import Rule, draw
from medrec.models._base import Step

Over = Literal["vocabulary", "grammar"]
_SIMILAR = 1.25  # lengths within this factor


@dataclass(frozen=True)
class Part:
    """Predictions after some tokens.

    Attributes:
        rows: which of the batch's predicted tokens these are.
        columns: which tokens they are chosen from.
        logits: of each.
    """

    rows: Int64[Tensor, " rows"]
    columns: Int64[Tensor, " columns"]
    logits: Float[Tensor, "rows columns"]


@dataclass(frozen=True)
class Outputs:
    """What a network says of a batch: predictions, and states of all tokens that exist."""

    parts: tuple[Part, ...]
    states: Float[Tensor, "tokens dim"]


class Autoregressive(NeuralGenerator):
    """What such networks share.

    Args:
        tokens: what records are made of.
        context: most tokens of a record.
        over: what probabilities sum to 1 over in training.
    """

    def __init__(self, tokens: Tokens, dim: int, context: int, over: Over) -> None:
        super().__init__()
        self.tokens, self.context, self.over = tokens, context, over
        self.embedding = nn.Embedding(tokens.size, dim)
        nn.init.normal_(self.embedding.weight, std=0.02)  # as GPT-2

    @abstractmethod
    def states(
        self, tokens: Int64[Tensor, "patients length"]
    ) -> Float[Tensor, "patients length dim"]:
        """Returns the state after each token."""

    @abstractmethod
    def begin(self, patients: int) -> Any:
        """Returns the state before the first token, see `medrec.generation._sampling`."""

    @abstractmethod
    def next_state(
        self, last: Int64[Tensor, " patients"], state: Any
    ) -> Float[Tensor, "patients dim"]:
        """Returns the state after one more token, as `states` does, and updates `state`."""

    def forward(self, batch: Sequences) -> Outputs:
        """Returns predictions of all tokens but the first of each record, in a row."""
        states = self._flat_states(batch)
        last = batch.mask[:, :-1] & batch.mask[:, 1:]
        before = functional.pad(last, (0, 1))[batch.mask]
        parts = self._parts(states[before], batch.tokens[:, :-1][last])
        return Outputs(tuple(parts), states)

    def _flat_states(self, batch: Sequences) -> Float[Tensor, "tokens dim"]:
        """Returns the state after each token that exists, record after record.

        Records of similar length are read together: attention costs the square of the longest.
        """
        lengths = batch.mask.sum(dim=1)
        ends = lengths.cumsum(0)
        size = torch.ceil(torch.log(lengths.float()) / math.log(_SIMILAR)).long()
        order = torch.argsort(size, stable=True)
        counts = torch.unique_consecutive(size[order], return_counts=True)[1]
        found, places = [], []
        for rows in order.split(counts.tolist()):
            width = int(lengths[rows].max())
            exists = batch.mask[rows, :width]
            found.append(self.states(batch.tokens[rows, :width])[exists])
            at = (ends - lengths)[rows, None] + torch.arange(width, device=rows.device)
            places.append(at[exists])
        states = torch.cat(found)
        return torch.empty_like(states).index_copy(0, torch.cat(places), states)

    def _parts(
        self, states: Float[Tensor, "predicted dim"], last: Int64[Tensor, " predicted"]
    ) -> Iterator[Part]:
        weight = self.embedding.weight
        if self.over == "vocabulary":
            every = torch.arange(self.tokens.size, device=last.device)
            rows = torch.arange(len(last), device=last.device)
            yield Part(rows, every, states @ weight.T)
            return
        block = self.tokens.block.to(last.device)[last]
        for number, some in enumerate(self.tokens.columns):
            rows = (block == number).nonzero()[:, 0]
            columns = some.to(last.device)
            yield Part(rows, columns, states[rows] @ weight.index_select(0, columns).T)

    def negative_log_probabilities(
        self, outputs: Outputs, batch: Sequences, over: Over
    ) -> Float[Tensor, " predicted"]:
        """Returns -ln p of every token but the first of each record, in a row."""
        both = batch.mask[:, :-1] & batch.mask[:, 1:]
        last, following = batch.tokens[:, :-1][both], batch.tokens[:, 1:][both]
        found = torch.zeros(len(last), device=last.device)
        for part in outputs.parts:
            logits = part.logits.float()
            if over == "grammar":
                allowed = self.tokens.allowed(last[part.rows], part.columns)
                logits = logits.masked_fill(~allowed, -torch.inf)
            target = torch.searchsorted(part.columns, following[part.rows])
            lost = functional.cross_entropy(logits, target, reduction="none")
            found = found.index_copy(0, part.rows, lost)
        return found

    def loss(self, outputs: Outputs, batch: Sequences, step: Step) -> Float[Tensor, ""]:
        """Returns the mean cross-entropy of the tokens that are predicted.

        A worker's part of a batch is weighted by its share of all tokens, but a record's first is
        not predicted; so the mean is over the batch's predicted tokens, times that share.
        """
        lost = self.negative_log_probabilities(outputs, batch, self.over)
        return lost.sum() / (batch.mask.sum() - len(batch.mask) / step.patient_weight)

    def log_likelihood(self, outputs: Outputs, batch: Sequences) -> Float[Tensor, " patients"]:
        """Returns the natural logarithm of each record's probability under the grammar."""
        lost = self.negative_log_probabilities(outputs, batch, "grammar")
        both = batch.mask[:, :-1] & batch.mask[:, 1:]
        patient = both.nonzero()[:, 0]
        return torch.zeros(len(both), device=lost.device).index_add(0, patient, -lost)

    def advance(
        self, last: Int64[Tensor, " patients"], state: Any
    ) -> Float[Tensor, "patients size"]:
        """Returns logits of the next token, and updates the state."""
        return self.next_state(last, state) @ self.embedding.weight.T

    def draw(
        self, patients: int, seed: int, temperature: float = 1.0, top_k: int | None = None
    ) -> Histories:
        """Returns new patients; the same for the same seed and weights.

        Raises:
            TrialError: the network draws no visit with a code, however often it is asked.
        """
        training = self.training
        rule = Rule(self.tokens, self.context, temperature, top_k)
        with torch.no_grad():
            try:
                return draw(self.eval(), rule, patients, seed)
            finally:
                self.train(training)
