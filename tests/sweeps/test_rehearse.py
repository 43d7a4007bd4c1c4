"""What is wrong with an arm is told before anything runs; an ablation of nothing is refused."""

import json
import os

import pytest

from medrec import trial
from sweeps.cli import main
from sweeps.errors import StudyError
from sweeps.plan import Plan, make_plan
from sweeps.rehearse import FOLDER, known_seconds, rehearse_aside, rehearse_plan
from sweeps.run import run_study
from sweeps.store import ResultsStore
from sweeps.study import Study
from tests.sweeps import tiny

FULL = {"model": "gamenet", "config": {"dim": 8}, "ablations": ["no_memory"]}
# A target that no visit can miss: the DDI loss is never there to be taken away.
IDLE = {"model": "safedrug", "config": {"dim": 8, "ddi_target": 1.0},
        "ablations": ["no_ddi_loss"]}  # fmt: skip
HOT = {"model": "gamenet", "name": "hot", "config": {"margin_weight": 1e38, "bce_weight": 1e38}}


def study(*arms, **changes) -> Study:
    name = arms[0].get("name", arms[0]["model"])
    return Study.model_validate(
        {**tiny.STUDY, "arms": list(arms), "reference": name, "seeds": [0], **changes}
    )


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    tiny.data().cohort.save(folder)
    return folder


def plan(cohort, *arms) -> Plan:
    made = make_plan(study(*arms), tiny.data())
    for key, spec in made.trials.items():
        place = spec.cohort.model_copy(update={"path": str(cohort)})
        made.trials[key] = spec.model_copy(update={"cohort": place})
    return made


def test_an_ablation_is_told_by_the_parameters_it_takes(cohort, tmp_path):
    made = plan(cohort, FULL)
    sizes = []
    for spec in made.trials.values():
        _, knowledge = trial._load(spec.cohort, spec.knowledge, None)
        sizes.append(sum(p.numel() for p in trial.build(spec, knowledge).parameters()))
    checked = rehearse_plan(made, ResultsStore(tmp_path))
    fewer = f"{sizes[0] - sizes[1]:,}"
    assert checked.remarks == (f"gamenet-no_memory: {fewer} parameters fewer than gamenet",)
    assert set(checked.seconds) == set(made.trials)
    assert known_seconds(ResultsStore(tmp_path)) == checked.seconds


def test_an_ablation_that_takes_no_parameters_is_told_by_its_loss(cohort, tmp_path):
    full = {**FULL, "ablations": ["no_ddi_loss"]}
    checked = rehearse_plan(plan(cohort, full), ResultsStore(tmp_path))
    assert checked.remarks == ("gamenet-no_ddi_loss: the parameters of gamenet, another loss",)


def test_a_ddi_loss_that_acts_later_is_an_ablation_and_one_that_never_acts_is_none(
    cohort, tmp_path
):
    store = ResultsStore(tmp_path)
    later = {**IDLE, "config": {"dim": 8, "ddi_target": 0.3}}
    assert rehearse_plan(plan(cohort, later), store).remarks == (
        "safedrug-no_ddi_loss: the first step of safedrug, but not those after it",
    )
    with pytest.raises(StudyError, match="safedrug-no_ddi_loss does what safedrug does") as found:
        rehearse_plan(plan(cohort, IDLE), store)
    assert "--no-check" in str(found.value)


def test_every_arm_that_fails_is_named_at_once(cohort, tmp_path):
    with pytest.raises(StudyError) as found:
        rehearse_plan(plan(cohort, FULL, HOT, IDLE), ResultsStore(tmp_path))
    lines = str(found.value).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("field arms: hot cannot take its first step: The loss of the first")
    assert lines[1].startswith("field arms: safedrug-no_ddi_loss does what safedrug does")


def test_a_defect_of_a_model_is_told_with_its_place(cohort, tmp_path):
    made = plan(cohort, FULL)
    key, spec = next(iter(made.trials.items()))
    made.trials[key] = spec.model_copy(update={"config": {**spec.config, "dim": -3}})
    with pytest.raises(
        StudyError,
        match=r"gamenet cannot take its first step: ValidationError at \w+\.py:\d+: .*\ndim",
    ):
        rehearse_plan(made, ResultsStore(tmp_path))


def test_nothing_runs_and_the_study_is_not_written_when_an_arm_fails(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(StudyError, match="hot cannot take its first step"):
        run_study(tiny.study(tmp_path, arms=[*tiny.STUDY["arms"], HOT]), out, tiny.quiet(),
                  tiny.INLINE)  # fmt: skip
    assert not (out / "study.json").exists()
    assert ResultsStore(out).trial_keys() == []
    assert ResultsStore(out).failures() == {}


def stamps(root):
    folder = root / FOLDER
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}


def test_rehearsals_are_kept_and_broken_or_foreign_ones_are_made_again(cohort, tmp_path):
    made, store = plan(cohort, FULL), ResultsStore(tmp_path)
    first = rehearse_plan(made, store)
    before = stamps(tmp_path)
    assert rehearse_plan(made, store) == first
    assert stamps(tmp_path) == before
    for harm in (b"torn", b"[]", b'{"made_by": 3}', None):
        path = tmp_path / FOLDER / f"{next(iter(made.trials))}.json"
        note = json.loads(before[path.name][1])
        other = {**note, "made_by": {**note["made_by"], "code": "0" * 16}}
        os.utime(path, ns=(0, 0))
        path.write_bytes(harm or json.dumps(other).encode())
        assert rehearse_plan(made, store).remarks == first.remarks
        found = json.loads(path.read_bytes())
        assert found["made_by"] == note["made_by"]
        assert found["rehearsal"]["gradients"] == note["rehearsal"]["gradients"]


def test_an_arm_whose_trials_are_stored_takes_no_step(cohort, tmp_path):
    made, store = plan(cohort, FULL, HOT), ResultsStore(tmp_path)
    tiny.save(store, made.trials[made.record.arms[2].trials["0"]])
    rehearse_plan(made, store)  # the arm that would fail is stored
    tiny.save(store, made.trials[made.record.arms[0].trials["0"]])
    again = rehearse_plan(made, ResultsStore(tmp_path))
    assert len(again.remarks) == 1  # the full model's step is needed to compare with


def test_a_check_aside_writes_nothing_where_the_results_are(tmp_path):
    made = make_plan(study(FULL), tiny.data())
    checked = rehearse_aside(made, tiny.data(), ResultsStore(tmp_path / "out"))
    assert len(checked.remarks) == 1
    assert set(checked.seconds) == set(made.trials)
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_checks_plans_and_can_leave_the_check_out(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tiny.write_study(tmp_path, seeds=[0], arms=[FULL], training={"epochs": 1})
    main(["plan", str(path), "--check"])
    text = capsys.readouterr().out
    assert "parameters fewer than gamenet" in text
    assert "one trial after another" in text
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.yaml"]
    path = tiny.write_study(tmp_path, seeds=[0], arms=[IDLE], reference="safedrug")
    arguments = ["run", str(path), "--out", "out", "--executor", "inline", "--no-tables"]
    with pytest.raises(SystemExit):
        main(arguments)
    assert "does what safedrug does" in capsys.readouterr().err
    main([*arguments, "--no-check", "--set", "training.epochs=1"])
    assert len(ResultsStore(tmp_path / "out").trial_keys()) == 2
