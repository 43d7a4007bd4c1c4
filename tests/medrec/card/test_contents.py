"""What a card says: its numbers counted again by plain loops."""

import re
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from medrec import presets
from medrec.card.contents import ddi_pairs
from medrec.card.pages import pages
from medrec.card.words import masked
from medrec.cohort import KINDS
from medrec.knowledge import tables
from tests.medrec.card.reading import described, rows, values
from tests.medrec.small import VISITS, VOCABULARY, lists_of, small_cohort, to_codes


@pytest.mark.usefixtures("undrawn")
def test_counts():
    cohort = small_cohort()
    found = values(pages(cohort)["card.md"], "Counts")
    lists = {kind: lists_of(cohort, kind) for kind in KINDS}
    without = sum(not codes for codes in lists["procedures"])
    assert without > 0
    assert found["patients"] == "24"
    assert found["visits"] == "63"
    assert found["different procedures"] == "6"
    assert found["visits without procedures"] == f"{100 * without / 63:.1f}%"
    spread = {row[0]: row[1:] for row in rows(pages(cohort)["card.md"], "Counts")}
    assert spread["visits per patient"] == ["2.62", "2.5", "5"]  # 63 / 24; 1 1 2 2 3 3 4 5
    drugs = sorted(map(len, lists["medications"]))
    mean = f"{sum(drugs) / 63:.2f}"
    assert spread["medications per visit"] == [mean, str(drugs[31]), str(drugs[-1])]
    own = [int(VISITS[p]) for p in range(24) if cohort.split[p] == 2]
    assert spread["test"] == [str(len(own)), "25.0%", str(sum(own))]


@pytest.mark.usefixtures("undrawn")
def test_published_counts_stand_beside_ours(monkeypatch):
    printed = {"patients": 6350.0, "visits_per_patient": 2.37, "most_visits": 5.0}
    known = {("safedrug", "mimic3"): ("A README", printed)}
    monkeypatch.setattr(presets, "published_counts", lambda *key: known[key])
    text = pages(described(dataset="mimic3", options={"preset": "safedrug"}))["card.md"]
    assert "A README" in text
    assert "cannot match" in text
    assert rows(text, "Published counts") == [
        ["what", "published", "here", "difference"],
        ["patients", "6,350", "24", "\u22126,326 (\u221299.6%)"],
        ["visits per patient", "2.37", "2.62", "+0.25 (+10.8%)"],
        ["most visits", "5", "5", "0 (+0.0%)"],
    ]


@pytest.mark.usefixtures("undrawn")
def test_a_preset_that_printed_no_counts():
    text = pages(described(dataset="mimic4", options={"preset": "bh3"}))["card.md"]
    assert "bh3 printed no counts for mimic4" in text
    text = pages(described(dataset="mimic4", options={"preset": None}))["card.md"]
    assert "Published counts" not in text


@pytest.mark.usefixtures("undrawn")
def test_what_was_left_out_stands_in_order_with_its_zeros():
    dropped = {"z rows": 12345, "nothing": 0, "a rows": 3}
    text = pages(described(dropped=dropped))
    assert rows(text["card.md"], "Left out")[1:] == [
        ["z rows", "12,345"], ["nothing", "0"], ["a rows", "3"],
    ]  # fmt: skip
    grey = re.findall(r'<tr class="faint"><th scope="row">([^<]*)', text["card.html"])
    assert grey == ["nothing"]


@pytest.mark.parametrize("turn", [1, -1])
@pytest.mark.usefixtures("undrawn")
def test_mapping_shares_are_of_the_whole_that_a_name_begins_with(turn):
    """In any order: a cohort that was read from disk has its counts in that of their names."""
    mapped = {
        "prescriptions rows": 400,
        "prescriptions rows with an NDC": 300,
        "prescriptions rows with an NDC known": 100,
        "diagnoses rows of ICD-10": 7,
        "diagnoses rows of ICD-9": 5,
        "empty": 0,
        "empty of all": 0,
    }
    text = pages(described(mapped=dict(list(mapped.items())[::turn])))["card.md"]
    found = {row[0]: row[1:] for row in rows(text, "Code mapping")}
    assert found["prescriptions rows"] == ["400", ""]
    assert found["prescriptions rows with an NDC"] == ["300", "75.0%"]
    assert found["prescriptions rows with an NDC known"] == ["100", "25.0%"]
    assert found["diagnoses rows of ICD-9"] == ["5", ""]
    assert found["empty of all"] == ["0", ""]


@pytest.mark.usefixtures("undrawn")
def test_not_mapped_lists_the_thirty_of_most_rows():
    names = {f"drug {i:02d}": 10 + i // 2 for i in range(40)}
    text = pages(described(unmapped={"names": names, "NDC": {}}))["card.md"]
    found = rows(text, "Not mapped")[1:]
    expected = sorted(names, key=lambda name: (-names[name], name))[:30]
    assert found == [[name, str(names[name])] for name in expected]
    assert found[0] == ["drug 38", "29"]  # of equal ones the earlier name
    assert "names: 40 entries, 780 rows; the first 30" in text
    assert "NDC" not in text
    assert "Free text of fewer than ten rows is left out of the record" in text
    assert "codes are listed, those of 1 to 4 rows without their number" in text


@pytest.mark.usefixtures("undrawn")
def test_codes_of_few_rows_are_listed_without_their_number():
    codes = {"Z9999": 1, "4019": 5, "E8889": 4, "I10": 1234, "V707": 2}
    text = pages(described(unmapped={"ICD-9 diagnoses without an ICD-10 code": codes}))
    found = rows(text["card.md"], "Not mapped")[1:]
    assert found == [
        ["I10", "1,234"], ["4019", "5"], ["E8889", "<5"], ["V707", "<5"], ["Z9999", "<5"],
    ]  # fmt: skip
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", text["card.html"].split("Not mapped")[-1])
    assert not {"1", "2", "4"} & set(cells)


@pytest.mark.parametrize(
    ("patients", "text"), [(0, "0"), (1, "<5"), (4, "<5"), (5, "5"), (46332, "46,332")]
)
def test_masked(patients, text):
    assert masked(patients) == text


def by_hand(cohort, category):
    """Patients and visits of each category, counted visit by visit."""
    owners, visits = {}, {}
    row = 0
    for patient, count in enumerate(cohort.visits):
        for _ in range(count):
            name = category(patient, row)
            owners.setdefault(name, set()).add(patient)
            visits[name] = visits.get(name, 0) + 1
            row += 1
    return {name: (len(owners[name]), visits[name]) for name in owners}


def bin_of(age):
    if age < 0:
        return "unknown"
    if age < 15:
        return "<15"
    return "90+" if age >= 90 else f"{age // 5 * 5}-{age // 5 * 5 + 4}"


@pytest.mark.usefixtures("undrawn")
def test_demographics_with_few_patients_masked():
    cohort = small_cohort()
    group = np.zeros(24, np.int8)
    group[3] = 1  # one patient, of five visits
    age = cohort.age.copy()
    age[:20] = -1
    age[20:23] = 95
    cohort = replace(cohort, group=group, groups=("unknown", "white"), age=age)
    found = {row[0]: row[1:] for row in rows(pages(cohort)["card.md"], "Demographics")}
    counted = {
        **by_hand(cohort, lambda patient, row: "FM"[patient % 2]),
        **by_hand(cohort, lambda patient, row: ("MED", "SURG")[row % 2]),
        **by_hand(cohort, lambda patient, row: bin_of(int(age[row]))),
        "white": (1, 5),
    }
    del counted["unknown"]  # a group and an age; the latter is looked at below
    for name, (patients, visits) in counted.items():
        if patients < 5:
            assert found[name] == MASKED
        else:
            assert found[name] == [
                str(patients), f"{100 * patients / 24:.1f}%", str(visits),
            ]  # fmt: skip
    assert counted["90+"][0] < 5 <= counted["50-54"][0]
    table = rows(pages(cohort)["card.md"], "Demographics")
    # Of the groups one is masked, so that 24 - 23 would tell it; of the ages several are.
    assert sum(n < 5 for name, (n, _) in counted.items() if name[0].isdigit()) > 1
    assert [row[1:] for row in table if row[0] == "unknown"] == [
        HIDDEN, ["8", "33.3%", "20"],
    ]  # fmt: skip
    assert "20-24" not in found  # no visit at all


MASKED, HIDDEN = ["<5", "\u2013", "\u2013"], ["\u2013"] * 3


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([1, 9, 14], [MASKED, HIDDEN, ["14", "58.3%"]]),  # the next smallest, not the next row
        ([1, 14, 9], [MASKED, ["14", "58.3%"], HIDDEN]),
        ([14, 9, 1], [["14", "58.3%"], HIDDEN, MASKED]),
        ([4, 3, 17], [MASKED, MASKED, ["17", "70.8%"]]),  # two hide each other already
        ([5, 5, 14], [["5", "20.8%"], ["5", "20.8%"], ["14", "58.3%"]]),
        ([4, 0, 20], [MASKED, HIDDEN]),  # who has no patient has no row
        ([0, 0, 24], [["24", "100.0%"]]),
        ([4, 10, 10], [MASKED, HIDDEN, ["10", "41.7%"]]),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_one_masked_row_hides_the_next_smallest(sizes, expected):
    names = ("asian", "black", "white")
    group = np.repeat(np.arange(3), sizes).astype(np.int8)
    cohort = replace(small_cohort(), group=group, groups=names)
    text = pages(cohort)
    found = [row for row in rows(text["card.md"], "Demographics") if row[0] in names]
    assert [row[0] for row in found] == [n for n, size in zip(names, sizes, strict=True) if size]
    visits = {n: int(VISITS[group == i].sum()) for i, n in enumerate(names)}
    assert [row[1:] for row in found] == [
        cells if len(cells) == 3 else [*cells, str(visits[name])]
        for (name, *_), cells in zip(found, expected, strict=True)
    ]


@pytest.mark.usefixtures("undrawn")
def test_ddi_rate_is_that_of_a_plain_loop():
    cohort = small_cohort()
    names = VOCABULARY["medications"]
    known = set(tables.read_interactions("embedded"))
    interacting = pairs = 0
    for codes in lists_of(cohort, "medications"):
        for a, b in combinations(codes, 2):
            pairs += 1
            interacting += (names[a], names[b]) in known
    different = sum(pair in known for pair in combinations(names, 2))
    assert 0 < interacting < pairs
    assert ddi_pairs(cohort) == (interacting, pairs, different)
    found = values(pages(cohort)["card.md"], "Drug interactions")
    assert found["DDI rate of the prescriptions"] == f"{interacting / pairs:.4f}"
    assert found["different pairs that interact"] == f"{different} of 45"


def test_ddi_pairs_of_a_table_of_ones_own(tmp_path):
    (tmp_path / "pairs.csv").write_text("A02B,A10A\nC03C,Z99Z\n")
    cohort = small_cohort()
    both = sum({0, 1} <= set(codes) for codes in lists_of(cohort, "medications"))
    interacting, _, different = ddi_pairs(cohort, str(tmp_path / "pairs.csv"))
    assert (interacting, different) == (both, 1)


@pytest.mark.usefixtures("undrawn")
def test_most_frequent_codes():
    cohort = small_cohort()
    text = pages(cohort)["card.md"]
    found = {row[0]: row[1:] for row in rows(text, "Most frequent codes")}
    owner = np.repeat(np.arange(24), VISITS).tolist()
    few = 0
    for kind in KINDS:
        lists = lists_of(cohort, kind)
        having = [
            [p for p, codes in zip(owner, lists, strict=True) if i in codes]
            for i in range(len(VOCABULARY[kind]))
        ]
        order = sorted(range(len(having)), key=lambda i: (-len(having[i]), i))
        listed = [name for name in found if name in VOCABULARY[kind]]
        assert listed == [VOCABULARY[kind][i] for i in order]
        for name, patients in zip(VOCABULARY[kind], having, strict=True):
            enough = len(set(patients)) >= 5
            few += not enough
            share = f"{100 * len(patients) / 63:.1f}%" if enough else "\u2013"
            assert found[name][-2:] == [str(len(set(patients))) if enough else "<5", share]
    assert few == 1
    assert found["A10A"][0] == tables.titles()["A10A"] == "insulins"


@pytest.mark.usefixtures("undrawn")
def test_only_the_fifteen_most_frequent_and_no_share_of_few_patients():
    names = tuple(f"9:{i:03d}" for i in range(40))
    lists = [[0] if row > 2 else list(range(40)) for row in range(63)]  # the rest: two patients
    cohort = small_cohort()
    changed = replace(
        cohort,
        vocabulary={**cohort.vocabulary, "diagnoses": names},
        codes={**cohort.codes, "diagnoses": to_codes(lists)},
    )
    text = pages(changed)["card.md"]
    found = [row for row in rows(text, "Most frequent codes") if row[0].startswith("9:0")]
    assert found[0] == ["9:000", "24", "100.0%"]
    assert found[1:] == [[f"9:{i:03d}", "<5", "\u2013"] for i in range(1, 15)]
    assert "diagnoses: 15 of 40" in text


@pytest.mark.usefixtures("undrawn")
def test_options_and_inputs():
    options = {
        "split_seed": 0,
        "fractions": [0.5, 0.25, 0.25],
        "top": None,
        "filled": True,
        "require": ["diagnoses", "medications"],
        "service": "",
        "ndc": "/home/someone/secret/ndc.csv",
        "atc": "C:\\Users\\someone\\atc.csv",
        "house": "~someone/more/x.csv",
        "relative": "tables/ndc.csv",
    }
    digest = "0123456789abcdef" * 4
    made = pages(described(options=options, inputs={"a.csv.gz": digest}))
    assert values(made["card.md"], "Options") == {
        "what": "value",
        "split_seed": "0",
        "fractions": "0.5, 0.25, 0.25",
        "top": "none",
        "filled": "true",
        "require": "diagnoses, medications",
        "service": '""',
        "ndc": "ndc.csv",
        "atc": "atc.csv",
        "house": "x.csv",
        "relative": "tables/ndc.csv",
    }
    assert values(made["card.md"], "Inputs")["a.csv.gz"] == digest[:16]
    assert digest not in made["card.md"]
    assert digest in made["card.html"]
    assert "someone" not in "".join(made.values())
