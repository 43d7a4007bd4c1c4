"""A tree of ICD codes under construction."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from medrec.knowledge.hierarchy import Hierarchy
from medrec.knowledge.origin import Origin
from medrec.raw_table import digests

CodedKind = Literal["diagnoses", "procedures"]
Version = Literal["9", "10"]

_LICENCE = "public domain (US Government: CMS, CDC/NCHS)"


class IcdTree:
    """A tree under construction; its nodes have no version yet."""

    def __init__(self, version: Version, category: Callable[[str], int]) -> None:
        self.version = version
        self.category = category  # characters of the category that a code belongs to
        self.titles: dict[str, str] = {}
        self.parents: dict[str, str] = {}

    def add_codes(self, titles: Mapping[str, str], headers: bool) -> None:
        """Adds codes, their titles and, if asked, every prefix down to the category."""
        self.titles |= titles
        if headers:
            for code in titles:
                for end in range(len(code) - 1, self.category(code) - 1, -1):
                    if code[:end] in self.titles:  # then its own prefixes are, or will be
                        break
                    self.titles[code[:end]] = ""

    def link(self) -> None:
        """Gives each code its longest prefix among the nodes as its parent."""
        for code in self.titles:
            for end in range(len(code) - 1, self.category(code) - 1, -1):
                if code[:end] in self.titles:
                    self.parents[code] = code[:end]
                    break

    def add_ranges(
        self,
        ranges: Iterable[str],
        chapters: Mapping[str, str],
        blocks: Mapping[str, str] | None = None,
    ) -> None:
        """Puts each category into its range, and each range into its chapter.

        Args:
            ranges: first and last category of each, "420-429".
            chapters: chapter of each block.
            blocks: range of the categories for which it is known; the others get the narrowest
                range that holds them.
        """
        self.link()
        pairs = sorted((range_.split("-") for range_ in ranges), key=lambda pair: pair[0])
        for code in [code for code in self.titles if code not in self.parents]:
            node, above = code, (blocks or {}).get(code) or _narrowest(code, pairs)
            while above:
                self.parents[node] = above
                self.titles.setdefault(above, "")
                node, above = above, chapters.get(above)

    def add_titles(self, titles: Mapping[str, str]) -> None:
        """Gives titles to the nodes that have none yet."""
        for node, title in titles.items():
            if self.titles.get(node) == "":
                self.titles[node] = title

    def finish(self, title: str, paths: Sequence[Path], rules: dict[str, str]) -> Hierarchy:
        """Returns the tree, its nodes written with their version."""
        written = {node: f"{self.version}:{node}" for node in sorted(self.titles)}
        return Hierarchy(
            origin=Origin(title, _LICENCE, digests(paths), rules),
            titles={name: self.titles[node] for node, name in written.items()},
            parents={
                name: written[self.parents[node]]
                for node, name in written.items()
                if node in self.parents
            },
        )


def _narrowest(category: str, ranges: Sequence[Sequence[str]]) -> str | None:
    """Returns the range that holds the category; of nested ones, the one starting last."""
    holding = [(first, last) for first, last in ranges if first <= category <= last]
    if not holding:
        return None
    start = max(first for first, _ in holding)
    return f"{start}-{min(last for first, last in holding if first == start)}"
