"""What may vary in LEAP."""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces._base import TRAINING, Ablation, Conditions, Space

SPACE: Space = {
    "dim": CategoricalDistribution([32, 64, 128]),
    "dropout": FloatDistribution(0.0, 0.7),
    "order": CategoricalDistribution(["stored", "frequency", "rare"]),
    "decoding": CategoricalDistribution(["greedy", "beam"]),
    "beam": IntDistribution(2, 8),
    "most_drugs": IntDistribution(20, 64),
    **TRAINING,
}

CONDITIONS: Conditions = {"beam": ("decoding", ("beam",))}

ABLATIONS = {
    "constant_context": Ablation("one reading for all steps", {"attention": "released"}),
    "frequent_first": Ablation("frequent drugs first", {"order": "frequency"}),
    "rare_first": Ablation("rare drugs first", {"order": "rare"}),
}

GRACE_EPOCHS = 13  # recorded in results/learning-curves.csv
