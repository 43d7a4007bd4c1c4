"""The README is run: its commands exist, its study plans, its example model passes as a model."""

import re
import shlex
from pathlib import Path

import pytest
import torch

import medrec.models
from medrec import plugins, trial
from medrec.batching import ResidentCohort
from medrec.datasets._base import prepare
from medrec.datasets.synthetic import SyntheticOptions
from medrec.knowledge.base import load_knowledge
from medrec.models._base import Step
from medrec.spec import CohortRef, KnowledgeSpec, TrialSpec
from sweeps import cli
from sweeps.cohorts import study_data
from sweeps.plan import make_plan
from sweeps.study import load_study

README = (Path(__file__).parents[1] / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def _commands() -> list[str]:
    lines = "\n".join(_blocks("console")).splitlines()
    return sorted({re.split(r"\s{2,}#|\s#", line.removeprefix("$ "))[0].strip() for line in lines
                   if line.removeprefix("$ ").startswith("medsweep ")})  # fmt: skip


@pytest.mark.parametrize("command", _commands())
def test_command_exists_with_these_options(command: str, capsys: pytest.CaptureFixture[str]):
    words = shlex.split(command)[1:]
    path, options = [], {w for w in words if w.startswith("--")}
    for word in words:
        if path and word not in ("data", "prepare", "mimic4"):
            break
        path.append(word)
    cli.main([*path, "--help"])
    shown = capsys.readouterr().out
    assert not {option for option in options if option not in shown}


def test_make_targets_exist():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z-]+)", README)):
        assert f"\n{target}:" in makefile, target


def test_study_of_the_readme_plans(tmp_path: Path):
    (study,) = _blocks("yaml")
    path = tmp_path / "first.yaml"
    path.write_text(study)
    loaded = load_study(str(path), ("seeds=[0,1,2,3,4]",))
    plan = make_plan(loaded, study_data(loaded, tmp_path))
    assert [arm.name for arm in plan.record.arms] == [
        "copy_previous",
        "gamenet",
        "gamenet-no_history",
    ]
    assert len(plan.trials) == 1 + 5 + 5


@pytest.mark.parametrize(
    ("package", "row"),
    [
        ("medrec.models", "models"),
        ("medrec.datasets", "data sets"),
        ("medrec.metrics", "metrics"),
        ("sweeps.tables", "tables"),
    ],
)
def test_lists_are_fresh(package: str, row: str):
    names = ", ".join(f"`{name}`" for name in plugins.names(package))
    assert f"| {row} | {names} |" in README


def test_counts_of_embedded_tables_are_fresh():
    from medrec.knowledge import tables

    folder = Path(tables.__file__).parent / "embedded"
    classes, drugs, pairs = (
        len((folder / f"{name}.csv").read_text().splitlines()) - 1
        for name in ("atc3", "drugs", "ddi")
    )
    expected = f"{classes} ATC level-3 classes, {drugs} drug structures, {pairs} interacting pairs"
    assert expected in README


def test_example_model_is_found_and_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (code,) = _blocks("python")
    (tmp_path / "linear.py").write_text(code)
    monkeypatch.setattr(
        medrec.models, "__path__", [*medrec.models.__path__, str(tmp_path)], raising=True
    )
    assert "linear" in plugins.names("medrec.models")
    cohort = prepare("synthetic", None, SyntheticOptions(patients=40))
    spec = TrialSpec(
        model="linear",
        config={"variant": "paper", "dropout": 0.0},
        cohort=CohortRef(path="", fingerprint=""),
        seed=0,
    )
    model = trial.build(spec, load_knowledge(cohort, KnowledgeSpec()))
    assert isinstance(model, torch.nn.Module)
    batch = ResidentCohort(cohort).gather(torch.arange(40))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    losses = []
    for _ in range(5):
        loss = model.loss(model(batch), batch, Step(0, 0.5))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
