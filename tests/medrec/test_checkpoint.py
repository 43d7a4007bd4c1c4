"""Checkpoints: round trip, damage, and an optimiser that goes on as if nothing had happened."""

import pytest
import torch
from torch import nn

from medrec.checkpoint import (
    Progress,
    load_checkpoint,
    optimiser_tensors,
    restore_optimiser,
    save_checkpoint,
)
from medrec.errors import CheckpointError

PROGRESS = Progress("abc", 3, 2, ({"epoch": 1.0, "loss": 0.5}, {"epoch": 2.0, "loss": 0.1}), 1.5)
GROUPS = {
    "model": {"a.weight": torch.arange(6.0).reshape(2, 3).T, "scalar": torch.tensor(1.5)},
    "best": {"a.weight": torch.zeros(2), "flag/odd": torch.tensor([True, False])},
}


def test_round_trip(tmp_path):
    path = tmp_path / "deep" / "checkpoint"
    save_checkpoint(path, PROGRESS, GROUPS)
    progress, groups = load_checkpoint(path, "abc")
    assert progress == PROGRESS
    assert groups.keys() == GROUPS.keys()
    for group, members in GROUPS.items():
        assert groups[group].keys() == members.keys()
        for name, tensor in members.items():
            assert torch.equal(groups[group][name], tensor)
            assert groups[group][name].dtype == tensor.dtype


def test_only_the_last_one_is_left(tmp_path):
    path = tmp_path / "checkpoint"
    save_checkpoint(path, PROGRESS, GROUPS)
    save_checkpoint(path, Progress("abc", 4, 4, (), 2.0), {"model": {"a": torch.ones(1)}})
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]
    progress, groups = load_checkpoint(path, "abc")
    assert (progress.epoch, list(groups)) == (4, ["model"])


def test_another_trials_is_refused(tmp_path):
    save_checkpoint(tmp_path / "checkpoint", PROGRESS, GROUPS)
    with pytest.raises(CheckpointError, match="belongs to trial abc, not xyz"):
        load_checkpoint(tmp_path / "checkpoint", "xyz")


@pytest.mark.parametrize("size", [0, 4, 8, 60, -1])
def test_a_cut_file_is_refused(tmp_path, size):
    path = tmp_path / "checkpoint"
    save_checkpoint(path, PROGRESS, GROUPS)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match="checkpoint is damaged"):
        load_checkpoint(path, "abc")


def test_a_safetensors_file_without_progress_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "plain")
    with pytest.raises(CheckpointError, match="plain is damaged"):
        load_checkpoint(tmp_path / "plain", "abc")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(tmp_path / "none", "abc")


def start():
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    return model, torch.optim.Adam(model.parameters(), lr=0.1, weight_decay=0.01, fused=True)


def step(model, optimiser, number):
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(number))
    optimiser.zero_grad()
    model(x).square().mean().backward()
    optimiser.step()


def test_a_restored_optimiser_goes_on_the_same(tmp_path):
    model, optimiser = start()
    for number in range(3):
        step(model, optimiser, number)
    groups = {"model": model.state_dict(), "optimiser": optimiser_tensors(optimiser)}
    save_checkpoint(tmp_path / "checkpoint", PROGRESS, groups)
    _, groups = load_checkpoint(tmp_path / "checkpoint", "abc")
    other, restored = start()
    other.load_state_dict(groups["model"])
    restore_optimiser(restored, groups["optimiser"])
    for number in range(3, 6):
        step(model, optimiser, number)
        step(other, restored, number)
    assert torch.equal(model.weight, other.weight)
    assert torch.equal(model.bias, other.bias)
