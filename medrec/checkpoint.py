"""Epoch checkpoints and stored weights: safetensors with a JSON head. Nothing is unpickled.

A checkpoint holds weights, best weights, optimiser state and history. It needs no random state:
every epoch draws from generators seeded by (seed, epoch), so an epoch can be repeated exactly.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from medrec.errors import CheckpointError


@dataclass(frozen=True)
class Progress:
    """Where training stands after an epoch.

    Attributes:
        key: the trial's key.
        epoch: epochs completed.
        best_epoch: epoch (from 1) of the best validation value; 0 before the first.
        history: a row an epoch.
        seconds: training time so far, over all attempts.
    """

    key: str
    epoch: int
    best_epoch: int
    history: tuple[dict[str, float], ...]
    seconds: float


def save_checkpoint(path: Path, progress: Progress, groups: dict[str, dict[str, Tensor]]) -> None:
    """Writes a checkpoint whole: aside, then renamed over the last one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{group}/{name}": tensor.detach().contiguous().clone()
        for group, members in groups.items()
        for name, tensor in members.items()
    }
    aside = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        aside.write_bytes(save(tensors, metadata={"progress": json.dumps(asdict(progress))}))
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def load_checkpoint(path: Path, key: str) -> tuple[Progress, dict[str, dict[str, Tensor]]]:
    """Returns what `save_checkpoint` wrote for the trial `key`.

    Raises:
        CheckpointError: the file is damaged or belongs to another trial.
    """
    try:
        with safe_open(path, framework="pt") as file:
            head = json.loads(file.metadata()["progress"])
            progress = Progress(**{**head, "history": tuple(head["history"])})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from error
    if progress.key != key:
        raise CheckpointError(f"{path} belongs to trial {progress.key}, not {key}.")
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        group, member = name.split("/", 1)
        groups.setdefault(group, {})[member] = tensor
    return progress, groups


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Returns the optimiser's state as flat tensors."""
    state: dict[int, dict[str, Any]] = optimiser.state_dict()["state"]
    return {
        f"{index}/{name}": torch.as_tensor(value)
        for index, entries in state.items()
        for name, value in entries.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Takes back what `optimiser_tensors` returned; settings stay as they are."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, entry = name.split("/")
        state.setdefault(int(index), {})[entry] = tensor
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})
