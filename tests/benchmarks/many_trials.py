"""A results directory of very many stored trials, as files alone: for what reads all of them."""

import hashlib
import json
import os
from pathlib import Path

from sweeps.store import ResultsStore
from tests.sweeps.fabricate import fabricate

SEEDS = 20


def many_trials(root: Path, trials: int) -> None:
    """Writes a study of arms with twenty seeds each, whose trials are copies of one.

    Files that are equal are one file on disk. Nothing but their number is as in a real study.
    """
    record = fabricate(root, seeds=1)
    store = ResultsStore(root)
    template = store.trial_keys()[0]
    origin = root / "trials" / template
    manifest = json.loads((origin / "manifest.json").read_text())
    summary = json.loads((origin / "trial.json").read_text())
    arms = []
    for start in range(0, trials, SEEDS):
        keys = {str(seed): f"{start + seed:016x}" for seed in range(min(SEEDS, trials - start))}
        name = f"arm-{start // SEEDS:04d}"
        arms.append(record.arms[1].model_copy(update={"name": name, "trials": keys}))
        for key in keys.values():
            folder = root / "trials" / key
            folder.mkdir()
            for file in manifest:
                if file != "trial.json":
                    os.link(origin / file, folder / file)
            text = json.dumps({**summary, "key": key}).encode()
            own = {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}
            (folder / "trial.json").write_bytes(text)
            (folder / "manifest.json").write_text(json.dumps({**manifest, "trial.json": own}))
    update = {"arms": tuple(arms), "reference": arms[0].name, "searches": ()}
    store.write_study(record.model_copy(update=update))
