"""One epoch of a model on a MIMIC-III-sized cohort, one thread, in a process of its own.

    python -m tests.benchmarks.epoch dkinet [--config '{"variant": "released"}'] [--batch 64]
                                            [--rounds 3] [--profile]

Prints one line of JSON: seconds of each epoch by the clock and by the processor (less, where other
work shares the machine), seconds of pre-training, seconds per 1,000 predicted visits of the
validation split, parameters, peak memory in GiB (everything that the process ever held, the cohort
and the libraries included), and with `--profile` the operations that take the most time. A fitted
model has one `epoch`, its fit.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from medrec import trial
from medrec.batching import ResidentCohort
from medrec.cohort import Cohort
from medrec.data import Data
from medrec.datasets._base import prepare
from medrec.datasets.synthetic import SyntheticOptions
from medrec.knowledge.base import Knowledge, load_knowledge
from medrec.knowledge.relations import from_indices, union
from medrec.knowledge.semmeddb import KINDMED_RELATIONS
from medrec.light import model_facts
from medrec.models._base import FittedRecommender, Recommender
from medrec.predicting import predict
from medrec.spec import CohortRef, KnowledgeSpec, Training, TrialSpec
from medrec.training import _Loop
from tests.benchmarks.knowledge_graph import large_bundle

PATIENTS = 6290  # two thirds of them have close to 10,000 visits
SEMANTIC_TRIPLES = 57_000  # as KindMed's, MIMIC-III


def semantic(cohort: Cohort, knowledge: Knowledge) -> Knowledge:
    """Returns the knowledge with as many semantic relations as KindMed's paper counts."""
    rng = np.random.default_rng(0)
    kinds = {kind: [f"{kind}/{code}" for code in cohort.vocabulary[kind]] for kind in
             ("diagnoses", "procedures")}  # fmt: skip
    nodes = [*kinds["diagnoses"], *kinds["procedures"]]
    start = {"diagnoses": 0, "procedures": len(kinds["diagnoses"])}
    names = ["/".join(each) for each in KINDMED_RELATIONS]
    parts = []
    for number, (_, source, target) in enumerate(KINDMED_RELATIONS):
        size = SEMANTIC_TRIPLES // len(names)
        head = start[source] + rng.integers(0, len(kinds[source]), size)
        tail = start[target] + rng.integers(0, len(kinds[target]), size)
        parts.append(np.stack([head, np.full(size, number), tail], axis=1))
    graph = from_indices(knowledge.bundle.relations.origin, nodes, names, np.concatenate(parts))
    joined = union(knowledge.bundle.relations, graph)
    return replace(knowledge, bundle=replace(knowledge.bundle, relations=joined))


def knowledge_for(model: str, cohort: Cohort) -> Knowledge:
    """Returns what a model of that size would be told."""
    knowledge = load_knowledge(cohort, KnowledgeSpec())
    if model == "kindmed":
        return semantic(cohort, knowledge)
    if model == "dkinet":
        return replace(knowledge, bundle=large_bundle(cohort))
    return knowledge


def prepared(
    model: str, batch: int, config: dict[str, Any]
) -> tuple[Recommender, Data, TrialSpec]:
    """Returns an untrained model, its data and its trial."""
    cohort = prepare("synthetic", None, SyntheticOptions(patients=PATIENTS))
    knowledge = knowledge_for(model, cohort)
    spec = TrialSpec(
        model=model,
        config=model_facts(model).config(**config).model_dump(mode="json"),
        training=Training(batch_size=batch),
        cohort=CohortRef(path="", fingerprint=""),
        seed=0,
    )
    train, validation = cohort.members(0), cohort.members(1)
    data = Data(cohort, ResidentCohort(cohort), knowledge, train, validation)
    return trial.build(spec, knowledge), data, spec


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Returns seconds by the clock and by the processor."""
    started, working = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - working


def epochs(loop: _Loop, rounds: int) -> dict[str, Any]:
    """Returns the seconds of pre-training and of the epochs."""
    torch.manual_seed(0)
    loop.model.train()
    before, _ = timed(loop.model.pretrain)
    found = [timed(lambda epoch=epoch: loop._pass(epoch)) for epoch in range(rounds)]  # type: ignore[misc]
    return {
        "pretraining": round(before, 2),
        "epochs": [round(clock, 3) for clock, _ in found],
        "processor": [round(busy, 3) for _, busy in found],
    }


def predictions(model: Recommender, data: Data, spec: TrialSpec, rounds: int) -> dict[str, Any]:
    """Returns the seconds per 1,000 visits of the validation split."""

    def answer() -> None:
        predict(model, data.cohort, data.resident, data.validation, spec.protocol.threshold)

    visits = int(data.cohort.visits[data.validation].sum())
    found = [timed(answer) for _ in range(rounds)]
    return {
        "predictions": [round(1000 * clock / visits, 4) for clock, _ in found],
        "predictions_processor": [round(1000 * busy / visits, 4) for _, busy in found],
    }


def parameters(model: Recommender) -> int:
    """Returns how many numbers a model learns."""
    if isinstance(model, FittedRecommender):
        return sum(tensor.numel() for tensor in model.tensors().values())
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def profile(loop: _Loop) -> list[str]:
    """Returns the ten operations that take the most time in an epoch."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        loop._pass(1)
    events = sorted(found.key_averages(), key=lambda e: -e.self_cpu_time_total)
    whole = sum(event.self_cpu_time_total for event in events)
    return [f"{e.key} {e.self_cpu_time_total / whole:.1%}" for e in events[:10]]


def main() -> None:
    """Times the epochs that the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--config", type=json.loads, default={}, help="settings, in JSON")
    parser.add_argument("--profile", action="store_true")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    model, data, spec = prepared(wanted.model, wanted.batch, wanted.config)
    facts: dict[str, Any] = {"model": wanted.model, **wanted.config}
    loop = None
    if isinstance(model, FittedRecommender):
        clock, busy = timed(lambda: model.fit(data.cohort, data.train))
        facts |= {"fitted": True, "epochs": [round(clock, 3)], "processor": [round(busy, 3)]}
    else:
        loop = _Loop(model, data, spec, None)
        facts |= epochs(loop, wanted.rounds)
    facts |= predictions(model, data, spec, wanted.rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    facts |= {"parameters": parameters(model), "peak_gib": round(peak, 2)}
    if wanted.profile and loop is not None:
        facts["operations"] = profile(loop)
    print(json.dumps(facts))  # noqa: T201


if __name__ == "__main__":
    main()
