import numpy as np
import pytest

from medrec.demographics import AGE_BINS, AGE_EDGES, GROUPS, age_bin, group_of
from tests.medrec.datasets.mimic3_files import rows_of
from tests.shared_data import shared_data


def test_seventeen_bins_of_five_years():
    assert len(AGE_BINS) == 17
    assert tuple(range(15, 91, 5)) == AGE_EDGES
    assert (AGE_BINS[0], AGE_BINS[1], AGE_BINS[-2], AGE_BINS[-1]) == (
        *("<15", "15-19"),
        *("85-89", "90+"),
    )


def test_every_age_is_in_the_bin_that_its_name_says():
    ages = np.arange(-1, 121, dtype=np.int16)
    for age, place in zip(ages.tolist(), age_bin(ages).tolist(), strict=True):
        if age < 0:
            assert place == -1
            continue
        name = AGE_BINS[place]
        low, high = {"<15": (0, 14), "90+": (90, 120)}.get(name) or map(int, name.split("-"))
        assert low <= age <= high


@pytest.mark.parametrize(
    ("race", "group"),
    [
        ("WHITE", "white"),
        ("white - russian", "white"),
        ("PORTUGUESE", "white"),
        ("Caucasian", "white"),
        ("BLACK/AFRICAN AMERICAN", "black"),
        ("African American", "black"),
        ("ASIAN - CHINESE", "asian"),
        ("HISPANIC OR LATINO", "hispanic"),
        ("HISPANIC/LATINO - CUBAN", "hispanic"),
        ("SOUTH AMERICAN", "hispanic"),
        ("AMERICAN INDIAN/ALASKA NATIVE", "native"),
        ("AMERICAN INDIAN/ALASKA NATIVE FEDERALLY RECOGNIZED TRIBE", "native"),
        ("Native American", "native"),
        ("NATIVE HAWAIIAN OR OTHER PACIFIC ISLANDER", "native"),
        ("MULTI RACE ETHNICITY", "other"),
        ("MIDDLE EASTERN", "other"),
        ("OTHER", "other"),
        ("Other/Unknown", "unknown"),
        ("UNKNOWN/NOT SPECIFIED", "unknown"),
        ("UNABLE TO OBTAIN", "unknown"),
        ("PATIENT DECLINED TO ANSWER", "unknown"),
        (" ? ", "unknown"),
        ("", "unknown"),
    ],
)
def test_groups(race, group):
    assert group_of(race) == group
    assert group in GROUPS


@pytest.mark.parametrize(
    ("parts", "heading"),
    [
        (("mimic-iii-demo", "ADMISSIONS.csv"), "ethnicity"),
        (("mimic-iv-demo", "hosp", "admissions.csv.gz"), "race"),
        (("eicu-demo", "patient.csv.gz"), "ethnicity"),
    ],
)
def test_no_group_of_the_demos_is_taken_for_another(parts, heading):
    """By words anywhere in the text, where the code looks at its start."""
    words = {"WHITE": "white", "BLACK": "black", "ASIAN": "asian", "HISPANIC": "hispanic"}
    for race in {row[heading] for row in rows_of(shared_data(*parts))}:
        for word, group in words.items():
            if word in race.upper().replace("CAUCASIAN", "WHITE"):
                assert group_of(race) == group, race
