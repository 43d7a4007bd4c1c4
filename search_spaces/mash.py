"""What may vary in MASH (arXiv 2509.06576; stages II and III are a reconstruction)."""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces._base import Ablation, Space, logarithmic

# All ranges are ours.
SPACE: Space = {
    "dim": CategoricalDistribution([8, 16, 32, 64]),
    "geometry": CategoricalDistribution(["hyperbolic", "euclidean"]),
    "code_dim": CategoricalDistribution([128, 256, 512]),
    "hidden": CategoricalDistribution([128, 256, 512]),
    "shift": FloatDistribution(1.0, 5.0),
    "prior_visits": FloatDistribution(0.0, 100.0),
    "learning_rate": logarithmic(3e-4, 1e-2),
    "temperature": logarithmic(0.03, 0.5),
    "relation_weight": FloatDistribution(0.0, 1.0),
    "neighbour_weight": FloatDistribution(0.0, 1.0),
    "margin_weight": FloatDistribution(0.0, 2.0),
    "margin": FloatDistribution(0.1, 2.0),
    "order_weight": FloatDistribution(0.0, 1.0),
    "triplet_weight": FloatDistribution(0.0, 1.0),
    "latent_size": IntDistribution(3, 12),
}

# Published ablations were not found. Alignment matters to two institutions only.
ABLATIONS = {
    "no_alignment": Ablation("without alignment", {"alignment": "none"}),
    "no_text": Ablation("without text half", {"use_text": False}),
    "no_cooccurrence": Ablation("without co-occurrence half", {"use_cooccurrence": False}),
    "no_labels": Ablation("without labels", {"use_labels": False, "skeleton": "none"}),
    "euclidean": Ablation("Euclidean", {"geometry": "euclidean"}),
    "no_latent": Ablation("without latent nodes", {"latent_levels": 0, "unknown_levels": 0}),
    # Ours.
    "no_skeleton": Ablation("without known categories in the tree", {"skeleton": "none"}),
    "no_margin": Ablation("without parent margin", {"margin_weight": 0.0}),
    "no_order": Ablation("without radial order", {"order_weight": 0.0}),
    "no_triplets": Ablation("without HypHC triplets", {"triplet_weight": 0.0}),
}
