"""Before trials start on a cluster: does every machine see the results, the cohort, this code?

A machine that does not would fail every trial that it gets. It is named by its Ray node id.
"""

import importlib.metadata
from pathlib import Path
from typing import Any

from cluster.nodes import full_ids
from medrec.spec import TrialSpec
from sweeps.errors import MachineError
from sweeps.store import ResultsStore

_WAIT = 120.0  # seconds for a machine to answer; a first worker process takes some
_SIGN = "running/reachable.json"


def check_machines(spec: TrialSpec, store: ResultsStore) -> None:
    """Looks from every machine that can run trials at the places that a trial needs.

    Args:
        spec: one of the study's trials.
        store: of the results; a small file is written there, and looked for by the others.

    Raises:
        MachineError: machines lack something; what, and which.
        StoreError: the results directory cannot be written.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    store.write_text(_SIGN, "{}\n")
    look = ray.remote(num_cpus=0, max_retries=0)(_look)
    version = importlib.metadata.version("medsweep")
    calls = {
        node: look.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote(spec.model_dump_json(), str(store.place), version)
        for node in full_ids()
    }
    problems: dict[str, list[str]] = {}
    for node, call in calls.items():
        try:
            found = ray.get(call, timeout=_WAIT)
        except Exception as error:  # what a machine without this code answers has no common root
            found = [f"it cannot run medsweep ({type(error).__name__})"]
        for problem in found:
            problems.setdefault(problem, []).append(node[:8])
    store.remove(_SIGN)
    if problems:
        lines = "\n".join(f"  {', '.join(on)}: {what}" for what, on in problems.items())
        raise MachineError(
            f"Some machines of the cluster cannot run this study's trials:\n{lines}\n"
            "Put results and cohort where every machine sees them (a shared folder or s3://…, "
            "whose credentials every machine needs), and install the same medsweep everywhere."
        )


def _look(spec: str, root: str, version: str) -> list[str]:
    """Runs on the machine that is looked from; returns what is lacking."""
    from sweeps.reach import here

    problems = []
    own = importlib.metadata.version("medsweep")
    if own != version:
        problems.append(f"it has medsweep {own}, the driver has {version}")
    try:
        store = ResultsStore(root)
        if not store.place.exists(_SIGN):
            problems.append(f"it does not see the results directory {store.place}")
    except Exception as error:  # the message is what counts, here and below
        return [*problems, f"it cannot read the results directory: {error}"]
    try:
        _open(here(TrialSpec.model_validate_json(spec), store.place))
    except Exception as error:
        problems.append(f"it cannot open the cohort: {error}")
    return problems


def _open(spec: TrialSpec) -> Any:
    from medrec.cohort import Cohort

    return Cohort.open(Path(spec.cohort.path))
