"""The forward pass in the precision that a trial asks for.

bf16 is mixed precision: torch computes products of matrices in bfloat16 and keeps the rest, the
weights and the optimiser in float32. Logits are float32 before the loss and before scores. Sums
over codes, edges and sparse matrices, which make no use of bfloat16, stay in float32.
"""

from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor, nn

Precision = Literal["float32", "bf16"]


def mixed(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """Returns a context in which forward passes have the precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def forward(model: nn.Module, batch: Any, precision: Precision) -> Any:
    """Returns what the model's loss takes, computed in the precision; logits in float32."""
    with mixed(precision, next(model.parameters()).device):
        outputs = model(batch)
    return outputs.float() if isinstance(outputs, Tensor) else outputs
