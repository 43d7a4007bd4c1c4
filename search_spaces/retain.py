"""What may vary in RETAIN."""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces._base import TRAINING, Ablation, Space

SPACE: Space = {
    "dim": CategoricalDistribution([32, 64, 128]),
    "dropout": FloatDistribution(0.2, 0.7),
    "direction": CategoricalDistribution(["forward", "reverse"]),
    **TRAINING,
}

ABLATIONS = {
    "no_visit_attention": Ablation("without attention over visits", {"visit_attention": False}),
    "no_code_attention": Ablation("without attention over elements", {"code_attention": False}),
    "reverse_time": Ablation("reading backwards", {"direction": "reverse"}),
}

GRACE_EPOCHS = 3  # recorded in results/learning-curves.csv
