"""A tiny cohort with real codes, and what tests need around it.

24 patients with 1 to 5 visits, 12 diagnoses, 6 procedures, 10 drug classes of which A10A
(insulins) has no structure. Some visits have no procedures, one has no medications.
"""

import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from medrec import light, plugins, splits, trial
from medrec.batching import Batch, ResidentCohort
from medrec.cohort import KINDS, Codes, Cohort, Kind, Provenance
from medrec.data import Data
from medrec.knowledge.base import Knowledge, load_knowledge
from medrec.knowledge.origin import Origin
from medrec.knowledge.relations import from_names, union
from medrec.models._base import Recommender
from medrec.spec import CohortRef, KnowledgeSpec, Training, TrialSpec

VOCABULARY = {
    "diagnoses": (
        "9:25000", "9:2724", "9:2859", "9:4019", "9:41401", "9:42731",
        "9:4280", "9:486", "9:51881", "9:5849", "9:5990", "9:V5861",
    ),
    "procedures": ("9:3893", "9:3961", "9:3995", "9:9604", "9:9671", "9:9904"),
    "medications": (
        "A02B", "A10A", "A12B", "B01A", "C03C", "C07A", "C09A", "J01D", "M01A", "N02B",
    ),
}  # fmt: skip
MOST = {"diagnoses": 6, "procedures": 3, "medications": 7}
# Pairs that no visit has. Otherwise every pair would occur in training already, and a leak of
# other patients into the co-prescription graph would not show.
NEVER_TOGETHER = ((0, 9), (3, 7))
WITHOUT_STRUCTURE = VOCABULARY["medications"].index("A10A")
# Relations between codes that visits have together, by predicate and kinds of their ends.
SEMANTIC = (
    (("AFFECTS", "diagnoses", "diagnoses"), "9:25000", "9:2724"),
    (("AFFECTS", "diagnoses", "diagnoses"), "9:25000", "9:5849"),
    (("CAUSES", "diagnoses", "diagnoses"), "9:4019", "9:4280"),
    (("CAUSES", "diagnoses", "procedures"), "9:51881", "9:9671"),
    (("COEXISTS_WITH", "diagnoses", "diagnoses"), "9:42731", "9:4280"),
    (("ISA", "procedures", "procedures"), "9:9604", "9:9671"),
    (("TREATS", "procedures", "diagnoses"), "9:3961", "9:41401"),
    (("TREATS", "procedures", "diagnoses"), "9:3995", "9:5849"),
)
VISITS = np.array([2, 1, 3, 5, 1, 4, 2, 3] * 3, dtype=np.int64)


@cache
def small_cohort(seed: int = 0) -> Cohort:
    """Returns the cohort; drugs follow the diagnoses, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    total = int(VISITS.sum())
    lists: dict[str, list[list[int]]] = {kind: [] for kind in KINDS}
    for _ in range(total):
        for kind in KINDS:
            least = 0 if kind == "procedures" else 1
            size = int(rng.integers(least, MOST[kind] + 1))
            drawn = rng.choice(len(VOCABULARY[kind]), size=size, replace=False)
            lists[kind].append(sorted(drawn.tolist()))
        planted = {code % 10 for code in lists["diagnoses"][-1]}
        given = planted | set(lists["medications"][-1][:2])
        lists["medications"][-1] = sorted(given - {b for a, b in NEVER_TOGETHER if a in given})
    lists["procedures"][3] = []
    lists["medications"][7] = []
    first = np.concatenate([[0], np.cumsum(VISITS)[:-1]])
    admitted = np.arange(total) - np.repeat(first, VISITS)
    return Cohort(
        vocabulary=dict(VOCABULARY),
        visits=VISITS.copy(),
        split=splits.split_patients(len(VISITS), "random", 1, (0.5, 0.25, 0.25)),
        gender=(np.arange(len(VISITS)) % 2).astype(np.int8),
        group=(np.arange(len(VISITS)) % 3).astype(np.int8),
        admitted=(30.0 * admitted).astype(np.float32),
        age=np.repeat(40 + np.arange(len(VISITS)), VISITS).astype(np.int16),
        service=(np.arange(total) % 2).astype(np.int8),
        codes={kind: to_codes(lists[kind]) for kind in KINDS},
        genders=("F", "M"),
        groups=("black", "unknown", "white"),
        services=("MED", "SURG"),
        provenance=Provenance("small", {"seed": seed}, {"none": "0" * 64}, {"nothing": 0}),
    )


def to_codes(lists: list[list[int]]) -> Codes:
    """Returns lists of codes, one a visit, in compressed sparse row form."""
    offsets = np.concatenate([[0], np.cumsum([len(codes) for codes in lists])]).astype(np.int32)
    return Codes(offsets, np.array([c for codes in lists for c in codes], dtype=np.int32))


def lists_of(cohort: Cohort, kind: str) -> list[list[int]]:
    """Returns the codes of each visit as plain lists."""
    codes = cohort.codes[kind]
    ends = zip(codes.offsets[:-1], codes.offsets[1:], strict=True)
    return [codes.values[a:b].tolist() for a, b in ends]


def without(cohort: Cohort, kind: Kind) -> Cohort:
    """Returns the cohort with an empty vocabulary of one kind, as eICU has no procedures."""
    none = Codes(np.zeros_like(cohort.codes[kind].offsets), np.empty(0, np.int32))
    return replace(
        cohort,
        vocabulary={**cohort.vocabulary, kind: ()},
        codes={**cohort.codes, kind: none},
    )


def scramble(cohort: Cohort, split: int) -> Cohort:
    """Returns the cohort with other codes for one split: each list becomes its complement."""
    rows = set(cohort.visits_of(cohort.members(split)).tolist())
    codes = {}
    for kind in KINDS:
        every = set(range(len(cohort.vocabulary[kind])))
        lists = [
            sorted(every - set(codes)) if row in rows else codes
            for row, codes in enumerate(lists_of(cohort, kind))
        ]
        codes[kind] = to_codes(lists)
    return replace(cohort, codes=codes)


@cache
def small_knowledge(seed: int = 0) -> Knowledge:
    """Returns the built-in knowledge for the cohort, and some semantic relations of codes."""
    knowledge = load_knowledge(small_cohort(seed), KnowledgeSpec())
    stated = [("/".join(name), f"{name[1]}/{a}", f"{name[2]}/{b}") for name, a, b in SEMANTIC]
    triples = [(head, name, tail) for name, head, tail in stated]
    graph = union(knowledge.bundle.relations, from_names(Origin("Made up", ""), triples))
    return replace(knowledge, bundle=replace(knowledge.bundle, relations=graph))


def whole_batch(cohort: Cohort | None = None) -> Batch:
    """Returns all patients in one batch."""
    cohort = cohort or small_cohort()
    return ResidentCohort(cohort).gather(torch.arange(cohort.patients))


def data_of(cohort: Cohort, knowledge: Knowledge | None = None) -> Data:
    """Returns what the training loop sees."""
    return Data(
        cohort,
        ResidentCohort(cohort),
        knowledge or small_knowledge(),
        train=cohort.members(splits.TRAIN),
        validation=cohort.members(splits.VALIDATION),
    )


NARROW = {"dim": 8, "feed_forward": 16, "round_epochs": 1}


def make_spec(model: str, config: dict[str, Any] | None = None, **fields: Any) -> TrialSpec:
    """Returns a short trial; networks are narrow."""
    settings = light.model_facts(model).config
    narrow = {name: n for name, n in NARROW.items() if name in settings.model_fields}
    full = settings(**{**narrow, **(config or {})}).model_dump(mode="json")
    ref = CohortRef(path="nowhere", fingerprint=small_cohort().fingerprint)
    defaults = {"training": Training(epochs=2, batch_size=4), "seed": 0, "cohort": ref}
    return TrialSpec(model=model, config=full, **{**defaults, **fields})


def saved(folder: Path, cohort: Cohort | None = None) -> CohortRef:
    """Writes the cohort and returns where it lies."""
    cohort = cohort or small_cohort()
    cohort.save(folder)
    return CohortRef(path=str(folder), fingerprint=cohort.fingerprint)


def shaken(model: Recommender, seed: int = 0) -> Recommender:
    """Gives a network large random weights in evaluation mode, or fits a fitted model.

    With fresh weights all scores are nearly the same, and a test would see no difference.
    """
    if not isinstance(model, nn.Module):
        cohort = small_cohort()
        model.fit(cohort, cohort.members(splits.TRAIN))
        return model
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
        for part in model.modules():
            if isinstance(part, nn.Embedding) and part.padding_idx is not None:
                part.weight[part.padding_idx] = 0.0
    return model.eval()


def arms() -> list[tuple[str, dict[str, Any]]]:
    """Returns (model, settings) of every model: default, released where it differs, ablations."""
    found = []
    for model in plugins.names("medrec.models"):
        found.append((model, {}))
        config = light.model_facts(model).config
        if config(variant="released").model_dump(exclude={"variant"}) != config().model_dump(
            exclude={"variant"}
        ):
            found.append((model, {"variant": "released"}))
        if model in plugins.names("search_spaces"):
            ablations = plugins.load("search_spaces", model, "ABLATIONS")
            found += [(model, dict(ablation.changes)) for ablation in ablations.values()]
    return found


@cache
def neural_models() -> tuple[str, ...]:
    """Returns the models that the training loop trains."""
    names = plugins.names("medrec.models")
    built = {name: trial.build(make_spec(name), small_knowledge()) for name in names}
    return tuple(name for name, model in built.items() if isinstance(model, nn.Module))


def arm_name(arm: tuple[str, dict[str, Any]]) -> str:
    """Returns a name for test reports."""
    model, changes = arm
    return "-".join([model, *(f"{name}={value}" for name, value in changes.items())])


def digests(ref: CohortRef) -> dict[str, str]:
    """Returns a hash of weights and predictions of a short trial of every arm."""
    found = {}
    for arm in arms():
        result = trial.run(make_spec(*arm, cohort=ref), lambda row: None)
        digest = hashlib.sha256(result.predictions.scores.tobytes())
        digest.update(result.predictions.chosen.tobytes())
        digest.update(result.weights)
        found[arm_name(arm)] = digest.hexdigest()
    return found
