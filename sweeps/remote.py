"""Places on object stores, through pyarrow: s3:// (also another server's, by its endpoint), gs://.

An object store has neither folders nor renames: a file appears whole with one put, a folder is
what its files' names have in common, and moving is copying and deleting.

Credentials come from the environment, as the store's own tools read them; a URI with credentials
is refused, since URIs reach logs and command lines. Tries and waiting times are bounded.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
from pyarrow import fs

from sweeps.errors import StoreError
from sweeps.places import Place, checked

Given = TypeVar("Given")
Made = TypeVar("Made")

CONNECT, REQUEST, ATTEMPTS = 5.0, 10.0, 3  # seconds, seconds without a byte, tries
_AT_ONCE = 16  # requests
_S3 = {"endpoint_override", "scheme", "region"}
_GS = {"endpoint_override", "scheme", "project_id", "anonymous"}
_AGAIN = "then run the same command: finished trials are kept."
# What the error of a file system holds, what that means, and what to do about it.
_MEANINGS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("NO_SUCH_BUCKET", "NoSuchBucket", "bucket does not exist"),
        "there is no such bucket",
        f"Make it or mend its name, {_AGAIN}",
    ),
    (
        ("ACCESS_DENIED", "INVALID_ACCESS_KEY", "SIGNATURE_DOES_NOT_MATCH", "InvalidAccessKeyId",
         "MISSING_AUTHENTICATION", "INVALID_CLIENT_TOKEN", "UNRECOGNIZED_CLIENT",
         "HTTP status 403", "SignatureDoesNotMatch", "PERMISSION_DENIED",
         "UNAUTHENTICATED", "ExpiredToken"),
        "access is denied",
        "Give credentials that may read and write there in the environment "
        f"(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS), {_AGAIN}",
    ),
    (
        ("QuotaExceeded", "StorageFull", "InsufficientStorage", "HTTP status 507", "No space"),
        "there is no room",
        f"Free space, {_AGAIN}",
    ),
    (
        ("NETWORK_CONNECTION", "curlCode", "REQUEST_TIMEOUT", "UNAVAILABLE", "DEADLINE_EXCEEDED",
         "Retry policy exhausted", "Couldn't resolve", "SLOW_DOWN", "SERVICE_UNAVAILABLE"),
        "the server does not answer",
        f"Mend the network or `endpoint_override`, {_AGAIN}",
    ),
)  # fmt: skip


class RemotePlace(Place):
    """A prefix on an object store."""

    local = None

    def __init__(self, system: fs.FileSystem, path: str, address: str, query: str) -> None:
        self._system, self._path = system, path
        self._address, self._query = address, query

    def __str__(self) -> str:
        return self._address + (f"?{self._query}" if self._query else "")

    def child(self, name: str) -> "RemotePlace":
        """Returns a folder in this one."""
        return RemotePlace(self._system, self._full(name), self.at(name), self._query)

    def at(self, name: str) -> str:
        """Returns the file's URI, without endpoint and options."""
        return f"{self._address}/{name}" if name else self._address

    def _full(self, name: str) -> str:
        name = checked(name)
        return f"{self._path}/{name}" if name else self._path

    def read(self, name: str) -> bytes:
        """Returns a file's bytes."""
        path = self._full(name)
        with (
            _explained("read", self.at(name)),
            self._system.open_input_stream(path, compression=None) as source,
        ):
            return source.read()

    def write(self, name: str, data: bytes) -> None:
        """Puts a file."""
        path = self._full(name)
        with (
            _explained("write", self.at(name), absent=False),
            self._system.open_output_stream(path, compression=None) as sink,
        ):
            sink.write(data)

    def size(self, name: str) -> int | None:
        """Returns a file's bytes."""
        with _explained("read", self.at(name)):
            found = self._system.get_file_info(self._full(name))
        return found.size if found.type == fs.FileType.File else None

    def names(self, folder: str = "") -> list[str]:
        """Returns what is right in a folder, from one listing."""
        return sorted(info.base_name for info in self._listed(folder, recursive=False))

    def files(self, folder: str = "") -> dict[str, int]:
        """Returns the size of every file below a folder, from one listing."""
        start = len(self._full(folder)) + 1
        found = self._listed(folder, recursive=True)
        sizes = {info.path[start:]: info.size for info in found if info.type == fs.FileType.File}
        return dict(sorted(sizes.items()))

    def _listed(self, folder: str, recursive: bool) -> list[fs.FileInfo]:
        top = fs.FileSelector(self._full(folder), recursive=recursive, allow_not_found=True)
        with _explained("list", self.at(folder)):
            return list(self._system.get_file_info(top))

    def remove(self, name: str) -> None:
        """Deletes a file, if it is there."""
        with _explained("delete", self.at(name)):
            try:
                self._system.delete_file(self._full(name))
            except FileNotFoundError:
                return

    def remove_folder(self, name: str) -> None:
        """Deletes every file below a folder."""
        with _explained("delete", self.at(name)):
            try:
                self._system.delete_dir(self._full(name))
            except FileNotFoundError:
                return

    def versions(self, folder: str = "") -> dict[str, str]:
        """Returns for every file below a folder what changes with its content; one listing."""
        start = len(self._full(folder)) + 1
        found = self._listed(folder, recursive=True)
        marks = {
            info.path[start:]: f"{info.size}-{info.mtime_ns}"
            for info in found
            if info.type == fs.FileType.File
        }
        return dict(sorted(marks.items()))

    def move_folder(self, name: str, to: str) -> None:
        """Copies every file and deletes it then; a manifest goes first, so that no half shows."""
        checked(to)
        names = list(self.files(name))
        with _explained("write", self.at(to), absent=False):
            _at_once(
                lambda file: self._system.copy_file(
                    self._full(f"{name}/{file}"), self._full(f"{to}/{file}")
                ),
                names,
            )
        for file in sorted(names, key=lambda file: file != "manifest.json"):
            self.remove(f"{name}/{file}")

    def read_some(self, names: Iterable[str]) -> dict[str, bytes]:
        """Returns the bytes of several files, which are fetched side by side."""

        def one(name: str) -> bytes | None:
            try:
                return self.read(name)
            except FileNotFoundError:
                return None

        wanted = list(names)
        found = zip(wanted, _at_once(one, wanted), strict=True)
        return {name: data for name, data in found if data is not None}


def _at_once(call: Callable[[Given], Made], items: list[Given]) -> list[Made]:
    if len(items) < 2:
        return [call(item) for item in items]
    with ThreadPoolExecutor(min(_AT_ONCE, len(items))) as pool:
        return list(pool.map(call, items))


def remote_place(uri: str) -> RemotePlace:
    """Returns the place that a URI names.

    Raises:
        StoreError: it holds credentials or unknown options, or no file system reads it.
    """
    parts = urlsplit(uri)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    user, at, _ = parts.netloc.rpartition("@")  # abfs has container@account, and no secret in it
    if ":" in user or (at and parts.scheme in ("s3", "gs", "gcs")):
        raise StoreError(
            f"{shown}: a URI must not hold credentials, since it reaches logs. Give them in the "
            "environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)."
        )
    if not parts.netloc or ".." in parts.path.split("/"):
        raise StoreError(f"{shown} names no folder; write it like s3://bucket/folder.")
    options = dict(parse_qsl(parts.query))
    known = {"s3": _S3, "gs": _GS, "gcs": _GS}.get(parts.scheme)
    wrong = sorted(set(options) - known) if known is not None else []
    if wrong:
        raise StoreError(
            f"{shown} has the option {wrong[0]!r}; known are {', '.join(sorted(known or ()))}."
        )
    path = f"{parts.netloc}{parts.path}".rstrip("/")
    with _explained("open", shown, absent=False):
        if known is None:
            system, path = fs.FileSystem.from_uri(uri)
        else:
            bucket = parts.netloc
            system = _system(parts.scheme, bucket, tuple(sorted(options.items())))
    return RemotePlace(system, path, f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/"),
                       parts.query)  # fmt: skip


@lru_cache(maxsize=8)
def _system(scheme: str, bucket: str, given: tuple[tuple[str, str], ...]) -> fs.FileSystem:
    options = dict(given)
    if scheme != "s3":
        return fs.GcsFileSystem(
            anonymous=options.pop("anonymous", "") == "true",
            retry_time_limit=timedelta(seconds=REQUEST),
            **options,
        )
    if "region" not in options and "endpoint_override" in options:
        options["region"] = "us-east-1"  # a server of one's own has no regions
    if "region" not in options:
        options["region"] = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        connect_timeout=CONNECT,
        request_timeout=REQUEST,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        allow_delayed_open=True,  # a small file is one put
        **options,
    )


@contextmanager
def _explained(what: str, where: str, absent: bool = True) -> Iterator[None]:
    """Turns a file system's error into a `StoreError`; `absent`: a missing file stays that."""
    try:
        yield
    except (OSError, pa.ArrowException, ValueError) as error:
        if absent and isinstance(error, FileNotFoundError):
            raise
        text = str(error)
        for signs, meaning, remedy in _MEANINGS:
            if any(sign in text for sign in signs):
                raise StoreError(f"Cannot {what} {where}: {meaning}. {remedy}") from error
        first = text.splitlines()[0] if text else type(error).__name__
        raise StoreError(f"Cannot {what} {where}: {first}. Mend the cause, {_AGAIN}") from error
