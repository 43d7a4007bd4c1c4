"""Blocks of the table by service: which hospital service cared for each test visit."""

import numpy as np

from sweeps.visits import RARE, Rows, VisitFacts, rows_with

LEAST = 30  # test visits below which a service has no block of its own in the table
OTHER = f"other, fewer than {LEAST} visits"


def service_rows(facts: VisitFacts) -> dict[str, Rows]:
    """Returns which visits each block of the table has, by the block's name.

    Services with at least `LEAST` test visits have a block each, by number of visits and then by
    name; the others, rare ones always, share the last block. A single block is none at all.
    """
    services = facts.labels.get("service", ())
    names, counts = np.unique(np.array(services, dtype=np.str_), return_counts=True)
    found = dict(zip(names.tolist(), counts.tolist(), strict=True))
    frequent = [name for name in found if found[name] >= LEAST and name != RARE]
    frequent.sort(key=lambda name: (-found[name], name))
    blocks = {name: (name,) for name in frequent}
    rest = tuple(name for name in found if name not in blocks)
    if rest:
        blocks[OTHER] = rest
    if len(blocks) < 2:
        return {}
    return {name: rows_with(facts, "service", members) for name, members in blocks.items()}
