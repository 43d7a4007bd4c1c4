"""What may vary in the independent marginals."""

from search_spaces._base import Ablation, Space, logarithmic

SPACE: Space = {"smoothing": logarithmic(0.01, 10.0)}

ABLATIONS: dict[str, Ablation] = {}
