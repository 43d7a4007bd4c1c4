"""Optuna's dashboard on the searches of a study, which it can read and not change.

The journals of the searches are read into memory, and again whenever one of them has grown. What
a visitor writes in the dashboard (notes, say) stays in memory, and is gone with the next reading.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend
from rich.console import Console

from sweeps.errors import StoreError

_EVERY = 5.0  # seconds between two looks at the journals
_DAMAGE = (OSError, KeyError, IndexError, ValueError, TypeError, AttributeError, AssertionError)
_App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class ReadOnlyJournal(BaseJournalBackend):
    """The lines of a journal file, as they were when it was made."""

    def __init__(self, path: Path) -> None:
        self._lines: list[dict[str, Any]] = []
        for line in path.read_bytes().splitlines():
            try:
                self._lines.append(json.loads(line))
            except ValueError:
                break  # what follows is being written

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Returns the lines from a number on."""
        yield from self._lines[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Refuses: the driver of the study alone writes its journals."""
        raise PermissionError("journals of searches are only read here")


def journals(root: Path) -> list[Path]:
    """Returns the journals of a study's searches, by name; a link that leads outside is none."""
    inside = root.resolve()
    found = sorted((root / "searches").glob("*/journal.log"))
    return [path for path in found if path.resolve().is_relative_to(inside)]


def in_memory(paths: Iterable[Path]) -> InMemoryStorage:
    """Returns a storage with the studies of some journals; a damaged journal is left out."""
    storage = InMemoryStorage()
    for path in paths:
        try:
            source = JournalStorage(ReadOnlyJournal(path))
            for study in source.get_all_studies():
                optuna.copy_study(
                    from_study_name=study.study_name, from_storage=source, to_storage=storage
                )
        except (
            OSError,
            KeyError,
            ValueError,
            TypeError,
            AssertionError,
            optuna.exceptions.OptunaError,
        ):
            continue
    return storage


class Dashboard:
    """The dashboard as a WSGI application that follows the journals."""

    def __init__(self, root: Path, make: Callable[[InMemoryStorage], _App]) -> None:
        self._root, self._make = root, make
        self._lock = threading.Lock()
        self._seen: tuple[Any, ...] = ()
        self._looked = float("-inf")
        self._app: _App | None = None

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answers a request."""
        return self._current()(environ, start)

    def _current(self) -> _App:
        with self._lock:
            now = time.monotonic()
            if self._app is None or now - self._looked >= _EVERY:
                self._looked = now
                paths = journals(self._root)
                seen = tuple(_state(path) for path in paths)
                if self._app is None or seen != self._seen:
                    self._seen, self._app = seen, self._make(in_memory(paths))
            return self._app


def _state(path: Path) -> tuple[str, int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return str(path), 0, 0, 0
    return str(path), found.st_ino, found.st_size, found.st_mtime_ns


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  as its base has it
        """Says nothing of each request."""

    def address_string(self) -> str:
        """Returns the address as it is; no name server is asked for it."""
        return str(self.client_address[0])


def serve_searches(root: Path, host: str, port: int, console: Console) -> None:
    """Serves Optuna's dashboard until it is interrupted.

    Raises:
        StoreError: the study has no searches, the dashboard is not installed, or the port is
            taken.
    """
    if not journals(root):
        raise StoreError(f"{root} holds no searches, so there is nothing for the dashboard.")
    try:
        from optuna_dashboard import wsgi
    except ImportError as error:
        raise StoreError(
            "Optuna's dashboard is not installed: `pip install 'medsweep[dashboard]'` does so."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kind = _Server6 if ":" in host else _Server
    try:
        server = make_server(host, port, Dashboard(root, wsgi), kind, _Quiet)
    except OSError as error:
        raise StoreError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}. Choose another --port."
        ) from error
    with server:
        shown = f"[{host}]" if ":" in host else host
        console.print(
            f"Optuna's dashboard on http://{shown}:{server.server_port} (Ctrl-C ends it)"
        )
        server.serve_forever()
