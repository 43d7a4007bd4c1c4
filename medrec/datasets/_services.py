"""Which hospital service cares for a synthetic visit.

The service is that of the organ system with most conditions active at the visit, hospital care in
general not counted; of systems with equally many, the one whose conditions are rarer. With a
surgical complication it is the surgical service of that specialty. Services are those of MIMIC.
"""

import numpy as np
from jaxtyping import Shaped

from medrec.datasets._conditions import Condition
from medrec.datasets._population import Population

_GENERAL = "general"
_SURGICAL = "surgical complication"  # condition
_MEDICINE = "MED"
_OF_SYSTEM = {
    "heart": "CMED", "vessel": "VSURG", "cancer": "OMED", "neuro": "NMED", "mental": "PSYCH",
    "digestive": "SURG", "urologic": "GU", "women": "GYN", "trauma": "TRAUM", "skin": "PSURG",
    "rheumatic": "ORTHO", "eye": "EYE",
}  # fmt: skip
_SURGERY_OF = {"MED": "SURG", "CMED": "CSURG", "NMED": "NSURG"}
SERVICES = tuple(sorted({_MEDICINE, *_OF_SYSTEM.values(), *_SURGERY_OF.values()}))


def services(
    population: Population, conditions: tuple[Condition, ...]
) -> Shaped[np.ndarray, " visits"]:
    """Returns the service of each visit, out of `SERVICES`."""
    prevalence: dict[str, float] = {}
    for condition in conditions:
        if condition.system != _GENERAL:
            prevalence.setdefault(condition.system, 0.0)
            prevalence[condition.system] += condition.prevalence
    systems = sorted(prevalence, key=lambda name: (prevalence[name], name))  # the rarest first
    counts = np.stack(
        [
            population.active[:, [c.system == name for c in conditions]].sum(axis=1)
            for name in systems
        ]
    )
    medical = np.array([_OF_SYSTEM.get(name, _MEDICINE) for name in systems], dtype=object)
    surgical = np.array([_SURGERY_OF.get(name, name) for name in medical], dtype=object)
    first = counts.argmax(axis=0)
    operated = population.active[:, [c.name == _SURGICAL for c in conditions]].any(axis=1)
    found = np.where(operated, surgical[first], medical[first])
    none = np.where(operated, _SURGERY_OF[_MEDICINE], _MEDICINE)
    return np.where(counts.max(axis=0) > 0, found, none).astype(object)
