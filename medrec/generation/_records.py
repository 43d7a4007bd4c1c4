"""A patient's record as a sequence of tokens, and the grammar of such sequences.

    START  visit  visit ... END_RECORD
    visit  diagnoses PROCEDURES procedures MEDICATIONS drugs END_VISIT

Tokens are numbered: the codes of the three kinds in a row, each in the order of its vocabulary,
then START, PROCEDURES, MEDICATIONS, END_VISIT, END_RECORD, PAD. A block's codes ascend, since a
cohort keeps sets; so what may follow depends on the last token alone:

    START                 a diagnosis, or PROCEDURES
    a code                a greater code of its kind, or the token that ends its block
    PROCEDURES            a procedure, or MEDICATIONS
    MEDICATIONS           a drug, or END_VISIT
    END_VISIT             a diagnosis, PROCEDURES, or END_RECORD
    END_RECORD, PAD       PAD

Source: HiSGT (Zhou and Barbieri, arXiv 2502.20719), there of diagnoses alone, in the order in
which they were coded, and after tokens of the patient's phenotypes, which a cohort has not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Int, Int64
from torch import Tensor

from medrec.cohort import KINDS, Codes, Kind
from medrec.errors import ConfigError
from medrec.generation._histories import Histories
from medrec.knowledge.base import Knowledge

_SPECIAL = 6
_PER_VISIT = 3  # tokens of a visit besides its codes
_PER_RECORD = 2  # START and END_RECORD


@dataclass(frozen=True)
class Tokens:
    """Numbers of the tokens, and their grammar.

    Attributes:
        diagnoses, procedures, medications: number of codes of each kind.
    """

    diagnoses: int
    procedures: int
    medications: int

    @classmethod
    def of(cls, knowledge: Knowledge) -> "Tokens":
        """Returns the tokens of a cohort's vocabulary."""
        return cls(knowledge.diagnoses, knowledge.procedures, knowledge.drugs)

    @property
    def codes(self) -> int:
        """How many tokens are codes: the first ones."""
        return self.diagnoses + self.procedures + self.medications

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return self.codes + _SPECIAL

    @property
    def start(self) -> int:
        """Begins a record."""
        return self.codes

    @property
    def procedures_token(self) -> int:
        """Ends a visit's diagnoses."""
        return self.codes + 1

    @property
    def medications_token(self) -> int:
        """Ends a visit's procedures."""
        return self.codes + 2

    @property
    def end_visit(self) -> int:
        """Ends a visit's drugs."""
        return self.codes + 3

    @property
    def end_record(self) -> int:
        """Ends a record."""
        return self.codes + 4

    @property
    def pad(self) -> int:
        """Fills what is beyond a record."""
        return self.codes + 5

    @property
    def first(self) -> Mapping[Kind, int]:
        """Number of the first code of each kind."""
        return {
            "diagnoses": 0,
            "procedures": self.diagnoses,
            "medications": self.diagnoses + self.procedures,
        }

    @cached_property
    def followers(self) -> Int64[Tensor, "size four"]:
        """What may follow each token: codes from .. to before .., and either of two tokens."""
        first, second = self.diagnoses, self.diagnoses + self.procedures
        found = torch.empty(self.size, 4, dtype=torch.int64)
        found[: self.codes, 0] = torch.arange(1, self.codes + 1)
        blocks = (
            (slice(0, first), first, self.procedures_token),
            (slice(first, second), second, self.medications_token),
            (slice(second, self.codes), self.codes, self.end_visit),
        )
        for own, end, closing in blocks:
            found[own, 1], found[own, 2:] = end, closing
        found[self.start] = torch.tensor([0, first, *(2 * [self.procedures_token])])
        found[self.procedures_token] = torch.tensor(
            [first, second, *(2 * [self.medications_token])]
        )
        found[self.medications_token] = torch.tensor([second, self.codes, *(2 * [self.end_visit])])
        found[self.end_visit] = torch.tensor([0, first, self.procedures_token, self.end_record])
        found[self.end_record :] = torch.tensor([0, 0, self.pad, self.pad])
        return found

    @cached_property
    def block(self) -> Int64[Tensor, " size"]:
        """The kind of code that may follow each token, as a position in KINDS; 3: none."""
        found = torch.full((self.size,), len(KINDS))
        found[: self.codes] = torch.repeat_interleave(
            torch.tensor([self.diagnoses, self.procedures, self.medications])
        )
        found[[self.start, self.end_visit]] = 0
        found[self.procedures_token], found[self.medications_token] = 1, 2
        return found

    @cached_property
    def columns(self) -> tuple[Int64[Tensor, " some"], ...]:
        """Tokens that may follow a token of each block, ascending."""
        first, second = self.diagnoses, self.diagnoses + self.procedures
        ends = (
            (0, first, [self.procedures_token, self.end_record]),
            (first, second, [self.medications_token]),
            (second, self.codes, [self.end_visit]),
        )
        return tuple(torch.tensor([*range(a, b), *closing]) for a, b, closing in ends)

    def allowed(
        self, tokens: Int64[Tensor, "*batch"], among: Int64[Tensor, " some"] | None = None
    ) -> Bool[Tensor, "*batch some"]:
        """Returns which tokens may follow each of these.

        Args:
            tokens: the last ones.
            among: the tokens to ask for; none: all, in order.

        Example:
            >>> Tokens(1, 1, 1).allowed(torch.tensor([0])).nonzero()[:, 1].tolist()
            [4]
        """
        start, end, closing, other = self.followers.to(tokens.device)[tokens][..., None].unbind(-2)
        number = torch.arange(self.size, device=tokens.device) if among is None else among
        return ((number >= start) & (number < end)) | (number == closing) | (number == other)

    def encode(
        self, real: Histories, context: int
    ) -> tuple[Int64[np.ndarray, " ends"], Int64[np.ndarray, " tokens"], int]:
        """Returns the records, one after another.

        Args:
            real: the patients.
            context: a record has at most so many tokens; visits from the first that does not fit
                are left out.

        Returns:
            Where each record begins and the last one ends, the tokens, and how many visits were
            left out.

        Raises:
            ConfigError: a patient's first visit does not fit.
        """
        sizes = {kind: real.codes[kind].counts.astype(np.int64) for kind in KINDS}
        length = np.sum(list(sizes.values()), axis=0) + _PER_VISIT
        total = np.cumsum(length)
        before = np.concatenate([[0], total])[np.cumsum(real.visits) - real.visits]
        kept = np.flatnonzero(total - before[real.patient] + _PER_RECORD <= context)
        visits = np.bincount(real.patient[kept], minlength=len(real.visits))
        if not visits.all():
            first = (np.cumsum(real.visits) - real.visits)[visits == 0]
            raise ConfigError(
                f"`context` {context} is too small: a patient's first visit needs "
                f"{int(length[first].max()) + _PER_RECORD} tokens. Set a larger `context`."
            )
        patient, length = real.patient[kept], length[kept]
        # Before visit v lie earlier visits, the two tokens of each earlier record, and a START.
        at = np.cumsum(length) - length + _PER_RECORD * patient + 1
        ends = np.cumsum(np.bincount(patient, length, len(visits)).astype(np.int64) + _PER_RECORD)
        offsets = np.concatenate([[0], ends]).astype(np.int64)
        values = np.empty(offsets[-1], dtype=np.int64)
        values[offsets[:-1]], values[ends - 1] = self.start, self.end_record
        closing = (self.procedures_token, self.medications_token, self.end_visit)
        for kind, token in zip(KINDS, closing, strict=True):
            codes = real.codes[kind].take(kept)
            counts = codes.counts.astype(np.int64)
            within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            values[np.repeat(at, counts) + within] = codes.values + self.first[kind]
            values[at + counts] = token
            at = at + counts + 1
        return offsets, values, int(len(real.patient) - len(kept))

    def decode(
        self, offsets: Int64[np.ndarray, " ends"], values: Int64[np.ndarray, " tokens"]
    ) -> Histories:
        """Returns the patients of records as `encode` writes them.

        An unfinished record ends with its last whole visit. Visits without codes are left out, and
        records without visits.
        """
        record = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        closes = values == self.end_visit
        visit = np.cumsum(closes) - closes  # of each token, among those that are closed
        owner = np.append(record[closes], -1)
        codes = (values < self.codes) & (owner[visit] == record)
        held = np.bincount(visit[codes], minlength=len(owner) - 1)
        rank = np.cumsum(held > 0) - 1  # of each visit among those with codes
        visits = np.bincount(owner[:-1][held > 0], minlength=len(offsets) - 1)
        found = {}
        for kind in KINDS:
            start = self.first[kind]
            own = codes & (values >= start) & (values < start + getattr(self, kind))
            counts = np.bincount(rank[visit[own]], minlength=int((held > 0).sum()))
            ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
            found[kind] = Codes(ends, (values[own] - start).astype(np.int32))
        return Histories(visits[visits > 0].astype(np.int64), found)


@dataclass(frozen=True)
class Sequences:
    """Some records side by side.

    Attributes:
        tokens: padded at the end.
        mask: which tokens exist.
    """

    tokens: Int64[Tensor, "patients length"]
    mask: Bool[Tensor, "patients length"]


class ResidentRecords:
    """The records of a cohort's patients on a device; batches are gathered there.

    Args:
        real: the patients.
        tokens: how they are written.
        context: see `Tokens.encode`.
        device: where to keep them.

    Attributes:
        lengths: tokens of each patient's record, on the host.
        visits: visits of each patient's record, on the host.
        cut: visits that were left out.
    """

    def __init__(
        self,
        real: Histories,
        tokens: Tokens,
        context: int,
        device: torch.device | str = "cpu",
    ) -> None:
        offsets, values, self.cut = tokens.encode(real, context)
        record = np.repeat(np.arange(len(real.visits)), np.diff(offsets))
        self.visits: Int64[np.ndarray, " patients"] = np.bincount(
            record[values == tokens.end_visit], minlength=len(real.visits)
        ).astype(np.int64)
        self.lengths: Int[np.ndarray, " patients"] = np.diff(offsets)
        self.device = torch.device(device)
        self._pad = tokens.pad
        self._starts = torch.from_numpy(offsets[:-1]).to(self.device)
        self._lengths = torch.from_numpy(self.lengths).to(self.device)
        self._values = torch.from_numpy(values).to(self.device)

    def gather(self, patients: Int64[Tensor, " patients"]) -> Sequences:
        """Returns the records of these rows of `real`, in this order."""
        width = int(self.lengths[patients.cpu().numpy()].max(initial=0))
        rows = patients.to(self.device)
        step = torch.arange(width, device=self.device)
        mask = step < self._lengths[rows, None]
        places = torch.where(mask, self._starts[rows, None] + step, 0)
        return Sequences(torch.where(mask, self._values[places], self._pad), mask)
