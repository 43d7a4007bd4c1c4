"""The README is run: its commands exist, its study plans, its example model passes as a model."""

import re
import shlex
from pathlib import Path

import click
import pytest
import torch
import yaml

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
from sweeps.study import load_study, shipped

DOCS = Path(__file__).parents[1] / "docs"
README = (Path(__file__).parents[1] / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def _commands() -> list[str]:
    pages = "\n".join(path.read_text() for path in sorted(DOCS.glob("*.md")))
    further = re.findall(r"```(?:console|bash)?\n(.*?)```", pages, flags=re.DOTALL)
    lines = "\n".join([*_blocks("console"), *further]).splitlines()
    return sorted({re.split(r"\s{2,}#|\s#", line.removeprefix("$ "))[0].strip() for line in lines
                   if line.removeprefix("$ ").startswith("medsweep ")})  # fmt: skip


def _resolved(words: list[str]) -> click.Command:
    """The command that the words lead to, its options not counted."""
    found: click.Command = cli.medsweep
    context = click.Context(found)
    for word in words:
        if not isinstance(found, click.Group):
            break
        inner = found.get_command(context, word)
        assert inner is not None, f"there is no command {word}"
        found, context = inner, click.Context(inner, parent=context)
    return found


def _options(command: click.Command) -> set[str]:
    return {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {"--help"}


@pytest.mark.parametrize("command", _commands())
def test_command_exists_with_these_options(command: str):
    words = shlex.split(command)[1:]
    used = {word for word in words if word.startswith("--")}
    assert not used - _options(_resolved(words))


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_options_in_the_docs_exist(page: Path):
    data = ["prepare " + name for name in plugins.names("medrec.datasets")]
    commands = [_resolved(["data", *line.split()]) for line in (*data, "knowledge", "export")]
    commands += [_resolved([name]) for name in cli.medsweep.list_commands(None)]
    commands += [_resolved(["export", name]) for name in ("best", "results")]
    commands += [_resolved(["cluster", name]) for name in ("render", "check")]
    known = set().union(*map(_options, commands))
    used = set(re.findall(r"`(?:[^`]* )?(--[a-z0-9]+(?:-[a-z0-9]+)*)(?=[ `])", page.read_text()))
    assert used or "--" not in page.read_text()
    assert not used - known


def test_every_model_has_a_row_and_every_study_is_told_of():
    pages = "\n".join(path.read_text() for path in DOCS.glob("*.md"))
    for model in plugins.models():
        title = plugins.load_model(model).title
        assert f"| `{model}` |" in pages or title in pages
    for study in shipped():
        assert f"`{study}`" in pages + README or f"run {study}" in pages + README


def test_make_targets_exist():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z-]+)", README)):
        assert f"\n{target}:" in makefile, target


def test_study_of_the_readme_plans(tmp_path: Path):
    study = _blocks("yaml")[0]
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


def test_grid_published_and_scales_of_the_readme_plan(tmp_path: Path):
    study, more = (yaml.safe_load(block) for block in _blocks("yaml"))
    path = tmp_path / "second.yaml"
    path.write_text(yaml.safe_dump({**study, **more, "reference": "kindmed-heads-4"}))
    loaded = load_study(str(path), ("scale=small",))
    plan = make_plan(loaded, study_data(loaded, tmp_path))
    names = ["kindmed-heads-1", "kindmed-heads-4", "kindmed-heads-16"]
    assert [arm.name for arm in plan.record.arms] == names
    assert plan.record.cohort.counts["patients"] == 300
    assert {spec.training.epochs for spec in plan.trials.values()} == {3}
    assert plan.record.published[0].number == "Table V"


@pytest.mark.parametrize(
    ("package", "row"),
    [
        ("medrec.models", "models"),
        ("medrec.generation", "generators"),
        ("medrec.hierarchy", "hierarchies"),
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
