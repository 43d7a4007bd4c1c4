"""Writes files of MIMIC-IV's size and format, with no patient in them.

    python -m tests.benchmarks.mimic4_files FOLDER [--scale 1.0] [--seed 0] [--plain]

    FOLDER/hosp/       patients admissions diagnoses_icd procedures_icd prescriptions services
    FOLDER/knowledge/  ndc_rxcui.csv rxcui_atc.csv, which know four fifths of the packages

Headings, widths, empty cells and the mixture of ICD-9 and ICD-10 within a patient are those of
version 2.2. Frequencies follow Zipf's law; nothing depends on anything else, so that speed and
memory can be measured on these files and nothing be learned from them.
"""

import argparse
import csv
import inspect
import os
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medrec.knowledge import tables

CHUNK = 250_000  # rows rendered at once
PACKAGES = 6_000
MAPPED = 0.8  # share of the packages that the tables know
HEADERS = {
    "patients": "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod",
    "admissions": "subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,"
    "admit_provider_id,admission_location,discharge_location,insurance,language,marital_status,"
    "race,edregtime,edouttime,hospital_expire_flag",
    "diagnoses_icd": "subject_id,hadm_id,seq_num,icd_code,icd_version",
    "procedures_icd": "subject_id,hadm_id,seq_num,chartdate,icd_code,icd_version",
    "prescriptions": "subject_id,hadm_id,pharmacy_id,poe_id,poe_seq,order_provider_id,starttime,"
    "stoptime,drug_type,drug,formulary_drug_cd,gsn,ndc,prod_strength,form_rx,dose_val_rx,"
    "dose_unit_rx,form_val_disp,form_unit_disp,doses_per_24_hrs,route",
    "services": "subject_id,hadm_id,transfertime,prev_service,curr_service",
}
_NUMBER = {name: number for number, name in enumerate(HEADERS)}  # seeds each table on its own
_HOUR, _DAY, _YEAR = 3600, 86400, 31_557_600  # seconds
_FIRST, _LAST = (int(np.datetime64(year, "s").astype(int)) for year in ("2095", "2225"))
_ICD10 = 2015.75  # when coding changed

# Values and their weights, the latter by falling frequency.
_GROUPS = ("2008 - 2010", "2011 - 2013", "2014 - 2016", "2017 - 2019")
_TYPES = (
    "EW EMER.", "EU OBSERVATION", "OBSERVATION ADMIT", "URGENT", "SURGICAL SAME DAY ADMISSION",
    "DIRECT OBSERVATION", "DIRECT EMER.", "ELECTIVE", "AMBULATORY OBSERVATION",
)  # fmt: skip
_FROM = (
    "EMERGENCY ROOM", "PHYSICIAN REFERRAL", "TRANSFER FROM HOSPITAL", "WALK-IN/SELF REFERRAL",
    "CLINIC REFERRAL", "PROCEDURE SITE", "PACU", "TRANSFER FROM SKILLED NURSING FACILITY",
)  # fmt: skip
_TO = (
    "HOME", "", "HOME HEALTH CARE", "SKILLED NURSING FACILITY", "REHAB", "HOSPICE",
    "CHRONIC/LONG TERM ACUTE CARE", "AGAINST ADVICE", "PSYCH FACILITY", "ACUTE HOSPITAL",
)  # fmt: skip
_RACES = (
    "WHITE", "BLACK/AFRICAN AMERICAN", "OTHER", "UNKNOWN", "HISPANIC/LATINO - PUERTO RICAN",
    "WHITE - OTHER EUROPEAN", "ASIAN", "ASIAN - CHINESE", "WHITE - RUSSIAN", "PORTUGUESE",
    "BLACK/CAPE VERDEAN", "HISPANIC/LATINO - DOMINICAN", "UNABLE TO OBTAIN",
    "PATIENT DECLINED TO ANSWER",
)  # fmt: skip
_SERVICES = ("MED", "CMED", "SURG", "NMED", "NB", "OBS", "ORTHO", "NSURG", "CSURG", "OMED",
             "TRAUM", "VSURG", "TSURG", "GYN", "GU", "PSYCH", "PSURG", "ENT", "EYE")  # fmt: skip
_EMPTY = '""'  # as the real files have it here and there
# Product, unit of its doses, unit in which it is dispensed, routes.
_FORMS = (
    ("{}mg Tablet", "mg", "TAB", ("PO", "PO/NG", "ORAL")),
    ("{}mg Capsule", "mg", "CAP", ("PO", "PO/NG")),
    ("{}mg/2mL Vial", "mg", "VIAL", ("IV", "IM")),
    ("{} mL Bag", "mL", "BAG", ("IV", "IV DRIP")),
    ("{} mg / 50 mL Premix Bag", "mg", "BAG", ("IV",)),
    ("{} Units / mL - 10 mL Vial", "UNIT", "mL", ("SC", "IV")),
    ("{} mL Syringe", "mL", "SYR", ("IV", "SC")),
    ('"{},000 Units / mL, Multi-Dose"', "UNIT", "mL", ("SC",)),
)


@dataclass(frozen=True)
class _Stays:
    """Admissions, grouped by patient, in no order of time.

    Attributes:
        patient: row of the patient.
        subject, keys: cells "subject_id" and "subject_id,hadm_id".
        admitted, discharged: seconds since 1970.
        modern: whether codes are ICD-10.
    """

    patient: np.ndarray
    subject: pa.Array
    keys: pa.Array
    admitted: np.ndarray
    discharged: np.ndarray
    modern: np.ndarray

    @property
    def number(self) -> int:
        return len(self.patient)


@dataclass(frozen=True)
class _People:
    subject: np.ndarray
    anchor: np.ndarray  # year
    group: np.ndarray  # index of _GROUPS


Cells = Callable[[slice, np.random.Generator], list[pa.Array]]  # columns of some rows


@dataclass(frozen=True)
class _Table:
    name: str
    rows: int
    cells: Cells


def write_mimic4(
    folder: Path,
    patients: int = 300_000,
    admissions: int = 430_000,
    diagnoses: int = 4_800_000,
    prescriptions: int = 15_000_000,
    procedures: int = 860_000,
    services: int = 470_000,
    seed: int = 0,
    compress: bool = True,
) -> Path:
    """Writes the files, each with exactly the rows asked for, and returns the folder.

    Args:
        folder: made if missing; files of the same names are replaced.
        patients: at least one; three fifths of them are admitted.
        admissions: at least one.
        diagnoses: rows, at least one an admission.
        prescriptions: rows.
        procedures: rows; many admissions have none.
        services: rows, at least one an admission.
        seed: same seed, same bytes.
        compress: gzip (.csv.gz) or plain (.csv).
    """
    hosp, knowledge = folder / "hosp", folder / "knowledge"
    hosp.mkdir(parents=True, exist_ok=True)
    knowledge.mkdir(exist_ok=True)
    people = _people(patients, _rng(seed, "patients"))
    stays = _stays(people, admissions, _rng(seed, "admissions"))
    packages = _packages(_rng(seed, "prescriptions"))
    _write_knowledge(knowledge, packages)
    for table in (
        _patients(people),
        _admissions(stays, _rng(seed, "admissions", 1)),
        _diagnoses(stays, diagnoses, _rng(seed, "diagnoses_icd")),
        _procedures(stays, procedures, _rng(seed, "procedures_icd")),
        _prescriptions(stays, packages, prescriptions, _rng(seed, "prescriptions", 1)),
        _services(stays, services, _rng(seed, "services")),
    ):
        _write(hosp, table, seed, compress)
    return folder


def _rng(seed: int, *which: str | int) -> np.random.Generator:
    return np.random.default_rng([seed, *(_NUMBER.get(str(part), part) for part in which)])


# ---- from cells to files


def _write(folder: Path, table: _Table, seed: int, compress: bool) -> None:
    """Writes a table. Threads render its chunks, each with a stream of chance of its own."""

    def render(start: int) -> tuple[pa.Buffer, bytes]:
        rows = slice(start, min(start + CHUNK, table.rows))
        lines = _lines(table.cells(rows, _rng(seed, table.name, 2, start)))
        return lines, _deflate(lines) if compress else b""

    header = HEADERS[table.name].encode() + b"\n"
    parts = _in_order(render, range(0, table.rows, CHUNK))
    if compress:
        with (folder / f"{table.name}.csv.gz").open("wb") as file:
            _write_gzip(file, [(header, _deflate(header))], parts)
    else:
        with (folder / f"{table.name}.csv").open("wb") as file:
            file.write(header)
            file.writelines(lines for lines, _ in parts)


def _lines(cells: list[pa.Array]) -> pa.Buffer:
    """Returns the rows as csv: the joined strings lie one behind another in Arrow's buffer."""
    rows = pc.binary_join_element_wise(*cells, ",")
    rows = pc.binary_join_element_wise(rows, "\n", "")
    return rows.buffers()[2]


def _in_order(
    work: Callable[[int], tuple[pa.Buffer, bytes]], items: Iterable[int]
) -> Iterator[tuple[pa.Buffer, bytes]]:
    """Yields the results in the order of the items, a few of them made ahead by threads."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Future[tuple[pa.Buffer, bytes]]] = deque()
        for item in items:
            ahead.append(pool.submit(work, item))
            if len(ahead) > workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _deflate(data: bytes | pa.Buffer) -> bytes:
    """Returns a piece of a gzip stream that stands for itself, so that threads can make them."""
    packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)


def _write_gzip(file: IO[bytes], *parts: Iterable[tuple[bytes | pa.Buffer, bytes]]) -> None:
    """Writes one gzip member from pairs of plain and deflated pieces."""
    file.write(b"\x1f\x8b\x08" + bytes(5) + b"\x04\xff")
    checksum, size = 0, 0
    for plain, packed in chain(*parts):
        checksum, size = zlib.crc32(plain, checksum), size + len(plain)
        file.write(packed)
    file.write(b"\x03\x00")  # an empty last block
    file.write(checksum.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little"))


# ---- from values to cells


def _numbers(values: np.ndarray) -> pa.Array:
    return pa.array(values).cast(pa.string())


def _among(values: tuple[str, ...], index: np.ndarray) -> pa.Array:
    return pa.array(values).take(pa.array(index))


def _times(seconds: np.ndarray) -> pa.Array:
    """Returns times as "2150-01-31 14:05:00"."""
    return _fixed(np.datetime_as_string(seconds.astype("datetime64[s]")), 19)


def _dates(seconds: np.ndarray) -> pa.Array:
    """Returns dates as "2150-01-31"."""
    return _fixed(np.datetime_as_string((seconds // _DAY).astype("datetime64[D]")), 10)


def _fixed(times: np.ndarray, width: int) -> pa.Array:
    characters = times.astype(f"S{width}").view(np.uint8).reshape(-1, width)
    characters[:, 10:11] = ord(" ")  # for the T before the hour
    ends = np.arange(len(times) + 1, dtype=np.int32) * width
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(characters)]
    return pa.Array.from_buffers(pa.string(), len(times), buffers)


def _where(condition: np.ndarray, cells: pa.Array) -> pa.Array:
    return pc.if_else(pa.array(condition), cells, "")


def _zipf(rng: np.random.Generator, values: int, size: int, flat: float = 7.0) -> np.ndarray:
    """Returns ranks; rank r comes up in proportion to 1 / (r + 1 + flat)."""
    share = np.cumsum(1.0 / (np.arange(values) + 1.0 + flat))
    ranks = np.searchsorted(share, rng.random(size) * share[-1])
    return np.minimum(ranks, values - 1).astype(np.int32)


def _spread(rng: np.random.Generator, total: int, weights: np.ndarray, least: int) -> np.ndarray:
    """Returns how many rows each owner has: at least so many, in all `total`."""
    rest = total - least * len(weights)
    assert rest >= 0, f"{total} rows are fewer than {least} for each of {len(weights)}"
    return least + rng.multinomial(rest, weights / weights.sum())


def _owners(counts: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(counts), dtype=np.int32), counts)


def _places(counts: np.ndarray) -> np.ndarray:
    """Returns the place of each row among its owner's, from 1."""
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    return (np.arange(counts.sum()) - starts + 1).astype(np.int32)


def _provider(rng: np.random.Generator, size: int) -> pa.Array:
    letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    ids = np.random.default_rng(0).integers(0, 36, (2000, 3))
    names = tuple(
        f"P{n % 100:02d}" + "".join(letters[i] for i in row) for n, row in enumerate(ids)
    )
    return _among(names, rng.integers(0, len(names), size))


# ---- patients and admissions


def _people(number: int, rng: np.random.Generator) -> _People:
    return _People(
        subject=10_000_000 + rng.choice(10_000_000, number, replace=False),
        anchor=rng.integers(2110, 2203, number),
        group=rng.choice(len(_GROUPS), number, p=(0.37, 0.24, 0.21, 0.18)),
    )


def _patients(people: _People) -> _Table:
    def cells(rows: slice, rng: np.random.Generator) -> list[pa.Array]:
        anchor, size = people.anchor[rows], rows.stop - rows.start
        died = _start_of(anchor) + rng.integers(0, 8 * _YEAR, size)
        return [
            _numbers(people.subject[rows]),
            _among(("F", "M"), rng.integers(0, 2, size)),
            _numbers(np.minimum(18 + (rng.beta(1.2, 1.5, size) * 75).astype(int), 91)),
            _numbers(anchor),
            _among(_GROUPS, people.group[rows]),
            _where(rng.random(size) < 0.1, _dates(died)),
        ]

    return _Table("patients", len(people.subject), cells)


def _start_of(year: np.ndarray) -> np.ndarray:
    """Returns seconds since 1970."""
    return (year - 1970).astype("datetime64[Y]").astype("datetime64[s]").astype(np.int64)


def _stays(people: _People, number: int, rng: np.random.Generator) -> _Stays:
    patients = len(people.subject)
    admitted = rng.permutation(patients) < min(number, round(0.6 * patients) or 1)
    counts = admitted + _spread(
        rng, number - int(admitted.sum()), admitted * rng.gamma(0.4, size=patients), 0
    )
    patient = _owners(counts)
    anchor = people.anchor[patient]
    first = (rng.random(patients) * _YEAR)[patient]
    since = np.where(counts[patient] > 1, rng.random(number) * 6 * _YEAR, 0)
    start = (_start_of(anchor) + first + since).astype(np.int64) // 60 * 60
    length = np.clip(rng.lognormal(1.0, 0.9, number), 0.1, 150) * _DAY
    years = np.array([int(group[:4]) for group in _GROUPS])[people.group]
    real = years[patient] + rng.integers(0, 3, patients)[patient] + (first + since) / _YEAR
    subject = _numbers(people.subject[patient])
    hadm = _numbers(20_000_000 + rng.choice(10_000_000, number, replace=False))
    return _Stays(
        patient=patient,
        subject=subject,
        keys=pc.binary_join_element_wise(subject, hadm, ","),
        admitted=start,
        discharged=(start + length).astype(np.int64) // 60 * 60,
        modern=real >= _ICD10,
    )


def _admissions(stays: _Stays, rng: np.random.Generator) -> _Table:
    patients = int(stays.patient[-1]) + 1
    fixed = {  # of a patient, at all admissions
        "language": _zipf(rng, 2, patients, 0.0),
        "status": _zipf(rng, 5, patients, 1.0),
        "race": _zipf(rng, len(_RACES), patients, 0.0),
    }

    def cells(rows: slice, rng: np.random.Generator) -> list[pa.Array]:
        size, patient = rows.stop - rows.start, stays.patient[rows]
        start, end = stays.admitted[rows], stays.discharged[rows]
        dead, urgent = rng.random(size) < 0.02, rng.random(size) < 0.67
        arrival = start - rng.integers(1, 12 * 60, size) * 60
        return [
            stays.keys[rows],
            _times(start),
            _times(end),
            _where(dead, _times(end)),
            _among(_TYPES, _zipf(rng, len(_TYPES), size, 0.5)),
            _provider(rng, size),
            _among(_FROM, _zipf(rng, len(_FROM), size, 0.0)),
            pc.if_else(pa.array(dead), "DIED", _among(_TO, _zipf(rng, len(_TO), size, 0.0))),
            _among(("Other", "Medicare", "Medicaid"), _zipf(rng, 3, size, 0.0)),
            _among(("ENGLISH", "?"), fixed["language"][patient]),
            _among(
                ("MARRIED", "SINGLE", "WIDOWED", "DIVORCED", ""),
                fixed["status"][patient],
            ),
            _among(_RACES, fixed["race"][patient]),
            _where(urgent, _times(arrival)),
            _where(urgent, _times(start + 3 * _HOUR)),
            _among(("0", "1"), dead.astype(np.int8)),
        ]

    return _Table("admissions", stays.number, cells)


# ---- codes


def _diagnoses(stays: _Stays, rows: int, rng: np.random.Generator) -> _Table:
    counts = _spread(rng, rows, rng.gamma(4.0, size=stays.number), 1)
    owner, place = _owners(counts), _places(counts)
    codes = (_icd9_diagnoses(rng, 9_000), _icd10_diagnoses(rng, 16_000))
    names, code = _coded(stays.modern[owner], owner, codes, rng)

    def cells(rows: slice, rng: np.random.Generator) -> list[pa.Array]:
        return [
            stays.keys.take(pa.array(owner[rows])),
            _numbers(place[rows]),
            names.take(pa.array(code[rows])),
        ]

    return _Table("diagnoses_icd", rows, cells)


def _procedures(stays: _Stays, rows: int, rng: np.random.Generator) -> _Table:
    counts = _spread(rng, rows, rng.gamma(0.5, size=stays.number), 0)
    owner, place = _owners(counts), _places(counts)
    codes = (_icd9_procedures(rng, 2_500), _icd10_procedures(rng, 10_000))
    names, code = _coded(stays.modern[owner], owner, codes, rng)

    def cells(rows: slice, rng: np.random.Generator) -> list[pa.Array]:
        stay = owner[rows]
        length = stays.discharged[stay] - stays.admitted[stay]
        return [
            stays.keys.take(pa.array(stay)),
            _numbers(place[rows]),
            _dates((stays.admitted[stay] + rng.random(len(stay)) * length).astype(np.int64)),
            names.take(pa.array(code[rows])),
        ]

    return _Table("procedures_icd", rows, cells)


def _coded(
    modern: np.ndarray,
    owner: np.ndarray,
    codes: tuple[list[str], list[str]],
    rng: np.random.Generator,
) -> tuple[pa.Array, np.ndarray]:
    """Returns cells "icd_code,icd_version", and which of them each row has, none twice a stay."""
    old, new = codes
    names = pa.array([f"{code},9" for code in old] + [f"{code},10" for code in new])

    def draw(rows: np.ndarray) -> np.ndarray:
        later = len(old) + _zipf(rng, len(new), len(rows))
        return np.where(modern[rows], later, _zipf(rng, len(old), len(rows))).astype(np.int32)

    code = draw(np.arange(len(owner)))
    while True:
        key = owner.astype(np.int64) * len(names) + code
        order = np.argsort(key, kind="stable")
        again = order[1:][np.diff(key[order]) == 0]
        if not len(again):
            return names, code
        code[again] = draw(again)


def _drawn(rng: np.random.Generator, wanted: int, *shapes: tuple[str, float]) -> list[str]:
    """Returns distinct codes; each sign of a shape stands for the characters it may be."""
    classes = {
        "d": "0123456789",
        "l": "ABCDEFGHIJKLMNOPQRSTVWXYZ",
        "x": "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ",
        "p": "00000000123456789BCDFGHX",
    }
    weights = [weight for _, weight in shapes]
    found: dict[str, None] = {}
    while len(found) < wanted:
        which = rng.choice(len(shapes), wanted, p=weights)
        signs = rng.integers(0, 1 << 30, (wanted, 7)).tolist()
        for shape, numbers in zip(which.tolist(), signs, strict=True):
            options = [classes.get(sign, sign) for sign in shapes[shape][0]]
            code = "".join(o[n % len(o)] for o, n in zip(options, numbers, strict=False))
            found[code] = None
    return list(found)[:wanted]


def _icd9_diagnoses(rng: np.random.Generator, wanted: int) -> list[str]:
    shapes = (("ddddd", 0.62), ("dddd", 0.23), ("ddd", 0.02), ("Vddd", 0.07), ("Eddd", 0.06))
    return _drawn(rng, wanted, *shapes)


def _icd10_diagnoses(rng: np.random.Generator, wanted: int) -> list[str]:
    shapes = (("ldd", 0.05), ("lddd", 0.3), ("ldddd", 0.3), ("lddddd", 0.15), ("ldddddA", 0.2))
    return _drawn(rng, wanted, *shapes)


def _icd9_procedures(rng: np.random.Generator, wanted: int) -> list[str]:
    return _drawn(rng, wanted, ("dddd", 0.9), ("ddd", 0.1))


def _icd10_procedures(rng: np.random.Generator, wanted: int) -> list[str]:
    return _drawn(rng, wanted, ("pxxxxxx", 0.6), ("pxxxxZZ", 0.4))


# ---- prescriptions


@dataclass(frozen=True)
class _Packages:
    """Packages, the most prescribed first.

    Attributes:
        ndc, rxcui: of each package.
        mapped: whether the tables know the package.
        classes: ATC level 4 codes of each RXCUI.
        cells: "drug_type" to "route", of each package `_BLANKS` × `_DOSES` choices.
    """

    ndc: list[str]
    rxcui: list[str]
    mapped: np.ndarray
    classes: dict[str, list[str]]
    cells: pa.Array


_BLANKS, _DOSES = 3, 4  # the NDC, "0" or nothing; four prescriptions
_STRENGTHS = 4  # RXCUIs a drug


def _packages(rng: np.random.Generator) -> _Packages:
    drugs = _embedded("drugs.csv", "atc3", "drug")
    ids = 100_000 + rng.choice(1_900_000, _STRENGTHS * len(drugs), replace=False)
    ndc = [f"{n:011d}" for n in rng.choice(10**11 - 2, PACKAGES, replace=False) + 1]
    product_of = rng.integers(0, len(ids), PACKAGES)
    cells = [
        cell
        for number, which in enumerate(product_of.tolist())
        for cell in _package(ndc[number], which, drugs[which // _STRENGTHS][1])
    ]
    return _Packages(
        ndc=ndc,
        rxcui=[str(rxcui) for rxcui in ids[product_of]],
        mapped=rng.random(PACKAGES) < MAPPED,
        classes=_classes(ids, [atc3 for atc3, _ in drugs], rng),
        cells=pa.array(cells),
    )


def _classes(ids: np.ndarray, atc3: list[str], rng: np.random.Generator) -> dict[str, list[str]]:
    """Returns one class of each RXCUI, and of some a second one."""
    others = [code for (code,) in _embedded("atc3.csv", "atc3")]
    second = np.where(rng.random(len(ids)) < 0.2, rng.integers(0, len(others), len(ids)), -1)
    return {
        str(rxcui): [f"{atc3[n // _STRENGTHS]}A", *([f"{others[other]}X"] if other >= 0 else [])]
        for n, (rxcui, other) in enumerate(zip(ids.tolist(), second.tolist(), strict=True))
    }


def _package(ndc: str, which: int, drug: str) -> Iterator[str]:
    strength, unit, form, routes = _FORMS[which % len(_FORMS)]
    name, amount = drug.title().replace(",", " "), (1 + which % 20) * 5
    kind = "MAIN" if which % 5 else "BASE"
    before = f"{kind},{name},{name[:4].upper()}{amount},{which:06d}"
    after = f"{strength.format(amount)},{'' if which % 3 else _EMPTY}"
    for written, dose in product((ndc, "0", ""), range(_DOSES)):
        units, daily, route = 1 + dose % 2, ("", 1, 2, 3)[dose], routes[dose % len(routes)]
        given = f"{amount * units},{unit},{units},{form},{daily},{route}"
        yield f"{before},{written},{after},{given}"


def _embedded(name: str, *columns: str) -> list[tuple[str, ...]]:
    path = Path(tables.__file__).parent / "embedded" / name
    with path.open(encoding="utf-8", newline="") as lines:
        return [tuple(row[column] for column in columns) for row in csv.DictReader(lines)]


def _write_knowledge(folder: Path, packages: _Packages) -> None:
    known = np.flatnonzero(packages.mapped).tolist()
    pairs = [f"{packages.ndc[n]},{packages.rxcui[n]}\n" for n in known]
    (folder / "ndc_rxcui.csv").write_text("ndc11,rxcui\n" + "".join(pairs))
    classes = [f"{rxcui},{atc}\n" for rxcui, found in packages.classes.items() for atc in found]
    (folder / "rxcui_atc.csv").write_text("rxcui,atc4\n" + "".join(classes))


def _prescriptions(
    stays: _Stays, packages: _Packages, rows: int, rng: np.random.Generator
) -> _Table:
    weights = rng.gamma(1.0, size=stays.number) * (rng.random(stays.number) < 0.95)
    weights[0] += 1e-9  # someone must have them, however few there are
    counts = _spread(rng, rows, weights, 0)
    owner = _owners(counts)
    order = _places(np.bincount(stays.patient, counts).astype(np.int64))
    numbers = pa.array([f"{n},{n}" for n in range(int(order.max(initial=0)) + 1)])
    hours = np.arange(_FIRST, _LAST, _HOUR)
    moments = pa.concat_arrays([_times(hours), pa.array([""])])

    def cells(rows: slice, rng: np.random.Generator) -> list[pa.Array]:
        stay, size = pa.array(owner[rows]), rows.stop - rows.start
        length = (stays.discharged - stays.admitted)[owner[rows]]
        start = stays.admitted[owner[rows]] + rng.random(size, np.float32) * length
        hour = ((start - _FIRST) // _HOUR).astype(np.int32)
        until = hour + 1 + rng.geometric(1 / 40, size).astype(np.int32)
        until[rng.random(size) < 0.002] = len(hours)
        blank = np.searchsorted((0.85, 0.99), rng.random(size))
        fresh = rng.random(size) < 0.5  # others repeat the row before, as orders are renewed
        fresh[1:] |= owner[rows][1:] != owner[rows][:-1]
        package = _zipf(rng, PACKAGES, size)[np.maximum.accumulate(fresh * np.arange(size))]
        drug = (package * _BLANKS + blank) * _DOSES + rng.integers(0, _DOSES, size)
        return [
            stays.keys.take(stay),
            _numbers(rng.integers(10_000, 99_999_999, size)),
            pc.binary_join_element_wise(
                stays.subject.take(stay), numbers.take(pa.array(order[rows])), "-"
            ),
            _provider(rng, size),
            moments.take(pa.array(hour)),
            moments.take(pa.array(until)),
            packages.cells.take(pa.array(drug)),
        ]

    return _Table("prescriptions", rows, cells)


def _services(stays: _Stays, rows: int, rng: np.random.Generator) -> _Table:
    owner = _owners(_spread(rng, rows, np.ones(stays.number), 1))
    later = np.concatenate([[False], owner[1:] == owner[:-1]])

    def cells(rows: slice, rng: np.random.Generator) -> list[pa.Array]:
        stay, size = owner[rows], rows.stop - rows.start
        services = [_among(_SERVICES, _zipf(rng, len(_SERVICES), size, 1.0)) for _ in range(2)]
        return [
            stays.keys.take(pa.array(stay)),
            _times(stays.admitted[stay] + rng.integers(0, 2 * _DAY, size)),
            _where(later[rows], services[0]),
            services[1],
        ]

    return _Table("services", rows, cells)


def main() -> None:
    """Writes the files and prints how long it took and how large they are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="1.0 is the size of MIMIC-IV 2.2")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="write .csv, not .csv.gz")
    given = parser.parse_args()
    start = time.perf_counter()
    write_mimic4(given.folder, **sizes(given.scale), seed=given.seed, compress=not given.plain)
    for path in sorted(given.folder.rglob("*.csv*")):
        print(f"{path.stat().st_size / 1e6:10.1f} MB  {path.relative_to(given.folder)}")  # noqa: T201
    print(f"{time.perf_counter() - start:10.1f} s")  # noqa: T201


def sizes(scale: float) -> dict[str, int]:
    """Returns the numbers of rows of MIMIC-IV times `scale`."""
    full = inspect.signature(write_mimic4).parameters
    return {
        name: max(1, round(each.default * scale))
        for name, each in full.items()
        if name not in ("folder", "seed", "compress")
    }


if __name__ == "__main__":
    main()
