"""What a check has to say, and how it is said."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is wrong in a launch file.

    Attributes:
        file: the file's name.
        line: where, from 1.
        rule: the rule's name.
        value: what is there.
        remedy: what to do.
        level: an error fails the check, a warning does not.
    """

    file: str
    line: int
    rule: str
    value: str
    remedy: str
    level: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        mark = "" if self.level == "error" else "warning: "
        return f"{self.file}:{self.line}: {mark}{self.rule}: {self.value}. {self.remedy}"


def shorten(value: object, size: int = 80) -> str:
    """Returns a value for a message: on one line, not long.

    Example:
        >>> shorten("a" * 100, 8)
        'aaaaa...'
    """
    text = " ".join(str(value).split())
    return text if len(text) <= size else text[: size - 3] + "..."
