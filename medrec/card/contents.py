"""What the card of a cohort says: a list of sections. Pure functions of the cohort."""

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from jaxtyping import Int, Int64

from medrec import presets, splits
from medrec.card.parts import Section, Table
from medrec.card.words import FEW_PATIENTS, gap, listed, many, masked, number, percent
from medrec.cohort import KINDS, Cohort, Kind
from medrec.demographics import AGE_BINS, age_bin
from medrec.knowledge import tables
from medrec.knowledge.base import interaction_matrix

TOP_CODES, TOP_UNMAPPED = 15, 30


def facts(cohort: Cohort) -> list[Section]:
    """Returns what the cohort holds and what was left out, section by section."""
    return [
        _counts(cohort),
        _published(cohort),
        _left_out(cohort),
        _mapping(cohort),
        _unmapped(cohort),
        _demographics(cohort),
        _interactions(cohort),
        _frequent(cohort),
    ]


def making(cohort: Cohort, digits: int) -> list[Section]:
    """Returns how the cohort was made: options, and inputs with so many digits of their sha256."""
    return [_options(cohort), _inputs(cohort, digits)]


def ddi_pairs(cohort: Cohort, source: str = tables.EMBEDDED) -> tuple[int, int, int]:
    """Returns how many pairs of drug classes were prescribed at one visit, and how they interact.

    Args:
        cohort: the cohort.
        source: table of interactions, as `medrec.knowledge.tables.read_interactions` takes it.

    Returns:
        Interacting pairs, all pairs (both pooled over visits), and how many different pairs of
        the cohort's vocabulary the table calls interacting. The first by the second is the DDI
        rate of the prescriptions.
    """
    from scipy import sparse

    codes = cohort.codes["medications"]
    interacts = interaction_matrix(
        cohort.vocabulary["medications"], tables.read_interactions(source)
    )
    given = sparse.csr_matrix(
        (np.ones(len(codes.values), np.int64), codes.values, codes.offsets),
        shape=(len(codes.counts), cohort.drugs),
    )
    together = (given.T @ given).toarray()  # [drugs, drugs]: visits that have both
    drugs = codes.counts.astype(np.int64)
    pairs = int((drugs * (drugs - 1)).sum()) // 2
    return int(together[interacts].sum()) // 2, pairs, int(interacts.sum()) // 2


def title(cohort: Cohort) -> str:
    """Returns the heading of the card."""
    preset = cohort.provenance.options.get("preset")
    if not preset:
        return f"Cohort {cohort.provenance.dataset}"
    changed = deviations(cohort)
    but = f" but for {listed(changed)}" if changed else ""
    return f"Cohort {cohort.provenance.dataset}, preset {preset}{but}"


def deviations(cohort: Cohort) -> list[str]:
    """Returns the options in which a cohort of a preset differs from that preset."""
    options, dataset = cohort.provenance.options, cohort.provenance.dataset
    preset = presets.cohort_options(options["preset"], dataset)
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in preset.items()}
    return [name for name, value in plain.items() if options.get(name) != value]


def _drug(options: Mapping[str, Any]) -> str:
    if options.get("drug_code") == "gtc":
        return "a GTC number, of which the tables of classes and interactions know nothing"
    return "a class of drugs, the first four characters of an ATC code"


def story(cohort: Cohort) -> str:
    """Returns what a cohort of this kind is, in a few sentences."""
    options = cohort.provenance.options
    preset, needed = options.get("preset"), options.get("require")
    texts = [
        f"This cohort holds {many(int(cohort.visits.sum()), 'visit')} of "
        f"{many(cohort.patients, 'patient')} from the data set {cohort.provenance.dataset}. "
        "A visit lists its diagnoses, procedures and medications; a medication is "
        f"{_drug(options)}. Models read a patient's earlier visits and the diagnoses and "
        "procedures of the present one, and recommend its medications.",
        f"Options not given were set as in the published pipeline {preset}." if preset else "",
        f"Each visit has {listed(list(needed))}." if needed else "",
        "A patient's visits stand in the order of the source's keys, which is not that of time."
        if options.get("visit_order") == "hadm_id"
        else "",
        "Training, validation and test split the patients, so that no patient is in two of them. "
        "No identifier of the source is kept: a patient is a row number.",
    ]
    return " ".join(filter(None, texts))


def _counts(cohort: Cohort) -> Section:
    sizes = {kind: cohort.codes[kind].counts for kind in KINDS}
    rows = {
        "patients": number(cohort.patients),
        "visits": number(cohort.visits.sum()),
        **{f"different {kind}": number(len(cohort.vocabulary[kind])) for kind in KINDS},
        **{f"visits without {kind}": percent((sizes[kind] == 0).mean()) for kind in KINDS},
    }
    spread = {
        "visits per patient": cohort.visits,
        **{f"{kind} per visit": sizes[kind] for kind in KINDS},
    }
    each = tuple(
        (name, f"{found.mean():,.2f}", f"{np.median(found):,g}", number(found.max()))
        for name, found in spread.items()
    )
    parts = []
    for i, name in enumerate(splits.NAMES):
        own = cohort.split == i
        visits = number(cohort.visits[own].sum())
        parts.append((name, number(own.sum()), percent(own.mean()), visits))
    return Section(
        "Counts",
        tables=(
            _pairs(rows),
            Table(("what", "mean", "median", "most"), each),
            Table(("split", "patients", "share", "visits"), tuple(parts)),
        ),
    )


def _published(cohort: Cohort) -> Section:
    made = cohort.provenance
    preset = made.options.get("preset")
    found = presets.published_counts(preset, made.dataset) if preset else None
    if found is None:
        known = f"The pipeline {preset} printed no counts for {made.dataset} that are known here."
        return Section("Published counts", (known,) if preset else ())
    source, printed = found
    here = cohort.counts()
    rows = tuple(
        (name.replace("_", " "), number(value), number(here[name]), gap(here[name], value))
        for name, value in printed.items()
    )
    note = (
        f"Published: {source}. They belong to the whole data set in the version used there; a "
        "demo, or another version, cannot match them."
    )
    return Section(
        "Published counts", (note,), (Table(("what", "published", "here", "difference"), rows),)
    )


def _left_out(cohort: Cohort) -> Section:
    rows = {name: number(count) for name, count in cohort.provenance.dropped.items()}
    if not rows:
        return Section("Left out", ("No filter was recorded.",))
    note = "In this order. A zero says that the filter ran and left nothing out."
    return Section("Left out", (note,), (_pairs(rows, faint=True),))


def _mapping(cohort: Cohort) -> Section:
    mapped = cohort.provenance.mapped
    if not mapped:
        return Section("Code mapping", ("No code was mapped to another system.",))
    rows = tuple((name, number(count), _part(name, mapped)) for name, count in mapped.items())
    note = "A share is of the count with which the row's name begins."
    return Section("Code mapping", (note,), (Table(("what", "value", "share"), rows),))


def _part(name: str, mapped: dict[str, int]) -> str:
    """Returns the share of "rows with a code" in "rows"; nothing where there is no such whole."""
    wholes = sorted(other for other in mapped if name.startswith(f"{other} "))
    return percent(mapped[name] / mapped[wholes[0]]) if wholes and mapped[wholes[0]] else ""


def _unmapped(cohort: Cohort) -> Section:
    found = {kind: rows for kind, rows in cohort.provenance.unmapped.items() if rows}
    few = (
        "Free text of fewer than ten rows is left out of the record, lest it is one patient's; "
        "codes are listed, those of 1 to 4 rows without their number."
    )
    if not found:
        return Section("Not mapped", (f"No code or name is recorded. {few}",))
    note = f"Codes and names that the mapping did not know, those of most rows first. {few}"
    return Section("Not mapped", (note,), tuple(_unknown(k, rows) for k, rows in found.items()))


def _unknown(kind: str, rows: dict[str, int]) -> Table:
    ordered = sorted(rows.items(), key=lambda item: (-item[1], item[0]))[:TOP_UNMAPPED]
    total = f"{many(len(rows), 'entry', 'entries')}, {masked(sum(rows.values()))} rows"
    shown = f"; the first {TOP_UNMAPPED}" if len(rows) > TOP_UNMAPPED else ""
    cells = tuple((name, masked(count)) for name, count in ordered)
    return Table(("code or name", "rows"), cells, f"{kind}: {total}{shown}")


def _demographics(cohort: Cohort) -> Section:
    age = np.where(cohort.age < 0, len(AGE_BINS), age_bin(cohort.age))
    gender, group = (np.repeat(of, cohort.visits) for of in (cohort.gender, cohort.group))
    note = (
        "A patient counts once for each age bin and service that a visit had, so these may add "
        f"up to more than the patients. Where 1 to {FEW_PATIENTS - 1} patients are meant, no "
        "number is printed."
    )
    rows = (
        _split_by(cohort, "gender", gender, cohort.genders),
        _split_by(cohort, "group", group, cohort.groups),
        _split_by(cohort, "age at admission", age, (*AGE_BINS, "unknown")),
        _split_by(cohort, "service", cohort.service, cohort.services),
    )
    return Section("Demographics", (note,), rows)


def _split_by(
    cohort: Cohort, what: str, of: Int[np.ndarray, " visits"], names: Sequence[str]
) -> Table:
    patients, visits = patients_and_visits(cohort, of, len(names))
    hidden = (patients > 0) & (patients < FEW_PATIENTS)
    shown = np.flatnonzero((patients > 0) & ~hidden)
    if hidden.sum() == 1 and len(shown):
        # One hidden row alone is what is missing from the total; so the next smallest hides too.
        hidden[shown[np.argmin(patients[shown])]] = True
    rows = tuple(
        (name, "\u2013", "\u2013", "\u2013")
        if hide and p >= FEW_PATIENTS
        else (name, masked(int(p)), "\u2013", "\u2013")
        if hide
        else (name, number(int(p)), percent(p / cohort.patients), number(v))
        for name, p, v, hide in zip(names, patients, visits, hidden, strict=True)
        if v
    )
    return Table((what, "patients", "share", "visits"), rows)


def patients_and_visits(
    cohort: Cohort, of: Int[np.ndarray, " visits"], size: int
) -> tuple[Int64[np.ndarray, " names"], Int64[np.ndarray, " names"]]:
    """Returns how many patients have a visit of each category, and how many visits."""
    owner = np.repeat(np.arange(cohort.patients), cohort.visits)
    had = np.unique(owner * size + of) % size
    return np.bincount(had, minlength=size), np.bincount(of, minlength=size)


def _interactions(cohort: Cohort) -> Section:
    interacting, pairs, known = ddi_pairs(cohort)
    classes = cohort.drugs * (cohort.drugs - 1) // 2
    rows = {
        "DDI rate of the prescriptions": f"{interacting / pairs:.4f}" if pairs else "\u2013",
        "pairs of classes at one visit": number(pairs),
        "of these, interacting": number(interacting),
        "different pairs that interact": f"{number(known)} of {number(classes)}",
    }
    note = (
        "Interacting pairs of drug classes by all pairs prescribed at one visit, pooled over "
        "visits, with the interaction table that ships with medsweep. A study that reads another "
        "table has another rate."
    )
    return Section("Drug interactions", (note,), (_pairs(rows),))


def _frequent(cohort: Cohort) -> Section:
    kinds = [kind for kind in KINDS if cohort.vocabulary[kind]]
    return Section("Most frequent codes", tables=tuple(_top(cohort, kind) for kind in kinds))


def _top(cohort: Cohort, kind: Kind) -> Table:
    codes, names = cohort.codes[kind], cohort.vocabulary[kind]
    visits = np.bincount(codes.values, minlength=len(names))
    owner = np.repeat(np.arange(cohort.patients), cohort.visits)
    owner_of_code = np.repeat(owner, codes.counts)
    known = tables.titles() if kind == "medications" else {}
    rows = []
    for i in np.argsort(-visits, kind="stable")[:TOP_CODES].tolist():
        patients = len(np.unique(owner_of_code[codes.values == i]))
        enough = patients >= FEW_PATIENTS
        share = percent(visits[i] / len(codes.counts)) if enough else "\u2013"
        title = (known.get(names[i], ""),) if known else ()
        rows.append((names[i], *title, masked(patients), share))
    title_head = ("class",) if known else ()
    head = ("code", *title_head, "patients", "share of visits")
    return Table(head, tuple(rows), f"{kind}: {min(len(names), TOP_CODES)} of {len(names):,}")


def _options(cohort: Cohort) -> Section:
    rows = {name: _setting(value) for name, value in cohort.provenance.options.items()}
    return Section("Options", tables=(_pairs(rows),)) if rows else Section("Options")


def _inputs(cohort: Cohort, digits: int) -> Section:
    made = cohort.provenance.inputs
    if not made:
        return Section("Inputs", ("No file was read.",))
    short = f", its first {digits} characters" if digits < 64 else ""
    rows = {_setting(name): digest[:digits] for name, digest in made.items()}
    return Section("Inputs", (f"sha256 of each file{short}.",), (_pairs(rows),))


def _pairs(rows: dict[str, str], faint: bool = False) -> Table:
    return Table(("what", "value"), tuple(rows.items()), faint=faint)


def _setting(value: object) -> str:
    """Returns an option's value as a study file would have it; of an absolute path the name."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_setting, value))
    if not value or not isinstance(value, str):
        return "none" if value is None else json.dumps(value, sort_keys=True)
    for path in (PurePosixPath(value), PureWindowsPath(value)):
        if path.is_absolute() or value.startswith("~"):
            return path.name
    return value
