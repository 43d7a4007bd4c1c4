"""Checkpoints and stored weights: safetensors with a JSON head. Nothing is unpickled.

A checkpoint holds weights, best weights, optimiser state and history. After an epoch it needs no
random state: every epoch draws from generators seeded by (seed, epoch), so an epoch can be
repeated exactly. One written within an epoch holds the states of the generators and the loss so
far as well.
"""

import hashlib
import json
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from medrec.errors import CheckpointError


@dataclass(frozen=True)
class Progress:
    """Where training stands.

    Attributes:
        key: the trial's key.
        epoch: epochs completed.
        best_epoch: epoch (from 1) of the best validation value; 0 before the first.
        history: a row an epoch.
        seconds: training time so far, over all attempts and with that of an unfinished epoch.
        step: steps taken of the next epoch; 0 between epochs.
    """

    key: str
    epoch: int
    best_epoch: int
    history: tuple[dict[str, float], ...]
    seconds: float
    step: int = 0


def save_checkpoint(path: Path, progress: Progress, groups: dict[str, dict[str, Tensor]]) -> None:
    """Writes a checkpoint whole: aside, then renamed over the last one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{group}/{name}": tensor.detach().contiguous().clone()
        for group, members in groups.items()
        for name, tensor in members.items()
    }
    head = json.dumps(asdict(progress))
    metadata = {"progress": head, "sha256": _digest(head, tensors)}
    # Not the process id: on two machines that share a folder it may be the same.
    aside = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        aside.write_bytes(save(tensors, metadata=metadata))
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def load_checkpoint(path: Path, key: str) -> tuple[Progress, dict[str, dict[str, Tensor]]]:
    """Returns what `save_checkpoint` wrote for the trial `key`.

    Raises:
        CheckpointError: the file is damaged or belongs to another trial.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from error
    return read_checkpoint(content, key, path)


def read_checkpoint(
    content: bytes, key: str, path: Path | str = "The checkpoint"
) -> tuple[Progress, dict[str, dict[str, Tensor]]]:
    """Returns what `save_checkpoint` wrote for the trial `key`, from the content of its file.

    Args:
        content: of the file.
        key: of the trial.
        path: the file's name in messages.

    Raises:
        CheckpointError: the file is damaged or belongs to another trial.
    """
    try:
        tensors = load(content)
        metadata = _head(content)["__metadata__"]
        if metadata["sha256"] != _digest(metadata["progress"], tensors):
            raise CheckpointError(f"{path} is damaged: its content is not what its sha256 says.")
        head = json.loads(metadata["progress"])
        progress = Progress(**{**head, "history": tuple(head["history"])})
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from error
    if progress.key != key:
        raise CheckpointError(f"{path} belongs to trial {progress.key}, not {key}.")
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        group, member = name.split("/", 1)
        groups.setdefault(group, {})[member] = tensor
    return progress, groups


def _digest(head: str, tensors: dict[str, Tensor]) -> str:
    """Returns the sha256 of a checkpoint's content; safetensors itself checks none."""
    found = hashlib.sha256(head.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _head(content: bytes) -> dict[str, Any]:
    """Returns the JSON head of a safetensors file: 8 bytes of its length come first."""
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


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
