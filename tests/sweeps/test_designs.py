"""Designs of an ablation: the arms that each kind asks for, and how they come to be trials."""

import json
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import yaml

from medrec import plugins
from sweeps.designs.fractional_factorial import generators, levels, words
from sweeps.errors import StudyError
from sweeps.plan import make_plan
from sweeps.specs import ablations_of
from sweeps.statistics.factorial import effect_contrasts
from sweeps.study import ArmRequest, Study, load_study, parse
from tests.sweeps import tiny

KNOWN = ("a", "b", "c", "d", "e", "f", "g")
PARTS = {
    "wide": {"title": "with dim 16", "changes": {"dim": 16}},
    "wider": {"title": "with dim 32", "changes": {"dim": 32}},
    "slow": {"title": "trained slowly", "changes": {"training.learning_rate": 1.0e-4}},
    "molerec_controller": {
        "title": "with MoleRec's controller",
        "changes": {"controller": "molerec"},
    },
}
GAMENET = {"model": "gamenet", "config": {"dim": 8}, "parts": PARTS}
TUNING = {"trials": 3, "space": {"dropout": {}, "training.learning_rate": {}}}


def cells(kind: str, **fields) -> list[str]:
    """The changed parts of each run, as a sorted word: 'ab'."""
    plugin = plugins.load("sweeps.designs", kind, "DESIGN")
    request = parse(plugin.request, {"kind": kind, **fields}, "study", "here")
    return ["".join(sorted(run.parts)) for run in plugin.lay_out(request, KNOWN, "here").runs]


def plan(*designs, **entry):
    arm = {**GAMENET, "designs": list(designs), **entry}
    arms = {"arms": [arm], "reference": entry.get("name", "gamenet")}
    return make_plan(Study.model_validate({**tiny.STUDY, **arms}), tiny.data())


def spec_of(made, name: str):
    arm = next(arm for arm in made.record.arms if arm.name == name)
    return made.trials[arm.trials["0"]]


# ------------------------------------------------------------------ kinds


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("leave_one_out", {"parts": ["c", "a"]}, ["c", "a"]),
        ("leave_one_out", {}, list(KNOWN)),
        ("add_one_in", {"parts": ["a", "b", "c"]}, ["abc", "bc", "ac", "ab"]),
        ("add_one_in", {"parts": ["a", "b"]}, ["ab", "b", "a"]),
        ("cumulative", {"order": ["c", "a", "b"]}, ["c", "ac", "abc"]),
        ("groups", {"groups": {"x": ["a", "b"], "y": ["b", "c"], "c": ["c"]}}, ["ab", "bc", "c"]),
        ("pairwise", {"parts": ["a", "b", "c"]}, ["a", "b", "c", "ab", "ac", "bc"]),
        ("factorial", {"parts": ["a", "b", "c"]}, ["a", "b", "c", "ab", "ac", "bc", "abc"]),
        # c is changed where an odd number of a and b are.
        ("fractional_factorial", {"parts": ["a", "b", "c"], "resolution": 3}, ["ab", "ac", "bc"]),
    ],
)
def test_each_kind_asks_for_these_arms(kind, fields, expected):
    assert cells(kind, **fields) == expected


@pytest.mark.parametrize(
    ("kind", "fields", "told"),
    [
        ("add_one_in", {"parts": ["a"]}, "at least 2 parts, but got 1"),
        ("pairwise", {"parts": ["a"]}, "at least 2"),
        ("factorial", {"parts": ["a"]}, "at least 2"),
        ("factorial", {}, "parts: is missing"),
        ("fractional_factorial", {"parts": ["a", "b"]}, "at least 3"),
        ("fractional_factorial", {"parts": ["a", "b", "c"], "resolution": 6}, "resolution"),
        ("fractional_factorial", {"parts": ["a", "b", "c"]}, "all 8 combinations"),
        ("cumulative", {"order": []}, "at least 1"),
        ("groups", {"groups": {}}, "groups: needs at least 1"),
        ("groups", {"groups": {"a": ["a", "b"]}}, "a part is called so"),
        ("groups", {"groups": {"x": ["a", "b"], "y": ["b", "a"]}}, "has the parts of 'x'"),
    ],
)
def test_what_is_no_such_design_is_refused(kind, fields, told):
    with pytest.raises(StudyError, match=re.escape(told)):
        cells(kind, **fields)


# ------------------------------------------------------------------ fractions of a factorial


@pytest.mark.parametrize(
    ("parts", "resolution", "ruled", "shortest"),
    [
        # As printed in tables of two-level designs (Box, Hunter and Hunter).
        (3, 3, 1, 3),  # 2^(3-1) III
        (4, 4, 1, 4),  # 2^(4-1) IV
        (5, 5, 1, 5),  # 2^(5-1) V
        (5, 3, 2, 3),  # 2^(5-2) III
        (6, 3, 3, 3),  # 2^(6-3) III
        (6, 4, 2, 4),  # 2^(6-2) IV
        (7, 3, 4, 3),  # 2^(7-4) III
        (7, 4, 3, 4),  # 2^(7-3) IV
        (8, 4, 4, 4),  # 2^(8-4) IV
        (8, 5, 2, 5),  # 2^(8-2) V
        (9, 4, 4, 4),  # 2^(9-4) IV
        (10, 5, 3, 5),  # 2^(10-3) V
    ],
)
def test_fractions_have_the_runs_and_resolution_of_known_designs(
    parts, resolution, ruled, shortest
):
    found = generators(parts, resolution)
    assert len(found) == ruled
    runs = np.array(levels(parts, found))
    assert runs.shape == (2 ** (parts - ruled), parts)
    assert not runs[0].any()  # the full model
    assert len(np.unique(runs, axis=0)) == len(runs)
    # The resolution, from the runs alone: the least number of columns that always sum to even.
    even = [
        size
        for size in range(1, parts + 1)
        for columns in combinations(range(parts), size)
        if not (runs[:, columns].sum(axis=1) % 2).any()
    ]
    assert min(even) == shortest
    assert sorted(even) == [len(word) for word in words(found, parts - ruled)]


def test_no_fraction_with_fewer_runs_has_the_resolution():
    """By trying every choice of generators, duplicates and all, for six parts."""
    for resolution, ruled in ((3, 3), (4, 2), (5, 1)):
        free = 6 - ruled - 1
        masks = [*range(1, 2**free)]
        for choice in combinations([*masks, *masks], ruled + 1):
            rows = [m | 1 << free + i for i, m in enumerate(choice)]
            sums = [0]
            for row in rows:
                sums += [row ^ other for other in sums]
            assert min(s.bit_count() for s in sums[1:]) < resolution
        assert len(generators(6, resolution)) == ruled


def test_of_designs_of_one_size_that_with_fewest_short_words_is_taken():
    # 2^(7-2) of resolution IV: one word of four parts at best (minimum aberration).
    assert [len(word) for word in words(generators(7, 4), 4)].count(4) == 7  # 2^(7-3)
    assert [len(word) for word in words(generators(6, 4), 4)] == [4, 4, 4]
    assert [len(word) for word in words(generators(5, 3), 3)] == [3, 3, 4]


def notes(parts: str, resolution: int) -> tuple[str, ...]:
    kind = plugins.load("sweeps.designs", "fractional_factorial", "DESIGN")
    content = {"kind": "fractional_factorial", "parts": list(parts), "resolution": resolution}
    return kind.lay_out(parse(kind.request, content, "", ""), KNOWN, "here").notes


def test_notes_name_generators_and_aliases_with_their_signs():
    # c = a + b mod 2: where a and b are coded -1 and 1, c is -ab.
    assert notes("abc", 3) == (
        "2^(3-1) design of resolution III: 4 of 8 combinations.",
        "c is changed where an odd number of a, b are.",
        "Effects that cannot be told apart (× is an interaction, + and - how they mix): "
        "a - b × c; b - a × c; c - a × b.",
    )
    assert notes("abcd", 4)[-1].split(": ")[1] == (
        "a + b × c × d; b + a × c × d; c + a × b × d; d + a × b × c; "
        "a × b + c × d; a × c + b × d; a × d + b × c."
    )
    told = notes("abcde", 5)[-1]
    assert "a - b × c × d × e;" in told
    assert "a × b - c × d × e;" in told


def test_the_aliases_in_notes_are_those_of_the_runs():
    """An effect's signs over the runs are those of each alias, times the sign that is told."""
    for parts, resolution in (("abcdefg", 3), ("abcdefg", 4), ("abcdef", 4), ("abcde", 3)):
        runs = np.array(levels(len(parts), generators(len(parts), resolution)))
        signs = {part: 2 * runs[:, i] - 1 for i, part in enumerate(parts)}
        lines = notes(parts, resolution)[-1].split(": ")[1].rstrip(".").split("; ")
        for line in lines:
            effect, *aliases = re.split(r" (?=[+-] )", line)
            own = np.prod([signs[part] for part in effect.split(" × ")], axis=0)
            assert aliases
            for alias in aliases:
                other = np.prod([signs[part] for part in alias[2:].split(" × ")], axis=0)
                assert (own == (1 if alias[0] == "+" else -1) * other).all()


# ------------------------------------------------------------------ arms


def test_an_arm_is_the_full_model_overridden_by_the_changes_of_its_parts():
    made = plan({"kind": "cumulative", "order": ["no_history", "slow", "wide"]})
    full = spec_of(made, "gamenet")
    last = spec_of(made, "gamenet-no_history.slow.wide")
    assert last.config == full.config | {"history": False, "dim": 16}
    assert last.training.model_dump() == full.training.model_dump() | {"learning_rate": 1e-4}
    rest = {"config", "training"}
    assert last.model_dump(exclude=rest) == full.model_dump(exclude=rest)


def test_another_models_controller_brings_its_own_gain():
    made = plan({"kind": "leave_one_out", "parts": ["molerec_controller"]})
    whole, swapped = (spec_of(made, n) for n in ("gamenet", "gamenet-molerec_controller"))
    changed = {k for k, v in swapped.config.items() if v != whole.config[k]}
    assert changed == {"controller", "ddi_gain"}


def test_arms_say_parts_design_and_full_model():
    made = plan({"kind": "pairwise", "parts": ["no_memory", "wide"]})
    assert [
        (a.name, a.title, a.parts, a.ablation, a.full, a.design, a.family)
        for a in made.record.arms
    ] == [
        ("gamenet", "GAMENet", (), None, None, None, "gamenet"),
        ("gamenet-no_memory", "GAMENet without memory", ("no_memory",), "no_memory", "gamenet",
         "gamenet-pairwise", "gamenet"),
        ("gamenet-wide", "GAMENet with dim 16", ("wide",), "wide", "gamenet", "gamenet-pairwise",
         "gamenet"),
        ("gamenet-no_memory.wide", "GAMENet without memory, with dim 16", ("no_memory", "wide"),
         "no_memory+wide", "gamenet", "gamenet-pairwise", "gamenet"),
    ]  # fmt: skip
    assert len(made.trials) == 4 * 2


def test_the_record_has_the_levels_of_every_arm_of_a_design():
    made = plan(
        {"kind": "factorial", "parts": ["no_memory", "wide"], "name": "both"},
        {"kind": "leave_one_out", "parts": ["slow"]},
    )
    one, other = made.record.designs
    assert (one.name, one.kind, one.full) == ("both", "factorial", "gamenet")
    assert one.settings == "fixed"
    assert one.title == "Full factorial: GAMENet"
    assert one.factors == ("no_memory", "wide")
    assert one.levels == {
        "gamenet": (0, 0),
        "gamenet-no_memory": (1, 0),
        "gamenet-wide": (0, 1),
        "gamenet-no_memory.wide": (1, 1),
    }
    assert other.name == "gamenet-leave_one_out"
    assert other.levels == {"gamenet": (0,), "gamenet-slow": (1,)}


def test_arms_that_several_designs_share_exist_once():
    made = plan(
        {"kind": "groups", "groups": {"both": ["no_memory", "wide"]}},
        {"kind": "cumulative", "order": ["wide", "no_memory"]},
        {"kind": "cumulative", "order": ["no_memory", "slow"]},
        ablations=["no_memory"],
    )
    assert [(a.name, a.design) for a in made.record.arms] == [
        ("gamenet", None),
        ("gamenet-no_memory", "gamenet-ablations"),
        ("gamenet-both", "gamenet-groups"),
        ("gamenet-wide", "gamenet-cumulative"),
        ("gamenet-no_memory.slow", "gamenet-cumulative-2"),
    ]
    levels_of = {design.name: design.levels for design in made.record.designs}
    assert levels_of["gamenet-cumulative"] == {
        "gamenet": (0, 0), "gamenet-wide": (1, 0), "gamenet-both": (1, 1),
    }  # fmt: skip
    assert list(levels_of["gamenet-cumulative-2"]) == [
        "gamenet", "gamenet-no_memory", "gamenet-no_memory.slow",
    ]  # fmt: skip
    both = next(a for a in made.record.arms if a.name == "gamenet-both")
    assert both.title == "GAMENet, both: without memory, with dim 16"


def test_ablations_are_what_they_were_and_a_design_of_their_own():
    made = plan(ablations=["no_memory", "no_history"], parts={})
    same = plan({"kind": "leave_one_out", "parts": ["no_memory", "no_history"]}, parts={})
    assert [a.name for a in made.record.arms] == [a.name for a in same.record.arms]
    assert made.trials == same.trials
    (design,) = made.record.designs
    assert (design.name, design.kind) == ("gamenet-ablations", "leave_one_out")


def test_a_long_name_is_cut_and_told_apart_by_a_digest():
    long = {"q" + "x" * 60: PARTS["wide"], "other" + "y" * 60: PARTS["slow"]}
    made = plan({"kind": "pairwise", "parts": sorted(long)}, parts=long)
    names = [arm.name for arm in made.record.arms]
    assert len(set(names)) == 4
    assert max(map(len, names)) == 80
    assert re.fullmatch(r"gamenet-otheryy.*-[0-9a-f]{8}", names[-1])
    assert names == [arm.name for arm in plan(
        {"kind": "pairwise", "parts": sorted(long)}, parts=long).record.arms]  # fmt: skip


def test_knowledge_of_a_part_is_another_source_for_its_arms_alone(tmp_path):
    drugs = tiny.data().cohort.vocabulary["medications"]
    table = tmp_path / "pairs.csv"
    table.write_text(f"a,b\n{drugs[0]},{drugs[1]}\n")
    parts = {"few_pairs": {"title": "with few interactions",
                           "changes": {"knowledge.interactions": str(table)}}}  # fmt: skip
    made = plan({"kind": "factorial", "parts": ["few_pairs", "no_history"]}, parts=parts)
    full, other = spec_of(made, "gamenet"), spec_of(made, "gamenet-few_pairs")
    assert other.knowledge.interactions == str(table)
    assert other.knowledge.fingerprint != full.knowledge.fingerprint
    assert other.config == full.config
    assert spec_of(made, "gamenet-no_history").knowledge == full.knowledge
    assert spec_of(made, "gamenet-few_pairs.no_history").knowledge == other.knowledge
    assert made.record.ddi.fingerprint == full.knowledge.fingerprint  # tests are by this graph
    assert "few_pairs" in made.record.designs[0].notes[0]
    assert str(tmp_path) not in made.record.without_places().model_dump_json()


# ------------------------------------------------------------------ refusals


def test_pairwise_leaves_out_a_pair_that_cannot_be_combined_and_says_so():
    made = plan({"kind": "pairwise", "parts": ["wide", "wider", "no_memory"]})
    assert [a.name for a in made.record.arms][4:] == [
        "gamenet-no_memory.wide", "gamenet-no_memory.wider",
    ]  # fmt: skip
    assert made.record.designs[0].notes == (
        "Left out: wide and wider cannot be changed together: they set dim to 16 and 32.",
    )


def test_pairwise_leaves_out_a_pair_that_the_model_refuses():
    parts = ["no_global_match", "no_local_match"]  # SafeDrug needs one of them
    arm = {"model": "safedrug", "designs": [{"kind": "pairwise", "parts": parts}]}
    content = {**tiny.STUDY, "arms": [arm], "reference": "safedrug"}
    made = make_plan(Study.model_validate(content), tiny.data())
    assert [a.name for a in made.record.arms] == ["safedrug", *(f"safedrug-{p}" for p in parts)]
    assert made.record.designs[0].notes == (
        "Left out: no_global_match and no_local_match cannot be changed together: "
        "safedrug refuses such settings.",
    )


def test_arms_with_the_same_settings_are_named():
    made = plan({"kind": "pairwise", "parts": ["wide", "no_memory", "bare"]}, parts={
        **PARTS, "bare": {"title": "bare", "changes": {"memory": False, "dim": 16}}})  # fmt: skip
    told = [note for note in made.record.designs[0].notes if "has the settings of" in note]
    assert told == [
        "gamenet-no_memory.wide has the settings of gamenet-bare, and so its results.",
        "gamenet-bare.wide has the settings of gamenet-bare, and so its results.",
        "gamenet-bare.no_memory has the settings of gamenet-bare, and so its results.",
    ]


WRONG = [
    ({"kind": "factorial", "parts": ["wide", "wider"]}, {},
     ["arms.0.designs.0", "wide and wider", "dim to 16 and 32", "Leave one of them out"]),
    ({"kind": "cumulative", "order": ["wide", "wider"]}, {}, ["arms.0.designs.0", "dim"]),
    ({"kind": "groups", "groups": {"x": ["wide", "wider"]}}, {}, ["arms.0.designs.0", "dim"]),
    ({"kind": "factorail"}, {}, ["designs.0.kind", "Did you mean 'factorial'?"]),
    ({"parts": ["wide"]}, {}, ["arms.0.designs.0.kind: is missing"]),
    ({"kind": "leave_one_out", "parts": ["wid"]}, {}, ["designs.0.parts", "Did you mean 'wide'?"]),
    ({"kind": "leave_one_out", "parts": "every"}, {}, ["designs.0.parts", "'every'"]),
    ({"kind": "leave_one_out", "parts": ["same"]},
     {"parts": {"same": {"title": "with dim 8", "changes": {"dim": 8}}}},
     ["designs.0 (same)", "changes nothing", "gamenet has these settings already"]),
    ({"kind": "leave_one_out"}, {"config": {"memory": False}},
     ["designs.0 (no_memory)", "changes nothing"]),
    ({"kind": "leave_one_out"}, {"parts": {"no_memory": PARTS["wide"]}},
     ["arms.0.parts.no_memory", "declares an ablation of this name"]),
    ({"kind": "leave_one_out"}, {"parts": {"odd": {"title": "t", "changes": {"dimm": 3}}}},
     ["arms.0.parts.odd.changes.dimm", "Did you mean 'dim'?"]),
    ({"kind": "leave_one_out"}, {"parts": {"odd": {"title": "t", "changes": {}}}},
     ["arms.0.parts.odd.changes", "at least 1"]),
    ({"kind": "leave_one_out"}, {"parts": {"a.b": PARTS["wide"]}}, ["arms.0.parts", "a.b"]),
    ({"kind": "leave_one_out", "parts": ["odd"]},
     {"parts": {"odd": {"title": "t", "changes": {"knowledge.fingerprint": "0"}}}},
     ["arms.0.parts.odd.changes.knowledge.fingerprint", "no such setting"]),
    ({"kind": "leave_one_out", "parts": ["odd"]},
     {"parts": {"odd": {"title": "t", "changes": {"knowledge.bundle": "nowhere"}}}},
     ["designs.0 (odd).knowledge.bundle", "no folder nowhere"]),
    ({"kind": "leave_one_out", "parts": ["odd"]},
     {"parts": {"odd": {"title": "t", "changes": {"dim": -1}}}},
     ["arms.0.designs.0 (odd).config.dim", "-1"]),
    ({"kind": "leave_one_out"}, {"grid": {"dropout": [0.1]}}, ["arms.0.grid", "not both"]),
    ({"kind": "leave_one_out"}, {"settings": "retuned"}, ["arms.0.tuning", "is missing"]),
    ({"kind": "leave_one_out"}, {"tuning": TUNING}, ["arms.0.tuning", "settings: retuned"]),
    ({"kind": "leave_one_out"},
     {"settings": "retuned", "tuning": {**TUNING, "objective": ["jaccard", "ddi_rate"]}},
     ["arms.0.tuning.objective"]),
    ({"kind": "leave_one_out"},
     {"settings": "retuned", "tuning": {**TUNING, "space": {"dropuot": {}}}},
     ["arms.0.tuning.space.dropuot"]),
]  # fmt: skip


@pytest.mark.parametrize(("design", "entry", "named"), WRONG, ids=lambda v: str(v)[:40])
def test_a_wrong_design_is_named_with_value_and_remedy(tmp_path, design, entry, named):
    arm = {**GAMENET, "designs": [design], **entry}
    path = str(tiny.write_study(tmp_path, arms=[arm], reference="gamenet"))
    with pytest.raises(StudyError) as caught:
        make_plan(load_study(path), tiny.data())
    for part in named:
        assert part in str(caught.value), str(caught.value)


def test_two_designs_of_one_name_are_refused():
    design = {"kind": "leave_one_out", "parts": ["wide"], "name": "one"}
    with pytest.raises(StudyError, match=r"field designs: \['one'\] occur twice"):
        plan(design, design)


# ------------------------------------------------------------------ re-tuned arms


def retuned(*designs, **entry):
    return plan(*designs, settings="retuned", **{"tuning": TUNING, **entry})


def test_every_arm_of_a_re_tuned_design_has_a_search_of_the_same_budget_and_no_trials_yet():
    made = retuned({"kind": "leave_one_out", "parts": ["no_memory", "slow"]})
    assert made.trials == {}
    assert [(a.name, a.title, a.tuned_by, a.trials) for a in made.record.arms] == [
        ("gamenet", "GAMENet, re-tuned", "retune-gamenet", {}),
        ("gamenet-no_memory", "GAMENet without memory, re-tuned", "retune-gamenet-no_memory", {}),
        ("gamenet-slow", "GAMENet trained slowly, re-tuned", "retune-gamenet-slow", {}),
    ]
    assert all(arm.is_waiting for arm in made.record.arms)
    searches = {search.name: search for search in made.record.searches}
    assert list(searches) == [arm.tuned_by for arm in made.record.arms]
    assert {search.trials for search in searches.values()} == {3}
    assert searches["retune-gamenet-no_memory"].base.config["memory"] is False
    assert searches["retune-gamenet-no_memory"].base.config["dim"] == 8
    (design,) = made.record.designs
    assert design.settings == "retuned"
    assert "best of 3 trials" in design.notes[0]


def test_dimensions_that_an_arms_parts_set_are_not_searched():
    space = {"dropout": {}, "ddi_target": {}, "ddi_gain": {}, "training.learning_rate": {}}
    made = retuned(
        {"kind": "leave_one_out", "parts": ["slow", "no_ddi_loss", "molerec_controller"]},
        tuning={**TUNING, "space": space},
    )
    found = {s.name.removeprefix("retune-"): list(s.space) for s in made.record.searches}
    assert found == {
        "gamenet": list(space),
        "gamenet-slow": ["dropout", "ddi_target", "ddi_gain"],
        "gamenet-no_ddi_loss": ["dropout", "training.learning_rate"],  # a target of nothing
        "gamenet-molerec_controller": ["dropout", "ddi_target", "training.learning_rate"],
    }
    assert made.record.designs[0].notes[1:] == (
        "Not searched for gamenet-slow: training.learning_rate.",
        "Not searched for gamenet-no_ddi_loss: ddi_target, ddi_gain.",
        "Not searched for gamenet-molerec_controller: ddi_gain.",
    )


def test_a_record_of_re_tuned_arms_reads_back():
    made = retuned({"kind": "leave_one_out", "parts": ["slow"]})
    text = made.record.model_dump_json()
    assert type(made.record).model_validate_json(text) == made.record
    assert json.loads(text)["arms"][1]["tuned_by"] == "retune-gamenet-slow"


# ------------------------------------------------------------------ effects


def two_level(*runs: str) -> dict[str, tuple[int, ...]]:
    return {f"arm{i}": tuple(map(int, run)) for i, run in enumerate(runs)}


def test_effects_of_two_parts_by_hand():
    names, contrasts = effect_contrasts(two_level("00", "10", "01", "11"), ("p", "q"))
    assert names == ("p", "q", "p × q")
    np.testing.assert_array_equal(contrasts, [
        [-0.5, 0.5, -0.5, 0.5], [-0.5, -0.5, 0.5, 0.5], [0.5, -0.5, -0.5, 0.5],
    ])  # fmt: skip
    # p costs 3 where q is there, and 1 where it is gone: half the difference is 1.
    values = np.array([10.0, 7.0, 8.0, 7.0])
    np.testing.assert_allclose(contrasts @ values, [-2.0, -1.0, 1.0])


def test_effects_of_three_parts_by_hand():
    runs = ["000", "100", "010", "110", "001", "101", "011", "111"]
    values = np.array([60.0, 72, 54, 68, 52, 83, 45, 80])  # Box, Hunter and Hunter's pilot plant
    names, contrasts = effect_contrasts(two_level(*runs), ("T", "C", "K"))
    assert dict(zip(names, (contrasts @ values).tolist(), strict=True)) == {
        "T": 23.0, "C": -5.0, "K": 1.5, "T × C": 1.5, "T × K": 10.0, "C × K": 0.0,
    }  # fmt: skip
    names, contrasts = effect_contrasts(two_level(*runs), ("T", "C", "K"), interactions=False)
    assert names == ("T", "C", "K")
    np.testing.assert_allclose(contrasts @ values, [23.0, -5.0, 1.5])


@pytest.mark.parametrize(("parts", "resolution"), [(3, None), (4, None), (5, 5), (6, 4), (7, 3)])
def test_effects_are_twice_the_coefficients_of_a_least_squares_fit(parts, resolution):
    rng = np.random.default_rng(parts)
    runs = np.array(levels(parts, generators(parts, resolution) if resolution else ()))
    runs = rng.permutation(runs)
    values = rng.normal(size=len(runs))
    factors = tuple("abcdefg"[:parts])
    names, contrasts = effect_contrasts(
        {f"arm{i}": tuple(run) for i, run in enumerate(runs.tolist())}, factors
    )
    np.testing.assert_allclose(contrasts.sum(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(np.abs(contrasts), 2 / len(runs))
    signs = {factor: 2.0 * runs[:, i] - 1 for i, factor in enumerate(factors)}
    first = [name.split(" + ")[0].split(" × ") for name in names]  # of effects that are one
    columns = [np.ones(len(runs)), *(np.prod([signs[f] for f in each], axis=0) for each in first)]
    fit, *_ = np.linalg.lstsq(np.stack(columns, axis=1), values, rcond=None)
    np.testing.assert_allclose(contrasts @ values, 2 * fit[1:], atol=1e-12)


def test_effects_that_are_one_contrast_are_named_together():
    fraction = {str(i): run for i, run in enumerate(levels(4, generators(4, 4)))}
    assert effect_contrasts(fraction, tuple("abcd"))[0] == (
        "a", "b", "c", "d", "a × b + c × d", "a × c + b × d", "a × d + b × c",
    )  # fmt: skip
    third = {str(i): run for i, run in enumerate(levels(3, generators(3, 3)))}
    assert effect_contrasts(third, tuple("abc"))[0] == ("a", "b", "c")


@pytest.mark.parametrize(
    "runs",
    [
        ("00", "10", "01"),  # leave one out
        ("00", "10", "11"),  # cumulative
        ("00", "10", "01", "01"),  # a run twice
        ("00", "11"),  # two effects that are one
        ("00", "10"),  # a part that never changes
        ("00", "10", "01", "12"),  # a third level
    ],
)
def test_effects_of_what_is_no_factorial_design_are_refused(runs):
    with pytest.raises(ValueError, match="level" if "12" in runs else "cannot be told apart"):
        effect_contrasts(two_level(*runs), ("p", "q"))


# ------------------------------------------------------------------ docs/designs.md

PAGE = (Path(__file__).parents[2] / "docs/designs.md").read_text()


def laid_out(entry: dict) -> list[str]:
    """Lays out every design of an entry on KindMed's parts, and returns their kinds."""
    request = ArmRequest.model_validate(entry)
    known = [*ablations_of("kindmed"), *request.parts]
    for index, content in enumerate(request.designs):
        kind = plugins.load("sweeps.designs", content["kind"], "DESIGN")
        assert kind.lay_out(parse(kind.request, content, "", ""), known, str(index)).runs
    return [content["kind"] for content in request.designs]


def test_the_page_has_an_example_of_every_kind_and_all_can_be_laid_out():
    examples = [yaml.safe_load(text) for text in re.findall(r"`(\{kind: .*?\})` \|", PAGE)]
    found = laid_out({"model": "kindmed", "designs": examples})
    assert sorted(found) == plugins.names("sweeps.designs")
    for block in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL):
        study = yaml.safe_load(block)
        assert laid_out(study["arms"][0])
        assert study["reference"] in (study["arms"][0].get("name"), "kindmed")


def test_the_page_has_the_right_numbers_of_arms():
    for resolution in (3, 4, 5):
        row = next(line for line in PAGE.splitlines() if f"| resolution {resolution} |" in line)
        told = [cell.strip() for cell in row.strip("|").split("|")[1:]]
        found = [len(generators(parts, resolution)) for parts in range(3, 11)]
        assert told == [
            str(2 ** (parts - ruled)) if ruled else "–"
            for parts, ruled in zip(range(3, 11), found, strict=True)
        ]
