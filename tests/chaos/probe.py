"""Looks at a Ray cluster from a process of its own: `python -m tests.chaos.probe ADDRESS`.

Answers each line on its input with a line of JSON.
"""

import json
import logging
import sys
from collections import Counter

import ray
from ray.util.placement_group import placement_group_table


def main() -> None:
    """Answers until its input ends."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # Ray's own words
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)
    for _ in sys.stdin:
        nodes = [
            {"id": n["NodeID"], "alive": n["Alive"], "resources": n["Resources"]}
            for n in ray.nodes()
        ]
        groups = Counter(str(g["state"]) for g in placement_group_table().values())
        content = {
            "nodes": nodes,
            "total": ray.cluster_resources(),
            "available": ray.available_resources(),
            "groups": groups,
        }
        answers.write(json.dumps(content) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
