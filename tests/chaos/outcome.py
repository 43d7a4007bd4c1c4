"""What a failure that was brought about on purpose left behind."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.bench import Bench


class Unavailable(Exception):  # noqa: N818  it is no error
    """This machine cannot bring the failure about; the message says why."""


@dataclass
class Outcome:
    """Counts of one scenario.

    Attributes:
        tries: how often the failure was brought about.
        lost: what was lost or came out different, a line each.
        doubled: what was done or kept twice.
        leaked: placement groups, processes and files that stayed behind.
        broken: other promises that were not kept: exit codes, messages, times.
        seconds: from each failure until the study had moved on.
        notes: what is worth knowing.
        skipped: why the scenario could not run; empty if it ran.
    """

    tries: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: str = ""

    @property
    def faults(self) -> list[str]:
        """Everything that should not have happened."""
        kinds = ("lost", "doubled", "leaked", "broken")
        return [f"{kind}: {line}" for kind in kinds for line in getattr(self, kind)]

    def promise(self, kept: bool, otherwise: str) -> bool:
        """Notes a promise that was not kept; returns whether it was."""
        if not kept:
            self.broken.append(otherwise)
        return kept

    def no_traceback(self, text: str, when: str) -> None:
        """Notes a traceback in what a person was shown."""
        _, _, trace = text.partition("Traceback")
        self.promise(
            not trace,
            f"{when}: a traceback: {text[: text.find('Traceback')][-300:]} "
            f"Traceback{trace[:200]} ... {trace[-700:]}",
        )


@dataclass(frozen=True)
class Scenario:
    """A failure, and what must come of it.

    Attributes:
        name: for `--only`.
        failure: what happens.
        promise: what must come of it.
        run: brings it about; fills in the outcome of its bench.
        short: tries of the short form.
        long: tries of `make chaos`; None takes `--tries`.
    """

    name: str
    failure: str
    promise: str
    run: "Callable[[Bench], None]"
    short: int = 1
    long: int | None = None
