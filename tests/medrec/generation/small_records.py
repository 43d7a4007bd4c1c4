"""Generators of a few tokens, and records to give them."""

from functools import cache
from typing import Any

import numpy as np
import torch

from medrec import plugins
from medrec.generation._autoregressive import Autoregressive
from medrec.generation._histories import histories
from medrec.generation._records import ResidentRecords, Sequences, Tokens
from tests.medrec.small import small_cohort, small_knowledge

SMALL: dict[str, dict[str, Any]] = {
    "hisgt": {
        "layers": 2, "heads": 2, "dim": 8, "context": 128, "text_dim": 6,
        "tree_hidden": 8, "tree_epochs": 3,
    },
    "gpt": {"layers": 2, "heads": 2, "dim": 8, "context": 128},
    "lstm": {"layers": 2, "dim": 8, "context": 128},
}  # fmt: skip
NETWORKS = tuple(SMALL)
OVER = ("vocabulary", "grammar")


@cache
def resident() -> ResidentRecords:
    """Returns the records of the small cohort."""
    cohort = small_cohort()
    everyone = histories(cohort, np.arange(cohort.patients))
    return ResidentRecords(everyone, Tokens.of(small_knowledge()), 128)


def batch(*patients: int) -> Sequences:
    """Returns the records of some patients, or of the first ten."""
    return resident().gather(torch.tensor(patients or range(10)))


def network(name: str, seed: int = 0, **changes: Any) -> Autoregressive:
    """Returns a pre-trained network with large random weights, in evaluation mode.

    With fresh weights all tokens are nearly as likely, and a test would see no difference.
    """
    torch.manual_seed(seed)
    plugin = plugins.load("medrec.generation", name, "MODEL")
    found = plugin.build(plugin.config(**{**SMALL[name], **changes}), small_knowledge())
    assert isinstance(found, Autoregressive)
    found.train()
    found.pretrain()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape))
    return found.eval()
