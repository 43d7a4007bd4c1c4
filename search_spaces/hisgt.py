"""What may vary in HiSGT (arXiv 2502.20719)."""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces._base import TRAINING, Ablation, Conditions, Space

# The published weights look like a random search over [0, 1]; its ranges are not known. The
# others are ours, around the two sizes of the released code.
SPACE: Space = {
    "layers": IntDistribution(2, 6),
    "heads": CategoricalDistribution([4, 8]),
    "dim": CategoricalDistribution([128, 256, 384]),  # each a multiple of every number of heads
    "dropout": FloatDistribution(0.0, 0.3),
    "attention_dropout": FloatDistribution(0.0, 0.3),
    "semantic_weight": FloatDistribution(0.0, 1.0),
    "hierarchy_weight": FloatDistribution(0.0, 1.0),
    "fusion": CategoricalDistribution(["projection", "addition"]),
    "tree_edges": CategoricalDistribution(
        ["parent_to_child", "parent_child", "parent_child_sibling"]
    ),
    "normalised_over": CategoricalDistribution(["vocabulary", "grammar"]),
    **TRAINING,
    "training.batch_size": CategoricalDistribution([16, 32, 48, 64]),
}

CONDITIONS: Conditions = {
    "semantic_weight": ("use_semantics", (True,)),
    "hierarchy_weight": ("use_hierarchy", (True,)),
    "fusion": ("use_hierarchy", (True,)),
    "tree_edges": ("use_hierarchy", (True,)),
}

ABLATIONS = {
    # The four variants of the released code's flags: full, and these three.
    "no_semantics": Ablation("without semantics", {"use_semantics": False}),
    "no_hierarchy": Ablation("without hierarchy", {"use_hierarchy": False}),
    "no_semantics_no_hierarchy": Ablation(
        "without semantics and hierarchy", {"use_semantics": False, "use_hierarchy": False}
    ),
    # The vectors stay, their reconstruction goes.
    "no_auxiliary_losses": Ablation(
        "without auxiliary losses", {"semantic_weight": 0.0, "hierarchy_weight": 0.0}
    ),
    "no_semantic_loss": Ablation("without semantic loss", {"semantic_weight": 0.0}),
    "no_hierarchy_loss": Ablation("without hierarchy loss", {"hierarchy_weight": 0.0}),
    # Paper against code: siblings, the direction of edges, the fusion.
    "parent_child_edges": Ablation("parent-child edges only", {"tree_edges": "parent_child"}),
    "parent_to_child_edges": Ablation(
        "edges from parent to child only", {"tree_edges": "parent_to_child"}
    ),
    "plain_addition": Ablation("plain addition of the hierarchy", {"fusion": "addition"}),
}
