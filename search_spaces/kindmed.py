"""What may vary in KindMed (arXiv 2310.14552v2)."""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces._base import DDI_LOSS, TRAINING, Ablation, Conditions, Space, logarithmic

# Table V varies the heads at one DDI target, Fig. 4 the target in steps of 0.01 (over a range that
# the text does not say; this one is ours). The other ranges are ours.
SPACE: Space = {
    "heads": CategoricalDistribution([1, 2, 4, 8, 16, 32]),
    "keys": CategoricalDistribution(["last", "all"]),
    "ddi_target": FloatDistribution(0.03, 0.10, step=0.01),
    "ddi_gain": logarithmic(0.01, 0.2),
    "dim": CategoricalDistribution([64, 128, 256]),  # each a multiple of every number of heads
    "dropout": FloatDistribution(0.2, 0.7),
    "graph_layers": IntDistribution(1, 3),
    "edge_drop": FloatDistribution(0.0, 0.2),
    **TRAINING,
}

CONDITIONS: Conditions = {
    "heads": ("keys", ("all",)),  # a softmax over one key is 1, whatever the number of heads
    **DDI_LOSS,
}

# Rows 1 to 10 of Table VI; row 11 is the full model.
ABLATIONS = {
    # Row 1: no medicine graph, states, fusion or joint states; attention of a_t to itself.
    "no_medicine_graph": Ablation("without medicine graph", {"medicine_graph": False}),
    # Row 2: row 1 without attention; the drugs are predicted from a_t.
    "no_medicine_graph_no_attention": Ablation(
        "without medicine graph and attention", {"medicine_graph": False, "prescribing": "none"}
    ),
    # Row 3: no patient node in either graph.
    "no_demographics": Ablation("without demographics", {"demographics": False}),
    # Row 4: [a; b] in place of the fusion.
    "no_fusion": Ablation("concatenation for fusion", {"fusion": "concatenation"}),
    # Row 5: a feed-forward network in place of the attention.
    "no_attention": Ablation("feed-forward for attention", {"prescribing": "feed_forward"}),
    # Row 6: sums of the observed codes' vectors; no graphs, no demographics. Not in the code.
    "no_relations": Ablation("without relations", {"graphs": False}),
    # Row 7, as released: edges to ancestors go, ancestors stay and enter the readout.
    "no_ontology_edges": Ablation("without ontology edges", {"ontology": "nodes"}),
    # Row 8: none of the 26 semantic relations.
    "no_semantics": Ablation("without semantic relations", {"semantics": False}),
    # Row 9: no interactions in the medicine graph.
    "no_ddi_edges": Ablation("without DDI edges", {"ddi_edges": False}),
    # Row 10: all earlier joint states as keys. Not in the code.
    "keys_all": Ablation("all earlier keys", {"keys": "all"}),
    # Ours: what row 7 says, but does not do.
    "no_ontology": Ablation("without ontology", {"ontology": "none"}),
    # Ours: row 1 also changes what attention reads; this removes the past medications alone.
    "no_past_medications": Ablation("without past medications", {"past_medications": False}),
    # Ours: a switch of the released code that has no row.
    "no_edge_dropping": Ablation("without edge dropping", {"edge_drop": 0.0}),
    # Ours.
    "no_ddi_loss": Ablation("without DDI loss", {"controller": "none"}),
}
