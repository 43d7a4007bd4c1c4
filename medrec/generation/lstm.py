"""An LSTM over records: what a generator does without attention.

h_t = LSTM(drop(E[x_1]) .. drop(E[x_t]));  logits E drop(h_t), tied to the input.

Source: Hochreiter and Schmidhuber 1997, as a baseline of HiSGT (Zhou and Barbieri, arXiv
2502.20719); its sizes there are not known, these are ours.
"""

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor, nn

from medrec.generation._autoregressive import Autoregressive, Over
from medrec.generation._base import GeneratorConfig
from medrec.generation._records import Tokens
from medrec.knowledge.base import Knowledge
from medrec.layers import Dropout
from medrec.models._base import Model
from medrec.spec import Training


class LstmConfig(GeneratorConfig):
    """Settings of the LSTM."""

    layers: int = Field(default=2, ge=1, le=8, description="of the LSTM")
    dim: int = Field(default=256, ge=1, description="of tokens and states")
    context: int = Field(
        default=768, ge=8, description="tokens of a record; visits beyond are left out"
    )
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="of vectors, between layers, and of states"
    )
    normalised_over: Over = Field(
        default="vocabulary",
        description="in training: all tokens, or those that the grammar allows",
    )


class _State:
    """Both states of every layer."""

    def __init__(self, both: tuple[Tensor, Tensor]) -> None:
        self.both = both

    def keep(self, patients: Int64[Tensor, " some"]) -> None:
        first, second = self.both
        self.both = (first.index_select(1, patients), second.index_select(1, patients))


class Lstm(Autoregressive):
    """Predicts each token from a state of fixed size."""

    def __init__(self, config: LstmConfig, knowledge: Knowledge) -> None:
        tokens = Tokens.of(knowledge)
        super().__init__(tokens, config.dim, config.context, config.normalised_over)
        between = config.dropout if config.layers > 1 else 0.0
        self.lstm = nn.LSTM(
            config.dim, config.dim, config.layers, batch_first=True, dropout=between
        )
        self.drop = Dropout(config.dropout)

    def states(
        self, tokens: Int64[Tensor, "patients length"]
    ) -> Float[Tensor, "patients length dim"]:
        """Returns the state after each token; padding at the end changes nothing."""
        found: Tensor = self.lstm(self.drop(self.embedding(tokens)))[0]
        dropped: Tensor = self.drop(found)
        return dropped

    def begin(self, patients: int) -> _State:
        """Returns the state before the first token."""
        shape = (self.lstm.num_layers, patients, self.lstm.hidden_size)
        zeros = torch.zeros(shape, device=self.device)
        return _State((zeros, zeros))

    def next_state(
        self, last: Int64[Tensor, " patients"], state: _State
    ) -> Float[Tensor, "patients dim"]:
        """Returns the state after one more token, without dropout, and remembers it."""
        found, state.both = self.lstm(self.embedding(last)[:, None], state.both)
        one: Tensor = found[:, 0]
        return one


MODEL = Model(
    title="LSTM",
    source="Hochreiter and Schmidhuber 1997, as a baseline of HiSGT (arXiv 2502.20719)",
    config=LstmConfig,
    build=Lstm,
    training=Training(epochs=50, batch_size=48, learning_rate=1e-3),
)
