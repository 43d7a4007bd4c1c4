"""A tree of codes: ICD chapters down to codes, CCS levels, ATC levels."""

import re
from dataclasses import dataclass

from medrec.knowledge.origin import Origin


@dataclass(frozen=True)
class Hierarchy:
    """Codes, their titles and their parents.

    Attributes:
        origin: where it comes from.
        titles: English title of each node, inner nodes included; "" where the source has none.
        parents: parent of each node that has one. Nodes are written as in `medrec.codes`; blocks
            and chapters as "9:420-429". No cycle.
        form: regular expression of what can be a code of this tree at all; "" for anything.
    """

    origin: Origin
    titles: dict[str, str]
    parents: dict[str, str]
    form: str = ""

    def __contains__(self, code: str) -> bool:
        return code in self.titles

    def ancestors(self, code: str) -> tuple[str, ...]:
        """Returns the ancestors of a node, nearest first; none for a root or an unknown code."""
        found = []
        while code in self.parents:
            code = self.parents[code]
            found.append(code)
        return tuple(found)

    def resolve(self, code: str) -> str | None:
        """Returns the code, or the nearest node above it by prefix (a retired code, say), or None.

        Example:
            >>> tree = Hierarchy(Origin("", ""), {"9:428": "Heart failure"}, {})
            >>> tree.resolve("9:4289"), tree.resolve("9:999")
            ('9:428', None)
        """
        if self.form and not re.fullmatch(self.form, code):
            return None
        shortest = code.find(":") + 2
        above = (code[:end] for end in range(len(code), shortest - 1, -1))
        return next((name for name in above if name in self.titles), None)
