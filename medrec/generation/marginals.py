"""Independent marginals: the control that knows how frequent codes are and nothing else.

A patient goes home for good after visit t with the frequency at which training patients who had t
visits had no other. Each visit has each code with the code's frequency among training visits,
whatever else the visit has; a visit without any code is none and is drawn again. Frequencies are
smoothed as by further cases in both directions (Laplace), so that nothing is impossible.

Source: the usual control; as "independent marginals" in Goncalves et al., "Generation and
evaluation of synthetic patient data", BMC Medical Research Methodology 20 (2020).
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from pydantic import Field
from torch import Tensor

from medrec.cohort import KINDS, Codes, Kind
from medrec.generation._base import FittedGenerator, GeneratorConfig
from medrec.generation._histories import Histories
from medrec.generation._numbered import Numbered
from medrec.knowledge.base import Knowledge
from medrec.models._base import Model

_BLOCK = 1 << 22  # codes of visits at a time
_MOST_VISITS = 10_000  # of a drawn patient, should leaving be as good as impossible


class MarginalsConfig(GeneratorConfig):
    """The prior of all frequencies."""

    smoothing: float = Field(
        default=1.0, gt=0, le=100, description="further cases of either outcome; 1: Laplace"
    )


class Marginals(FittedGenerator):
    """Frequencies of codes, and of leaving for good after each number of visits."""

    def __init__(self, config: MarginalsConfig, knowledge: Knowledge) -> None:
        sizes = (knowledge.diagnoses, knowledge.procedures, knowledge.drugs)
        self.sizes: dict[Kind, int] = dict(zip(KINDS, sizes, strict=True))
        self.smoothing = config.smoothing
        self.codes = np.full(sum(sizes), 0.5)
        self.leaving = np.full(1, 0.5)

    def fit(self, real: Histories) -> None:
        """Counts; after more visits than any training patient had, one leaves as at any visit."""
        numbered = Numbered.of(real, self.sizes)
        counts = np.bincount(numbered.codes.values, minlength=numbered.size)
        self.codes = self._smoothed(counts, len(real.patient))
        left = np.bincount(real.visits)[1:]
        present = left[::-1].cumsum()[::-1]
        beyond = self._smoothed(np.array([len(real.visits)]), len(real.patient))
        self.leaving = np.concatenate([self._smoothed(left, present), beyond])

    def _smoothed(
        self, cases: Int64[np.ndarray, " some"], among: int | Int64[np.ndarray, " some"]
    ) -> Float64[np.ndarray, " some"]:
        return (cases + self.smoothing) / (among + 2 * self.smoothing)

    def log_likelihood(self, real: Histories) -> Float64[Any, " patients"]:
        """Returns the exact logarithm; minus infinity with a visit that has no code."""
        numbered = Numbered.of(real, self.sizes)
        log_odds, none = np.log(self.codes) - np.log1p(-self.codes), np.log1p(-self.codes).sum()
        of_visits = numbered.matrix @ log_odds + none - np.log(-np.expm1(none))
        of_visits[numbered.codes.counts == 0] = -np.inf
        longest = int(real.visits.max())
        last = len(self.leaving) - 1
        leaving = self.leaving[np.minimum(np.arange(longest), last)]
        staying = np.concatenate([[0.0], np.cumsum(np.log1p(-leaving))])
        return (
            numbered.total(of_visits) + staying[real.visits - 1] + np.log(leaving[real.visits - 1])
        )

    def draw(
        self, patients: int, seed: int, temperature: float = 1.0, top_k: int | None = None
    ) -> Histories:
        """Returns new patients; the same for the same seed.

        Args:
            patients: how many.
            seed: of numpy's generator.
            temperature: divides the logits of all probabilities.
            top_k: only so many of the most frequent codes are ever drawn.
        """
        rng = np.random.default_rng(seed)
        leaving = _tempered(self.leaving, temperature)
        visits = np.ones(patients, dtype=np.int64)
        staying = np.arange(patients)
        for step in range(_MOST_VISITS):
            leaves = rng.random(len(staying)) < leaving[min(step, len(leaving) - 1)]
            staying = staying[~leaves]
            if not len(staying):
                break
            visits[staying] += 1
        codes = _tempered(self.codes, temperature)
        if top_k is not None:
            codes[np.argsort(-self.codes, kind="stable")[top_k:]] = 0.0
        return Histories(visits, self._draw_codes(codes, int(visits.sum()), rng))

    def _draw_codes(
        self, codes: Float64[np.ndarray, " codes"], visits: int, rng: np.random.Generator
    ) -> dict[Kind, Codes]:
        step = max(1, _BLOCK // max(len(codes), 1))
        parts: dict[Kind, list[tuple[np.ndarray, np.ndarray]]] = {kind: [] for kind in KINDS}
        for start in range(0, visits, step):
            has = _drawn_visits(codes, min(step, visits - start), rng)
            first = 0
            for kind, size in self.sizes.items():
                own = has[:, first : first + size]
                parts[kind].append((own.sum(axis=1), np.nonzero(own)[1]))
                first += size
        found: dict[Kind, Codes] = {}
        for kind, blocks in parts.items():
            counts = np.concatenate([count for count, _ in blocks])
            values = np.concatenate([value for _, value in blocks]).astype(np.int32)
            found[kind] = Codes(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32), values)
        return found

    def tensors(self) -> dict[str, Tensor]:
        """Returns the frequencies."""
        return {"codes": torch.from_numpy(self.codes), "leaving": torch.from_numpy(self.leaving)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes back the frequencies."""
        self.codes, self.leaving = tensors["codes"].numpy(), tensors["leaving"].numpy()


def _tempered(
    probability: Float64[np.ndarray, " some"], temperature: float
) -> Float64[np.ndarray, " some"]:
    logits = np.log(probability) - np.log1p(-probability)
    return 1 / (1 + np.exp(-np.clip(logits / temperature, -700, 700)))


def _drawn_visits(
    codes: Float64[np.ndarray, " codes"], visits: int, rng: np.random.Generator
) -> Bool[np.ndarray, "visits codes"]:
    """Draws visits that have a code.

    An empty one is drawn again given that it is not, without trials, which might take for ever:
    first its first code, then those after it.
    """
    has = rng.random((visits, len(codes))) < codes
    empty = np.flatnonzero(~has.any(axis=1))
    if len(empty):
        none_before = np.concatenate([[1.0], np.cumprod(1 - codes[:-1])])
        ends = np.cumsum(codes * none_before)
        first = np.searchsorted(ends, rng.random(len(empty)) * ends[-1], side="right")
        again = rng.random((len(empty), len(codes))) < codes
        again &= np.arange(len(codes)) > first[:, None]
        again[np.arange(len(empty)), first] = True
        has[empty] = again
    return has


MODEL = Model(
    title="Independent marginals",
    source="control; Goncalves et al., BMC Med Res Methodol 20 (2020), 108",
    config=MarginalsConfig,
    build=Marginals,
    seeded=True,
)
