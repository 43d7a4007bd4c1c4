"""One epoch of a model on a MIMIC-III-sized cohort, one thread, in a process of its own.

    python -m tests.benchmarks.epoch dkinet [--config '{"variant": "released"}'] [--batch 64]
                                            [--rounds 3] [--profile]

Prints one line of JSON: seconds of each epoch by the clock and by the processor (less, where other
work shares the machine), seconds of pre-training, peak memory in GiB (everything that the process
ever held, the cohort and the libraries included), and with `--profile` the operations that take
the most time.
"""

import argparse
import json
import resource
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from medrec import trial
from medrec.batching import ResidentCohort
from medrec.cohort import Cohort
from medrec.datasets._base import prepare
from medrec.datasets.synthetic import SyntheticOptions
from medrec.knowledge.base import Knowledge, load_knowledge
from medrec.knowledge.relations import from_indices, union
from medrec.knowledge.semmeddb import KINDMED_RELATIONS
from medrec.light import model_facts
from medrec.spec import CohortRef, KnowledgeSpec, Training, TrialSpec
from medrec.training import Data, _Loop
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


def loop_of(model: str, batch: int, config: dict[str, Any]) -> _Loop:
    """Returns the training loop at its first epoch."""
    cohort = prepare("synthetic", None, SyntheticOptions(patients=PATIENTS))
    knowledge = knowledge_for(model, cohort)
    train = cohort.members(0)
    spec = TrialSpec(
        model=model,
        config=model_facts(model).config(**config).model_dump(mode="json"),
        training=Training(batch_size=batch),
        cohort=CohortRef(path="", fingerprint=""),
        seed=0,
    )
    data = Data(cohort, ResidentCohort(cohort), knowledge, train, cohort.members(1))
    network = trial.build(spec, knowledge)
    return _Loop(network, data, spec, None)  # type: ignore[arg-type]


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
    loop = loop_of(wanted.model, wanted.batch, wanted.config)
    started = time.perf_counter()
    loop.model.pretrain()
    facts = {
        "model": wanted.model,
        **wanted.config,
        "pretraining": round(time.perf_counter() - started, 2),
    }
    seconds, busy = [], []
    for epoch in range(wanted.rounds):
        started, working = time.perf_counter(), time.process_time()
        loop._pass(epoch)
        seconds.append(round(time.perf_counter() - started, 2))
        busy.append(round(time.process_time() - working, 2))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    facts |= {"epochs": seconds, "processor": busy, "peak_gib": round(peak, 2)}
    if wanted.profile:
        facts["operations"] = profile(loop)
    print(json.dumps(facts))  # noqa: T201


if __name__ == "__main__":
    main()
