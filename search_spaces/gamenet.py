"""What may vary in GAMENet."""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces._base import DDI_LOSS, TRAINING, Ablation, Space, logarithmic

SPACE: Space = {
    "dim": CategoricalDistribution([32, 64, 128]),
    "dropout": FloatDistribution(0.2, 0.7),
    "margin_weight": FloatDistribution(0.0, 0.2),
    "ddi_target": FloatDistribution(0.02, 0.10),
    "ddi_gain": logarithmic(0.1, 2.0),
    "ddi_decay": FloatDistribution(0.8, 0.95),
    **TRAINING,
}

CONDITIONS = DDI_LOSS

ABLATIONS = {
    "no_ddi_loss": Ablation("without DDI loss", {"controller": "none"}),
    "no_ddi_memory": Ablation("without DDI graph in memory", {"ddi_memory": False}),
    "no_history": Ablation("without history", {"history": False}),
    "no_memory": Ablation("without memory", {"memory": False}),
}

GRACE_EPOCHS = 13  # recorded in results/learning-curves.csv
