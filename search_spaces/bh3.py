"""What may vary in BH3-MedRec (reconstruction).

The paper's ranges are not known: widths, layers, heads and levels are those that the released code
suggests, the others those of the models beside it.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces._base import DDI_LOSS, TRAINING, Ablation, Conditions, Space, logarithmic

SPACE: Space = {
    "dim": CategoricalDistribution([32, 64, 128]),  # released: 64
    "dropout": FloatDistribution(0.2, 0.7),  # HGCN-DrugRec: 0.5
    "hypergraph_depth": IntDistribution(1, 3),  # released: 2 layers
    "hypergraph_attention": CategoricalDistribution([False, True]),
    "hypergraph_heads": CategoricalDistribution([1, 2, 4, 8]),
    "hierarchy_depth": IntDistribution(1, 4),
    "ddi_target": FloatDistribution(0.02, 0.10),  # released: 0.04
    "ddi_gain": logarithmic(0.3, 5.0),  # released: T0 = 3
    "ddi_decay": FloatDistribution(0.8, 0.95),  # released: 0.85
    **TRAINING,
}

CONDITIONS: Conditions = {"hypergraph_heads": ("hypergraph_attention", (True,)), **DDI_LOSS}

# The abstract's claims, one by one; the paper's own ablations are not known.
ABLATIONS = {
    "no_pretraining": Ablation("without hierarchical pre-training", {"icd_pretrain": "none"}),
    "no_ehr_hypergraph": Ablation(
        "one unweighted pairwise graph for EHR hypergraph", {"hypergraph": "pairwise"}
    ),
    "no_molecular_hypergraph": Ablation("without molecular hypergraph", {"molecular": False}),
    "no_bilateral": Ablation("without bilateral enhancement", {"bilateral": False}),
    "no_hierarchy": Ablation("without hierarchy in convolution", {"hierarchy_depth": 1}),
    "no_ddi_loss": Ablation("without DDI loss", {"controller": "none"}),
}
