"""A model with a defect that shows after some epochs: for tests of what becomes of the others."""

import os
import signal
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from medrec.batching import Batch
from medrec.knowledge.base import Knowledge
from medrec.models._base import Model, NeuralRecommender, Step
from medrec.spec import ModelConfig


class FaultyConfig(ModelConfig):
    """Which defect, and when."""

    fault: Literal["none", "bug", "nan", "memory", "hog", "crash"] = Field(
        default="none", description="what goes wrong"
    )
    after: int = Field(default=2, ge=0, description="epochs that go well")


class Faulty(NeuralRecommender):
    """A bias for each drug, and the defect."""

    def __init__(self, config: FaultyConfig, knowledge: Knowledge) -> None:
        super().__init__()
        self.config = config
        self.bias = nn.Parameter(torch.zeros(knowledge.drugs))

    def forward(self, batch: Batch) -> Float[Tensor, "patients visits drugs"]:
        """Returns the biases, whatever the visit."""
        return self.bias.expand(batch.medications.shape)

    def loss(
        self, logits: Float[Tensor, "patients visits drugs"], batch: Batch, step: Step
    ) -> Float[Tensor, ""]:
        """Returns the cross-entropy, until the defect shows."""
        loss = nn.functional.binary_cross_entropy_with_logits(logits, batch.medications.float())
        if step.epoch < self.config.after:
            return loss
        if self.config.fault == "bug":
            return loss + torch.zeros(3) @ torch.zeros(4)
        if self.config.fault == "nan":
            return loss * torch.log(-loss)
        if self.config.fault == "memory":
            return loss + torch.zeros(2**52).sum()  # the allocator refuses
        if self.config.fault == "hog":
            held = [torch.ones(2**27) for _ in range(int(os.environ["CHAOS_HOG_HALF_GIB"]))]
            return loss + 0 * held[0][0]
        if self.config.fault == "crash":
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel ends a process without memory
        return loss


MODEL = Model(title="Faulty", source="tests", config=FaultyConfig, build=Faulty)
