"""The workers of one trial: Tune's actor is the first, an actor in each further bundle the others.

All bundles belong to the trial's own placement group, so Ray frees them with the trial, however it
ends. The other actors live as long as the first one, which keeps them for its next trial.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util import get_current_placement_group, get_node_ip_address
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.drains import draining
from medrec.distributed import ALONE, Group, joined, open_meeting
from medrec.errors import LostWorkerError
from medrec.spec import TrialSpec
from sweeps.errors import StoreError, WorkerFailedError
from sweeps.gate import throttled
from sweeps.store import ResultsStore
from sweeps.worker import assist_trial, explained

_LOST = 70  # exit code of a first worker that cannot go on without another one
_GRACE = 10.0  # seconds that the others have for leaving

_others: dict[str, list[Any]] = {}  # by placement group; this process serves one at a time


class _Worker:
    """One of the other workers."""

    def assist(self, spec: str, root: str, rank: int, meeting: str, host: str | None) -> None:
        """Takes part in a trial until it ends."""
        own = TrialSpec.model_validate_json(spec)
        host = host or get_node_ip_address()
        notice = throttled(draining)  # its own machine may be taken away
        assist_trial(own, ResultsStore(root), rank, meeting, host, notice)


@contextmanager
def grouped(spec: TrialSpec, store: ResultsStore) -> Iterator[Group]:
    """Gathers the trial's workers; a trial of one worker has none to wait for.

    When another worker is lost this process ends, at once and also in the middle of an exchange
    with the others: Ray then frees what they held, and the trial goes on from its checkpoint.
    """
    workers = spec.resources.workers
    if workers == 1:
        yield ALONE
        return
    placement = get_current_placement_group()
    if placement is None:
        raise StoreError("A trial of several workers runs on Ray alone, in a group of places.")
    name = placement.id.hex()
    if name not in _others:
        _others.clear()
        _others[name] = [_start(spec, placement, rank) for rank in range(1, workers)]
    host = get_node_ip_address()
    ended = threading.Event()
    with open_meeting(host) as meeting:
        place = f"{host}:{meeting.getsockname()[1]}"
        calls = [
            actor.assist.remote(spec.model_dump_json(), str(store.place), rank, place, None)
            for rank, actor in enumerate(_others[name], start=1)
        ]
        watch = threading.Thread(target=_watch, args=(calls, ended, spec, store), daemon=True)
        watch.start()
        try:
            with joined(0, workers, meeting, host, _device(spec)) as group:
                yield group
        except LostWorkerError:
            if (reason := _own_fault(calls)) is not None:
                store.record_failure(spec.key, reason)
                raise WorkerFailedError(reason) from None
            raise
        finally:
            ended.set()
            _, late = ray.wait(calls, num_returns=len(calls), timeout=_GRACE)
            if late:
                for actor in _others.pop(name):
                    ray.kill(actor)


def _own_fault(calls: list[Any]) -> str | None:
    """Returns what another worker met, if it did not just die or lose the others."""
    done, _ = ray.wait(calls, num_returns=len(calls), timeout=_GRACE)
    for call in done:
        try:
            ray.get(call)
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, Exception) and not isinstance(cause, LostWorkerError):
                return f"in one of its workers: {explained(cause)}"
        except RayActorError:
            continue
    return None


def _device(spec: TrialSpec) -> str:
    return "cuda" if spec.resources.gpus else "cpu"


def _start(spec: TrialSpec, placement: Any, rank: int) -> Any:
    place = PlacementGroupSchedulingStrategy(placement, placement_group_bundle_index=rank)
    asked = {"num_cpus": spec.resources.cpus, "num_gpus": spec.resources.gpus}
    if spec.resources.memory:
        asked["memory"] = spec.resources.memory * 2**30
    return ray.remote(_Worker).options(scheduling_strategy=place, **asked).remote()


def _watch(calls: list[Any], ended: threading.Event, spec: TrialSpec, store: ResultsStore) -> None:
    """Ends this process when another worker is lost, or fails where the first one does not."""
    waiting = list(calls)
    while waiting and not ended.is_set():
        done, waiting = ray.wait(waiting, timeout=0.5)
        for call in done:
            try:
                ray.get(call)
            except RayActorError:
                break
            except Exception as error:
                # What all workers meet, such as a loss that is not finite, the first one tells.
                if ended.wait(_GRACE):
                    return
                store.record_failure(spec.key, f"in one of its workers: {explained(error)}")
                break
        else:
            continue
        if not ended.is_set():
            os._exit(_LOST)
