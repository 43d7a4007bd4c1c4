"""Sequences of tokens written for many visits at once: what sequence decoders share.

Tokens 0 to `drugs` - 1 are the drug classes; whatever else a model writes (start, end) comes after
them. A model gives `decode` and `sample` its state and a function that makes one step:

    def step(state, last):  # last: the token of each row written before, [rows]
        ...
        return log_probs, state  # of the next token, [rows, tokens]; the state after it

`state` is a tuple of tensors whose first axis is the rows. At the call it has a row a visit; a
beam search widens it to visits * width rows, row r being a hypothesis of visit r // width, and
reorders it among a visit's hypotheses at each step. It need only hold what differs between
hypotheses (hidden states, cached keys and values, which may grow along other axes): what is the
same for a visit can stay outside, in the function, read as `values.view(visits, 1, ...)`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrec.knowledge.base import Knowledge

State = tuple[Tensor, ...]
DecodingStep = Callable[
    [State, Int64[Tensor, " rows"]], tuple[Float[Tensor, "rows tokens"], State]
]
IGNORED = -100  # label of a step that does not exist; what torch's cross_entropy skips


@dataclass(frozen=True)
class Rules:
    """How sequences begin and end.

    Attributes:
        start: token before the first.
        stops: tokens that end a sequence; the first of them stands for the end in labels.
        longest: most tokens that are written, a stop included.
        distinct: forbid tokens that were written before.
    """

    start: int
    stops: tuple[int, ...]
    longest: int
    distinct: bool = True


@dataclass(frozen=True)
class Written:
    """What was written for each visit.

    Attributes:
        tokens: in the order of writing; after a stop, the first of the rules' stops.
        lengths: tokens that were written, a stop included.
        log_probability: sum of the log-probabilities that the model gave to them.
        mean_probability: of each token, over the steps made; as the model gave it, so tokens
            written before count too.
    """

    tokens: Int64[Tensor, "visits steps"]
    lengths: Int64[Tensor, " visits"]
    log_probability: Float[Tensor, " visits"]
    mean_probability: Float[Tensor, "visits tokens"]

    def chosen(self, drugs: int) -> Bool[Tensor, "visits drugs"]:
        """Returns which drugs were written."""
        hot = torch.zeros_like(self.mean_probability, dtype=torch.bool)
        return hot.scatter(1, self.tokens, value=True)[:, :drugs]

    def labels(self) -> Int64[Tensor, "visits steps"]:
        """Returns the tokens, `IGNORED` where none was written."""
        steps = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        return self.tokens.masked_fill(steps >= self.lengths[:, None], IGNORED)


def decode(step: DecodingStep, state: State, rules: Rules, width: int = 1) -> Written:
    """Returns the best sequence that a beam search finds for each visit; width 1 is greedy.

    A hypothesis counts by the sum of its tokens' log-probabilities, without regard to its length.
    A finished one keeps its place among the `width` best as long as no others beat it.

    Args:
        step: makes one step; see the module.
        state: before the first step, a row a visit.
        rules: how sequences begin and end.
        width: hypotheses kept for each visit.
    """
    visits, device = len(state[0]), state[0].device
    owner = torch.arange(visits, device=device).repeat_interleave(width)
    if width > 1:
        state = tuple(each.index_select(0, owner) for each in state)
    first = owner * width  # row of each row's visit
    pages = _Pages.blank(visits * width, rules, device)
    # At first all hypotheses of a visit are the same: one of them counts.
    total = torch.full((visits, width), -torch.inf, device=device)
    total[:, 0] = 0.0
    for position in range(rules.longest):
        log_probs, state = step(state, pages.last)
        log_probs = log_probs.float()
        pages.count(log_probs)
        offered = total.view(-1, 1) + pages.allowed(log_probs, rules)
        tokens = offered.shape[1]
        if width == 1:
            best, token = offered.max(dim=1)
            total = best[:, None]
        else:
            total, flat = offered.view(visits, width * tokens).topk(width, dim=1)
            token = (flat % tokens).flatten()
            parent = first + (flat // tokens).flatten()
            state = tuple(each.index_select(0, parent) for each in state)
            pages = pages.reordered(parent)
        pages.write(token, position, rules)
        if bool(pages.finished.all()):
            break
    best_rows = torch.arange(visits, device=device) * width  # sorted: the first is the best
    return pages.reordered(best_rows).read(total[:, 0], position + 1)


def sample(step: DecodingStep, state: State, rules: Rules) -> Written:
    """Returns a sequence drawn for each visit, token by token.

    Tokens that are forbidden are left out of the draw, and the others' probabilities scaled up;
    `log_probability` is that of the draw. Randomness comes from torch's global generator.
    """
    device = state[0].device
    pages = _Pages.blank(len(state[0]), rules, device)
    total = torch.zeros(len(state[0]), device=device)
    for position in range(rules.longest):
        log_probs, state = step(state, pages.last)
        log_probs = log_probs.float()
        pages.count(log_probs)
        drawn_from = torch.log_softmax(pages.allowed(log_probs, rules), dim=1)
        token = torch.multinomial(drawn_from.exp(), 1)[:, 0]
        total = total + drawn_from.gather(1, token[:, None])[:, 0]
        pages.write(token, position, rules)
        if bool(pages.finished.all()):
            break
    return pages.read(total, position + 1)


@dataclass
class _Pages:
    """What has been written in each row so far."""

    last: Int64[Tensor, " rows"]
    tokens: Int64[Tensor, "rows longest"]
    lengths: Int64[Tensor, " rows"]
    finished: Bool[Tensor, " rows"]
    probability: Float[Tensor, "rows tokens"] | None = None  # sum over the steps made
    emitted: Bool[Tensor, "rows tokens"] | None = None

    @classmethod
    def blank(cls, rows: int, rules: Rules, device: torch.device) -> "_Pages":
        tokens = torch.full((rows, 1 + rules.longest), rules.stops[0], device=device)
        tokens[:, 0] = rules.start
        return cls(
            last=tokens[:, 0],
            tokens=tokens[:, 1:],
            lengths=torch.zeros(rows, dtype=torch.long, device=device),
            finished=torch.zeros(rows, dtype=torch.bool, device=device),
        )

    def count(self, log_probs: Float[Tensor, "rows tokens"]) -> None:
        """Adds the distribution of a step to those of the rows that make it."""
        if self.probability is None:
            self.probability = torch.zeros_like(log_probs)
            self.emitted = torch.zeros_like(log_probs, dtype=torch.bool)
        self.probability = self.probability + log_probs.exp() * ~self.finished[:, None]

    def allowed(
        self, log_probs: Float[Tensor, "rows tokens"], rules: Rules
    ) -> Float[Tensor, "rows tokens"]:
        """Returns what each token adds, -inf if forbidden; a finished row has one way to go."""
        if rules.distinct:
            assert self.emitted is not None  # noqa: S101  since `count`
            log_probs = log_probs.masked_fill(self.emitted, -torch.inf)
        log_probs = log_probs.masked_fill(self.finished[:, None], -torch.inf)
        end = log_probs[:, rules.stops[0]]
        log_probs[:, rules.stops[0]] = torch.where(self.finished, 0.0, end)
        return log_probs

    def write(self, token: Int64[Tensor, " rows"], position: int, rules: Rules) -> None:
        assert self.emitted is not None  # noqa: S101  since `count`
        self.tokens[:, position] = token
        self.lengths = self.lengths + ~self.finished
        for stop in rules.stops:
            self.finished = self.finished | (token == stop)
        self.emitted.scatter_(1, token[:, None], value=True)
        self.last = token

    def reordered(self, rows: Int64[Tensor, " rows"]) -> "_Pages":
        return _Pages(*(each.index_select(0, rows) for each in vars(self).values()))

    def read(self, total: Float[Tensor, " rows"], steps: int) -> Written:
        assert self.probability is not None  # noqa: S101  since `count`
        mean = self.probability / self.lengths[:, None]
        return Written(self.tokens[:, :steps], self.lengths, total, mean)


def writing_order(order: str, knowledge: Knowledge) -> Int64[np.ndarray, " drugs"]:
    """Returns all drugs, the one to be written first at the front; counts are of training."""
    hot = knowledge.training_visits["medications"].multi_hot(knowledge.drugs)
    counts = hot.sum(axis=0, dtype=np.int64)
    if order == "stored":
        return np.arange(knowledge.drugs)
    return np.argsort(-counts if order == "frequency" else counts, kind="stable")


def label_sequences(
    target: Float[Tensor, "visits drugs"], order: Int64[Tensor, " drugs"], end: int
) -> Int64[Tensor, "visits steps"]:
    """Returns each visit's drugs in the given order, then `end`, then `IGNORED`.

    Args:
        target: drugs prescribed, 0 or 1.
        order: all drugs, the one to be written first at the front.
        end: token that ends a sequence.
    """
    visit, place = target.index_select(1, order).nonzero(as_tuple=True)
    counts = target.sum(dim=1).long()
    starts = counts.cumsum(0) - counts
    position = torch.arange(len(visit), device=target.device) - starts[visit]
    steps = int(counts.max()) + 1 if len(counts) else 1
    labels = torch.full((len(counts), steps), IGNORED, device=target.device)
    labels[visit, position] = order[place]
    return labels.scatter(1, counts[:, None], end)


def written_before(
    labels: Int64[Tensor, "visits steps"], start: int, filler: int
) -> Int64[Tensor, "visits steps"]:
    """Returns the token before each label: `start`, then the labels; `filler` where ignored."""
    shifted = torch.nn.functional.pad(labels, (1, -1), value=start)
    return shifted.masked_fill(shifted == IGNORED, filler)


def emitted_before(
    labels: Int64[Tensor, "visits steps"], tokens: int
) -> Bool[Tensor, "visits steps tokens"]:
    """Returns which tokens each sequence holds before each of its steps."""
    hot = torch.nn.functional.one_hot(labels.clamp(min=0), tokens)
    hot = hot * (labels != IGNORED)[..., None]
    return (hot.cumsum(dim=1) - hot) > 0
