"""What may vary in SafeDrug."""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces._base import DDI_LOSS, TRAINING, Ablation, Space, logarithmic

SPACE: Space = {
    "dim": CategoricalDistribution([32, 64, 128]),
    "dropout": FloatDistribution(0.2, 0.7),
    "margin_weight": FloatDistribution(0.0, 0.2),
    "ddi_target": FloatDistribution(0.02, 0.10),
    "ddi_gain": logarithmic(0.01, 0.2),
    "readout": CategoricalDistribution(["sum", "mean"]),
    **TRAINING,
}

CONDITIONS = {**DDI_LOSS, "readout": ("global_match", (True,))}

ABLATIONS = {
    "no_ddi_loss": Ablation("without DDI loss", {"controller": "none"}),
    "no_global_match": Ablation("without global match", {"global_match": False}),
    "no_local_match": Ablation("without local match", {"local_match": False}),
    "frozen_molecules": Ablation("molecule encoder frozen", {"molecule_encoder": "frozen"}),
}

GRACE_EPOCHS = 20  # recorded in results/learning-curves.csv
