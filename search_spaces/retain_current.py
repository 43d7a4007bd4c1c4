"""What may vary in RETAIN with the current visit: what may vary in RETAIN."""

from search_spaces.retain import ABLATIONS, SPACE

__all__ = ["ABLATIONS", "SPACE"]

GRACE_EPOCHS = 8  # recorded in results/learning-curves.csv
