"""What may vary in DKINet.

The paper chose filters, layers and width on validation without naming the ranges; these are
assumptions around its choices (4, 1 and 256).
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces._base import TRAINING, Ablation, Conditions, Space, logarithmic

SPACE: Space = {
    "filters": CategoricalDistribution([1, 2, 4, 8]),
    "layers": CategoricalDistribution([1, 2, 3]),
    "dim": CategoricalDistribution([64, 128, 256]),
    "dropout": FloatDistribution(0.1, 0.6),
    "edge_dropout": FloatDistribution(0.0, 0.7),
    "independence_weight": logarithmic(0.01, 10.0),
    "information_weight": logarithmic(0.01, 10.0),
    **TRAINING,
}

CONDITIONS: Conditions = {
    "filters": ("filter_graph", (True,)),
    "independence_weight": ("filter_graph", (True,)),
    "layers": ("knowledge_graph", (True,)),
    "edge_dropout": ("knowledge_graph", (True,)),
    "information_weight": ("knowledge_graph", (True,)),
}

ABLATIONS = {
    "no_knowledge_graph": Ablation("without knowledge graph", {"knowledge_graph": False}),
    "no_filter_graph": Ablation("without filter graph", {"filter_graph": False}),
    "no_injection": Ablation("without knowledge injection", {"global_knowledge": False}),
    "no_history_attention": Ablation("without history attention", {"history_attention": False}),
    "no_mutual_information": Ablation("without information loss", {"information_weight": 0.0}),
    "no_independence": Ablation("without independence loss", {"independence_weight": 0.0}),
}
