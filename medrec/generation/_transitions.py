"""Pairs of a token and one that may follow it, in compressed rows.

The grammar allows few tokens after each: some codes in a row, the token that ends the block, and
after a visit the one that ends the record. So a matrix of tokens by tokens is mostly nothing; here
each token has a row of *places*, one for each token that may follow, in ascending order.
"""

import numpy as np
from jaxtyping import Float64, Int64

from medrec.generation._records import Tokens


class Transitions:
    """The places of all rows.

    Attributes:
        first, beyond: what may follow each token are codes from `first` to before `beyond`, and
            tokens that are no codes.
        starts: first place of each token's row; no row is empty.
        token: of each place, the token before.
        follower: of each place, the token after.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._codes = tokens.codes
        self.first, self.beyond, self._closing, other = tokens.followers.numpy().T
        self._inside = self.beyond - self.first
        lengths = self._inside + 1 + (other != self._closing)
        self.starts: Int64[np.ndarray, " tokens"] = np.cumsum(lengths) - lengths
        self.token: Int64[np.ndarray, " places"] = np.repeat(np.arange(len(lengths)), lengths)
        within = np.arange(len(self.token)) - self.starts[self.token]
        self.follower: Int64[np.ndarray, " places"] = np.where(
            within < self._inside[self.token],
            self.first[self.token] + within,
            np.where(
                within == self._inside[self.token], self._closing[self.token], other[self.token]
            ),
        )

    def places(
        self, token: Int64[np.ndarray, " pairs"], follower: Int64[np.ndarray, " pairs"]
    ) -> Int64[np.ndarray, " pairs"]:
        """Returns the place of each pair; the grammar allows them all."""
        special = self._inside[token] + (follower != self._closing[token])
        within = np.where(follower < self._codes, follower - self.first[token], special)
        return self.starts[token] + within

    def sums(self, values: Float64[np.ndarray, " places"]) -> Float64[np.ndarray, " tokens"]:
        """Returns each row's sum."""
        return np.add.reduceat(values, self.starts)

    def likeliest(
        self, values: Float64[np.ndarray, " places"], number: int
    ) -> Float64[np.ndarray, " places"]:
        """Returns the values, all but so many of the largest of each row put to 0."""
        order = np.lexsort((-values, self.token))
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        return np.where(rank - self.starts[self.token] < number, values, 0.0)

    def shares(self, values: Float64[np.ndarray, " places"]) -> Float64[np.ndarray, " places"]:
        """Returns the values over their row's sum, which is positive."""
        return values / self.sums(values)[self.token]
