"""States of torch's generators as tensors: what an epoch that was broken off goes on from."""

from collections.abc import Mapping

import torch
from jaxtyping import UInt8
from torch import Tensor

from medrec.distributed import Group

State = UInt8[Tensor, " bytes"]


def random_states(group: Group, device: torch.device) -> dict[str, State]:
    """Returns the state of each worker by its rank; every worker must call this.

    Args:
        group: the workers.
        device: on which they train; a GPU has a generator of its own, beside that of the CPU.
    """
    own = _state(device)
    table = own.new_zeros(group.workers, len(own))
    table[group.rank] = own
    return {str(rank): state for rank, state in enumerate(group.sum(table))}


def take_up(states: Mapping[str, State], group: Group, device: torch.device) -> bool:
    """Puts this worker's state back; returns false, and does nothing, where they do not fit.

    They fit as many workers, on the same kind of device, as they were taken from.
    """
    now = _state(device)
    state = states.get(str(group.rank))
    if len(states) != group.workers or state is None or state.shape != now.shape:
        return False
    of_cpu = len(torch.get_rng_state())
    torch.set_rng_state(state[:of_cpu])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[of_cpu:], device)
    return True


def _state(device: torch.device) -> State:
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return torch.cat(states)
