"""Applies what a trial learned to a cohort: the other door into `medrec`, beside `trial.run`.

A model is rebuilt from its spec and the knowledge of the cohort it was trained on, and given its
stored weights. Another cohort's visits are first written in the model's codes; what the model does
not know is left out and counted. Some knowledge (co-prescription, graphs of visits) comes from the
training patients themselves: a model that reads it needs the cohort it was trained on, whose
patients no export holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int, Int64
from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors

from medrec import plugins
from medrec.batching import ResidentCohort
from medrec.cohort import KINDS, Codes, Cohort, Kind
from medrec.errors import CohortError, ConfigError, InputError, KnowledgeError
from medrec.evaluation import evaluate
from medrec.knowledge.base import Knowledge, load_knowledge, read_tables
from medrec.models._base import Recommender
from medrec.predicting import predict
from medrec.predictions import Predictions
from medrec.producing import produced
from medrec.spec import TASKS, KnowledgeSpec, TrialSpec
from medrec.trial import build, restore
from medrec.validation import Trained

OF_PATIENTS = ("co_prescribed", "training_visits", "training_patients")
"""Fields of the knowledge that come from training patients."""
_UNKNOWN = ("unknown", "other")


@dataclass(frozen=True)
class Coding:
    """What a model's inputs and outputs stand for.

    Attributes:
        vocabulary: codes of each kind, in the model's order.
        genders: names, in the model's order.
        groups: the same, of groups of patients.
        dataset: data set of the cohort it was trained on.
    """

    vocabulary: Mapping[Kind, tuple[str, ...]]
    genders: tuple[str, ...]
    groups: tuple[str, ...]
    dataset: str


@dataclass(frozen=True)
class Learned:
    """A trained model as it is stored.

    Attributes:
        spec: its trial; places of knowledge tables are those of this machine.
        weights: safetensors.
        coding: of the cohort it was trained on; None where it was not kept whole.
    """

    spec: TrialSpec
    weights: bytes
    coding: Coding | None


@dataclass(frozen=True)
class Applied:
    """A model's answer.

    Attributes:
        predictions: patients ascending; the truth holds the drugs that the model knows.
        medications: drug class of each column.
        metrics: against the truth; none where the cohort has no medications.
        left_out: codes of the chosen patients' visits that the model does not know, by kind.
    """

    predictions: Predictions
    medications: tuple[str, ...]
    metrics: dict[str, float]
    left_out: dict[str, int]


def apply(
    learned: Learned,
    cohort: Cohort,
    patients: Int64[np.ndarray, " members"],
    trained_on: Cohort | None = None,
    cache: Path | None = None,
) -> Applied:
    """Returns the model's answer for every visit of these patients, computed on the CPU.

    On the cohort that it was trained on, the test patients get the answers that the trial stored,
    to the bit with the same number of threads.

    Args:
        learned: the model.
        cohort: the patients' cohort.
        patients: rows of the cohort.
        trained_on: the cohort that the model was trained on, where `cohort` is another.
        cache: folder for derived knowledge.

    Raises:
        InputError: the weights, the knowledge or a cohort are not the model's.
    """
    spec = learned.spec
    if TASKS[plugins.package_of(spec.model)] != "recommendation":
        raise InputError(
            f"{spec.model} recommends nothing: it is no recommender. `medsweep generate` draws "
            "patients from a generator."
        )
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(max(1, int(spec.resources.cpus)))
    home = home_of(learned, cohort, trained_on)
    coding = coding_of(home) if home is not None else learned.coding
    if coding is None:
        raise CohortError(need_training_cohort(learned, "its codes were not all kept"))
    told, left_out = (cohort, {}) if home is cohort else recode(cohort, coding, patients)
    knowledge = knowledge_of(learned, home, told, cache)
    if home is None:
        for name in OF_PATIENTS:  # those of `told` would be another cohort's
            object.__delattr__(knowledge, name)
    model = restored(learned, knowledge)
    assert isinstance(model, Recommender)  # noqa: S101  of that task
    resident = ResidentCohort(told, "cpu")
    level, precision = spec.protocol.threshold, spec.training.precision
    predictions = predict(model, told, resident, patients, level, precision=precision)
    known = bool(predictions.truth.any())
    return Applied(
        predictions=predictions,
        medications=tuple(coding.vocabulary["medications"]),
        metrics=evaluate(predictions, knowledge.interacts) if known else {},
        left_out=left_out,
    )


def recode(
    cohort: Cohort, coding: Coding, patients: Int64[np.ndarray, " members"]
) -> tuple[Cohort, dict[str, int]]:
    """Returns the cohort in a model's codes, and what these patients lose, by kind.

    Codes the model does not know are dropped. A gender or group that it does not know becomes its
    "unknown" or "other".

    Raises:
        CohortError: the model has neither for a gender or group that it does not know.
    """
    rows = np.zeros(len(cohort.age), dtype=bool)
    rows[cohort.visits_of(patients)] = True
    codes: dict[Kind, Codes] = {}
    left_out: dict[str, int] = {}
    for kind in KINDS:
        index = {code: i for i, code in enumerate(coding.vocabulary[kind])}
        place = np.array([index.get(c, -1) for c in cohort.vocabulary[kind]], dtype=np.int32)
        codes[kind], left_out[kind] = _renumbered(cohort.codes[kind], place, rows)
    told = replace(
        cohort,
        vocabulary={kind: tuple(coding.vocabulary[kind]) for kind in KINDS},
        codes=codes,
        gender=_renamed("genders", cohort.genders, coding.genders)[cohort.gender],
        genders=coding.genders,
        group=_renamed("groups", cohort.groups, coding.groups)[cohort.group],
        groups=coding.groups,
        provenance=replace(cohort.provenance, dataset=coding.dataset),
    )
    return told, left_out


def _renumbered(
    codes: Codes, place: Int[np.ndarray, " codes"], rows: Bool[np.ndarray, " visits"]
) -> tuple[Codes, int]:
    """Returns codes at their new places, ascending, and how many uses in `rows` have none."""
    visit = np.repeat(np.arange(len(codes.counts)), codes.counts)
    values = place[codes.values]
    known = values >= 0
    order = np.lexsort((values[known], visit[known]))
    counts = np.bincount(visit[known], minlength=len(codes.counts))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(codes.offsets.dtype)
    lost = int((~known & rows[visit]).sum())
    return Codes(offsets, values[known][order]), lost


def _renamed(what: str, own: tuple[str, ...], names: tuple[str, ...]) -> Int[np.ndarray, " names"]:
    """Returns the place of each of the cohort's names among the model's."""
    rest = next((name for name in _UNKNOWN if name in names), None)
    places = []
    for name in own:
        known = name if name in names else rest
        if known is None:
            raise CohortError(
                f"The model knows the {what} {list(names)}, but the cohort has {name!r}, and the "
                "model has none for unknown ones. Prepare the cohort with the model's names."
            )
        places.append(names.index(known))
    return np.array(places, dtype=np.int8)


def home_of(learned: Learned, cohort: Cohort | None, trained_on: Cohort | None) -> Cohort | None:
    """Returns the cohort that the model was trained on, if it is there.

    Raises:
        CohortError: `trained_on` is another.
    """
    wanted = learned.spec.cohort.fingerprint
    if cohort is not None and cohort.fingerprint == wanted:
        return cohort
    if trained_on is not None and trained_on.fingerprint != wanted:
        raise CohortError(
            f"The model was trained on the cohort {wanted[:12]}, but --trained-on has fingerprint "
            f"{trained_on.fingerprint[:12]}. Give the cohort of its study, or leave it out."
        )
    return trained_on


def coding_of(cohort: Cohort) -> Coding:
    """Returns the codes that a model trained on the cohort knows."""
    return Coding(
        cohort.vocabulary, cohort.genders, cohort.groups, dataset=cohort.provenance.dataset
    )


def need_training_cohort(learned: Learned, why: str) -> str:
    """Returns the message where only the training cohort would do."""
    return (
        f"{learned.spec.model} can be applied to another cohort only beside the one that it was "
        f"trained on ({learned.spec.cohort.fingerprint[:12]}): {why}. Give that cohort as "
        "--trained-on."
    )


def knowledge_of(
    learned: Learned, home: Cohort | None, told: Cohort, cache: Path | None
) -> Knowledge:
    """Returns the knowledge that the model was trained with, as far as it is there.

    Args:
        learned: the model.
        home: the cohort it was trained on, if that is there.
        told: another cohort in its codes, where it is not.
        cache: folder for derived knowledge.

    Raises:
        KnowledgeError: the tables are others.
        CohortError: its hierarchy was learned from patients who are not there.
    """
    knowledge = _tables(home or told, learned.spec.knowledge, cache)
    if home is not None:
        return produced(home, knowledge, learned.spec, cache)[1]
    if learned.spec.knowledge.ontology == "mash":
        why = "its hierarchy of codes was learned from those patients"
        raise CohortError(need_training_cohort(learned, why))
    return knowledge


def _tables(cohort: Cohort, spec: KnowledgeSpec, cache: Path | None) -> Knowledge:
    found = read_tables(spec, cohort).fingerprint
    if found != spec.fingerprint:
        raise KnowledgeError(
            f"The model was trained with the knowledge {spec.fingerprint[:12]}, but the tables "
            f"given have fingerprint {found[:12]}. Give those of its study (--bundle, or "
            "--interactions and --structures), and use the version of medsweep that the model "
            "card names."
        )
    return load_knowledge(cohort, spec, cache)


def restored(learned: Learned, knowledge: Knowledge) -> Trained:
    """Returns the model with its weights."""
    spec = learned.spec
    try:
        model = build(spec, knowledge)
    except AttributeError as error:
        if error.name not in OF_PATIENTS or error.obj is not knowledge:
            raise
        why = f"the model reads {error.name.replace('_', ' ')} of the training patients"
        raise CohortError(need_training_cohort(learned, why)) from error
    except ValueError as error:
        raise ConfigError(
            f"The settings of the model {spec.model} are not what this version of medsweep knows "
            f"({error}). Use the version that the model card names."
        ) from error
    try:
        restore(model, from_safetensors(learned.weights))
    except SafetensorError as error:
        raise InputError(
            f"The weights are no safetensors file ({error}). Export the model again."
        ) from error
    except (RuntimeError, KeyError) as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise InputError(
            f"The weights are not those of this {spec.model} ({first}). Export the model again."
        ) from error
    return model
