"""Fractional factorial: the fewest arms from which effects of the asked order can be separated.

k parts in 2^(k-p) arms. The first k-p parts take every combination; each other part is changed
where an odd number of its generator's parts are. The full model, in which none is changed, is
always one of the arms.

word        a set of parts of which an even number is changed in every arm; words are the sums
            (mod 2) of the p defining ones, which are a generator and the part it rules
resolution  parts in the shortest word. 3: main effects are separate from one another; 4: also
            from interactions of two parts; 5: these are separate from one another too
alias       two effects that differ by a word are one and the same contrast of the arms. With
            levels coded -1 (as in the full model) and +1 (changed) they add up where the word
            has an even number of parts, and subtract where it has an odd one
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations, product
from typing import Literal

from pydantic import Field

from sweeps.designs._base import DesignKind, DesignRequest, Layout, Names, Run, chosen
from sweeps.errors import StudyError

MOST = 10
_ROMAN = {3: "III", 4: "IV", 5: "V"}
Word = frozenset[int]


class FractionalRequest(DesignRequest):
    """Fields of a fractional factorial design."""

    parts: Names = Field(description="parts to combine")
    resolution: Literal[3, 4, 5] = Field(
        default=5, description="at least this; see docs/designs.md"
    )


@cache
def generators(parts: int, resolution: int) -> tuple[Word, ...]:
    """Returns a generator for each ruled part; none where only all combinations will do.

    Of the designs with the fewest runs it is one with the fewest words of three parts, then of
    four, and so on (minimum aberration), and of those the first in the order tried.

    Args:
        parts: number of parts k.
        resolution: least number of parts in a word.

    Returns:
        For each of the last p parts the free parts that rule it, as numbers below k-p.
    """
    for ruled in range(parts - 2, 0, -1):
        free = parts - ruled
        found = min(
            _choices(free, ruled, resolution),
            key=lambda each: _lengths(words(each, free)),
            default=None,
        )
        if found is not None:
            return found
    return ()


def _choices(free: int, ruled: int, resolution: int) -> Iterator[tuple[Word, ...]]:
    """Yields every set of generators whose words are all long enough."""
    candidates = [
        frozenset(each)
        for size in range(resolution - 1, free + 1)
        for each in combinations(range(free), size)
    ]

    def extend(
        taken: tuple[Word, ...], sums: list[Word], start: int
    ) -> Iterator[tuple[Word, ...]]:
        if len(taken) == ruled:
            yield taken
            return
        for index in range(start, len(candidates)):
            word = candidates[index] | {free + len(taken)}
            new = [word, *(word ^ other for other in sums)]
            if min(map(len, new)) >= resolution:
                yield from extend((*taken, candidates[index]), [*sums, *new], index + 1)

    return extend((), [], 0)


def words(ruling: Sequence[Word], free: int) -> tuple[Word, ...]:
    """Returns every word of a design, the shorter first.

    Args:
        ruling: its generators.
        free: number of free parts.

    Example:
        >>> [sorted(word) for word in words([frozenset({0, 1})], 2)]
        [[0, 1, 2]]
    """
    found: list[Word] = []
    for index, generator in enumerate(ruling):
        word = generator | {free + index}
        found += [word, *(word ^ other for other in found)]
    return tuple(sorted(found, key=lambda word: (len(word), sorted(word))))


def _lengths(found: Sequence[Word]) -> tuple[int, ...]:
    """Returns how many words have 3, 4, ... parts: of two designs the smaller is the better."""
    sizes = [len(word) for word in found]
    return tuple(sizes.count(size) for size in range(3, max(sizes) + 1))


def levels(parts: int, ruling: Sequence[Word]) -> list[tuple[int, ...]]:
    """Returns the level of each part in each run, the run without any change first."""
    runs = []
    for own in product((0, 1), repeat=parts - len(ruling)):
        ruled = (sum(own[part] for part in generator) % 2 for generator in ruling)
        runs.append((*own, *ruled))
    return sorted(runs, key=lambda run: (sum(run), [-level for level in run]))


def lay_out(request: FractionalRequest, known: Sequence[str], where: str) -> Layout:
    """Returns the arms, and in the notes what rules them and which effects are one."""
    parts = chosen(request.parts, known, f"{where}.parts", fewest=3, most=MOST)
    ruling = generators(len(parts), request.resolution)
    if not ruling:
        raise StudyError(
            f"field {where}.resolution: {len(parts)} parts need all {2 ** len(parts)} "
            f"combinations for resolution {request.resolution}. Take `kind: factorial`, more "
            "parts, or a lower resolution."
        )
    sets = (
        frozenset(part for part, level in zip(parts, run, strict=True) if level)
        for run in levels(len(parts), ruling)
    )
    return Layout(parts, tuple(Run(each) for each in sets if each), _notes(parts, ruling))


def _notes(parts: tuple[str, ...], ruling: tuple[Word, ...]) -> tuple[str, ...]:
    free = len(parts) - len(ruling)
    found = words(ruling, free)
    return (
        f"2^({len(parts)}-{len(ruling)}) design of resolution {_roman(len(found[0]))}: "
        f"{2**free} of {2 ** len(parts)} combinations.",
        *(
            f"{parts[free + index]} is changed where an odd number of {_named(generator, parts)} "
            "are."
            for index, generator in enumerate(ruling)
        ),
        "Effects that cannot be told apart (× is an interaction, + and - how they mix): "
        + "; ".join(_aliases(parts, found))
        + ".",
    )


def _roman(resolution: int) -> str:
    return _ROMAN.get(resolution, str(resolution))


def _named(numbers: Word, parts: Sequence[str]) -> str:
    return ", ".join(parts[number] for number in sorted(numbers))


def _aliases(parts: Sequence[str], found: Sequence[Word]) -> list[str]:
    """Returns, for each main effect and interaction of two parts, its aliases of lowest order."""
    told: set[Word] = set()
    lines = []
    effects = [
        frozenset(each) for size in (1, 2) for each in combinations(range(len(parts)), size)
    ]
    for effect in effects:
        others = sorted(
            ((effect ^ word, len(word)) for word in found),
            key=lambda pair: (len(pair[0]), sorted(pair[0])),
        )
        lowest = max(2, len(others[0][0]))
        closest = [(other, length) for other, length in others if len(other) <= lowest]
        if effect in told:
            continue
        told |= {effect, *(other for other, _ in closest)}
        mixed = (
            f" {'-' if length % 2 else '+'} {_product(other, parts)}" for other, length in closest
        )
        lines.append(_product(effect, parts) + "".join(mixed))
    return lines


def _product(effect: Word, parts: Sequence[str]) -> str:
    return " × ".join(parts[number] for number in sorted(effect))


DESIGN = DesignKind("Fractional factorial", FractionalRequest, lay_out)
