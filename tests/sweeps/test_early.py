"""From which epoch on a search may stop trials: correlations against SciPy, the rule by hand."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from sweeps.errors import StudyError
from sweeps.plan import make_plan
from sweeps.statistics.early import best_so_far, first_epoch, grace_epochs, rank_correlations
from sweeps.statistics.results import gather
from sweeps.store import ResultsStore
from sweeps.study import Study
from sweeps.tables import early
from tests.sweeps import tiny
from tests.sweeps.fabricate import fabricate


def test_correlations_are_spearmans():
    curves = np.random.default_rng(0).random((9, 6)).round(1)  # with ties
    found = rank_correlations(curves)
    expected = [spearmanr(curves[:, epoch], curves[:, -1]).statistic for epoch in range(6)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_where_all_are_level_nothing_is_told_apart():
    curves = np.array([[0.1, 0.2], [0.1, 0.3], [0.1, 0.4]])
    assert rank_correlations(curves).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        ([[1, 2, 3], [1, 2, 3], [1, 2, 3]], 1),
        ([[3, 2, 1], [1, 2, 3], [1, 2, 3]], 2),
        ([[1, 2, 3], [3, 2, 1], [1, 2, 3]], 3),  # good at first, then not: the last bad one counts
        ([[3, 2, 1], [3, 2, 1], [1, 2, 3]], 3),
    ],
)
def test_the_earliest_stop_is_after_the_last_bad_epoch(orders, expected):
    assert first_epoch(np.array(orders, dtype=float).T) == expected


def test_one_configuration_may_not_carry_the_order_alone():
    """The last one is far below from the start; the others turn round after the first epoch."""
    early = [3, 2, 1, 0]
    curves = np.array([early, [4, 5, 6, 0], [4, 5, 6, 0]], dtype=float).T
    several = np.concatenate([curves, np.array([[-9.0] * 3, [-8.0] * 3, [-7.0] * 3])])
    assert first_epoch(several) == 1
    assert grace_epochs(several) == max(
        first_epoch(np.delete(several, place, axis=0)) for place in range(len(several))
    )
    assert grace_epochs(several) == 2


def test_the_best_so_far_never_falls():
    assert best_so_far(np.array([[0.2, 0.1, 0.3]])).tolist() == [[0.2, 0.2, 0.3]]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A search of ten configurations; their order turns round after the second of six epochs."""
    root = tmp_path_factory.mktemp("early")
    fabricate(root, resamples=20)
    found = gather(ResultsStore(root))
    notes, histories = [], dict(found.histories)
    for number in range(10):
        key = f"{number:016x}"
        level = number / 100
        late = [0.3 + level] * 4
        histories[key] = {"jaccard": [0.2 - level, 0.2 - level, *late]}
        notes.append({"number": number, "key": key, "state": "complete", "values": [late[0]]})
    notes.append({"number": 10, "key": "f" * 16, "state": "pruned", "values": [0.9]})
    return replace(found, searches={**found.searches, "tune": notes}, histories=histories)


def test_the_table_tells_the_epoch_and_leaves_stopped_trials_out(results):
    (table,) = early.build(results)
    (row,) = table.rows  # the other search has no stored trial
    cells = dict(zip([column.key for column in table.columns], row.cells, strict=True))
    assert (cells["search"], cells["configurations"], cells["epochs"]) == ("tune", 10, 6)
    assert cells["rho_2"].estimate == pytest.approx(-1.0)
    assert cells["rho_3"].estimate == pytest.approx(1.0)
    assert cells["grace"] == 3


def test_too_few_configurations_say_nothing(results):
    few = {"tune": results.searches["tune"][:7], "pareto": []}
    assert early.build(replace(results, searches=few)) is None


def searched(**stopping):
    search = {**tiny.SEARCH, "early_stopping": stopping}
    content = {**tiny.STUDY, "searches": [search]}
    return make_plan(Study.model_validate(content), tiny.data()).record.searches[0]


def test_the_grace_period_is_the_models_own_unless_the_study_says_otherwise(monkeypatch):
    from search_spaces import gamenet

    own = {"grace_epochs": gamenet.GRACE_EPOCHS, "reduction": 3}
    assert searched().early_stopping == own
    assert searched(grace_epochs=2).early_stopping == {"grace_epochs": 2, "reduction": 3}
    monkeypatch.delattr(gamenet, "GRACE_EPOCHS")
    with pytest.raises(StudyError, match="has no GRACE_EPOCHS"):
        searched()
