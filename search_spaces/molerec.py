"""What may vary in MoleRec."""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces._base import DDI_LOSS, TRAINING, Ablation, Space

SPACE: Space = {
    "dim": CategoricalDistribution([32, 64, 128]),
    "dropout": FloatDistribution(0.2, 0.7),
    "molecule_dropout": FloatDistribution(0.2, 0.7),
    "feed_forward": CategoricalDistribution([32, 64, 128]),
    "substructures": CategoricalDistribution(["gin", "table"]),
    "margin_weight": FloatDistribution(0.0, 0.2),
    "ddi_target": FloatDistribution(0.02, 0.10),
    "ddi_gain": FloatDistribution(1.0, 5.0),
    **TRAINING,
}

CONDITIONS = DDI_LOSS

ABLATIONS = {
    "no_ddi_loss": Ablation("without DDI loss", {"controller": "none"}),
    "fragment_table": Ablation("substructures in a table", {"substructures": "table"}),
    "no_self_attention": Ablation("without self-attention", {"self_attention": False}),
    "no_molecule_attention": Ablation("without molecules", {"molecule_attention": False}),
}
