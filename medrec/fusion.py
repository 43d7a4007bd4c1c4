"""Neural collaborative filtering of two states, as KindMed fuses clinical and medicine states.

Source: He et al., WWW 2017 (generalised matrix factorisation beside a deep part); KindMed, eq. 9
to 11, the layers of the deep part as in its code.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Join(nn.Module):
    """Two channels become one: v = relu(w · [first; second] + bias), a 1x1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv1d(2, 1, 1)

    def start_positive(self) -> None:
        """Makes the join pass something on.

        As released, with weights and bias of either sign, the deep part puts out 0 for every
        input in 4 of 10 draws, and then never learns.
        """
        with torch.no_grad():
            for name, parameter in self.mix.named_parameters():
                parameter.zero_() if name == "bias" else parameter.abs_()

    def forward(
        self, first: Float[Tensor, "rows dim"], second: Float[Tensor, "rows dim"]
    ) -> Float[Tensor, "rows dim"]:
        """Returns the joined channels."""
        return torch.relu(self.mix(torch.stack([first, second], dim=1)))[:, 0]


class FusionStage(nn.Module):
    """Two rectified linear maps of v, joined."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first = nn.Linear(dim, dim)
        self.second = nn.Linear(dim, dim)
        self.join = Join()

    def forward(self, v: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
        """Returns the next v."""
        return self.join(torch.relu(self.first(v)), torch.relu(self.second(v)))


class NeuralFusion(nn.Module):
    """Neural collaborative filtering of two states: z = W relu(W [GMF; deep fusion])."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.join = Join()
        self.stages = nn.Sequential(*(FusionStage(dim) for _ in range(3)))
        self.merge = nn.Sequential(
            nn.Linear(2 * dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, 2 * dim)
        )

    def forward(
        self, a: Float[Tensor, "rows dim"], b: Float[Tensor, "rows dim"]
    ) -> Float[Tensor, "rows fused"]:
        """Returns z, twice as wide (eq. 11)."""
        return self.merge(torch.cat([self.gmf(a, b), self.deep(a, b)], dim=1))

    def gmf(
        self, a: Float[Tensor, "rows dim"], b: Float[Tensor, "rows dim"]
    ) -> Float[Tensor, "rows dim"]:
        """Returns the generalised matrix factorisation a ⊙ b (eq. 9)."""
        return a * b

    def deep(
        self, a: Float[Tensor, "rows dim"], b: Float[Tensor, "rows dim"]
    ) -> Float[Tensor, "rows dim"]:
        """Returns the deep fusion (eq. 10)."""
        return self.stages(self.join(a, b))
