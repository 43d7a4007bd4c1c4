"""What a builder of code hierarchies must offer."""

from abc import ABC, abstractmethod

import numpy as np
from jaxtyping import Float64, Int64
from torch import Tensor

from medrec.hierarchy._tree import Tree
from medrec.knowledge.base import Knowledge
from medrec.measures import Measured


class HierarchyBuilder(ABC):
    """Learns vectors of codes and a tree over them from the training visits and from knowledge."""

    @abstractmethod
    def fit(self, knowledge: Knowledge, seed: int) -> None:
        """Learns from `knowledge.training_visits`, titles and the known parents it may see."""

    @abstractmethod
    def validation(self) -> dict[str, float]:
        """Returns measures on the codes held out for validation; a search reads these alone."""

    @abstractmethod
    def measured(self) -> Measured:
        """Returns the measures on the codes held out for the test; a unit is a code's number."""

    @property
    @abstractmethod
    def tree(self) -> Tree:
        """The learned hierarchy."""

    @property
    @abstractmethod
    def vectors(self) -> Float64[np.ndarray, "codes dim"]:
        """Vector of each code, by number."""

    @property
    @abstractmethod
    def held_out(self) -> Int64[np.ndarray, " codes"]:
        """Numbers of the codes whose parent was hidden."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Returns everything `fit` learned."""

    @abstractmethod
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes back what `tensors` returned."""
