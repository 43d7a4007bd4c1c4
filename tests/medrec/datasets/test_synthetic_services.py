"""The services of synthetic visits, and the option that keeps some of them."""

from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from medrec.datasets._base import prepare
from medrec.datasets._conditions import read_conditions
from medrec.datasets._population import draw_population
from medrec.datasets._services import SERVICES, services
from medrec.datasets.synthetic import SyntheticOptions
from medrec.errors import InputError

CONDITIONS = read_conditions()
# sha256 of cohorts from before visits had services, with 1200 and 1500 patients
WITHOUT_SERVICES = {
    1200: "99f3758c97f5211bc8d140cf17b230ea2e7d16a10e70b051d0716bfdbb38c2fd",
    1500: "e2bd6b6bdf58fff033e91f66cd121bc96a424c2e364fddfd68af81e2152d4f39",
}


@cache
def cohort(**options):
    return prepare("synthetic", None, SyntheticOptions(**options))


def having(*names):
    """The service of a visit with these conditions."""
    one = draw_population(1, CONDITIONS, np.random.default_rng(0), visits=1)
    active = np.array([[c.name in names for c in CONDITIONS]])
    assert active.sum() == len(names)
    return services(replace(one, active=active), CONDITIONS)[0]


@pytest.mark.parametrize(
    ("names", "service"),
    [
        (("inpatient care",), "MED"),
        (("inpatient care", "surgical complication"), "SURG"),
        (("heart failure",), "CMED"),
        (("heart failure", "cardiac valve disease", "surgical complication"), "CSURG"),
        (("heart failure", "angina", "depression"), "CMED"),
        (("heart failure", "depression"), "PSYCH"),  # equally many: mental ones are rarer
        (("ischemic stroke", "epilepsy", "heart failure"), "NMED"),
        (("ischemic stroke", "surgical complication"), "NSURG"),
        (("solid malignancy", "surgical complication"), "OMED"),
        (("pneumonia", "sepsis", "heart failure"), "MED"),
    ],
)
def test_the_rule_by_hand(names, service):
    assert having(*names) == service


def test_every_service_has_visits_and_medicine_has_most():
    found = Counter(np.array(cohort().services)[cohort().service].tolist())
    assert set(found) == set(SERVICES)
    assert found.most_common(1)[0][0] == "MED"
    assert found["MED"] < 0.5 * len(cohort().age)
    for name in ("CMED", "SURG", "PSYCH", "NMED"):
        assert found[name] > 0.03 * len(cohort().age), name


@pytest.mark.parametrize("patients", WITHOUT_SERVICES)
def test_but_for_services_nothing_changed(patients):
    found = cohort(patients=patients)
    bare = replace(found, service=np.zeros_like(found.service), services=("unknown",))
    assert bare.fingerprint == WITHOUT_SERVICES[patients]


def test_visits_of_the_services_named_are_kept_with_their_codes():
    whole, some = cohort(), cohort(service=("cmed", "CSURG"))
    wanted = [i for i, name in enumerate(whole.services) if name in ("CMED", "CSURG")]
    rows = np.flatnonzero(np.isin(whole.service, wanted))
    assert some.services == ("CMED", "CSURG")
    assert len(some.age) == len(rows)
    assert some.provenance.dropped["admissions of other services"] == len(whole.age) - len(rows)
    for kind in whole.codes:
        names = np.array(whole.vocabulary[kind], dtype=object)
        kept = np.array(some.vocabulary[kind], dtype=object)
        assert (names[whole.codes[kind].take(rows).values] == kept[some.codes[kind].values]).all()
    owners = np.repeat(np.arange(whole.patients), whole.visits)[rows]
    assert some.visits.tolist() == list(Counter(owners.tolist()).values())


def test_an_unknown_service_is_refused_with_those_there_are():
    with pytest.raises(InputError, match=r"'HEART' of `service`; there are CMED, CSURG"):
        cohort(service=("HEART",))
