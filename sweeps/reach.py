"""Cohort and knowledge on every machine: shared paths as they are, copies of what lies elsewhere.

A trial's spec names its cohort and tables by path or URI. A path that is there on this machine is
used; a URI is fetched once a machine into this user's cache, under the fingerprint of what it
must be, and verified. Where results are on an object store, the driver puts a cohort of its own
machine beside them, in `data/`, and trials refer to that.
"""

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from medrec.cohort import Cohort, describe
from medrec.errors import CohortError, KnowledgeError
from medrec.knowledge.base import read_tables
from medrec.knowledge.bundle import open_bundle
from medrec.spec import CohortRef, KnowledgeSpec, TrialSpec
from medrec.storage import replacing
from sweeps.caches import cache_folder, locked
from sweeps.errors import StudyError
from sweeps.places import Place, place_of
from sweeps.store import ResultsStore

DATA = "data"
_COHORT, _BUNDLE = "cohort.json", "knowledge.json"
_TABLES = ("interactions", "structures")
_origins: dict[str, str] = {}  # path of a copy that this process made or found → its URI


def is_uri(text: str) -> bool:
    """Returns whether a study's field names something by URI, such as s3://bucket/cohort."""
    return "://" in text


def working_folder(root: Place) -> Path:
    """Returns where a driver keeps what it makes for results that lie elsewhere."""
    name = hashlib.sha256(str(root).encode()).hexdigest()[:16]
    folder = cache_folder() / "work" / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def derived_folder(root: Place) -> Path:
    """Returns where what is derived from knowledge is kept: with the results, or in the cache."""
    return cache_folder() / "derived" if root.local is None else root.local / "cache"


# ------------------------------------------------------------------ for studies


def fetched_cohort(uri: str) -> Path:
    """Returns the copy of a cohort that a study names by URI.

    Raises:
        StudyError: there is no cohort.
        CohortError: it is damaged.
        StoreError: it cannot be read.
    """
    fingerprint = _told_fingerprint(uri, _COHORT, "cohort", "Prepare one with `medsweep data`.")
    return _kept_origin(_cohort_copy(uri, fingerprint), uri)


def fetched_bundle(uri: str) -> Path:
    """Returns the copy of a knowledge bundle that a study names by URI; errors as above."""
    fingerprint = _told_fingerprint(
        uri, _BUNDLE, "knowledge.bundle", "Make one with `medsweep data knowledge`."
    )

    def check(folder: Path) -> None:
        found = open_bundle(folder).fingerprint
        if found != fingerprint:
            raise KnowledgeError(
                f"{place_of(uri).at('')} is damaged: it has fingerprint {found[:12]}, and says "
                f"{fingerprint[:12]}. Make it anew with `medsweep data knowledge`."
            )

    return _kept_origin(_copy(place_of(uri), "bundles", fingerprint, check), uri)


def fetched_table(uri: str, field: str) -> Path:
    """Returns the copy of a knowledge table that a study names by URI.

    Raises:
        StudyError: there is no such file.
        StoreError: it cannot be read.
    """
    data = _file(uri)
    if data is None:
        raise StudyError(f"field knowledge.{field}: there is no file {uri}.")
    folder = cache_folder() / "tables"
    digest = hashlib.sha256(data).hexdigest()
    place_of(folder).write(f"{digest}.csv", data)
    return _kept_origin(folder / f"{digest}.csv", uri)


def _told_fingerprint(uri: str, file: str, field: str, remedy: str) -> str:
    place = place_of(uri)
    try:
        told = json.loads(place.read(file))["fingerprint"]
    except FileNotFoundError as error:
        raise StudyError(
            f"field {field}: there is nothing of the kind at {place.at('')}, it has no {file}. "
            f"{remedy}"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(f"field {field}: {place.at(file)} is damaged. {remedy}") from error
    return _name(str(told), place)


def _kept_origin(path: Path, uri: str) -> Path:
    _origins[str(path.resolve())] = uri
    return path


def _file(uri: str) -> bytes | None:
    folder, _, query = uri.partition("?")
    parent, _, name = folder.rpartition("/")
    place = place_of(f"{parent}?{query}" if query else parent)
    return place.read_some([name]).get(name)


# ------------------------------------------------------------------ for drivers


def published(spec: TrialSpec, *, store: ResultsStore) -> TrialSpec:
    """Returns the spec with places that every machine reaches; puts there what is not yet.

    What a study named by URI gets its URI back. Where results lie on an object store, a cohort or
    tables of this machine are put to `data/` there, once. Otherwise paths stay: they must be of a
    folder that all machines share.

    Raises:
        StoreError: nothing can be put there.
    """
    cohort, tables = _published(spec.cohort, spec.knowledge, str(store.place))
    return spec.model_copy(update={"cohort": cohort, "knowledge": tables})


@lru_cache(maxsize=8)
def _published(
    cohort: CohortRef, knowledge: KnowledgeSpec, root: str
) -> tuple[CohortRef, KnowledgeSpec]:
    place = place_of(root)
    path = _shared(cohort.path, place, cohort.fingerprint, _COHORT)
    update = {}
    for field in (*_TABLES, "bundle"):
        value = getattr(knowledge, field)
        if value not in (None, "embedded"):
            last = _BUNDLE if field == "bundle" else f"{field}.csv"
            update[field] = _shared(value, place, f"{knowledge.fingerprint}/{field}", last)
    return cohort.model_copy(update={"path": path}), knowledge.model_copy(update=update)


def _shared(path: str, root: Place, name: str, last: str) -> str:
    """Returns the URI of a file or folder, or its path where results are no object store's.

    `last` is the file that is put last: where it is, the rest is.
    """
    if is_uri(path):
        return path
    origin = _origins.get(str(Path(path).resolve()))
    if origin is not None or root.local is not None:
        return origin or path
    target = root.child(f"{DATA}/{name}")
    source = Path(path)
    if source.is_file():
        if not target.exists(last):
            target.write(last, source.read_bytes())
        return str(target.child(last))
    if not target.exists(last):
        files = [file for file in sorted(source.rglob("*")) if file.is_file()]
        for file in sorted(files, key=lambda file: file == source / last):
            target.write(file.relative_to(source).as_posix(), file.read_bytes())
    return str(target)


# ------------------------------------------------------------------ for workers


def here(spec: TrialSpec, root: Path | str | Place) -> TrialSpec:
    """Returns the spec with paths of this machine.

    Args:
        spec: a trial.
        root: its results directory, where the cohort may lie too.

    Raises:
        CohortError, KnowledgeError: what is fetched is not what the plan was made on.
        StoreError: it cannot be fetched.
    """
    cohort, knowledge = _here(spec.cohort, spec.knowledge, str(place_of(root)))
    return spec.model_copy(update={"cohort": cohort, "knowledge": knowledge})


@lru_cache(maxsize=8)
def _here(
    cohort: CohortRef, knowledge: KnowledgeSpec, root: str
) -> tuple[CohortRef, KnowledgeSpec]:
    path = _cohort_here(cohort, place_of(root))
    cohort = cohort.model_copy(update={"path": path})
    values = {field: getattr(knowledge, field) for field in (*_TABLES, "bundle")}
    elsewhere = {field: uri for field, uri in values.items() if uri and is_uri(uri)}
    if elsewhere:
        knowledge = _knowledge_here(knowledge, elsewhere, Cohort.open(Path(path)))
    return cohort, knowledge


def _cohort_here(ref: CohortRef, root: Place) -> str:
    if is_uri(ref.path):
        return str(_cohort_copy(ref.path, ref.fingerprint))
    try:
        if describe(Path(ref.path))["fingerprint"] == ref.fingerprint:
            return ref.path
    except (CohortError, KeyError):
        pass
    beside = root.child(f"{DATA}/{ref.fingerprint}")
    if root.local is None and beside.exists(_COHORT):
        return str(_cohort_copy(str(beside), ref.fingerprint))
    return ref.path  # opening it says what is wrong


def _cohort_copy(uri: str, fingerprint: str) -> Path:
    def check(folder: Path) -> None:
        found = Cohort.open(folder).fingerprint
        if found != fingerprint:
            raise CohortError(
                f"{place_of(uri).at('')} holds a cohort with fingerprint {found[:12]}, but the "
                f"study was planned on {fingerprint[:12]}. Run the study again."
            )

    return _copy(place_of(uri), "cohorts", fingerprint, check)


def _knowledge_here(
    spec: KnowledgeSpec, elsewhere: dict[str, str], cohort: Cohort
) -> KnowledgeSpec:
    """Returns the spec with copies of its tables, whose fingerprint is the plan's."""
    top = cache_folder() / "knowledge" / _name(spec.fingerprint, place_of(cache_folder()))
    local = spec.model_copy(update={f: str(top / _inside(f)) for f in elsewhere})

    def valid() -> bool:
        try:
            return read_tables(local, cohort).fingerprint == spec.fingerprint
        except (KnowledgeError, OSError):
            return False

    with locked(f"knowledge-{top.name}"):
        if valid():
            return local
        with replacing(top) as fresh:
            fresh.chmod(0o700)
            for field, uri in elsewhere.items():
                if field == "bundle":
                    _fetch(place_of(uri), fresh / field)
                    continue
                data = _file(uri)
                if data is None:
                    raise KnowledgeError(f"There is no {field} table {uri}. Run the study again.")
                (fresh / _inside(field)).write_bytes(data)
        return local  # loading it says what is wrong if it is not what the plan read


def _inside(field: str) -> str:
    return field if field == "bundle" else f"{field}.csv"


def _copy(place: Place, kind: str, fingerprint: str, check: Callable[[Path], None]) -> Path:
    """Returns the folder of a copy, fetched unless a whole one is there."""
    target = cache_folder() / kind / _name(fingerprint, place)
    with locked(f"{kind}-{target.name}"):
        if target.is_dir():
            try:
                check(target)
                return target
            except (CohortError, KnowledgeError, OSError):
                pass  # a broken copy is made anew
        with replacing(target) as fresh:
            fresh.chmod(0o700)
            _fetch(place, fresh)
            check(fresh)
    return target


def _fetch(place: Place, folder: Path) -> None:
    copy = place_of(folder)
    for name, data in place.read_some(place.files()).items():
        copy.write(name, data)


def _name(fingerprint: str, place: Place) -> str:
    """Returns a fingerprint that can be a folder's name: it comes from a file of somebody."""
    if not fingerprint or not set(fingerprint) <= set("0123456789abcdef"):
        raise StudyError(
            f"{place.at('')} has the fingerprint {fingerprint[:20]!r}, which is none."
        )
    return fingerprint
