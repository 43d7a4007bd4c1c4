"""What may vary in G-BERT."""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces._base import TRAINING, Ablation, Conditions, Space

SPACE: Space = {
    "dim": CategoricalDistribution([64, 128, 300]),
    "layers": IntDistribution(1, 4),
    "dropout": FloatDistribution(0.2, 0.7),
    "attention_dropout": FloatDistribution(0.0, 0.3),
    "masked": FloatDistribution(0.1, 0.3),
    "round_epochs": IntDistribution(1, 5),
    **TRAINING,
}

CONDITIONS: Conditions = {
    "masked": ("pretraining", ("alternating",)),
    "round_epochs": ("pretraining", ("alternating",)),
}

# The paper's: without ontology, without pre-training, without both.
ABLATIONS = {
    "no_ontology": Ablation("without ontology", {"ontology": False}),
    "no_pretraining": Ablation("without pre-training", {"pretraining": "none"}),
    "no_ontology_no_pretraining": Ablation(
        "without ontology and pre-training", {"ontology": False, "pretraining": "none"}
    ),
    "no_history": Ablation("without history", {"history": False}),
}
