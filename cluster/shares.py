"""Studies that run on one cluster at the same time share it, and keep to named limits.

Ray places the trials of every driver as they come, and a driver that was first would keep all
places until it ends, for its actors go from trial to trial. So drivers tell a small actor of the
cluster what they want, and learn how many trials each may have at a time. Nothing is taken away
from a trial that runs.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

FORGOTTEN = 30.0
"""Seconds after which a driver that says nothing more counts as gone."""
_NAME = "medsweep-shares"


@dataclass
class _Driver:
    wants: int
    capacity: int
    limits: Mapping[str, int]
    seen: float


@dataclass
class Board:
    """Who runs here, and how many trials each may have; plain Python, an actor on a cluster."""

    clock: Callable[[], float] = time.monotonic
    drivers: dict[str, _Driver] = field(default_factory=dict)

    def tell(self, driver: str, wants: int, capacity: int, limits: Mapping[str, int]) -> int:
        """Returns how many trials a driver may have at a time.

        Args:
            driver: its id.
            wants: trials that it could run at once.
            capacity: trials of its shape that the whole cluster holds.
            limits: names, and how many trials all drivers with that name may have together; of
                several numbers for one name the lowest counts.
        """
        now = self.clock()
        self.drivers[driver] = _Driver(wants, capacity, dict(limits), now)
        for name in [n for n, d in self.drivers.items() if now - d.seen > FORGOTTEN]:
            del self.drivers[name]
        whole = {name: min(d.wants / d.capacity, 1.0) for name, d in self.drivers.items()}
        allowed = int(shared(1.0, whole)[driver] * capacity + 1e-6)
        for limit in limits:
            members = {n: float(d.wants) for n, d in self.drivers.items() if limit in d.limits}
            most = min(d.limits[limit] for d in self.drivers.values() if limit in d.limits)
            # Who came first keeps what is left over when the limit is no multiple.
            parts = {n: int(part + 1e-6) for n, part in shared(float(most), members).items()}
            rest = most - sum(parts.values())
            for name in sorted(members):
                extra = 1 if rest > 0 and parts[name] < members[name] else 0
                parts[name] += extra
                rest -= extra
            allowed = min(max(allowed, 1), parts[driver])
            if parts[driver] == 0:
                return 0
        return max(1, allowed)

    def leave(self, driver: str) -> int:
        """Forgets a driver and returns how many are left."""
        self.drivers.pop(driver, None)
        return len(self.drivers)


def shared(whole: float, wants: Mapping[str, float]) -> dict[str, float]:
    """Shares an amount evenly; what one does not want goes to the others.

    Example:
        >>> shared(8, {"a": 1, "b": 6, "c": 6})
        {'a': 1, 'b': 3.5, 'c': 3.5}
    """
    parts: dict[str, float] = {}
    left, waiting = whole, sorted(wants, key=lambda name: (wants[name], name))
    for place, name in enumerate(waiting):
        parts[name] = min(wants[name], left / (len(waiting) - place))
        left -= parts[name]
    return parts


class Share:
    """A driver's place on the board of the connected cluster."""

    def __init__(self, driver: str, limits: Mapping[str, int]) -> None:
        self.driver, self.limits = driver, dict(limits)
        self._board: Any = self._find()
        self._told = (0.0, -1, -1)
        self._allowed = 1

    def _find(self) -> Any:
        import ray

        actor: Any = ray.remote(num_cpus=0, max_restarts=-1)(Board)
        return actor.options(name=_NAME, lifetime="detached", get_if_exists=True).remote()

    def allowed(self, wants: int, capacity: int) -> int:
        """Returns how many trials this driver may have now; asks the board once a second.

        Args:
            wants: trials that it could run at once; those that run among them.
            capacity: trials of its shape that the whole cluster holds at the moment.
        """
        import ray

        asked, *before = self._told
        now = time.monotonic()
        if [wants, capacity] != before or now - asked > 1.0:
            self._told = (now, wants, capacity)
            call = self._board.tell.remote(self.driver, wants, capacity, self.limits)
            try:
                self._allowed = ray.get(call, timeout=10)
            except ray.exceptions.RayActorError:  # the last driver took the board away
                self._board = self._find()
                self._told = (0.0, -1, -1)
            except (ray.exceptions.RayError, TimeoutError):
                pass  # busy; what was allowed stays
        return self._allowed

    def leave(self) -> None:
        """Gives the place up; the last one takes the board away."""
        import ray

        with suppress(ray.exceptions.RayError, TimeoutError):  # the cluster ended before us
            if ray.get(self._board.leave.remote(self.driver), timeout=10) == 0:
                ray.kill(self._board)
