"""What may vary in k nearest neighbours."""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces._base import Ablation, Space

SPACE: Space = {
    "neighbours": IntDistribution(5, 500, log=True),
    "similarity": CategoricalDistribution(["cosine", "jaccard"]),
    "weight_of_previous": FloatDistribution(0.0, 0.6),
}

ABLATIONS = {
    "no_previous": Ablation("without previous prescription", {"weight_of_previous": 0.0}),
    "no_weights": Ablation("without weights of neighbours", {"weighted": False}),
}
