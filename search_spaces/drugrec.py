"""What may vary in DrugRec."""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces._base import DDI_LOSS, TRAINING, Ablation, Space, logarithmic

SPACE: Space = {
    "dim": CategoricalDistribution([32, 64, 128]),
    "text_layers": IntDistribution(1, 3),
    "dropout": FloatDistribution(0.0, 0.5),
    "window": IntDistribution(1, 6),
    "co_prescribed_at_least": FloatDistribution(0.0, 0.2),
    "margin_weight": FloatDistribution(0.0, 0.2),
    "pair_weight": FloatDistribution(0.0, 2.0),
    "ddi_target": FloatDistribution(0.02, 0.10),
    "ddi_gain": logarithmic(0.1, 2.0),
    "ddi_decay": FloatDistribution(0.8, 0.95),
    **TRAINING,
}

CONDITIONS = {
    **DDI_LOSS,
    "window": ("history", ("window",)),
    "co_prescribed_at_least": ("post_processing", ("two_sat",)),
}

ABLATIONS = {
    "no_ddi_loss": Ablation("without DDI loss", {"controller": "none"}),
    "no_pair_loss": Ablation("without pair loss", {"pair_weight": 0.0}),
    "no_post_processing": Ablation("without 2-SAT", {"post_processing": "none"}),
    "no_history": Ablation("without history", {"history": "none"}),
    "no_molecules": Ablation("without molecules", {"drug_vectors": "learned"}),
}
