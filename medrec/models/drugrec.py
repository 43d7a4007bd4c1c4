"""DrugRec without discharge notes (Sun et al., NeurIPS 2022).

e_c     vector of each code: a Transformer over the words of its text, one for both kinds
x_t     mean of the visit's diagnoses, and of its procedures
h_t     attention of x_t over the visit itself and the three before it, for each kind
q_t     Linear(relu[h_dx; h_pr])
m       drugs: fixed vectors of the classes' molecules through two linear layers
logits  q mᵀ
The chosen set is then made to satisfy that no unusual interacting pair is in it (2-SAT).

The published model also reads symptoms that a tagger finds in discharge notes, and learns what
they cause (the loss L_CI). A discharge note is written after the prescriptions and tells how the
stay ended; and our cohorts have no notes. So both are left out, as in the variant "nosym" of the
published code. Codes are read one by one, once a step, where the published code reads all texts
of a visit as one: words of different codes do not attend to one another here.
"""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from medrec import losses
from medrec.batching import Batch
from medrec.code_texts import CodeTextEncoder, code_texts
from medrec.controllers import Controller
from medrec.errors import KnowledgeError
from medrec.knowledge.base import Knowledge
from medrec.knowledge.class_fingerprints import class_fingerprints
from medrec.layers import VisitAttention, pool_codes
from medrec.models._base import (
    DdiLossConfig,
    Model,
    NeuralRecommender,
    Prediction,
    Step,
    loss_weights,
)
from medrec.spec import Training, preset, whole_heads
from medrec.two_sat import forbidden_pairs, satisfy

FINGERPRINT = 1024  # numbers of a molecule's vector, as many as PubChem-RoBERTa's have

# Where the released code (1c5c16d) departs from the paper.
RELEASED: dict[str, Any] = {
    "history": "gru",  # its variant without notes, DrugRec_nosym, has no windowed attention
    "pair_index": "position",  # pairs are marked by place in the visit's list, not by drug
    "ddi_gate": "rows",  # of the predicted matrix's indices the rates read the visit's
}


class DrugRecConfig(DdiLossConfig):
    """Settings of DrugRec; defaults from its code (1c5c16d), without notes."""

    dim: int = Field(default=64, ge=1, description="of words, visits and drugs; heads divide it")
    feed_forward: int = Field(default=256, ge=1, description="width inside the text layers")
    text_layers: int = Field(default=2, ge=1, le=6, description="of the text Transformer")
    heads: Literal[1, 2, 4] = Field(default=4, description="of text and visit attention")
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="in the text Transformer; ours, as BERT's"
    )
    history: Literal["window", "gru", "none"] = Field(
        default="window", description="what reads the visits before: attention, a GRU, nothing"
    )
    window: int = Field(
        default=3, ge=1, le=30, description="visits before that attention reaches (k_mul)"
    )
    drug_vectors: Literal["molecules", "learned"] = Field(
        default="molecules",
        description="fingerprints of the molecules through two layers, or freely learned",
    )
    bce_weight: float = Field(default=1.0, ge=0, description="of the cross-entropy")
    margin_weight: float = Field(default=0.1, ge=0, description="of the margin loss")
    pair_weight: float = Field(default=1.0, ge=0, description="of the cross-entropy of pairs")
    pair_index: Literal["drug", "position"] = Field(
        default="drug",
        description="pairs that count as given: of the drugs prescribed, or (released) of as many "
        "drugs from the start of the vocabulary",
    )
    controller: Controller = Field(default="threshold", description="rule of the DDI loss")
    ddi_target: float = Field(default=0.05, ge=0, le=1, description="acceptable DDI rate")
    ddi_gate: Literal["drugs", "rows"] = Field(
        default="drugs",
        description="rate that the controller sees: of a visit's drugs, or (released) of a "
        "patient's visit numbers, one for each chosen drug, taken for drugs",
    )
    post_processing: Literal["two_sat", "none"] = Field(
        default="two_sat", description="leave out drugs that interact with surer ones"
    )
    co_prescribed_at_least: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="share of training visits with both drugs from which an interacting pair is "
        "allowed; published as 1000 visits, of about 10,000 in MIMIC-III's training split",
    )

    _fill = preset(RELEASED)
    _heads = whole_heads()


class DrugRec(NeuralRecommender):
    """All visits in one pass; each text that occurs is read once a step."""

    interacts: Tensor
    forbidden: Tensor

    def __init__(self, config: DrugRecConfig, knowledge: Knowledge) -> None:
        super().__init__()
        self.config = config
        self.diagnoses, self.procedures = knowledge.diagnoses, knowledge.procedures
        dim = config.dim
        self.texts = CodeTextEncoder(
            code_texts(knowledge),
            dim,
            config.feed_forward,
            config.text_layers,
            config.heads,
            config.dropout,
        )
        if config.history == "window":
            scale = (dim // config.heads) ** -0.5
            self.diagnosis_history = VisitAttention(dim, config.heads, scale)
            self.procedure_history = VisitAttention(dim, config.heads, scale)
        elif config.history == "gru":
            self.diagnosis_gru = nn.GRU(dim, dim, batch_first=True)
            self.procedure_gru = nn.GRU(dim, dim, batch_first=True)
        self.query = nn.Linear(2 * dim, dim)
        molecules = config.drug_vectors == "molecules"
        self.drugs = MoleculeVectors(knowledge, dim) if molecules else FreeVectors(knowledge, dim)
        interacts = torch.from_numpy(knowledge.interacts)
        self.register_buffer("interacts", interacts.float(), persistent=False)
        forbidden = forbidden_pairs(
            knowledge.interacts,
            knowledge.training_visits["medications"],
            config.co_prescribed_at_least,
        )
        self.register_buffer("forbidden", forbidden, persistent=False)

    def forward(self, batch: Batch) -> Float[Tensor, "patients visits drugs"]:
        """Returns logits for every visit."""
        first = self.diagnoses  # the texts of procedures stand behind those of diagnoses
        diagnoses = pool_codes(batch.diagnoses, first, self.texts, mean=True)
        procedures = pool_codes(
            batch.procedures, self.procedures, lambda codes: self.texts(codes + first), mean=True
        )
        if self.config.history == "window":
            near = self._reachable(diagnoses.shape[1], diagnoses.device)
            diagnoses = self.diagnosis_history(diagnoses, near)
            procedures = self.procedure_history(procedures, near)
        elif self.config.history == "gru":
            diagnoses = self.diagnosis_gru(diagnoses)[0]
            procedures = self.procedure_gru(procedures)[0]
        query = self.query(torch.relu(torch.cat([diagnoses, procedures], dim=-1)))
        return query @ self.drugs().T

    def _reachable(self, visits: int, device: torch.device) -> Bool[Tensor, "visits visits"]:
        every = torch.ones(visits, visits, dtype=torch.bool, device=device)
        return every.tril() & every.triu(-self.config.window)

    def loss(
        self, logits: Float[Tensor, "patients visits drugs"], batch: Batch, step: Step
    ) -> Float[Tensor, ""]:
        """Returns the mean of BCE + a margin + b pairs, and of interactions as controlled."""
        config = self.config
        rows = batch.visit_mask.flatten().nonzero()[:, 0]
        chosen = torch.sigmoid(logits.detach()) >= step.threshold
        rates = self._rates(chosen, batch.visit_mask).flatten()[rows]
        logits = logits.flatten(0, 1).index_select(0, rows)
        target = batch.medications.flatten(0, 1).index_select(0, rows)
        scores = torch.sigmoid(logits)
        accuracy = config.bce_weight * losses.cross_entropy(logits, target)
        accuracy = accuracy + config.margin_weight * losses.margin(scores, target)
        if config.pair_weight > 0:
            pairs = target
            if config.pair_index == "position":
                places = torch.arange(target.shape[1], device=target.device)
                pairs = (places < target.sum(dim=1, keepdim=True)).float()
            accuracy = accuracy + config.pair_weight * losses.pair_cross_entropy(logits, pairs)
        on_accuracy, on_ddi = loss_weights(rates, config, step)
        penalty = losses.interaction(scores, self.interacts) / logits.shape[1]
        return (on_accuracy * accuracy + on_ddi * penalty).mean()

    def _rates(
        self,
        chosen: Bool[Tensor, "patients visits drugs"],
        exists: Bool[Tensor, "patients visits"],
    ) -> Float[Tensor, "patients visits"]:
        """Returns the rate that the controller sees for each visit."""
        if self.config.ddi_gate == "drugs":
            return losses.visit_ddi_rate(chosen.flatten(0, 1), self.interacts).view(exists.shape)
        # A list with visit number t once for each drug chosen at t, and t read as drug t.
        counts = (chosen.sum(dim=2) * exists)[:, : len(self.interacts)].float()
        known = counts.shape[1]
        together = losses.interaction(counts, self.interacts[:known, :known])
        listed = counts.sum(dim=1)
        rate = together / (listed * (listed - 1)).clamp(min=1)
        return rate[:, None].expand(exists.shape)

    def predict(self, batch: Batch, threshold: float) -> Prediction:
        """Returns scores and, of the drugs that reach the threshold, a set without clashes."""
        found = super().predict(batch, threshold)
        if self.config.post_processing == "none":
            return found
        return Prediction(found.scores, satisfy(found.scores, found.chosen, self.forbidden))


class MoleculeVectors(nn.Module):
    """Fixed fingerprints through two linear layers; a class without a structure learns its own.

    The published vectors come from a language model of SMILES (PubChem-RoBERTa), averaged over
    the molecules of a class. Without that model: Morgan counts, averaged likewise.
    """

    fingerprints: Tensor
    without: Tensor

    def __init__(self, knowledge: Knowledge, dim: int) -> None:
        super().__init__()
        if not any(knowledge.structures):
            raise KnowledgeError(
                "DrugRec needs a molecule structure for at least one drug class of the cohort, "
                "but `knowledge.structures` has none. Name a table with the cohort's atc3 codes, "
                "or set `drug_vectors: learned`."
            )
        found = torch.from_numpy(class_fingerprints(knowledge.structures, FINGERPRINT))
        self.register_buffer("fingerprints", found, persistent=False)
        without = (found == 0).all(dim=1).nonzero()[:, 0]
        self.register_buffer("without", without, persistent=False)
        self.first = nn.Linear(FINGERPRINT, dim)
        self.second = nn.Linear(dim, dim)
        self.free = nn.Parameter(torch.empty(len(without), dim)) if len(without) else None
        if self.free is not None:
            bound = dim**-0.5  # as the layers'
            nn.init.uniform_(self.free, -bound, bound)

    def forward(self) -> Float[Tensor, "drugs dim"]:
        """Returns a vector for each drug."""
        vectors: Tensor = self.second(torch.relu(self.first(self.fingerprints)))
        if self.free is None:
            return vectors
        return vectors.index_copy(0, self.without, self.free.to(vectors.dtype))


class FreeVectors(nn.Module):
    """A learned vector for each drug."""

    def __init__(self, knowledge: Knowledge, dim: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(knowledge.drugs, dim))
        bound = dim**-0.5
        nn.init.uniform_(self.vectors, -bound, bound)

    def forward(self) -> Float[Tensor, "drugs dim"]:
        """Returns a vector for each drug."""
        return self.vectors


MODEL = Model(
    title="DrugRec (no notes)",
    source="Sun et al., NeurIPS 2022; code 1c5c16d; licence: none, so written from the paper; "
    "without discharge notes and symptoms, and with fingerprints for drugs",
    config=DrugRecConfig,
    build=DrugRec,
    # One step per 16 patients instead of per patient, so above the published 5e-4, and without its
    # 200 epochs of warm-up and cosine decay, which the loop does not have. The best of
    # 1e-3, 2e-3 and 5e-3 on the validation split of a synthetic cohort of 1,000 patients.
    training=Training(epochs=20, batch_size=16, learning_rate=1e-3),
)
