"""What may vary in MK-GNN."""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces._base import DDI_LOSS, TRAINING, Ablation, Space, logarithmic

SPACE: Space = {
    "dim": CategoricalDistribution([32, 64, 128]),
    "heads": CategoricalDistribution([1, 2, 4]),
    "dropout": FloatDistribution(0.2, 0.7),
    "prior_ratio": FloatDistribution(0.3, 0.9),
    "prior_count": IntDistribution(1, 10),
    "margin_weight": FloatDistribution(0.0, 0.2),
    "ddi_target": FloatDistribution(0.02, 0.10),
    "ddi_gain": logarithmic(0.1, 2.0),
    "ddi_decay": FloatDistribution(0.8, 0.95),
    **TRAINING,
}

CONDITIONS = DDI_LOSS

ABLATIONS = {
    "no_prior": Ablation("without prior drugs", {"prior": False}),
    "no_history": Ablation("without history", {"history": False}),
    "causal_keys": Ablation("with causal history keys", {"history_keys": "causal"}),
    "no_positions": Ablation("without positions of codes", {"code_positions": "none"}),
}

GRACE_EPOCHS = 13  # recorded in results/learning-curves.csv
