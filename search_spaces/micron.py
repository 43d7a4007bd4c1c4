"""What may vary in MICRON."""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces._base import DDI_LOSS, TRAINING, Ablation, Conditions, Space, logarithmic

SPACE: Space = {
    "dim": CategoricalDistribution([32, 64, 128]),
    "dropout": FloatDistribution(0.2, 0.7),
    "margin_weight": FloatDistribution(0.0, 0.2),
    "ddi_target": FloatDistribution(0.04, 0.10),
    "ddi_gain": logarithmic(0.1, 2.0),
    "ddi_decay": FloatDistribution(0.8, 0.95),
    "add_from": FloatDistribution(0.5, 0.9),
    "keep_from": FloatDistribution(0.1, 0.5),
    **TRAINING,
}

CONDITIONS: Conditions = {
    **DDI_LOSS,
    "add_from": ("thresholds", ("fixed",)),
    "keep_from": ("thresholds", ("fixed",)),
}

ABLATIONS = {
    "no_ddi_loss": Ablation("without DDI loss", {"controller": "none"}),
    "no_reconstruction": Ablation("without reconstruction", {"reconstruction_weight": 0.0}),
    "current_only": Ablation("trained on current visits alone", {"current_share": 1.0}),
}

GRACE_EPOCHS = 18  # recorded in results/learning-curves.csv
