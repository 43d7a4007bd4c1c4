"""Bigram: a Markov chain over the tokens of a record, under the grammar of `_records`.

After token a comes b, of those that the grammar allows, with probability

    (n(a, b) + c u(b | a)) / (n(a) + c),

n counting the training patients' records and c being the weight of the prior u. Codes ascend
within a block, so that a code says which block it is in and which codes are still to come. The
prior backs off to single codes: u(b | a) is the probability that b is the next one if codes are
independent of each other, each as frequent as in the training visits, and that the block ends if
all that are still to come are absent. So with a large c the chain is that of independent codes.

Source: the bigram baseline is the usual one; the prior after MacKay and Peto, "A hierarchical
Dirichlet language model", Natural Language Engineering 1 (1995).
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from pydantic import Field
from torch import Tensor

from medrec.errors import TrialError
from medrec.generation._base import FittedGenerator, GeneratorConfig
from medrec.generation._histories import Histories
from medrec.generation._records import Tokens
from medrec.generation._transitions import Transitions
from medrec.knowledge.base import Knowledge
from medrec.models._base import Model

_MOST_TOKENS = 4096  # of a drawn record, where its end is as good as impossible
_ROUNDS = 20  # without one patient, after which drawing is given up
_TINY = 1e-9  # by which shares of 1 may miss it for rounding


class BigramConfig(GeneratorConfig):
    """The prior's weight."""

    prior_weight: float = Field(
        default=300.0,
        gt=0,
        le=100_000,
        description="tokens that the prior of each token counts as; the default is near the best "
        "likelihood of validation patients of the synthetic cohort",
    )


class Bigram(FittedGenerator):
    """Counts of pairs of successive tokens, and what follows from them."""

    def __init__(self, config: BigramConfig, knowledge: Knowledge) -> None:
        self.tokens = Tokens.of(knowledge)
        self.prior_weight = config.prior_weight
        self.rows = Transitions(self.tokens)
        nothing = np.empty(0, dtype=np.int64)
        self._settle(nothing, nothing)

    def fit(self, real: Histories) -> None:
        """Counts which token follows which."""
        _, values = self._encode(real)
        follows = values[1:] != self.tokens.start
        places = self.rows.places(values[:-1][follows], values[1:][follows])
        occurring, counts = np.unique(places, return_counts=True)
        self._settle(occurring, counts)

    def _encode(
        self, real: Histories
    ) -> tuple[Int64[np.ndarray, " ends"], Int64[np.ndarray, " tokens"]]:
        codes = sum(len(codes.values) for codes in real.codes.values())
        whole = codes + 3 * len(real.patient) + 2  # no record has as many tokens
        offsets, values, _ = self.tokens.encode(real, context=whole)
        return offsets, values

    def _settle(
        self, occurring: Int64[np.ndarray, " some"], number: Int64[np.ndarray, " some"]
    ) -> None:
        """Sets the probability of each token after each, from the pairs that occur."""
        self.occurring, self.number = occurring, number
        rows = self.rows
        counts = np.zeros(len(rows.follower))
        counts[occurring] = number
        single = np.bincount(rows.follower, weights=counts, minlength=self.tokens.size)
        self.probability: Float64[np.ndarray, " places"] = rows.shares(
            counts + self.prior_weight * self._independent(single)
        )

    def _independent(
        self, single: Float64[np.ndarray, " tokens"]
    ) -> Float64[np.ndarray, " places"]:
        """Returns the prior, from the number of each token; frequencies are smoothed by 1."""
        rows, tokens = self.rows, self.tokens
        frequency = (single + 1) / (single[tokens.end_visit] + 2)
        absent = np.log1p(-frequency[: tokens.codes])
        skipped = np.concatenate([[0.0], np.cumsum(absent)])
        is_code = rows.follower < tokens.codes
        until = np.where(is_code, rows.follower, rows.beyond[rows.token])
        prior = np.exp(skipped[until] - skipped[rows.first[rows.token]])
        prior[is_code] *= frequency[rows.follower[is_code]]
        leaving = frequency[tokens.end_record]
        again = rows.token == tokens.end_visit
        prior[again] *= 1 - leaving
        prior[again & (rows.follower == tokens.end_record)] = leaving
        return prior

    def log_likelihood(self, real: Histories) -> Float64[Any, " patients"]:
        """Returns the exact logarithm of each record's probability."""
        offsets, values = self._encode(real)
        before = np.flatnonzero(values[1:] != self.tokens.start)
        places = self.rows.places(values[before], values[before + 1])
        record = np.searchsorted(offsets, before, side="right") - 1
        weights = np.log(self.probability[places])
        return np.bincount(record, weights=weights, minlength=len(real.visits))

    def draw(
        self, patients: int, seed: int, temperature: float = 1.0, top_k: int | None = None
    ) -> Histories:
        """Returns new patients; the same for the same seed. One without any code comes again.

        Args:
            patients: how many.
            seed: of numpy's generator.
            temperature: divides the logarithms of the probabilities.
            top_k: only so many of the likeliest tokens may follow each.

        Raises:
            TrialError: no patient with a code is drawn, however often.
        """
        rng = np.random.default_rng(seed)
        ends = self._ends(temperature, top_k)
        lengths, values = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        missing, failures = patients, 0
        while missing:
            count, tokens = self._records(missing, ends, rng)
            drawn = len(self.tokens.decode(_offsets(count), tokens).visits)
            lengths.append(count)
            values.append(tokens)
            missing -= drawn
            failures = 0 if drawn else failures + 1
            if failures == _ROUNDS:
                raise TrialError(
                    f"The bigram model drew {_ROUNDS} times no patient with a visit. Draw with a "
                    "higher `temperature` or `top_k`."
                )
        return self.tokens.decode(_offsets(np.concatenate(lengths)), np.concatenate(values))

    def _ends(self, temperature: float, top_k: int | None) -> Float64[np.ndarray, " places"]:
        """Returns where each place ends, if token a's row fills the line from a to a + 1."""
        rows, logarithm = self.rows, np.log(self.probability)
        largest = np.maximum.reduceat(logarithm, rows.starts)[rows.token]
        wanted = np.exp((logarithm - largest) / temperature)
        if top_k is not None:
            wanted = rows.likeliest(wanted, top_k)
        ends = np.cumsum(rows.shares(wanted))
        within = ends - np.concatenate([[0.0], ends])[rows.starts][rows.token]
        # The last place of positive share ends at 1 exactly, so that none beyond is met.
        return rows.token + np.where(within > 1 - _TINY, 1.0, within)

    def _records(
        self, patients: int, ends: Float64[np.ndarray, " places"], rng: np.random.Generator
    ) -> tuple[Int64[np.ndarray, " patients"], Int64[np.ndarray, " tokens"]]:
        """Draws records token by token, all patients at once; returns lengths and tokens."""
        alive, last = np.arange(patients), np.full(patients, self.tokens.start)
        owners, drawn = [alive], [last]
        for _ in range(_MOST_TOKENS):
            line = last + rng.random(len(last)) * (1 - _TINY)
            last = self.rows.follower[np.searchsorted(ends, line, side="right")]
            owners.append(alive)
            drawn.append(last)
            going = last != self.tokens.end_record
            alive, last = alive[going], last[going]
            if not len(alive):
                break
        owner = np.concatenate(owners)
        order = np.argsort(owner, kind="stable")
        return np.bincount(owner, minlength=patients), np.concatenate(drawn)[order]

    def tensors(self) -> dict[str, Tensor]:
        """Returns which pairs occur, and how often."""
        return {
            "occurring": torch.from_numpy(self.occurring),
            "number": torch.from_numpy(self.number),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes back the pairs."""
        self._settle(tensors["occurring"].numpy(), tensors["number"].numpy())


def _offsets(lengths: Int64[np.ndarray, " records"]) -> Int64[np.ndarray, " ends"]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


MODEL = Model(
    title="Bigram",
    source="control; prior of MacKay and Peto, Natural Language Engineering 1 (1995), 289",
    config=BigramConfig,
    build=Bigram,
    seeded=True,
)
