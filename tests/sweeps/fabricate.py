"""A small results directory made through the real store, with seeded random predictions."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from medrec.generation._facts import COPIED, COUNTED
from medrec.hierarchy._facts import LEARNED_FROM, SHAPE
from medrec.measures import Measured
from medrec.predictions import Predictions
from medrec.spec import SELECT, CohortRef, Protocol, Task, Training, TrialSpec
from sweeps.evaluate import interaction_matrix
from sweeps.record import (
    Analysis,
    Arm,
    CohortFacts,
    DdiGraph,
    Design,
    PublishedCohort,
    PublishedRow,
    PublishedTable,
    PublishedValue,
    SearchPlan,
    StudyRecord,
)
from sweeps.space import to_json
from sweeps.statistics.results import StudyResults
from sweeps.store import ResultsStore
from sweeps.tasks import PRIMARY, measures_of
from sweeps.visits import VisitFacts

FACTS = {"generation": (COPIED, COUNTED), "hierarchy": (SHAPE, LEARNED_FROM)}
TREE = b'{"name": "Codes", "children": [{"name": "ICD9CM:4280 Heart failure"}]}'
FINGERPRINT = "0123456789abcdef" * 4
# name, title, model, ablation, seeded, quality of the scores
ARMS = (
    ("popular", "Most popular", "popular", None, False, 0.05),
    ("gamenet", "GAMENet", "gamenet", None, True, 0.35),
    ("full", "Full model", "full", None, True, 0.55),
    ("no_ddi", "Full model without DDI loss_&", "full", "no_ddi_loss", True, 0.52),
    ("no_graph", "Full model without graph", "full", "no_graph", True, 0.30),
)
# Points of grids: name, title, model, no ablation, seeded, quality; what each varies.
GRID_ARMS = (
    ("full-ddi_target-0.06", "Full model, DDI target 0.06", "full", None, True, 0.40),
    ("full-ddi_target-0.12", "Full model, DDI target 0.12", "full", None, True, 0.50),
    ("full-ddi_target-0.3", "Full model, DDI target 0.3", "full", None, True, 0.45),
    ("full-heads-1", "Full model, heads 1", "full", None, True, 0.40),
    ("full-heads-16", "Full model, heads 16", "full", None, True, 0.44),
    ("full-keys-last", "Full model, keys last", "full", None, True, 0.42),
    ("full-keys-all", "Full model, keys all", "full", None, True, 0.47),
)
VARIED = {
    "full-ddi_target-0.06": {"ddi_target": 0.06},
    "full-ddi_target-0.12": {"ddi_target": 0.12},
    "full-ddi_target-0.3": {"ddi_target": 0.3},
    "full-heads-1": {"heads": 1},
    "full-heads-16": {"heads": 16},
    "full-keys-last": {"keys": "last"},
    "full-keys-all": {"keys": "all"},
}


def spec(model: str, seed: int, config: dict | None = None) -> TrialSpec:
    return TrialSpec(
        model=model,
        config=config or {"dim": 16},
        training=Training(epochs=6),
        cohort=CohortRef(path="cohort", fingerprint=FINGERPRINT),
        seed=seed,
    )


def visits(rng: np.random.Generator, patients: int, drugs: int) -> tuple[np.ndarray, ...]:
    counts = rng.integers(1, 5, patients)
    counts[0], counts[-1] = 1, 3  # one patient without a transition, one with several
    patient = np.repeat(np.arange(patients), counts).astype(np.int32)
    visit = np.concatenate([np.arange(n) for n in counts]).astype(np.int16)
    return patient, visit, rng.random((len(patient), drugs)) < 0.4


def predict(rng, patient, visit, truth, quality: float) -> Predictions:
    scores = np.clip(rng.normal(0.5 + quality * (truth - 0.5), 0.25), 0, 1)
    scores = scores.astype(np.float32)
    return Predictions(patient, visit, truth, scores > 0.5, scores)


def history(rng: np.random.Generator, quality: float, epochs: int) -> list[dict[str, float]]:
    level = quality * (1 - np.exp(-np.arange(1, epochs + 1) / 2)) + rng.normal(0, 0.01, epochs)
    return [
        {"epoch": float(i), "loss": 1.0 / (i + 1), "jaccard": float(v), "seconds": 1.0}
        for i, v in enumerate(level)
    ]


def fabricate(
    root: Path,
    seeds: int = 3,
    patients: int = 40,
    drugs: int = 12,
    resamples: int = 200,
    arms=ARMS,
) -> StudyRecord:
    """Writes the directory and returns its record."""
    store, rng = ResultsStore(root), np.random.default_rng(7)
    patient, visit, truth = visits(rng, patients, drugs)
    made = []
    for name, title, model, ablation, seeded, quality in arms:
        trials = {}
        for seed in range(seeds if seeded else 1):
            own = spec(model, seed, {"dim": 16, "ablation": name})
            epochs = 6 if seeded else 1
            store.save(
                own.key,
                {
                    "spec": own.model_dump(mode="json"),
                    "best_epoch": epochs - 1,
                    "validation": {"jaccard": quality, "ddi_rate": 0.1},
                    "seconds": {"train": 1.5},
                    "environment": {"medsweep": "0.1.0", "torch": "2.8.0", "python": "3.11"},
                },
                history(rng, quality, epochs),
                predict(rng, patient, visit, truth, quality + 0.02 * seed),
                b"weights",
            )
            trials[str(seed)] = own.key
        made.append(
            Arm(
                name=name,
                title=title,
                model=model,
                ablation=ablation,
                full=None if ablation is None else "full",
                family="full" if name in VARIED else name,
                varied=VARIED.get(name, {}),
                seeded=seeded,
                trials=trials,
            )
        )
    record = _record(tuple(made), truth, patient, seeds, drugs, resamples)
    store.write_study(record)
    _searches(store, record)
    store.record_failure(f"{3:016x}", "The loss became NaN in epoch 2 <of> 6.")
    return record


def fabricate_measured(
    root: Path, task: Task, missing: tuple[str, ...] = (), patients: int = 150, resamples: int = 50
) -> StudyRecord:
    """Writes a study of generators or of hierarchy builders: two arms, one an ablation.

    Args:
        root: results directory.
        task: what its models are for.
        missing: seeds of the ablation that are not stored.
        patients: units.
        resamples: of the bootstrap.
    """
    store, rng = ResultsStore(root), np.random.default_rng(8)
    known = measures_of(task)
    facts = {name: 3.0 for found in FACTS[task] for name in found}
    files = {"tree.json": TREE} if task == "hierarchy" else {}
    made = []
    for name, ablation, quality in (("full", None, 0.6), ("without", "part", 0.5)):
        trials = {}
        for seed in range(3):
            own = spec("full", seed, {"dim": 16, "ablation": name})
            trials[str(seed)] = own.key
            if ablation and str(seed) in missing:
                continue
            terms = {
                measure: (rng.normal(quality, 0.1, patients), np.ones(patients))
                for measure in known
            }
            select = SELECT[task][0]
            summary = {
                "spec": own.model_dump(mode="json"),
                "best_epoch": 2,
                "validation": {select: quality},
                "seconds": {"training": 1.5, "drawing": 0.5},
                "environment": {"medsweep": "0.1.0"},
            }
            rows = [{"epoch": float(i), select: quality, "seconds": 1.0} for i in (1, 2)]
            units = np.arange(patients, dtype=np.int32)
            store.save(own.key, summary, rows, Measured(units, terms, facts, files), b"weights")
        made.append(
            Arm(name=name, title=name, model="full", ablation=ablation, seeded=True,
                full="full" if ablation else None, family="full", trials=trials)
        )  # fmt: skip
    truth = np.ones((patients, 12), dtype=bool)
    record = _record(tuple(made), truth, np.arange(patients), 3, 12, resamples)
    counts = {**record.cohort.counts, "train_patients": 90.0, "test_visits": 300.0}
    record = record.model_copy(
        update={
            "task": task,
            "searches": (),
            "protocol": Protocol(select=SELECT[task][0]),
            "analysis": Analysis(primary=PRIMARY[task]),
            "cohort": record.cohort.model_copy(update={"counts": counts}),
        }
    )
    store.write_study(record)
    return record


def _record(arms, truth, patient, seeds: int, drugs: int, resamples: int) -> StudyRecord:
    pairs = [(i, j) for i in range(drugs) for j in range(i + 1, drugs) if (i + j) % 5 == 0]
    graph = DdiGraph(name="embedded", fingerprint="ddi" * 5, pairs=pairs)
    interacts = interaction_matrix(graph, drugs)
    hit = total = 0
    for row in truth:
        chosen = np.flatnonzero(row)
        for i in chosen:
            for j in chosen[chosen > i]:
                total, hit = total + 1, hit + int(interacts[i, j])
    base = {"model": "full", "trials": 6, "base": spec("full", 0), "space": {}}
    rest = {
        "medication_floor": None,
        "early_stopping": None,
        "concurrent": None,
        "sampler_seed": 3,
    }
    return StudyRecord(
        name="fabricated",
        question="Does the graph of the full model help on <these> patients?",
        arms=arms,
        reference="full",
        searches=(
            SearchPlan(name="tune", objectives=("jaccard",), ddi_ceiling=None, **base, **rest),
            SearchPlan(
                name="pareto", objectives=("jaccard", "ddi_rate"), ddi_ceiling=None, **base, **rest
            ),
        ),
        tables=("verdicts", "baselines", "ablation", "exploratory", "legacy", "search", "cost"),
        protocol=Protocol(),
        seeds=tuple(range(seeds)),
        cohort=CohortFacts(
            name="synthetic",
            fingerprint=FINGERPRINT,
            counts={
                "patients": 300.0,
                "visits": 700.0,
                "visits_per_patient": 700 / 300,
                "medications": float(drugs),
                "test_patients": float(len(np.unique(patient))),
            },
            split="random 66/17/17 by patient, seed 0",
            visit_order="admission_time",
            dataset="synthetic",
            options={"split": "random", "split_seed": 0, "fractions": [0.66, 0.17, 0.17]},
            drug_quartiles=tuple(1 + place * 4 // drugs for place in range(drugs)),
        ),
        ddi=graph,
        medications=tuple(f"A{i:02d}B" for i in range(drugs)),
        true_ddi_rate=hit / total,
        true_medications=float(truth.sum(axis=1).mean()),
        resamples=resamples,
        bootstrap_seed=11,
    )


def visit_facts(predictions, seed=0) -> VisitFacts:
    """Most visits in two services, some in PSYCH and OBS; in another order than the trials."""
    rng, visits = np.random.default_rng(seed), len(predictions.visit)
    service = rng.choice(["MED", "CMED", "PSYCH", "OBS"], p=[0.5, 0.4, 0.06, 0.04], size=visits)
    order = rng.permutation(visits)
    patient = predictions.patient
    labels = {
        "service": service,
        "age": np.array(["45-64", "45-64", "65-79", "65-79", "80+"])[patient % 5],
        "gender": np.array(["F", "M"])[patient % 2],
        "rarity": rng.choice(["1", "2", "3", "4", "unknown"], p=[0.3, 0.3, 0.3, 0.05, 0.05],
                             size=visits),
    }  # fmt: skip
    return VisitFacts(
        patient[order],
        predictions.visit[order],
        {name: tuple(column[order].tolist()) for name, column in labels.items()},
    )


def with_published(root: Path, record: StudyRecord) -> StudyRecord:
    """Writes the record with two tables of a paper that never was, and returns it."""
    cohort = PublishedCohort(
        title="Elsewhere",
        patients=6000,
        visits=15000,
        diagnoses=1900,
        procedures=None,
        medications=113,
        notes=("The first day alone.",),
    )
    told = {"document": "paper", "citation": "A & B (2020); code: there", "cohort": cohort}
    told |= {"spread": "width of nothing", "mark": "starred", "notes": ("Chosen on test.",)}
    rows = (
        (
            "Ground truth",
            "Ground truth",
            {"ddi_rate": (0.0753, 0.001), "medications": (20.3564, 0.1)},
            "",
        ),
        ("other", "Other_model", {"jaccard": (0.5, 0.002), "ddi_rate": (0.08, 0.001)}, "*"),
        ("gamenet", "GAMENet", {"jaccard": (0.5219, 0.0024), "ddi_rate": (0.0764, None)}, "*"),
        ("ours", "Theirs", {"jaccard": (0.5427, 0.0033), "ddi_rate": (0.06, 0.001)}, ""),
    )
    made = tuple(
        PublishedRow(
            row=name,
            label=label,
            values={key: PublishedValue(mean=m, spread=s) for key, (m, s) in values.items()},
            mark=mark,
            notes=("Odd",) if name == "other" else (),
        )
        for name, label, values, mark in rows
    )
    one = PublishedTable(
        table="one",
        number="Table 1",
        title="Models",
        rows=made,
        arms={"gamenet": "gamenet", "full": "ours", "no_graph": "ours"},
        **told,
    )
    changed = record.model_copy(update={"published": (one,)})
    ResultsStore(root).write_study(changed)
    return changed


def with_design(root: Path, record: StudyRecord) -> StudyRecord:
    """Writes the record with a factorial design of one part, and returns it."""
    design = Design(
        name="full-factorial",
        kind="factorial",
        title="Full factorial: Full model",
        full="full",
        factors=("no_graph",),
        levels={"full": (0,), "no_graph": (1,)},
        notes=("Made up.",),
    )
    changed = record.model_copy(update={"designs": (design,)})
    ResultsStore(root).write_study(changed)
    return changed


# number, state, values of (jaccard, ddi_rate)
SEARCH = (
    (0, "complete", (0.40, 0.10)),
    (1, "complete", (0.50, 0.20)),
    (2, "pruned", (0.99, 0.00)),
    (3, "failed", None),
    (4, "complete", (0.45, 0.25)),
    (5, "running", None),
)


def _searches(store: ResultsStore, record: StudyRecord) -> None:
    for plan in record.searches:
        for number, state, values in SEARCH:
            entry = {
                "number": number,
                "key": f"{number:016x}",
                "params": {"training.learning_rate": 0.001 * (number + 1), "dim": 16 * number},
                "state": state,
                "values": list(values[: len(plan.objectives)]) if values else None,
                "epochs": 6 if state == "complete" else 2,
                "reason": "out of memory" if state == "failed" else None,
                "curve": [],
                "held": {"ddi_ceiling": 0.1 - 0.05 * number, "medication_floor": -1.0},
            }
            store.write_text(f"searches/{plan.name}/{number:05d}.json", json.dumps(entry))


def with_search(root: Path, record: StudyRecord, trials: int = 24) -> StudyRecord:
    """Writes the record with one more search, whose first setting decides; returns it.

    `gain` is tried by every second trial: it depends on the rule. `steps` is the same everywhere,
    `late` is in two trials.
    """
    rng = np.random.default_rng(5)
    space: dict[str, BaseDistribution] = {
        "dropout": FloatDistribution(0.0, 1.0),
        "dim": CategoricalDistribution([16, 32]),
        "rule": CategoricalDistribution(["on", "off"]),
        "gain": FloatDistribution(0.0, 1.0),
        "steps": IntDistribution(1, 4),
        "late": IntDistribution(1, 4),
    }
    plan = SearchPlan(
        name="wide",
        model="full",
        trials=trials,
        objectives=("jaccard",),
        ddi_ceiling=None,
        medication_floor=None,
        base=spec("full", 0),
        space=to_json(space),
        conditions={"gain": ("rule", ("on",))},
        early_stopping=None,
        concurrent=None,
        sampler_seed=4,
    )
    store = ResultsStore(root)
    for number in range(trials):
        params = {
            "dropout": float(rng.random()),
            "dim": int(rng.choice([16, 32])),
            "rule": "off" if number % 2 else "on",
            "steps": 2,
        }
        if params["rule"] == "on":
            params["gain"] = float(rng.random())
        if number in (3, 7):
            params["late"] = number % 4 + 1
        value = 0.5 - (params["dropout"] - 0.2) ** 2 + 0.01 * float(rng.random())
        entry = {"number": number, "key": f"{1000 + number:016x}", "params": params,
                 "state": "complete", "values": [value], "epochs": 6, "reason": None, "curve": [],
                 "held": {}}  # fmt: skip
        store.write_text(f"searches/wide/{number:05d}.json", json.dumps(entry))
    changed = record.model_copy(update={"searches": (*record.searches, plan)})
    store.write_study(changed)
    return changed


def with_curves(results: StudyResults, trials: int = 24) -> StudyResults:
    """Returns the results with six epochs of each trial of the search of `with_search`."""
    rng = np.random.default_rng(6)
    curves = {
        f"{1000 + number:016x}": {"jaccard": [e["jaccard"] for e in history(rng, level, 6)]}
        for number, level in enumerate(np.linspace(0.2, 0.5, trials))
    }
    return replace(results, histories={**results.histories, **curves})
