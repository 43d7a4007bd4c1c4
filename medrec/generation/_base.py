"""What a generator of patients' records must offer.

A neural one is trained by the one training loop, on token sequences (`_records`); a fitted one
fits itself to the training patients. Both give the logarithm of the probability of a record and
draw new patients.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor, nn

from medrec.generation._histories import Histories
from medrec.generation._records import Sequences, Tokens
from medrec.models._base import Step
from medrec.spec import ModelConfig


class GeneratorConfig(ModelConfig):
    """Settings that every generator has: how patients are drawn when it is measured."""

    temperature: float = Field(
        default=1.0, gt=0, le=10, description="divides the logits when drawing"
    )
    top_k: int | None = Field(
        default=None, ge=1, description="draw among so many likeliest tokens; none: among all"
    )
    drawn: int | None = Field(
        default=None,
        ge=1,
        description="patients drawn to be measured; none: as many as there are training patients",
    )


class NeuralGenerator(nn.Module, ABC):
    """A network that predicts each token of a record from those before it.

    Attributes:
        tokens: of the cohort's codes.
        context: tokens of a record at most.
    """

    tokens: Tokens
    context: int

    @abstractmethod
    def forward(self, batch: Sequences) -> Any:
        """Returns what `loss` and `log_likelihood` take."""

    @abstractmethod
    def loss(self, outputs: Any, batch: Sequences, step: Step) -> Float[Tensor, ""]:
        """Returns the mean loss over the tokens that are predicted."""

    @abstractmethod
    def log_likelihood(self, outputs: Any, batch: Sequences) -> Float[Tensor, " patients"]:
        """Returns the natural logarithm of each record's probability under the grammar."""

    @abstractmethod
    def draw(
        self, patients: int, seed: int, temperature: float = 1.0, top_k: int | None = None
    ) -> Histories:
        """Returns new patients; the same for the same seed and weights."""

    def pretrain(self) -> None:
        """What comes before the first epoch; nothing by default."""

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.parameters()).device


class FittedGenerator(ABC):
    """A generator that fits itself to the training patients, once."""

    @abstractmethod
    def fit(self, real: Histories) -> None:
        """Learns from these patients; reads no others."""

    @abstractmethod
    def log_likelihood(self, real: Histories) -> Float64[Any, " patients"]:
        """Returns the natural logarithm of each record's probability."""

    @abstractmethod
    def draw(
        self, patients: int, seed: int, temperature: float = 1.0, top_k: int | None = None
    ) -> Histories:
        """Returns new patients; the same for the same seed."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Returns everything `fit` learned."""

    @abstractmethod
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes back what `tensors` returned."""


Generator = NeuralGenerator | FittedGenerator
