"""What may vary in COGNet."""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces._base import TRAINING, Ablation, Space

SPACE: Space = {
    "dim": CategoricalDistribution([32, 64, 128]),
    "heads": CategoricalDistribution([1, 2, 4]),
    "feed_forward": CategoricalDistribution([128, 512, 2048]),
    "dropout": FloatDistribution(0.0, 0.5),
    "code_dropout": FloatDistribution(0.0, 0.7),
    "graph_dropout": FloatDistribution(0.0, 0.5),
    "most_drugs": IntDistribution(20, 64),
    **TRAINING,
}

ABLATIONS = {
    "no_copy": Ablation("without copying", {"copy_by": "none"}),
    "no_visit_scores": Ablation("copying without visit scores", {"copy_by": "drugs"}),
    "no_drug_scores": Ablation("copying without drug scores", {"copy_by": "visits"}),
    "no_ddi_memory": Ablation("without DDI graph in memory", {"ddi_memory": False}),
    "no_memory": Ablation("without memory", {"memory": False}),
}
