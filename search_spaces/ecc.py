"""What may vary in the ensemble of classifier chains."""

from optuna.distributions import IntDistribution

from search_spaces._base import Ablation, Space, logarithmic

SPACE: Space = {
    "chains": IntDistribution(1, 20),
    "inverse_regularisation": logarithmic(1e-2, 1e2),
}

ABLATIONS = {"one_chain": Ablation("with one chain", {"chains": 1})}
