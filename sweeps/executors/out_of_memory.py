"""A process that Ray's memory monitor ends is a lost one; Tune takes it for its own defect.

Ray then raises `OutOfMemoryError`, which is none of the errors that Tune knows of an actor: the
whole study would end. Where Tune is told of it, it becomes the error of an actor that died.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError


@contextmanager
def taken_for_lost() -> Iterator[None]:
    """Lets Tune meet a process that was ended for want of memory as one that died."""
    told = RayActorManager._actor_task_failed

    def tell(self: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=str(exception))
        told(self, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = tell  # type: ignore[method-assign]
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = told  # type: ignore[method-assign]
