"""`medsweep data fetch DEMO`: PhysioNet's open demos, every file checked before it gets its name.

demos/DEMO.csv       what was published: file, sha256, bytes
OUT/FILE             as published, or absent
OUT/FILE.part        the beginning of a file; a later fetch goes on from there
OUT/.fetch.lock      exists while a fetch works on OUT

The list decides, not the server, so that may be any copy of PhysioNet's file tree (`--mirror`).
"""

import contextlib
import csv
import difflib
import fcntl
import os
import re
import shlex
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from sweeps.download import Published, Server, Tell, connect, download, on_disk, present
from sweeps.errors import BusyError, FetchError

PHYSIONET = "https://physionet.org/files"

_LISTS = Path(__file__).with_name("demos")
_PATIENCE = 900.0  # seconds to wait for another fetch of the same folder
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BYTES = re.compile(r"[1-9][0-9]{0,11}")


@dataclass(frozen=True)
class Demo:
    """An open demo on PhysioNet.

    Attributes:
        title: its name and version.
        place: its folder below `PHYSIONET`.
        doi: what to cite.
        dataset: our data set that reads it.
    """

    title: str
    place: str
    doi: str
    dataset: str


DEMOS = {
    "eicu-demo": Demo("eICU-CRD Demo 2.0.1", "eicu-crd-demo/2.0.1", "10.13026/4mxk-na84", "eicu"),
    "mimic-iii-demo": Demo("MIMIC-III Demo 1.4", "mimiciii-demo/1.4", "10.13026/C2HM2Q", "mimic3"),
    "mimic-iv-demo": Demo(
        "MIMIC-IV Demo 2.2", "mimic-iv-demo/2.2", "10.13026/dp1f-ex47", "mimic4"
    ),
}


def fetch(
    name: str,
    out: Path,
    *,
    mirror: str | None = None,
    timeout: float = 30.0,
    attempts: int = 4,
    console: Console | None = None,
) -> list[Path]:
    """Returns the files of a demo in `out`, downloading those that are missing. Safe to repeat.

    **Whole or absent.** A file has its name only once its checksum is the published one.
    **Never overwritten.** A file of that name with other content is refused.
    **One at a time.** A second fetch of the same folder waits, and then finds the files there.

    Args:
        name: one of `DEMOS`.
        out: folder to write; made where it is missing.
        mirror: address of a copy of PhysioNet's file tree to use in place of `PHYSIONET`; http is
            allowed on this machine only, https everywhere.
        timeout: seconds without a byte after which an attempt is given up, in (0, 86400].
        attempts: how often a file is tried, at least 1.
        console: where to draw progress (on a terminal) and print the last line; nowhere if None.

    Raises:
        FetchError: a file cannot be had, is not the published one, or has no place to go.
        BusyError: another fetch kept the folder for a quarter of an hour.
    """
    demo = _demo(name)
    server = connect(PHYSIONET if mirror is None else mirror, timeout, attempts)
    files = published(_LISTS / f"{name}.csv")
    console = Console(quiet=True) if console is None else console
    total = sum(file.bytes for file in files)
    if _missing(files, out):
        with _progress(console, total) as tell, _alone(out, tell):
            _download_all(server, demo, files, out, tell)
    console.print(
        f"{out}: {len(files)} files of {demo.title} ({decimal(total)}), as "
        f"published. Licence ODbL 1.0: keep LICENSE.txt and the attribution, "
        f"https://doi.org/{demo.doi}. Next: medsweep data prepare {demo.dataset} "
        f"--source {shlex.quote(str(out))} --out cohort",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
    return [out / file.name for file in files]


def published(path: Path) -> tuple[Published, ...]:
    """Returns the files that a list names, sorted by name.

    Args:
        path: csv with the columns `file`, `sha256` and `bytes`.

    Raises:
        FetchError: the list is missing or malformed, or names a file outside the folder.
    """
    with on_disk(path), path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    if rows[:1] != [["file", "sha256", "bytes"]] or len(rows) == 1:
        raise FetchError(f"{path}: the columns must be file,sha256,bytes, with rows below.")
    found: dict[str, Published] = {}
    for line, row in enumerate(rows[1:], start=2):
        file = _published(f"{path}, line {line}", row)
        if file.name.lower() in found:
            raise FetchError(f"{path}, line {line}: {file.name!r} is there twice. Remove one.")
        found[file.name.lower()] = file
    return tuple(sorted(found.values(), key=lambda file: file.name))


def _published(where: str, row: list[str]) -> Published:
    rules = (
        ("file", _NAME, "must be a path inside the folder, of letters, digits and . _ - /"),
        ("sha256", _SHA256, "must be 64 hexadecimal digits in lower case"),
        ("bytes", _BYTES, "must be a positive whole number"),
    )
    if len(row) != len(rules):
        raise FetchError(f"{where}: must have {len(rules)} fields, but it has {len(row)}.")
    for (field, pattern, rule), value in zip(rules, row, strict=True):
        if not pattern.fullmatch(value):
            raise FetchError(f"{where}: `{field}` {rule}, but it is {value!r}.")
    if row[0].endswith(".part"):
        raise FetchError(f"{where}: `file` must not end in .part, but it is {row[0]!r}.")
    return Published(row[0], row[1], int(row[2]))


def _demo(name: str) -> Demo:
    if name in DEMOS:
        return DEMOS[name]
    near = difflib.get_close_matches(name, DEMOS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise FetchError(f"There is no demo {name!r}.{hint} It has {sorted(DEMOS)}.")


# ---------------------------------------------------------------------- the folder


def _missing(files: Iterable[Published], out: Path) -> list[Published]:
    """Returns the files that are not there yet; refuses those there with other content."""
    return [file for file in files if not present(file, _place(file, out))]


def _place(file: Published, out: Path) -> Path:
    path = out / file.name
    if not Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(out)):
        raise FetchError(f"{path.parent} leads out of {out}. Choose another --out.")
    return path


def _download_all(
    server: Server, demo: Demo, files: Iterable[Published], out: Path, tell: Tell
) -> None:
    done = 0
    for file in files:
        path = _place(file, out)
        if not present(file, path):
            download(server, demo.place, file, path, _beyond(done, tell))
        done += file.bytes


def _beyond(done: int, tell: Tell) -> Tell:
    return lambda text, size: tell(text, done + size)


@contextlib.contextmanager
def _alone(out: Path, tell: Tell) -> Iterator[None]:
    """Keeps other fetches out of the folder; the lock ends with this process at the latest."""
    path = out / ".fetch.lock"
    until = time.monotonic() + _PATIENCE
    with on_disk(path):
        out.mkdir(parents=True, exist_ok=True)
        while (descriptor := _locked(path)) is None:
            if time.monotonic() > until:
                raise BusyError(
                    f"Another fetch works on {out} and does not end. Wait for it, or use another "
                    "--out."
                )
            tell("waiting for another fetch of this folder", 0)
            time.sleep(0.1)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # while we hold the lock, so that it is never another fetch's file
        os.close(descriptor)


def _locked(path: Path) -> int | None:
    """Returns a descriptor that holds the lock, or None where another one does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its last holder may have deleted the file that we opened; that lock excludes nobody.
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


# ---------------------------------------------------------------------- the person


@contextlib.contextmanager
def _progress(console: Console, total: int) -> Iterator[Tell]:
    """Draws a bar on a terminal, nothing elsewhere; takes the bytes of all files."""
    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), DownloadColumn(), TransferSpeedColumn())
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("", total=total)
        yield lambda text, size: progress.update(task, description=text, completed=size)


@click.command("fetch", short_help="Downloads an open demo from PhysioNet, checksums verified.")
@click.argument("name", metavar="DEMO", type=click.Choice(sorted(DEMOS)))
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder to write the files to."
)
@click.option(
    "--mirror",
    metavar="URL",
    help="A copy of PhysioNet's file tree, in place of https://physionet.org/files; https, or "
    "http on this machine (e.g. `python -m http.server`).",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 86_400, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds without a byte after which an attempt is given up.",
)
def command(name: str, out: Path, mirror: str | None, timeout: float) -> None:
    """Downloads an open demo from PhysioNet: eicu-demo, mimic-iii-demo or mimic-iv-demo.

    Every file is checked against the published SHA-256. Run the same command again after an
    interruption: it goes on where it stopped, and never overwrites a file.

    Example: medsweep data fetch mimic-iv-demo --out mimic-iv-demo
    """
    fetch(name, out, mirror=mirror, timeout=timeout, console=Console(highlight=False))
