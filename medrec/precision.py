"""The forward pass in the precision that a trial asks for.

bf16 is mixed precision: torch computes products of matrices in bfloat16 and keeps the rest, the
weights and the optimiser in float32. Logits are float32 before the loss and before scores. Sums
over codes, edges and sparse matrices, which make no use of bfloat16, stay in float32.
"""

from contextlib import AbstractContextManager
from typing import Literal

import torch
from jaxtyping import Float32
from torch import Tensor

from medrec.batching import Batch
from medrec.models._base import NeuralRecommender

Precision = Literal["float32", "bf16"]


def mixed(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """Returns a context in which forward passes have the precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def forward(
    model: NeuralRecommender, batch: Batch, precision: Precision
) -> Float32[Tensor, "..."]:
    """Returns what the model's loss takes, in float32, computed in the precision."""
    with mixed(precision, batch.patients.device):
        logits = model(batch)
    return logits.float()
