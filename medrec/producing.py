"""What a recommender's trial has produced for it first: generated patients, a learned hierarchy.

Both are made from the training split alone, with the trial's own seed, and kept in the cache:
trials that differ in the recommender share them.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from medrec import plugins, splits
from medrec.cohort import KINDS, Codes, Cohort
from medrec.data import data_for
from medrec.errors import ConfigError
from medrec.generation._base import Generator, NeuralGenerator
from medrec.generation._cohorts import extended
from medrec.generation._histories import Histories
from medrec.judging import drawn
from medrec.knowledge import ontologies
from medrec.knowledge.base import Knowledge, load_knowledge
from medrec.knowledge.cache import Entry, cached
from medrec.models._base import Model
from medrec.spec import SELECT, TASKS, Augment, Training, TrialSpec
from medrec.training import derived_seed, train

VERSION = 1
"""Counts up whenever the same trial gets other generated patients."""
_DEMOGRAPHICS = 7  # stream of the trial's seed


def generator_spec(spec: TrialSpec, augment: Augment) -> TrialSpec:
    """Returns the trial of the generator that a recommender's trial asks for.

    Raises:
        ConfigError: it is no generator, or a setting is wrong.
    """
    package = plugins.package_of(augment.generator)
    if TASKS[package] != "generation":
        raise ConfigError(
            f"`augment.generator` must be one of {plugins.names('medrec.generation')}, but "
            f"{augment.generator!r} is none."
        )
    plugin: Model = plugins.load_model(augment.generator)
    try:
        config = plugin.config(**augment.config).model_dump(mode="json")
        training = Training(**{**plugin.training.model_dump(), **augment.training})
    except ValueError as error:
        raise ConfigError(f"`augment`: {error}") from error
    return spec.model_copy(
        update={
            "model": augment.generator,
            "config": config,
            "training": training,
            "protocol": spec.protocol.model_copy(update={"select": SELECT["generation"][0]}),
            "augment": None,
        }
    )


def rehearsed(spec: TrialSpec) -> TrialSpec:
    """Returns the trial with the quickest generator in place of its own, for a first step alone.

    What a step shows, that there are other patients to train on, any generator shows.
    """
    if spec.augment is None:
        return spec
    quick = spec.augment.model_copy(
        update={"generator": "marginals", "config": {}, "training": {}}
    )
    return spec.model_copy(update={"augment": quick})


def produced(
    cohort: Cohort, knowledge: Knowledge, spec: TrialSpec, cache: Path | None
) -> tuple[Cohort, Knowledge]:
    """Returns cohort and knowledge as the trial is given them; both stay where it asks nothing.

    Args:
        cohort: as prepared.
        knowledge: of that cohort.
        spec: the trial.
        cache: folder for what is computed once.
    """
    if spec.knowledge.ontology == "mash":
        knowledge = with_learned_hierarchy(knowledge, spec, cache)
    if spec.augment is not None:
        cohort = augmented(cohort, knowledge, spec, cache)
        bundle = knowledge.bundle  # learned from real patients, as what the generator was told
        knowledge = replace(load_knowledge(cohort, spec.knowledge, cache), bundle=bundle)
    return cohort, knowledge


def augmented(cohort: Cohort, knowledge: Knowledge, spec: TrialSpec, cache: Path | None) -> Cohort:
    """Returns the cohort with the generated patients that the trial asks for.

    Args:
        cohort: the real one.
        knowledge: of the real cohort.
        spec: the trial, with `augment`.
        cache: folder for what is computed once.
    """
    assert spec.augment is not None  # noqa: S101  the caller looked
    asked = generator_spec(spec, spec.augment)
    patients = max(1, round(spec.augment.ratio * len(cohort.members(splits.TRAIN))))
    key = ["augment", VERSION, asked.key, patients]
    entry = cached(
        cache, "generated", key, lambda: _generated(cohort, knowledge, asked, patients, cache)
    )
    codes = {
        kind: Codes(entry.arrays[f"{kind}_offsets"], entry.arrays[f"{kind}_values"])
        for kind in KINDS
    }
    histories = Histories(np.asarray(entry.arrays["visits"]), codes)
    seed = derived_seed(spec.seed, _DEMOGRAPHICS)
    return extended(cohort, histories, seed, real=spec.augment.real)


def _generated(
    cohort: Cohort, knowledge: Knowledge, spec: TrialSpec, patients: int, cache: Path | None
) -> Entry:
    """Trains the generator where the trial runs; what was trained survives an interruption."""
    plugin: Model = plugins.load_model(spec.model)
    torch.manual_seed(derived_seed(spec.seed, 0))
    model: Generator = plugin.build(plugin.config(**spec.config), knowledge)
    device = "cuda" if spec.resources.gpus and isinstance(model, NeuralGenerator) else "cpu"
    if isinstance(model, NeuralGenerator):
        model = model.to(device)
    checkpoint = None
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
        checkpoint = cache / f"generator-{spec.key}.safetensors"
    train(model, data_for(model, cohort, knowledge, device), spec, lambda row: None, checkpoint)
    found = drawn(model, spec, patients)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    arrays = {"visits": found.visits}
    for kind in KINDS:
        arrays[f"{kind}_offsets"] = found.codes[kind].offsets
        arrays[f"{kind}_values"] = found.codes[kind].values
    return Entry(arrays)


def with_learned_hierarchy(knowledge: Knowledge, spec: TrialSpec, cache: Path | None) -> Knowledge:
    """Returns knowledge whose bundle has the hierarchy that MASH learns for the trial's seed.

    It is learned from co-occurrence in the training visits and from titles, without any known
    parent: what it finds can be compared with ICD and ATC.
    """
    key = ["mash", ontologies.VERSION, spec.cohort.fingerprint, spec.knowledge.fingerprint]
    key.append(spec.seed)
    entry = cached(cache, "learned_hierarchy", key, lambda: _learned(knowledge, spec.seed))
    parents = dict(zip(entry.facts["nodes"], entry.facts["parents"], strict=True))
    titles = dict(zip(entry.facts["nodes"], entry.facts["titles"], strict=True))
    above = {name: parent for name, parent in parents.items() if parent}
    return replace(knowledge, bundle=ontologies.with_parents(knowledge.bundle, above, titles))


def _learned(knowledge: Knowledge, seed: int) -> Entry:
    from medrec.hierarchy.mash import UNSUPERVISED, Mash, MashConfig  # few trials need it

    builder = Mash(MashConfig(**UNSUPERVISED), knowledge)
    builder.fit(knowledge, seed)
    tree = builder.tree
    above = [tree.names[row] if row >= 0 else "" for row in tree.parents.tolist()]
    facts = {"nodes": list(tree.names), "parents": above, "titles": list(tree.titles)}
    return Entry({}, facts)
