"""What may vary in the bigram generator."""

from search_spaces._base import Ablation, Space, logarithmic

SPACE: Space = {"prior_weight": logarithmic(1.0, 10_000.0)}

ABLATIONS: dict[str, Ablation] = {}
