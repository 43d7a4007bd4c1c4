"""What may vary in ManyDG."""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces._base import TRAINING, Ablation, Conditions, Space, logarithmic

SPACE: Space = {
    "encoder": CategoricalDistribution(["retain", "gamenet"]),
    "dim": CategoricalDistribution([32, 64, 128]),
    "dropout": FloatDistribution(0.2, 0.7),
    "graph_dropout": FloatDistribution(0.0, 0.5),
    "temperature": logarithmic(0.1, 1.0),
    "similarity_weight": FloatDistribution(0.0, 2.0),
    "reconstruction_weight": FloatDistribution(0.0, 2.0),
    "matching_weight": FloatDistribution(0.0, 2.0),
    **TRAINING,
}

CONDITIONS: Conditions = {"graph_dropout": ("encoder", ("gamenet",))}

ABLATIONS = {
    "gamenet_encoder": Ablation("over GAMENet's encoder", {"encoder": "gamenet"}),
    "no_projection": Ablation("without projection", {"projection": False}),
    "no_similarity": Ablation("without similarity of pairs", {"similarity_weight": 0.0}),
    "no_reconstruction": Ablation("without reconstruction", {"reconstruction_weight": 0.0}),
    "no_matching": Ablation("without matched means", {"matching_weight": 0.0}),
    "no_pairs": Ablation(
        "without all terms of pairs",
        {"similarity_weight": 0.0, "reconstruction_weight": 0.0, "matching_weight": 0.0},
    ),
}

GRACE_EPOCHS = 16  # recorded in results/learning-curves.csv
