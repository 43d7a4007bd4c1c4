"""What trials run on: this process, a Ray instance of our own, or a cluster that was joined."""

import importlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Literal

from cluster.errors import ClusterError, PlacementError
from cluster.placement import Demand, concurrent
from medrec.spec import Resources, TrialSpec
from sweeps.errors import MachineError, StudyError
from sweeps.gate import Told
from sweeps.preflight import check_machines
from sweeps.reach import published
from sweeps.session import Session
from sweeps.store import ResultsStore
from sweeps.study import Study

Executor = Literal["ray", "inline"]
_EXECUTORS = {"ray": "sweeps.executors.ray_tune", "inline": "sweeps.executors.inline"}
_HEARTBEAT = 2.0  # seconds between two looks at the head
_DEAD = 5  # looks without an answer after which the head is gone
_RECOUNT = 5.0  # seconds between two counts of the machines
GOES_ON = 75  # exit code of a run that was told to stop; schedulers start it again
GONE = 1  # exit code when the head is gone


@dataclass(frozen=True)
class EngineOptions:
    """Where a study is to run.

    Attributes:
        executor: `ray`, or `inline` for one trial after another in this process.
        cpus: cores that a Ray instance of our own may use; all of them by default.
        address: of a cluster to join: `auto` or HOST:PORT; None starts an instance of our own.
        concurrent: trials at a time; None: as many as fit. A cluster that grows by demand needs
            it, for what fits is counted from the machines that it has.
        limits: names, and how many trials all studies that name them may run together.
    """

    executor: Executor = "ray"
    cpus: int | None = None
    address: str | None = None
    concurrent: int | None = None
    limits: Mapping[str, int] = field(default_factory=dict)


def check_address(options: EngineOptions) -> None:
    """Refuses an address where nothing listens, before anything else is done.

    Raises:
        MachineError: nothing answers there, or it is none.
    """
    from cluster.connection import check_answers

    if options.executor == "ray" and options.address is not None:
        try:
            check_answers(options.address)
        except ClusterError as error:
            raise MachineError(str(error)) from error


def executor_module(options: EngineOptions) -> ModuleType:
    """Returns the module that runs plans and searches."""
    return importlib.import_module(_EXECUTORS[options.executor])


@contextmanager
def engine(
    options: EngineOptions,
    example: TrialSpec,
    store: ResultsStore,
    session: Session,
    told: Told,
    say: Callable[[str], None],
) -> Iterator[Callable[[int], int]]:
    """Starts or joins what trials run on, once it is sure that they can.

    Args:
        options: where.
        example: one of the study's trials; all ask for the same.
        store: of the results.
        session: is told of the machines.
        told: whether somebody told this driver to stop.
        say: prints a line.

    Yields:
        Given how many trials could run, how many may run at a time.

    Raises:
        StudyError: no trial could ever be placed.
        MachineError: no cluster answers, or its machines lack something.
    """
    if options.executor == "inline":
        yield lambda wants: wants
        return
    from cluster.connection import connected
    from cluster.nodes import nodes

    try:
        with connected(options.address, options.cpus) as link:
            places = _Places(example.resources, options.concurrent)
            if options.address is not None:
                check_machines(published(example, store=store), store)
            if link:
                say(f"Ray's dashboard: {link}")
            session.joined(nodes, link, places.most)
            own = options.address is None
            with (
                _watching_the_head(own, session, told, say),
                _shared(options, session.id, places) as allowed,
            ):
                yield allowed
            session.left()
    except PlacementError as error:
        raise StudyError(str(error)) from error
    except ClusterError as error:
        raise MachineError(str(error)) from error


def run_on_head(
    study: Study,
    out: str,
    options: EngineOptions,
    flags: Sequence[str],
    say: Callable[[str], None],
) -> int:
    """Runs `medsweep run` on the head of the cluster at `options.address`, a ray:// address.

    Args:
        study: with its settings applied; the paths in it are the cluster's.
        out: results directory, as the cluster sees it.
        options: where.
        flags: further ones of `medsweep run`.
        say: is given what the run prints.

    Returns:
        The run's exit code.

    Raises:
        MachineError: no cluster answers, or it refuses us.
    """
    from cluster.remote import ADDRESS, FILE, run_there

    command = ["-m", "sweeps", "run", FILE, "--out", out, "--address", ADDRESS, *flags]
    if options.concurrent is not None:
        command += ["--concurrent", str(options.concurrent)]
    for name, most in options.limits.items():
        command += ["--limit", f"{name}={most}"]
    try:
        return run_there(options.address or "", command, study.model_dump_json(), say)
    except ClusterError as error:
        raise MachineError(str(error)) from error


class _Places:
    """How many trials the connected cluster holds, counted anew as machines come and go."""

    def __init__(self, resources: Resources, most: int | None) -> None:
        self._demand = Demand(resources.cpus, resources.gpus, resources.memory, resources.workers)
        self._most = most
        self._counted = time.monotonic()
        self.most = self._count(first=True)

    def now(self) -> int:
        """Returns how many trials fit at the moment, at least one."""
        if time.monotonic() - self._counted > _RECOUNT:
            self._counted = time.monotonic()
            self.most = self._count(first=False)
        return self.most

    def _count(self, first: bool) -> int:
        from cluster.nodes import nodes

        if self._most is not None:
            return self._most
        try:
            return concurrent(self._demand, [node for node in nodes() if node.alive])
        except PlacementError:
            if first:
                raise
            return 1  # machines were lost; others may join


@contextmanager
def _shared(
    options: EngineOptions, driver: str, places: _Places
) -> Iterator[Callable[[int], int]]:
    """Gives this driver's share of the cluster; an instance of our own is not shared."""
    if options.address is None:
        limit = min(options.limits.values(), default=None)
        yield lambda wants: min(wants, places.now(), *([] if limit is None else [limit]))
        return
    from cluster.shares import Share

    share = Share(driver, options.limits)

    def allowed(wants: int) -> int:
        places_now = places.now()
        return min(wants, places_now, share.allowed(min(wants, places_now), places_now))

    try:
        yield allowed
    finally:
        share.leave()


@contextmanager
def _watching_the_head(
    own: bool, session: Session, told: Told, say: Callable[[str], None]
) -> Iterator[None]:
    """Ends this process when the cluster's head is gone: Ray would wait for it for minutes."""
    from cluster.connection import answers, head_address

    host, port = head_address()
    left = threading.Event()

    def watch() -> None:
        silent = 0
        while not left.wait(_HEARTBEAT):
            silent = 0 if answers(host, port) else silent + 1
            if silent >= _DEAD and not left.is_set():
                what = "Our own Ray" if own else "The head of the Ray cluster"
                start = "Run" if own else "Start a cluster and run"
                why = f", and we were {told.reason}" if told.reason else ""
                text = (
                    f"{what} is gone{why}. {start} the same command again: what was finished is "
                    "kept, and trials go on from their last epoch."
                )
                session.end("interrupted" if told.reason else "error", text)
                session.flush()
                say(text)
                # Who tells a whole group of processes to stop tells Ray's as well.
                os._exit(GOES_ON if told.reason else GONE)

    threading.Thread(target=watch, name="medsweep-head", daemon=True).start()
    try:
        yield
    finally:
        left.set()
