"""Several processes that train one trial together: how they meet, and what they tell one another.

A group owns its connections: no default group of torch is made, no environment is left changed,
and a reused process can join another group later. The meeting point and, on CPUs, all other
sockets are bound to the addresses given here and to no other. Over the meeting point the workers
learn one another's addresses; anybody who reaches it can join or disturb, so it belongs on the
loopback interface or in a network of the cluster's own.

On CPUs (gloo) a worker that dies is noticed at once, since its connections close; one whose
machine vanishes is noticed after `PATIENCE`. On GPUs (nccl) both take `PATIENCE`, after which
torch ends the waiting process: whoever started the workers should end all when one is gone.
"""

import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from medrec.errors import LostWorkerError

_torch: Any = torch.distributed  # its stubs leave out most of what is used here

PATIENCE = timedelta(minutes=5)
"""The longest that a worker waits for the others: to come, or to take part in a step."""
_CONNECTING = timedelta(seconds=20)  # the meeting is open before its address is told
_ADDRESS_OF_INTERFACE = 0x8915  # SIOCGIFADDR of Linux


@dataclass
class _Link:
    """One of torch's process groups. Its connections close once nobody holds it any more."""

    backend: Any


@dataclass(frozen=True)
class Group:
    """The workers of one trial, as one of them sees them.

    Every operation is collective: all workers call the same ones in the same order. They raise
    LostWorkerError where another worker is gone. With one worker nothing is sent.

    Attributes:
        rank: this worker, from 0.
        workers: how many there are.
        device: where tensors must lie to be sent.
    """

    rank: int = 0
    workers: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _link: _Link | None = None

    @property
    def leads(self) -> bool:
        """Whether this is the worker that reports, and reads and writes files."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Returns the sum over the workers, added up in place; the same bits on each."""
        if self._link is None:
            return tensor
        sent = tensor.to(self.device).contiguous()
        self._wait(lambda backend: backend.allreduce([sent]))
        return tensor.copy_(sent) if sent is not tensor else tensor

    def share(self, data: bytes) -> bytes:
        """Returns what the worker of rank 0 gave; what others gave is not read."""
        if self._link is None:
            return data
        size = int(self.sum(torch.tensor(len(data) if self.leads else 0)))
        if not size:
            return b""
        content = bytearray(data) if self.leads else bytearray(size)
        sent = torch.frombuffer(content, dtype=torch.uint8).to(self.device)
        self._wait(lambda backend: backend.broadcast(sent, 0))
        return sent.cpu().numpy().tobytes()

    def _wait(self, start: Callable[[Any], Any]) -> None:
        assert self._link is not None  # noqa: S101  callers see to it
        try:
            start(self._link.backend).wait()
        except RuntimeError as error:
            raise LostWorkerError(
                f"Worker {self.rank} of {self.workers} lost another one: {error}. The trial can "
                "go on from its checkpoint."
            ) from error


ALONE = Group()


def open_meeting(host: str) -> socket.socket:
    """Returns a listening socket at a free port of `host`, for `joined` of rank 0.

    Args:
        host: the address (no name) at which the other workers reach this one.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    meeting = socket.socket(family, socket.SOCK_STREAM)
    try:
        meeting.bind((host, 0))
        meeting.listen()
    except OSError:
        meeting.close()
        raise
    return meeting


@contextmanager
def joined(
    rank: int, workers: int, meeting: socket.socket | str, host: str, device: torch.device | str
) -> Iterator[Group]:
    """Gives the group once all workers have come, and leaves it at the end.

    A worker that leaves early, by an error say, is lost to the others.

    Args:
        rank: of this worker, from 0.
        workers: how many there are.
        meeting: at rank 0 the socket of `open_meeting`, which is closed at the end; elsewhere its
            address, as "host:port".
        host: this worker's own address, to which its sockets are bound.
        device: on which this worker trains.

    Raises:
        LostWorkerError: not all have come in time.
    """
    if workers == 1:
        if not isinstance(meeting, str):
            meeting.close()
        yield ALONE
        return
    place = torch.device(device)
    try:
        store = _store(meeting)
        connect = _nccl if place.type == "cuda" else _gloo
        link = _Link(connect(store, rank, workers, host))
    except RuntimeError as error:
        raise LostWorkerError(
            f"Worker {rank} of {workers} did not meet the others: {error}."
        ) from error
    try:
        yield Group(rank, workers, place, link)
    finally:
        if place.type == "cuda":
            link.backend.abort()
        link.backend = None  # the others' waiting ends, whoever still holds the group here


def _store(meeting: socket.socket | str) -> Any:
    if isinstance(meeting, str):
        host, _, port = meeting.rpartition(":")
        store = _torch.TCPStore(host.strip("[]"), int(port), timeout=_CONNECTING)
        store.set_timeout(PATIENCE)
        return store
    host, port = meeting.getsockname()[:2]
    return _torch.TCPStore(
        host,
        port,
        is_master=True,
        timeout=PATIENCE,
        master_listen_fd=meeting.detach(),  # the store closes it
    )


def _gloo(store: Any, rank: int, workers: int, host: str) -> Any:
    kind = _torch.ProcessGroupGloo
    options = kind._Options()
    options._timeout = PATIENCE
    options._devices = [kind.create_device(hostname=host)]
    return kind(store, rank, workers, options)


def _nccl(store: Any, rank: int, workers: int, host: str) -> Any:
    kind = _torch.ProcessGroupNCCL
    options = kind.Options()
    options._timeout = PATIENCE
    backend = kind(store, rank, workers, options)
    name = _interface(host)
    with _environment("NCCL_SOCKET_IFNAME", f"={name}") if name else nullcontext():
        # Connections are made by the first operation, and torch waits for it only when asked.
        backend.allreduce([torch.ones(1, device="cuda")]).wait()
        torch.cuda.synchronize()
    return backend


def _interface(host: str) -> str | None:
    """Returns the name of the network interface with this IPv4 address; None if none has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without an address
                asked = struct.pack("256s", name.encode())
                found = fcntl.ioctl(probe.fileno(), _ADDRESS_OF_INTERFACE, asked)
                if socket.inet_ntoa(found[20:24]) == host:
                    return name
    return None


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
