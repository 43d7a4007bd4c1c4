"""Our search as a Ray Tune searcher. Ray's own OptunaSearch is not used; see docs/decisions."""

from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from sweeps.search import Row, Search


class StoreSearcher(Searcher):
    """Passes suggestions to Tune and outcomes back. What counts is in the store, not in Tune."""

    def __init__(self, search: Search, root: Path) -> None:
        super().__init__(metric=f"best_{search.plan.objectives[0]}", mode="max")
        self.search = search
        self.root = root
        self._numbers: dict[str, int] = {}
        self._rows: dict[str, list[Row]] = {}

    def suggest(self, trial_id: str) -> Any:
        """Returns the next trial's configuration, or that there is none left."""
        suggestion = self.search.suggest()
        if suggestion is None:
            return Searcher.FINISHED
        number, spec = suggestion
        self._numbers[trial_id] = number
        self._rows[trial_id] = []
        return {"spec": spec.model_dump_json(), "root": str(self.root)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keeps an epoch's metrics, for trials that are stopped early."""
        row = {k: v for k, v in result.items() if k.startswith("best_") or k == "epoch"}
        if "epoch" not in row:
            return
        rows = self._rows[trial_id]
        # A trial that resumed reports its earlier epochs again.
        del rows[int(row["epoch"]) - 1 :]
        rows.append(row)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Notes how a trial ended: stored, stopped early, or lost."""
        if trial_id not in self._numbers:
            return
        if result is not None:  # of a trial that is stopped, Tune hands over the last result here
            self.on_trial_result(trial_id, result)
        lost = "its process was lost, also when tried again" if error else None
        self.search.finish(self._numbers.pop(trial_id), self._rows.pop(trial_id), lost=lost)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves nothing in the copy of itself that Tune pickles and we never read."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Keeps nothing: the study is rebuilt from the store."""

    def restore(self, checkpoint_path: str) -> None:
        """Restores nothing: the study is rebuilt from the store."""
