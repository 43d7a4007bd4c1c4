"""A plain GPT over records: HiSGT without titles, hierarchy and their losses.

h⁰_t = drop(E[x_t] + P[t]);  h_t: pre-norm Transformer;  logits E h_t, tied to the input.

Source: Radford et al. 2019, as a baseline of HiSGT (Zhou and Barbieri, arXiv 2502.20719); records
are whole visits here, see `medrec.generation._records`.
"""

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor, nn

from medrec.generation._autoregressive import Autoregressive, Over
from medrec.generation._base import GeneratorConfig
from medrec.generation._records import Tokens
from medrec.generation._transformer import Cache, Transformer
from medrec.knowledge.base import Knowledge
from medrec.layers import Dropout
from medrec.models._base import Model
from medrec.spec import Training, whole_heads


class GptConfig(GeneratorConfig):
    """Settings of the GPT; sizes as the baseline of HiSGT's code has them."""

    layers: int = Field(default=3, ge=1, le=24, description="of the Transformer")
    heads: int = Field(default=4, ge=1, description="of the attention")
    dim: int = Field(default=384, ge=1, description="of tokens; a multiple of `heads`")
    context: int = Field(
        default=768, ge=8, description="tokens of a record; visits beyond are left out"
    )
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="of tokens, and of what a half-block adds"
    )
    attention_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="of attention weights; 0 is much faster on a CPU"
    )
    normalised_over: Over = Field(
        default="vocabulary",
        description="in training: all tokens, as published, or those that the grammar allows",
    )

    _heads = whole_heads()


class Gpt(Autoregressive):
    """Predicts each token from all earlier ones."""

    def __init__(self, config: GptConfig, knowledge: Knowledge) -> None:
        tokens = Tokens.of(knowledge)
        super().__init__(tokens, config.dim, config.context, config.normalised_over)
        self.positions = nn.Embedding(config.context, config.dim)
        nn.init.normal_(self.positions.weight, std=0.02)  # as GPT-2
        self.transformer = Transformer(
            config.layers, config.dim, config.heads, config.dropout, config.attention_dropout
        )
        self.drop = Dropout(config.dropout)

    def vectors(self, tokens: Int64[Tensor, " some"]) -> Float[Tensor, "some dim"]:
        """Returns what the Transformer is told of these tokens."""
        found: Tensor = self.embedding(tokens)
        return found

    def states(
        self, tokens: Int64[Tensor, "patients length"]
    ) -> Float[Tensor, "patients length dim"]:
        """Returns the state after each token."""
        used, which = tokens.unique(return_inverse=True)
        read = nn.functional.embedding(which, self.vectors(used))
        read = read + self.positions.weight[: tokens.shape[1]]
        found: Tensor = self.transformer(self.drop(read))
        return found

    def begin(self, patients: int) -> Cache:
        """Returns the state before the first token."""
        self._told = self.vectors(torch.arange(self.tokens.size, device=self.device))
        return self.transformer.cache(patients)

    def next_state(
        self, last: Int64[Tensor, " patients"], state: Cache
    ) -> Float[Tensor, "patients dim"]:
        """Returns the state after one more token, without dropout, and remembers it."""
        read = self._told[last] + self.positions.weight[state.places]
        return self.transformer.step(read, state)


MODEL = Model(
    title="GPT",
    source="Radford et al. 2019, as a baseline of HiSGT (arXiv 2502.20719)",
    config=GptConfig,
    build=Gpt,
    training=Training(epochs=100, batch_size=48, learning_rate=1e-4),
)
