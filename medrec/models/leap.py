"""LEAP: drugs written one after another (Zhang et al., KDD 2017), as medication papers run it.

e_l    vector of the visit's diagnosis l; nothing else of the visit or of the past is read
h_0    vector of the start token
c_k    what step k reads: Σ_l a_l e_l with a = softmax_l w·tanh(W [h_{k-1}; e_l])
h_k    GRU([c_k; vector of the token before], h_{k-1})
p_k    softmax(V relu(h_k) + b) over the drugs, start and end
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from medrec.attending_gru import Places, Weights, advance, gated, states
from medrec.batching import Batch
from medrec.decoding import (
    IGNORED,
    Rules,
    State,
    Written,
    decode,
    emitted_before,
    label_sequences,
    sample,
    writing_order,
    written_before,
)
from medrec.knowledge.base import Knowledge
from medrec.layers import Dropout, full_precision
from medrec.losses import visit_ddi_rate
from medrec.models._base import Model, Prediction, SequenceRecommender, Step
from medrec.spec import ModelConfig, Training, preset

# Where SafeDrug's copy of LEAP (88ce5c3), the source of most published LEAP rows, departs.
RELEASED: dict[str, Any] = {
    # The codes' vectors are overwritten by what the first step read, so every later step reads
    # the same. That costs nothing more: the score w·[h; e_l] is linear, the state adds the same
    # to each code and cancels in the softmax, so all steps read the same anyway.
    "attention": "released",
}


class LEAPConfig(ModelConfig):
    """Settings of LEAP; defaults from SafeDrug's copy (88ce5c3)."""

    dim: int = Field(default=64, ge=1, description="of vectors and states; AutoPrescribe: 200")
    dropout: float = Field(default=0.3, ge=0, lt=1, description="of diagnosis vectors")
    attention: Literal["fixed", "released"] = Field(
        default="fixed",
        description="fixed: each step reads anew, with a hidden layer; released: a linear score, "
        "in which the state cancels, and one reading for all steps",
    )
    order: Literal["stored", "frequency", "rare"] = Field(
        default="stored",
        description="of a visit's drugs in training: of the vocabulary; most frequent in training "
        "first (AutoPrescribe); rarest first (COGNet)",
    )
    decoding: Literal["greedy", "beam"] = Field(default="greedy", description="of predictions")
    beam: int = Field(default=4, ge=1, le=64, description="width of the beam")
    most_drugs: int = Field(
        default=20, ge=1, le=1000, description="tokens written; the published 20 cap recall"
    )
    fine_tuning: Literal["none", "reinforce", "released"] = Field(
        default="none",
        description="loss from `fine_tune_from` on; reinforce: the Jaccard index of a drawn "
        "sequence as reward, that of the greedy one as baseline; released: without a draw",
    )
    fine_tune_from: int = Field(default=15, ge=0, description="epoch, from 0")
    reward_ddi: bool = Field(
        default=False, description="reinforce: no reward for a set with an interacting pair"
    )

    _fill = preset(RELEASED)

    def unreached(self, epochs: int) -> str:
        """Returns whether fine-tuning never begins."""
        if self.fine_tuning == "none" or epochs > self.fine_tune_from:
            return ""
        return f"`fine_tuning` begins after `fine_tune_from` {self.fine_tune_from} epochs"

    @property
    def comparable_scores(self) -> bool:
        """Scores are mean probabilities over the steps of a sequence."""
        return False


@dataclass(frozen=True)
class _Memory:
    """Diagnoses of some visits, laid flat."""

    places: Places
    vectors: Float[Tensor, "codes dim"]
    keys: Float[Tensor, "codes dim"]


class LEAP(SequenceRecommender):
    """All visits of a batch at once; the loop is over the steps of the sequences alone."""

    def __init__(self, config: LEAPConfig, knowledge: Knowledge) -> None:
        super().__init__()
        self.config = config
        dim, self.drugs = config.dim, knowledge.drugs
        self.start, self.end = knowledge.drugs, knowledge.drugs + 1
        self.rules = Rules(self.start, (self.end, self.start), config.most_drugs)
        self.diagnoses = nn.Embedding(knowledge.diagnoses + 1, dim, knowledge.diagnoses)
        self.tokens = nn.Embedding(knowledge.drugs + 2, dim)
        self.dropout = Dropout(config.dropout)
        if config.attention == "fixed":
            self.of_codes = nn.Linear(dim, dim)
            self.of_state = nn.Linear(dim, dim, bias=False)
        # A bias of the score would cancel in the softmax.
        self.score = nn.Parameter(torch.empty(dim).uniform_(-(dim**-0.5), dim**-0.5))
        self.gru = nn.GRU(2 * dim, dim)
        self.output = nn.Linear(dim, knowledge.drugs + 2)
        order = torch.from_numpy(writing_order(config.order, knowledge))
        self.register_buffer("order", order, persistent=False)
        self.order: Tensor
        interacts = torch.from_numpy(knowledge.interacts).float()
        self.register_buffer("interacts", interacts, persistent=False)
        self.interacts: Tensor

    def forward(self, batch: Batch) -> Float[Tensor, "existing steps tokens"]:
        """Returns logits of each next token, the true ones before it given; 0 after the end."""
        diagnoses, labels = self._existing(batch)
        return self._follow(diagnoses, labels, self.dropout)

    def _existing(
        self, batch: Batch
    ) -> tuple[Int64[Tensor, "existing codes"], Int64[Tensor, "existing steps"]]:
        mask = batch.visit_mask
        labels = label_sequences(batch.medications[mask], self.order, self.end)
        return batch.diagnoses[mask], labels

    def _read(self, diagnoses: Int64[Tensor, "visits codes"], dropout: nn.Module) -> _Memory:
        exists = torch.ne(diagnoses, self.diagnoses.num_embeddings - 1)
        vectors = dropout(self.diagnoses(diagnoses[exists]))
        keys = self.of_codes(vectors).float() if self.config.attention == "fixed" else vectors
        return _Memory(Places.of(exists), vectors, keys)

    def _read_once(self, memory: _Memory) -> Float[Tensor, "visits dim"]:
        """Returns the context of every step as released."""
        reading = memory.places.softmax(memory.keys @ self.score)
        return memory.places.sum(memory.vectors, reading)

    def _gates(self, name: str) -> Tensor:
        """Returns one of the GRU's tensors; the inputs are context and token, in this order."""
        return self.gru.get_parameter(f"{name}_l0")

    def _weights(self) -> Weights:
        return Weights(
            query=self.of_state.weight,
            score=self.score,
            context=self._gates("weight_ih")[:, : self.config.dim],
            state=self._gates("weight_hh"),
            state_bias=self._gates("bias_hh"),
        )

    def _token_gates(self) -> Float[Tensor, "tokens gates"]:
        """Returns what each token adds to the gates: the same at all steps."""
        from_token = self._gates("weight_ih")[:, self.config.dim :]
        return self.tokens.weight @ from_token.T + self._gates("bias_ih")

    def _follow(
        self,
        diagnoses: Int64[Tensor, "visits codes"],
        labels: Int64[Tensor, "visits steps"],
        dropout: nn.Module,
    ) -> Float[Tensor, "visits steps tokens"]:
        """Returns the logits of each step of given sequences; 0 after their ends."""
        lengths = (labels != IGNORED).sum(dim=1)
        # Longest first: the visits that make a step are the first ones, and padding costs nothing.
        lengths, sorting = lengths.sort(descending=True, stable=True)
        memory = self._read(diagnoses[sorting], dropout)
        making = (torch.arange(labels.shape[1], device=labels.device)[:, None] < lengths).nonzero()
        sizes = torch.bincount(making[:, 0], minlength=labels.shape[1])
        places = sorting[making[:, 1]] * labels.shape[1] + making[:, 0]
        before = written_before(labels, self.start, self.end).flatten()[places]
        with full_precision(labels.device):
            states = self._states(memory, before, sizes)
        found = self.output(torch.relu(states))
        logits = found.new_zeros(labels.numel(), self.drugs + 2).index_copy(0, places, found)
        return logits.view(*labels.shape, -1)

    def _states(
        self,
        memory: _Memory,
        before: Int64[Tensor, " written"],
        sizes: Int64[Tensor, " steps"],
    ) -> Float[Tensor, "written dim"]:
        """Returns the states of all steps, step after step; `sizes` visits make each."""
        visits, making = len(memory.places.ends) - 1, sizes.tolist()
        first = self._first(visits)
        if self.config.attention == "fixed":
            gates = self._token_gates().index_select(0, before)
            args = (memory.keys, memory.vectors, memory.places)
            return states(first, gates, making, *args, self._weights())
        context = self._read_once(memory)
        contexts = torch.cat([context[:size] for size in making])
        inputs = torch.cat([contexts, self.tokens(before)], dim=1)
        packed = nn.utils.rnn.PackedSequence(inputs, sizes.cpu())
        return torch.as_tensor(self.gru(packed, first[None])[0].data)

    def _first(self, visits: int) -> Float[Tensor, "visits dim"]:
        return self.tokens.weight[self.start].expand(visits, -1)

    def loss(
        self, logits: Float[Tensor, "existing steps tokens"], batch: Batch, step: Step
    ) -> Float[Tensor, ""]:
        """Returns the mean over visits of the mean cross-entropy over their steps.

        In fine-tuning the logits are not used: sequences are written anew, without dropout, so
        that those that are drawn follow the probabilities that are trained.
        """
        diagnoses, labels = self._existing(batch)
        if self.config.fine_tuning != "none" and step.epoch >= self.config.fine_tune_from:
            return self._reward_loss(diagnoses, batch.medications[batch.visit_mask] > 0)
        exists = labels != IGNORED
        each = functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
        )
        return (each.view_as(labels).sum(dim=1) / exists.sum(dim=1)).mean()

    def _reward_loss(
        self, diagnoses: Int64[Tensor, "visits codes"], target: Bool[Tensor, "visits drugs"]
    ) -> Float[Tensor, ""]:
        with torch.no_grad():
            greedy = self._write(diagnoses, 1)
            baseline, unsafe = self._judge(greedy, target)
            followed = greedy
            if self.config.fine_tuning == "reinforce":
                followed = self._write(diagnoses, 0)
                reward, _ = self._judge(followed, target)
        labels = followed.labels()
        exists = (labels != IGNORED)[..., None]
        logits = self._follow(diagnoses, labels, nn.Identity())
        if self.config.fine_tuning == "released":
            # No draw, no baseline: it flattens the distributions of sets with an interaction.
            each = torch.log_softmax(logits, dim=2) * exists
            mean = each.sum(dim=(1, 2)) / (exists.sum(dim=(1, 2)) * logits.shape[2])
            return -(baseline * unsafe * mean).mean()
        forbidden = emitted_before(labels, logits.shape[2])
        lowest = torch.finfo(logits.dtype).min
        allowed = torch.log_softmax(logits.masked_fill(forbidden, lowest), dim=2)
        drawn = allowed.gather(2, labels.clamp(min=0)[..., None]) * exists
        return -((reward - baseline) * drawn.sum(dim=(1, 2))).mean()

    def _judge(
        self, written: Written, target: Bool[Tensor, "visits drugs"]
    ) -> tuple[Float[Tensor, " visits"], Float[Tensor, " visits"]]:
        """Returns each visit's reward, and 1 where the set has an interacting pair."""
        chosen = written.chosen(self.drugs)
        unsafe = (visit_ddi_rate(chosen, self.interacts) > 0).float()
        union = (chosen | target).sum(dim=1)
        shared = (chosen & target).sum(dim=1)
        reward = torch.where(union > 0, shared / union.clamp(min=1), 1.0)
        return reward * (1 - unsafe) if self.config.reward_ddi else reward, unsafe

    def _write(self, diagnoses: Int64[Tensor, "visits codes"], width: int) -> Written:
        """Returns a sequence a visit: the best of a beam, or drawn at random for width 0."""
        memory = self._read(diagnoses.repeat_interleave(max(width, 1), dim=0), nn.Identity())
        move = self._stepper(memory)

        def step(
            state: State, last: Int64[Tensor, " rows"]
        ) -> tuple[Float[Tensor, "rows tokens"], State]:
            with full_precision(last.device):
                after = move(state[0], last)
            return torch.log_softmax(self.output(torch.relu(after)).float(), dim=1), (after,)

        first = self._first(len(diagnoses))
        if width == 0:
            return sample(step, (first,), self.rules)
        return decode(step, (first,), self.rules, width)

    def _stepper(self, memory: _Memory) -> Callable[[Tensor, Tensor], Tensor]:
        """Returns the function from states and last tokens to the next states."""
        with full_precision(memory.vectors.device):
            token_gates = self._token_gates()
            if self.config.attention == "fixed":
                args = (memory.keys, memory.vectors, memory.places, self._weights())
                return lambda state, last: advance(state, token_gates[last], *args)
            context = self._read_once(memory)
            from_context = context @ self._gates("weight_ih")[:, : self.config.dim].T
        return lambda state, last: gated(
            state,
            from_context + token_gates[last],
            state @ self._gates("weight_hh").T + self._gates("bias_hh"),
        )

    def predict(self, batch: Batch, threshold: float) -> Prediction:
        """Returns the drugs written; scores are mean probabilities over the steps made."""
        mask = batch.visit_mask
        width = self.config.beam if self.config.decoding == "beam" else 1
        written = self._write(batch.diagnoses[mask], width)
        scores = torch.zeros_like(batch.medications)
        chosen = torch.zeros_like(scores, dtype=torch.bool)
        scores[mask] = written.mean_probability[:, : self.drugs]
        chosen[mask] = written.chosen(self.drugs)
        return Prediction(scores, chosen)


MODEL = Model(
    title="LEAP",
    source="Zhang et al., KDD 2017; as in SafeDrug's repository, code 88ce5c3; no licence, "
    "written from the equations",
    config=LEAPConfig,
    build=LEAP,
    # One step per 16 patients instead of per visit, so ten times the published 5e-4: of 2e-3 and
    # 5e-3 the better on the validation split of a synthetic cohort of 400 patients, 9 epochs.
    training=Training(epochs=20, batch_size=16, learning_rate=5e-3),
    embeddings={"diagnoses": "diagnoses.weight", "medications": "tokens.weight"},
)
