"""One published file over HTTP: resumed where it broke off, verified before it gets its name.

FILE         as published, or absent
FILE.part    its beginning; a later download goes on from there

What was published decides, not the server: no more bytes are written than that, and what has
another checksum is deleted. Connections are https, or http on this machine.
"""

import contextlib
import hashlib
import http.client
import ipaddress
import os
import re
import ssl
import string
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib import request
from urllib.error import URLError
from urllib.parse import quote, urljoin, urlsplit

from sweeps.errors import FetchError

_BLOCK = 1 << 16  # bytes read at once
_PAUSE = 1.0  # seconds before the second attempt; doubles with each further one
_SLOWEST = 1000  # bytes a second, below which an attempt counts as stalled
_REDIRECTS = 5
_MOVED = {301, 302, 303, 307, 308}
_PASSING = {408, 425, 429, 500, 502, 503, 504}  # answers that may differ in a moment
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})")

Tell = Callable[[str, int], None]  # (what happens, bytes so far)


@dataclass(frozen=True)
class Published:
    """A file as it was published: path inside the release, SHA-256 in hex, size in bytes."""

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Server:
    """Where files come from, see `connect`.

    Attributes:
        base: address of the folder that files are named from.
        plain: whether http is allowed, on this machine.
        opener: makes the requests.
        timeout: seconds without a byte after which an attempt is given up.
        attempts: how often a file is tried.
    """

    base: str
    plain: bool
    opener: request.OpenerDirector
    timeout: float
    attempts: int


@dataclass(frozen=True)
class _Job:
    url: str
    file: Published
    path: Path

    @property
    def part(self) -> Path:
        return self.path.with_name(f"{self.path.name}.part")


class _BrokenError(Exception):
    """An attempt failed in a way that another one may mend."""


def connect(address: str, timeout: float, attempts: int) -> Server:
    """Returns the server at an address; nothing is asked of it yet.

    Args:
        address: of a folder: https, or http on this machine.
        timeout: seconds without a byte after which an attempt is given up, in (0, 86400].
        attempts: how often a file is tried, at least 1.

    Raises:
        FetchError: the address is none of these, or a number is out of its range.
    """
    if not 0 < timeout <= 86_400:
        raise FetchError(f"`timeout` must be in (0, 86400] seconds, but got {timeout=}.")
    if attempts < 1:
        raise FetchError(f"`attempts` must be at least 1, but got {attempts=}.")
    base = quote(address.rstrip("/"), safe=string.punctuation)
    _allowed(base, plain=True)
    if set("?#") & set(base):
        raise FetchError(f"`mirror` must be the address of a folder, but got {address!r}.")
    plain = urlsplit(base).scheme == "http"
    opener = request.OpenerDirector()  # without what opens file: and ftp:, or follows redirects
    for handler in (
        request.ProxyHandler({} if plain else None),
        request.HTTPHandler(),
        request.HTTPSHandler(context=ssl.create_default_context()),
        request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return Server(base, plain, opener, timeout, attempts)


def download(server: Server, place: str, file: Published, path: Path, tell: Tell) -> None:
    """Downloads one file, in several attempts if need be.

    Args:
        server: where it is.
        place: its folder there, below the server's base.
        file: what was published.
        path: where to put it; the folder is made where it is missing.
        tell: called with what happens and the bytes so far.

    Raises:
        FetchError: the file cannot be had, is not the published one, or has no place to go.
    """
    job = _Job(f"{server.base}/{place}/{file.name}", file, path)
    with on_disk(job.path.parent):
        job.path.parent.mkdir(parents=True, exist_ok=True)
    why = ""
    for attempt in range(1, server.attempts + 1):
        if attempt > 1:
            tell(f"{job.file.name}: {why}; attempt {attempt} of {server.attempts}", 0)
            time.sleep(_PAUSE * 2 ** min(attempt - 2, 5))
        try:
            with on_disk(job.part):
                _attempt(server, job, tell)
                _finish(job)
            return
        except _BrokenError as error:
            why = str(error)
    raise FetchError(
        f"{job.url}: {why} (attempt {server.attempts} of {server.attempts}). Check the network, "
        "then run the same command again: it goes on where this one stopped."
    )


def present(file: Published, path: Path) -> bool:
    """Returns whether the file is there.

    Raises:
        FetchError: something else is in its place.
    """
    with on_disk(path):
        if not os.path.lexists(path):
            return False
        if path.is_file() and path.stat().st_size == file.bytes and _sha256(path) == file.sha256:
            return True
    raise FetchError(
        f"{path} is there already and is not the published file (SHA-256 {file.sha256[:12]}…, "
        f"{file.bytes:,} bytes). It is left as it is: move it away, or choose another --out."
    )


@contextlib.contextmanager
def on_disk(path: Path) -> Iterator[None]:
    """Turns an operating-system error about a file of ours into a `FetchError`."""
    try:
        yield
    except OSError as error:
        raise FetchError(
            f"Cannot read or write {path}: {error.strerror or error}. Free space, mend the "
            "permissions or choose another --out, then run the same command again."
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _attempt(server: Server, job: _Job, tell: Tell) -> None:
    """Completes the part file; deletes it where it cannot be the published one."""
    kept = _kept(job)
    if kept < job.file.bytes:
        kept = _receive(server, job, kept, tell)
    size = job.part.stat().st_size
    if size < job.file.bytes:
        raise _BrokenError(f"the connection ended after {size:,} of {job.file.bytes:,} bytes")
    found = _sha256(job.part)
    if found == job.file.sha256:
        return
    job.part.unlink()
    if kept:
        raise _BrokenError("what an earlier attempt left does not fit the file")
    raise FetchError(
        f"{job.url} is not the published file: its SHA-256 is {found[:12]}…, published was "
        f"{job.file.sha256[:12]}…. It was deleted. Try another network or mirror."
    )


def _kept(job: _Job) -> int:
    """Returns how many bytes an earlier attempt left; deletes what can be no beginning."""
    if not os.path.lexists(job.part):
        return 0
    if job.part.is_symlink() or job.part.stat().st_size > job.file.bytes:
        job.part.unlink()
        return 0
    return job.part.stat().st_size


def _finish(job: _Job) -> None:
    if present(job.file, job.path):  # put there by another program in the meantime
        job.part.unlink()
    else:
        job.part.rename(job.path)


def _allowed(url: str, *, plain: bool) -> None:
    """Refuses an address that is neither https nor, if `plain`, http on this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise FetchError(f"{url[:200]!r} is no address: {error}.") from error
    secure = parts.scheme == "https" or (plain and parts.scheme == "http" and _loopback(host))
    if not secure or not host or "@" in parts.netloc:
        raise FetchError(
            "Addresses must be https (a mirror on this machine may be http), without a user name, "
            f"but got {url[:200]!r}."
        )


def _loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _receive(server: Server, job: _Job, kept: int, tell: Tell) -> int:
    """Writes what the server sends; returns how many bytes of the part file it built on."""
    headers = {"Range": f"bytes={kept}-"} if kept else {}
    with _open(server, job.url, headers) as response:
        begin = _begin(response, job, kept)
        if begin is not None:
            with job.part.open("ab" if begin else "wb") as stream:
                for size, block in _blocks(response, job, begin, server.timeout):
                    stream.write(block)
                    tell(job.file.name, size)
                stream.flush()
                os.fsync(stream.fileno())
            return begin
    return _receive(server, job, 0, tell)


def _begin(response: http.client.HTTPResponse, job: _Job, start: int) -> int | None:
    """Returns the byte that the answer begins with, or None if only the whole can help."""
    status = response.status
    if status == HTTPStatus.OK:
        if response.length not in (None, job.file.bytes):
            raise _another_size(job, f"{response.length:,}")
        return 0
    if start and status == HTTPStatus.PARTIAL_CONTENT:
        said = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        fits = said is not None and (int(said[1]), int(said[2])) == (start, job.file.bytes)
        return start if fits else None
    if start and status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return None
    meaning = HTTPStatus(status).phrase if status in set(HTTPStatus) else "no known status"
    if status in _PASSING:
        raise _BrokenError(f"the server answers {status} ({meaning})")
    raise FetchError(
        f"{job.url}: the server answers {status} ({meaning}). Check the address in a browser; if "
        "the release has moved, use a copy of it with --mirror."
    )


def _another_size(job: _Job, size: str) -> FetchError:
    return FetchError(
        f"{job.url} is not the published file: the server sends {size} bytes, published were "
        f"{job.file.bytes:,}. Nothing of it is kept. Try another network or mirror."
    )


def _blocks(
    response: http.client.HTTPResponse, job: _Job, begin: int, timeout: float
) -> Iterator[tuple[int, bytes]]:
    """Yields (size so far, block) until the server ends, breaks off, or goes on too long."""
    until = time.monotonic() + timeout + job.file.bytes / _SLOWEST
    size = begin
    while True:
        with _network(timeout):
            block = response.read1(_BLOCK)
        if not block:
            return
        size += len(block)
        if size > job.file.bytes:
            job.part.unlink()
            raise _another_size(job, f"more than {job.file.bytes:,}")
        if time.monotonic() > until:
            raise _BrokenError(f"the server sends less than {_SLOWEST:,} bytes a second")
        yield size, block


def _open(server: Server, url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
    """Returns the answer after redirects, whatever its status."""
    asked = url
    for _ in range(_REDIRECTS + 1):
        wanted = request.Request(url, headers={"User-Agent": "medsweep", **headers})  # noqa: S310  checked by _allowed
        with _network(server.timeout):
            response: http.client.HTTPResponse = server.opener.open(wanted, timeout=server.timeout)
        if response.status not in _MOVED:
            return response
        with response:
            target = response.headers.get("Location", "")
        try:
            url = quote(urljoin(url, target), safe=string.punctuation, encoding="latin-1")
        except ValueError as error:
            raise FetchError(f"{asked} redirects to {target[:200]!r}, no address.") from error
        _allowed(url, plain=server.plain)
    raise FetchError(f"{asked} redirects more than {_REDIRECTS} times. Use a mirror.")


@contextlib.contextmanager
def _network(timeout: float) -> Iterator[None]:
    """Turns what a connection raises into one error to try again, or one to give up on."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = error.reason if isinstance(error, URLError) else error
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise FetchError(
                f"The server's certificate is not trusted ({cause.verify_message}). Where a "
                "proxy of your network re-signs it, name its certificate in SSL_CERT_FILE."
            ) from error
        if isinstance(cause, TimeoutError):
            raise _BrokenError(f"nothing came for {timeout:g} s") from error
        if isinstance(cause, http.client.HTTPException) and not isinstance(cause, OSError):
            raise _BrokenError(f"the answer is not HTTP ({type(cause).__name__})") from error
        if isinstance(cause, OSError):
            raise _BrokenError(f"no connection ({cause.strerror or cause})") from error
        raise FetchError(f"The address cannot be used: {cause}. Check --mirror.") from error
