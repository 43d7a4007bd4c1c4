"""How many trials fit, against packing them one by one."""

import itertools

import pytest

from cluster.errors import PlacementError
from cluster.nodes import Node
from cluster.placement import GIB, Demand, concurrent, slots


def node(cpus=8.0, gpus=0.0, memory=64.0) -> Node:
    return Node("a", True, cpus, 0.0, gpus, 0.0, memory)


def packed(demand: Demand, there: Node) -> int:
    """One worker after another onto the first GPU with room, as Ray does."""
    cpus, memory, placed = there.cpus, there.memory, 0
    free = [1.0] * int(there.gpus)
    while cpus >= demand.cpus - 1e-9 and memory >= demand.memory - 1e-9:
        if demand.gpus:
            room = [place for place, share in enumerate(free) if share >= demand.gpus - 1e-9]
            if not room:
                break
            free[room[0]] -= demand.gpus
        cpus, memory, placed = cpus - demand.cpus, memory - demand.memory, placed + 1
    return placed


@pytest.mark.parametrize(
    ("cpus", "gpus", "memory"),
    list(itertools.product((0.25, 1, 3), (0, 0.1, 0.3, 0.4, 0.5, 1), (0, 7, 64))),
)
def test_as_many_fit_as_are_packed_one_by_one(cpus, gpus, memory):
    demand = Demand(cpus, gpus, memory)
    for there in (node(), node(16, 3), node(2, 1, 8), node(1, 8, 500)):
        assert slots(demand, there) == packed(demand, there)


def test_workers_of_one_trial_may_lie_on_several_machines():
    two = [node(cpus=3), node(cpus=3)]
    assert concurrent(Demand(cpus=1, workers=2), two) == 3
    assert concurrent(Demand(cpus=1, workers=4), two) == 1
    assert concurrent(Demand(cpus=2, workers=2), two) == 1


@pytest.mark.parametrize(
    ("demand", "field", "says"),
    [
        (Demand(gpus=1), "resources.gpus", "0 GPUs"),
        (Demand(cpus=9), "resources.cpus", "no machine has more than 8"),
        (Demand(memory=65), "resources.memory", "128.0 GiB on 2 machines"),
        (Demand(cpus=8, workers=3), "resources.workers", "which hold 2"),
    ],
)
def test_what_can_never_start_is_refused_with_what_is_lacking(demand, field, says):
    with pytest.raises(PlacementError, match=f"field {field}:.*{says}"):
        concurrent(demand, [node(), node()])


def test_a_machine_must_have_all_of_it_at_once():
    apart = [node(cpus=1, gpus=1), node(cpus=8, gpus=0)]
    with pytest.raises(PlacementError, match="no machine has all of it"):
        concurrent(Demand(cpus=4, gpus=1), apart)


def test_a_cluster_without_machines_holds_nothing():
    with pytest.raises(PlacementError, match="0 CPUs"):
        concurrent(Demand(), [])


def test_what_ray_is_to_reserve_names_only_what_is_asked_for():
    assert Demand(cpus=2).bundle() == {"CPU": 2}
    assert Demand(1, 0.5, 2).bundle() == {"CPU": 1, "GPU": 0.5, "memory": 2 * GIB}
