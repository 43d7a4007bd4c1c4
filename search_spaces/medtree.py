"""What may vary in Med-Tree (reconstruction): what may in GAMENet, and the heads.

Without its trees it is GAMENet.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces import gamenet
from search_spaces._base import DDI_LOSS, Ablation, Space

SPACE: Space = {**gamenet.SPACE, "heads": CategoricalDistribution([1, 2, 4, 8])}

CONDITIONS = DDI_LOSS

ABLATIONS: dict[str, Ablation] = dict(gamenet.ABLATIONS)

GRACE_EPOCHS = 10  # recorded in results/learning-curves.csv
