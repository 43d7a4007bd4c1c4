"""What may vary in the GPT baseline of HiSGT; the ranges are HiSGT's."""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces._base import TRAINING, Ablation, Space

SPACE: Space = {
    "layers": IntDistribution(2, 6),
    "heads": CategoricalDistribution([4, 8]),
    "dim": CategoricalDistribution([128, 256, 384]),  # each a multiple of every number of heads
    "dropout": FloatDistribution(0.0, 0.3),
    "attention_dropout": FloatDistribution(0.0, 0.3),
    "normalised_over": CategoricalDistribution(["vocabulary", "grammar"]),
    **TRAINING,
    "training.batch_size": CategoricalDistribution([16, 32, 48, 64]),
}

ABLATIONS = {
    "no_dropout": Ablation("without dropout", {"dropout": 0.0, "attention_dropout": 0.0}),
    "no_attention_dropout": Ablation("without dropout of attention", {"attention_dropout": 0.0}),
}
