"""Where a piece of knowledge comes from, and under which terms."""

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Origin:
    """A source of knowledge.

    Attributes:
        title: what it is, e.g. "ICD-9-CM diagnoses, version 32 (CMS)".
        licence: terms of the files, in one line.
        inputs: sha256 of the files read, by file name.
        rules: how the files were read where there is a choice, e.g. {"side_effects": "rarest40"}.
    """

    title: str
    licence: str
    inputs: dict[str, str] = field(default_factory=dict)
    rules: dict[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """sha256 over the files' content and the rules, whatever the files' names."""
        content = "\n".join(
            [*sorted(self.inputs.values()), *sorted(map(repr, self.rules.items()))]
        )
        return hashlib.sha256(content.encode()).hexdigest()
