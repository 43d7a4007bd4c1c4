"""The command line: every refusal is one message and a non-zero exit code."""

import json
import os
import subprocess
import sys

import click
import pytest

from sweeps.cli import main, medsweep
from tests.sweeps import tiny
from tests.sweeps.fabricate import fabricate


def refused(capsys, *arguments) -> tuple[int, str]:
    """Runs a command that must fail; returns exit code and message."""
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    found = capsys.readouterr()
    assert caught.value.code not in (0, None)
    assert found.err.strip()
    assert "Traceback" not in found.err + found.out
    return caught.value.code, " ".join(found.err.split())


def answered(capsys, *arguments) -> str:
    main([str(a) for a in arguments])
    return capsys.readouterr().out


@pytest.fixture
def results(tmp_path):
    fabricate(tmp_path / "results")
    return tmp_path / "results"


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["plan", "demmo"], "Did you mean 'demo'?"),
        (["plan", "no/such.yaml"], "no/such.yaml"),
        (["plan", "demo", "--set", "seeds"], "field=value"),
        (["plan", "demo", "--set", "sedes=[1]"], "Did you mean 'seeds'?"),
        (["plan", "demo", "--set", "training.epochs=-1"], "-1"),
        (["plan", "demo", "--set", "cohort=nowhere"], "'nowhere'"),
        (["run", "demo"], "--out"),
        (["run", "demo", "--out", "x", "--executor", "slurm"], "'slurm'"),
        (["run", "demo", "--out", "x", "--cpus", "0"], "--cpus"),
        (["run", "demmo", "--out", "x"], "Did you mean 'demo'?"),
        (["status", "missing"], "missing holds no study"),
        (["tables", "missing"], "missing holds no study"),
        (["report", "missing"], "missing holds no study"),
        (["monitor", "missing"], "no tensorboard folder"),
        (["tables", "missing", "--format", "nonsense"], "md, csv, tex, html"),
        (["tables", "missing", "--format", ","], "md, csv, tex, html"),
        (["list", "modles"], "modles"),
        (["data", "prepare", "synthetc", "--out", "x"], "Did you mean 'synthetic'?"),
        (["data", "prepare", "synthetic"], "--out"),
        (["data", "prepare", "mimic4", "--out", "x"], "--source"),
        (["data", "prepare", "synthetic", "--out", "x", "--patients", "many"], "'many'"),
        (["data", "prepare", "synthetic", "--out", "x", "--patients", "3"], "patients"),
        (["data", "prepare", "synthetic", "--out", "x", "--split", "by_hand"], "by_hand"),
        (["data", "prepare", "synthetic", "--out", "x", "--fractions", "[,0.1"], "fractions"),
        (["data", "prepare", "synthetic", "--out", "x", "--fractions", "1,1,1"], "fractions"),
        (["data", "prepare", "synthetic", "--out", "x", "--colour", "red"], "--colour"),
        (["data", "prepare", "mimic4", "--source", "nowhere", "--out", "x"], "nowhere"),
        (["nonsense"], "nonsense"),
        (["--nonsense"], "--nonsense"),
    ],
    ids=lambda v: " ".join(v)[:60] if isinstance(v, list) else "",
)
def test_bad_input_is_refused_with_a_message(capsys, tmp_path, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    assert named in refused(capsys, *arguments)[1]
    assert list(tmp_path.iterdir()) == []  # and nothing was written


def test_preparing_into_a_folder_that_holds_something_else_is_refused(capsys, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    message = refused(capsys, "data", "prepare", "synthetic", "--out", tmp_path)[1]
    assert "Choose another --out" in message
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_preparing_into_a_file_is_refused(capsys, tmp_path):
    (tmp_path / "x").write_text("mine")
    refused(capsys, "data", "prepare", "synthetic", "--out", tmp_path / "x")
    assert (tmp_path / "x").read_text() == "mine"


def test_tables_of_a_damaged_trial_name_the_file_and_do_without_it(capsys, results):
    path = next((results / "trials").glob("*/predictions.parquet"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    main(["tables", str(results)])
    told = capsys.readouterr()
    assert str(path) in " ".join(told.err.split())
    assert "medsweep run" in told.err
    assert "baselines.md" in told.out
    assert "counts as missing" in (results / "report.html").read_text()


def test_a_study_file_that_was_changed_is_refused(capsys, results):
    (results / "study.json").write_text('{"schema_version": 99}')
    for command in ("status", "tables", "report"):
        assert "study.json" in refused(capsys, command, results)[1]


def test_a_damaged_predictions_file_is_healed_by_run(capsys, tmp_path):
    study = tiny.write_study(tmp_path)
    out = tmp_path / "out"
    answered(capsys, "run", study, "--out", out, "--executor", "inline")
    tables = tiny.table_bytes(out)
    path = next((out / "trials").glob("*/predictions.parquet"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(capsys, "tables", out)
    text = answered(capsys, "run", study, "--out", out, "--executor", "inline")
    assert "is damaged" in text
    assert tiny.table_bytes(out) == tables


def test_a_run_with_failures_makes_tables_and_exits_with_an_error(capsys, tmp_path):
    arms = [*tiny.STUDY["arms"], {"model": "gamenet", "name": "hot", "training": {}}]
    arms[2]["config"] = {"dim": 8, "margin_weight": 1e38, "bce_weight": 1e38}
    study = tiny.write_study(tmp_path, arms=arms)
    code, message = refused(
        capsys, "run", study, "--out", tmp_path / "out", "--executor", "inline", "--no-check"
    )
    assert code == 1
    assert "hot seed 0: The loss of epoch 1 is" in message
    assert (tmp_path / "out/tables/baselines.md").is_file()
    state = json.loads(answered(capsys, "status", tmp_path / "out", "--json"))
    assert len(state["failures"]) == 2


def test_when_every_trial_fails_the_message_names_them(capsys, tmp_path):
    config = {"dim": 8, "margin_weight": 1e38, "bce_weight": 1e38}
    study = tiny.write_study(tmp_path, arms=[{"model": "gamenet", "config": config}])
    options = ("--executor", "inline", "--no-check")
    message = refused(capsys, "run", study, "--out", tmp_path / "o", *options)[1]
    assert "gamenet seed 0: The loss of epoch 1 is" in message


@pytest.mark.parametrize("title", ["X [/red]", "[bold", "a [b] c"])
def test_a_title_is_shown_as_it_is_written(capsys, tmp_path, title):
    study = tiny.write_study(tmp_path, arms=[{"model": "gamenet", "title": title}])
    assert title in answered(capsys, "plan", study)


# ------------------------------------------------------------------ help and lists


def commands(group: click.Group, path: tuple[str, ...] = ()):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize("path", [(), *commands(medsweep)], ids=" ".join)
def test_every_commands_help_shows_an_example_of_itself(capsys, path):
    text = " ".join(answered(capsys, *path, "--help").split())
    if path == ("data",):
        return  # its one sub-command shows it
    assert "Example" in text
    assert f"medsweep {' '.join(path)}".strip() in text.split("Example")[1]


@pytest.mark.parametrize(
    ("kind", "member"),
    [
        ("models", "gamenet"),
        ("datasets", "synthetic"),
        ("metrics", "jaccard"),
        ("tables", "baselines"),
        ("studies", "demo"),
        ("ablations", "gamenet: no_memory (without memory)"),
    ],
)
def test_a_list_is_a_name_a_line(capsys, kind, member):
    lines = answered(capsys, "list", kind).splitlines()
    assert member in lines
    assert len(set(lines)) == len(lines)
    assert member in answered(capsys, "list")


@pytest.mark.parametrize("arguments", [["list"], ["list", "models"], ["--help"], ["run", "-h"]])
def test_lists_and_help_import_neither_torch_nor_ray(arguments):
    code = (
        "import sys\nfrom sweeps.cli import main\nmain(sys.argv[1:])\n"
        "sys.exit(bool({'torch', 'ray'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code, *arguments], check=False).returncode == 0


def test_tables_and_status_import_neither_torch_nor_ray(results):
    code = (
        "import sys\nfrom sweeps.cli import main\nmain(sys.argv[1:])\n"
        "sys.exit(bool({'torch', 'ray'} & set(sys.modules)))"
    )
    for arguments in (["status", results], ["tables", results, "--format", "md"]):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        assert subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode == 0


# ------------------------------------------------------------------ machine-readable output


def test_a_plan_as_json_holds_study_and_trials(capsys, tmp_path):
    study = tiny.write_study(tmp_path, searches=[tiny.SEARCH])
    found = json.loads(answered(capsys, "plan", study, "--json"))
    asked = {key for arm in found["study"]["arms"] for key in arm["trials"].values()}
    assert asked == {trial["key"] for trial in found["trials"]}
    assert found["study"]["searches"][0]["name"] == "tune"


def test_a_status_as_json_says_what_is_stored(capsys, results):
    found = json.loads(answered(capsys, "status", results, "--json"))
    assert found["name"] == "fabricated"
    assert {arm["name"]: arm["stored"] for arm in found["arms"]}["full"] == 3


def test_tables_print_the_files_they_wrote(capsys, results):
    lines = answered(capsys, "tables", results, "--format", "md,csv").splitlines()
    assert lines
    assert all(os.path.isfile(line) for line in lines)  # noqa: PTH113  printed text
    assert {line.rpartition(".")[2] for line in lines} == {"md", "csv"}


def test_the_commands_of_the_process_itself_exit_as_promised(tmp_path):
    found = tiny.medsweep("status", tmp_path)
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.startswith("medsweep: ")
    assert tiny.medsweep("--version").returncode == 0
