"""What may vary in logistic regression."""

from search_spaces._base import Ablation, Space, logarithmic

SPACE: Space = {"inverse_regularisation": logarithmic(1e-2, 1e2)}

ABLATIONS: dict[str, Ablation] = {}
