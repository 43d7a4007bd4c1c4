"""What can go wrong with launch files. Both mean: mend the input; trying again does not help.

LaunchError          the message is written for the person who reads it
  UnreadableError    a file cannot be read safely; knows the line
"""


class LaunchError(Exception):
    """The specification of a cluster is wrong or incomplete; the message names each field."""


class UnreadableError(LaunchError):
    """A file is no plain YAML within bounds.

    Attributes:
        line: where, from 1.
    """

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
