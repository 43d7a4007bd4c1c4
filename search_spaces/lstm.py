"""What may vary in the LSTM baseline of HiSGT; ranges are ours."""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces._base import TRAINING, Ablation, Space

SPACE: Space = {
    "layers": IntDistribution(1, 3),
    "dim": CategoricalDistribution([128, 256, 512]),
    "dropout": FloatDistribution(0.0, 0.3),
    "normalised_over": CategoricalDistribution(["vocabulary", "grammar"]),
    **TRAINING,
    "training.batch_size": CategoricalDistribution([16, 32, 48, 64]),
}

ABLATIONS = {
    "one_layer": Ablation("with one layer", {"layers": 1}),
    "no_dropout": Ablation("without dropout", {"dropout": 0.0}),
}
