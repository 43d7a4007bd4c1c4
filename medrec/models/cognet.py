"""COGNet: conditional generation net, copy or predict (Wu et al., WWW 2022).

X_t, P_t  vectors of the codes of visit t, each from a transformer over the visit's diagnoses and
          procedures; Z_s those of the drugs prescribed at visit s
dx_t, pr_t  their gated sums
G         drug memory [drugs, dim]: GCN(co-prescription graph) - λ GCN(interaction graph)
x         state of a decoder that writes the visit's drugs, rare ones first: attention to the drugs
          written before (their vectors and G's), to X_t and P_t
p         z p_g + (1 - z) p_c: generate, softmax(W_o x) over all tokens, or copy a drug of an
          earlier visit; z = σ(w x), and 1 where there is nothing to copy
p_c       attention to the drugs of earlier visits, (W_c x · Z_s)/√dim, times that to the visits,
          (dx_t · dx_s + pr_t · pr_s)/√dim, added up by drug

The published product of two softmaxes, normalised again, is one softmax of the sum of both scores:
what normalises the two, among it the share of an empty slot before the first visit, cancels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64, Shaped
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from medrec.batching import Batch
from medrec.code_transformer import (
    Attention,
    FeedForward,
    GatedPooling,
    Ragged,
    TransformerLayer,
    bias_of,
)
from medrec.copying import Copies
from medrec.decoding import IGNORED, Rules, State, decode, label_sequences, written_before
from medrec.knowledge.base import Knowledge
from medrec.layers import Dropout, row_normalised
from medrec.models._base import Model, Prediction, SequenceRecommender, Step
from medrec.spec import ModelConfig, Training, whole_heads

POOLING = 32  # width of the gate over a visit's codes, as published


class COGNetConfig(ModelConfig):
    """Settings of COGNet; defaults from its repository (febadfa)."""

    dim: int = Field(default=64, ge=1, multiple_of=2, description="of code vectors and states")
    heads: Literal[1, 2, 4] = Field(default=2, description="of every attention; divides dim")
    feed_forward: int = Field(
        default=2048, ge=1, description="width inside the encoders' layers (torch's default)"
    )
    dropout: float = Field(default=0.2, ge=0, lt=1, description="in encoders and decoder")
    code_dropout: float = Field(
        default=0.3, ge=0, lt=1, description="of code vectors; LEAP's rate, ours here"
    )
    graph_dropout: float = Field(default=0.3, ge=0, lt=1, description="between graph layers")
    copy_by: Literal["both", "drugs", "visits", "none"] = Field(
        default="both", description="scores that choose what is copied; none: generate only"
    )
    memory: bool = Field(default=True, description="add the drug memory to drugs written before")
    ddi_memory: bool = Field(default=True, description="interaction graph in the drug memory")
    decoding: Literal["greedy", "beam"] = Field(
        default="greedy",
        description="published: greedy in validation, beam in test; one of them here, as one "
        "protocol measures both",
    )
    beam: int = Field(default=4, ge=1, le=16, description="hypotheses of the beam search")
    most_drugs: int = Field(default=45, ge=1, description="most tokens written for a visit")

    _heads = whole_heads()

    @property
    def comparable_scores(self) -> bool:
        """Means over steps of writing; they are no probabilities of being prescribed."""
        return False


class CodeEncoder(nn.Module):
    """Vectors of the codes of each visit in view of one another."""

    def __init__(self, codes: int, config: COGNetConfig) -> None:
        super().__init__()
        self.codes = codes
        self.embedding = nn.Embedding(codes + 1, config.dim)  # the last row for padding, unread
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.dropout = Dropout(config.code_dropout)
        self.layer = TransformerLayer(
            config.dim, config.heads, config.feed_forward, config.dropout
        )

    def forward(self, codes: Int64[Tensor, " items"], lists: Ragged) -> Float[Tensor, "items dim"]:
        """Returns a vector for each code of each list."""
        return self.layer(self.dropout(self.embedding(codes)), lists)


class DrugMemory(nn.Module):
    """G: two graph convolutions with the first layer's weights in common, one minus λ other."""

    def __init__(self, config: COGNetConfig, knowledge: Knowledge) -> None:
        super().__init__()
        graphs = [knowledge.co_prescribed, knowledge.interacts][: 1 + config.ddi_memory]
        spread = torch.stack([row_normalised(torch.from_numpy(graph)) for graph in graphs])
        self.register_buffer("spread", spread, persistent=False)
        self.spread: Tensor
        bound = config.dim**-0.5
        sizes = {
            "first": (knowledge.drugs, config.dim),
            "second": (len(graphs), config.dim, config.dim),
        }
        self.first, self.second = (
            nn.Parameter(torch.empty(size).uniform_(-bound, bound)) for size in sizes.values()
        )
        self.first_bias = nn.Parameter(torch.zeros(config.dim))
        self.second_bias = nn.Parameter(torch.zeros(len(graphs), 1, config.dim))
        self.dropout = Dropout(config.graph_dropout)
        if config.ddi_memory:
            self.balance = nn.Parameter(torch.empty(()).uniform_(-0.1, 0.1))  # λ

    def forward(self) -> Float[Tensor, "drugs dim"]:
        """Returns a vector for each drug; the same for every visit, so computed once a step."""
        hidden = self.dropout(torch.relu(self.spread @ self.first + self.first_bias))
        each = self.spread @ (hidden @ self.second) + self.second_bias
        return each[0] - self.balance * each[1] if len(each) == 2 else each[0]


@dataclass(frozen=True)
class Known:
    """What is known of the existing visits of a batch when their drugs are written.

    Attributes:
        patient: of each visit.
        codes: where the diagnoses of each visit lie, and its procedures.
        keys_values: of the decoder's attention to each of the two, flat.
        visits: dx_t and pr_t side by side, if they choose what is copied.
        item_visit: visit of each drug that later visits may copy.
        item_drug: that drug.
        items: Z of that drug, if it chooses what is copied.
        memory: vectors of the tokens in the drug memory, if there is one.
    """

    patient: Int64[Tensor, " visits"]
    codes: tuple[Ragged, Ragged]
    keys_values: tuple[Float[Tensor, "diagnoses both"], Float[Tensor, "procedures both"]]
    visits: Float[Tensor, "visits both"] | None
    item_visit: Int64[Tensor, " items"]
    item_drug: Int64[Tensor, " items"]
    items: Float[Tensor, "items dim"] | None
    memory: Float[Tensor, "tokens dim"] | None


@dataclass(frozen=True)
class Copier:
    """What steps of writing may copy, and all but x of what chooses among it."""

    copies: Copies
    keys: list[Tensor]
    of_visits: Float[Tensor, "steps both"] | None  # dx_t and pr_t of each step's visit


Layout = Callable[[Tensor], Tensor]  # of the rows of all steps


class Decoder(nn.Module):
    """x of each step of writing, laid flat: three parts, each added and normalised."""

    def __init__(self, config: COGNetConfig) -> None:
        super().__init__()
        dim, heads, dropout = config.dim, config.heads, config.dropout
        self.written = Attention(dim, heads, dropout)
        self.codes: Any = nn.ModuleList(Attention(dim, heads, dropout) for _ in range(2))
        self.feed_forward = FeedForward(dim, 2 * dim, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "steps dim"],
        written: Callable[[Tensor, Tensor], Tensor],
        codes: tuple[Layout, Layout],
    ) -> Float[Tensor, "steps dim"]:
        """Returns x of each step.

        Args:
            x: vector of the token written last.
            written: from queries, keys and values of these steps to what `self.written` reads.
            codes: from queries to what `self.codes` read, one of diagnoses, one of procedures.
        """
        own = self.written
        read_own = own.out(written(own.query(x), own.keys_values(x)))
        x = self.norms[0](x + self.dropout(read_own))
        read = [
            self.dropout(attention.out(reader(attention.query(x))))
            for attention, reader in zip(self.codes, codes, strict=True)
        ]
        x = self.norms[1](x + read[0] + read[1])
        return self.norms[2](x + self.dropout(self.feed_forward(x)))


class COGNet(SequenceRecommender):
    """All visits of all patients in one pass: each copies from earlier visits alone."""

    def __init__(self, config: COGNetConfig, knowledge: Knowledge) -> None:
        super().__init__()
        self.config = config
        dim, drugs = config.dim, knowledge.drugs
        self.drugs, self.start, self.end = drugs, drugs, drugs + 1
        self.encoders: Any = nn.ModuleDict(
            {
                "diagnoses": CodeEncoder(knowledge.diagnoses, config),
                "procedures": CodeEncoder(knowledge.procedures, config),
            }
        )
        self.medications = nn.Embedding(drugs + 1, dim)  # and the start
        nn.init.uniform_(self.medications.weight, -0.1, 0.1)
        self.code_dropout = Dropout(config.code_dropout)
        if config.memory:
            self.drug_memory = DrugMemory(config, knowledge)
        self.decoder = Decoder(config)
        self.generate = nn.Linear(dim, drugs + 2)
        if config.copy_by != "none":
            self.gate = nn.Linear(dim, 1)
        if config.copy_by in ("both", "drugs"):
            self.drug_layer = TransformerLayer(
                dim, config.heads, config.feed_forward, config.dropout
            )
            # Z is compared alone: what is added to all of it cancels in the softmax.
            self.drug_layer.norms[1] = nn.LayerNorm(dim, bias=False)
            self.copy = nn.Linear(dim, dim)
        if config.copy_by in ("both", "visits"):
            self.pooling = nn.ModuleList(GatedPooling(dim, POOLING) for _ in range(2))
        given = knowledge.training_visits["medications"]
        counts = torch.from_numpy(given.values).long().bincount(minlength=drugs)
        self.register_buffer("order", counts.argsort(stable=True), persistent=False)
        self.order: Tensor  # rare drugs first
        self.mean_length = 1.0 + len(given.values) / max(len(given.counts), 1)

    def forward(self, batch: Batch) -> Float[Tensor, "existing steps tokens"]:
        """Returns log-probabilities of each next token; 0 at steps that do not exist."""
        known = self.know(batch)
        labels = label_sequences(existing(batch, batch.medications), self.order, self.end)
        steps = Ragged((labels != IGNORED).sum(dim=1))
        tokens = written_before(labels, self.start, self.start).flatten()[steps.places]
        place = torch.arange(labels.shape[1], device=labels.device)
        heads = self.config.heads
        causal = bias_of(steps.exists[:, None] & (place <= place[:, None]), heads)

        def spread(rows: Tensor) -> Tensor:
            return steps.pad(rows, heads)

        def flatten(read: Tensor) -> Tensor:
            return steps.flatten(read, heads)

        def written(query: Tensor, keys_values: Tensor) -> Tensor:
            return flatten(self.decoder.written(spread(query), spread(keys_values), causal))

        codes = self._readers(known, spread, flatten)
        x = self.decoder(self._written(tokens, known.memory), written, codes)
        return steps.pad(self._log_probs(x, self._copier(known, steps.owner)))

    def loss(
        self, logits: Float[Tensor, "existing steps tokens"], batch: Batch, step: Step
    ) -> Float[Tensor, ""]:
        """Returns the mean negative log-likelihood of a token, ends among them.

        The mean over visits of the sum over tokens, divided by the mean number of tokens of a
        training visit: every token counts the same, as published, and the loss of a batch is the
        mean of its parts'.
        """
        labels = label_sequences(existing(batch, batch.medications), self.order, self.end)
        exists = labels != IGNORED
        found = logits.gather(2, (labels * exists)[..., None])[..., 0] * exists
        return -found.sum() / len(labels) / self.mean_length

    def predict(self, batch: Batch, threshold: float) -> Prediction:
        """Returns the decoded drugs; scores are means over steps of the steps' distributions."""
        known = self.know(batch)
        width = self.config.beam if self.config.decoding == "beam" else 1
        visits = len(known.patient)
        owner = torch.arange(visits, device=known.patient.device).repeat_interleave(width)
        copier = self._copier(known, owner)
        heads = self.config.heads

        def spread(rows: Tensor) -> Tensor:
            return rows.view(visits, width, heads, -1).transpose(1, 2).flatten(0, 1)

        def flatten(read: Tensor) -> Tensor:
            return read.view(visits, heads, width, -1).transpose(1, 2).reshape(len(owner), -1)

        codes = self._readers(known, spread, flatten)
        free = batch.medications.new_zeros(1, 1, 1)

        def write(state: State, last: Int64[Tensor, " rows"]) -> tuple[Tensor, State]:
            cache: list[Tensor] = []

            def written(query: Tensor, keys_values: Tensor) -> Tensor:
                new = keys_values.view(len(owner), heads, 1, -1)
                cache.append(torch.cat([state[0], new], dim=2))
                own = query.view(len(owner) * heads, 1, -1)
                return self.decoder.written(own, cache[0].flatten(0, 1), free).view_as(query)

            last = last.clamp(max=self.start)  # rows that have ended are not read
            x = self.decoder(self._written(last, known.memory), written, codes)
            return self._log_probs(x, copier), (cache[0],)

        nothing = batch.medications.new_zeros(visits, heads, 0, 2 * self.config.dim // heads)
        rules = Rules(self.start, (self.end, self.start), self.config.most_drugs)
        found = decode(write, (nothing,), rules, width)
        scores = torch.zeros_like(batch.medications)
        scores[batch.visit_mask] = found.mean_probability[:, : self.drugs].clamp(max=1.0)
        chosen = torch.zeros_like(batch.medications, dtype=torch.bool)
        chosen[batch.visit_mask] = found.chosen(self.drugs)
        return Prediction(scores, chosen)

    def know(self, batch: Batch) -> Known:
        """Encodes the codes of all visits, and the drugs of those that have a next one."""
        listed, encoded = [], []
        for kind, encoder in self.encoders.items():
            codes = existing(batch, getattr(batch, kind))
            exists = codes < encoder.codes
            listed.append(Ragged(exists.sum(dim=1)))
            encoded.append(encoder(codes[exists], listed[-1]))
        attentions = zip(self.decoder.codes, encoded, strict=True)
        keys_values = [attention.keys_values(each) for attention, each in attentions]
        visits = None
        if self.config.copy_by in ("both", "visits"):
            parts = zip(self.pooling, encoded, listed, strict=True)
            visits = torch.cat([pool(each, lists) for pool, each, lists in parts], dim=1)
        patient = batch.visit_mask.nonzero()[:, 0]
        has_next = functional.pad(patient[1:] == patient[:-1], (0, 1))
        given = existing(batch, batch.medications) * has_next[:, None]
        item_visit, item_drug = given.nonzero(as_tuple=True)
        return Known(
            patient=patient,
            codes=(listed[0], listed[1]),
            keys_values=(keys_values[0], keys_values[1]),
            visits=visits,
            item_visit=item_visit,
            item_drug=item_drug,
            items=self._items(item_visit, item_drug),
            memory=self._memory(),
        )

    def _items(
        self, visit: Int64[Tensor, " items"], drug: Int64[Tensor, " items"]
    ) -> Float[Tensor, "items dim"] | None:
        """Returns Z of drugs that were prescribed, visit by visit."""
        if self.config.copy_by not in ("both", "drugs"):
            return None
        counts = visit.bincount()
        vectors = self.code_dropout(self.medications(drug))
        return self.drug_layer(vectors, Ragged(counts[counts > 0]))

    def _memory(self) -> Float[Tensor, "tokens dim"] | None:
        """Returns G, and zero for the start."""
        return functional.pad(self.drug_memory(), (0, 0, 0, 1)) if self.config.memory else None

    def _written(
        self, tokens: Int64[Tensor, " steps"], memory: Float[Tensor, "tokens dim"] | None
    ) -> Float[Tensor, "steps dim"]:
        """Returns what the decoder is told of the token written last."""
        vectors = self.code_dropout(self.medications(tokens))
        return vectors if memory is None else vectors + memory.index_select(0, tokens)

    def _readers(self, known: Known, spread: Layout, flatten: Layout) -> tuple[Layout, Layout]:
        """Returns what the decoder's queries read from diagnoses and from procedures."""

        def reader(kind: int) -> Layout:
            attention, codes = self.decoder.codes[kind], known.codes[kind]
            keys_values = codes.pad(known.keys_values[kind], self.config.heads)
            bias = bias_of(codes.exists[:, None], self.config.heads)
            return lambda query: flatten(attention(spread(query), keys_values, bias))

        return reader(0), reader(1)

    def _copier(self, known: Known, owner: Int64[Tensor, " steps"]) -> Copier | None:
        """Returns what these steps, each of a visit, may copy."""
        if self.config.copy_by == "none":
            return None
        keys, of_visits = [], None
        if known.items is not None:
            keys.append(known.items)
        if known.visits is not None:
            keys.append(known.visits.index_select(0, known.item_visit))
            of_visits = known.visits.index_select(0, owner)
        copies = Copies(known.patient, owner, known.item_visit, known.item_drug, self.drugs)
        scaled = torch.cat(keys, dim=1) / math.sqrt(self.config.dim)
        return Copier(copies, copies.keys(scaled), of_visits)

    def _log_probs(
        self, x: Float[Tensor, "steps dim"], copier: Copier | None
    ) -> Float[Tensor, "steps tokens"]:
        """Returns log p of the next token."""
        generated = torch.log_softmax(self.generate(x).float(), dim=1)
        if copier is None:
            return generated
        queries = [self.copy(x)] if self.config.copy_by in ("both", "drugs") else []
        if copier.of_visits is not None:
            queries.append(copier.of_visits)
        gate = self.gate(x).float()
        copied = copier.copies.read(torch.cat(queries, dim=1), copier.keys)
        lowest = torch.finfo(copied.dtype).tiny  # for drugs that earlier visits lack
        copied = functional.pad(copied, (0, 2)).clamp(min=lowest).log()
        mixed = torch.logaddexp(
            functional.logsigmoid(gate) + generated, functional.logsigmoid(-gate) + copied
        )
        return torch.where(copier.copies.found[:, None], mixed, generated)


def existing(
    batch: Batch, values: Shaped[Tensor, "patients visits rest"]
) -> Shaped[Tensor, "existing rest"]:
    """Returns the values of the visits that exist."""
    rows = batch.visit_mask.flatten().nonzero()[:, 0]
    return values.flatten(0, 1).index_select(0, rows)


MODEL = Model(
    title="COGNet",
    source="Wu et al., WWW 2022; code febadfa; licence: none, written from the equations",
    config=COGNetConfig,
    build=COGNet,
    training=Training(epochs=20, batch_size=16, learning_rate=1e-3),
    embeddings={
        "diagnoses": "encoders.diagnoses.embedding.weight",
        "procedures": "encoders.procedures.embedding.weight",
        "medications": "medications.weight",
    },
)
