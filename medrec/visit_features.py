"""Visits as rows of ones in a sparse matrix: diagnoses first, then procedures, each code a column.

What models without an embedding share: as they are fitted, a matrix of many visits; as they
answer, the codes of a batch's visits in the same numbering.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy import sparse
from torch import Tensor
from torch.nn.functional import embedding_bag

from medrec.batching import Batch
from medrec.cohort import Codes, Kind


def visit_features(
    codes: Mapping[Kind, Codes], vocabulary: Mapping[Kind, tuple[str, ...]]
) -> sparse.csr_matrix:
    """Returns [visits, diagnoses + procedures], 1 where a visit has the code."""
    blocks = []
    for kind in ("diagnoses", "procedures"):
        offsets, values = codes[kind].offsets, codes[kind].values
        shape = (len(offsets) - 1, len(vocabulary[kind]))
        blocks.append(sparse.csr_matrix((np.ones(len(values)), values, offsets), shape=shape))
    return sparse.hstack(blocks, format="csr")


def codes_of(batch: Batch, diagnoses: int, padding: int) -> Int64[Tensor, "patients visits codes"]:
    """Returns each visit's codes as columns of `visit_features`.

    Args:
        batch: patients.
        diagnoses: size of their vocabulary.
        padding: number of columns, diagnoses and procedures together.
    """
    own = torch.where(batch.diagnoses == diagnoses, padding, batch.diagnoses)
    # The padding code of procedures lands on the padding column by itself.
    return torch.cat([own, batch.procedures + diagnoses], dim=2)


@dataclass(frozen=True)
class SparseRows:
    """A matrix of zeros and ones by its rows and by its columns; products are sums of rows."""

    columns: Int64[Tensor, " ones"]
    row_starts: Int64[Tensor, " rows"]
    rows: Int64[Tensor, " ones"]
    column_starts: Int64[Tensor, " columns"]

    def times(self, dense: Float[Tensor, "columns width"]) -> Float[Tensor, "rows width"]:
        """Returns the product with a dense matrix."""
        return _sums(self.columns, dense, self.row_starts)

    def transposed_times(self, dense: Float[Tensor, "rows width"]) -> Float[Tensor, "columns _"]:
        """Returns the product of the transpose with a dense matrix."""
        return _sums(self.rows, dense, self.column_starts)


def sparse_rows(matrix: sparse.csr_matrix) -> SparseRows:
    """Returns the places of a matrix's entries; each counts as 1."""
    turned = matrix.T.tocsr()
    parts = (matrix.indices, matrix.indptr[:-1], turned.indices, turned.indptr[:-1])
    return SparseRows(*(torch.from_numpy(part.astype(np.int64)) for part in parts))


def _sums(
    which: Int64[Tensor, " ones"],
    table: Float[Tensor, "size width"],
    starts: Int64[Tensor, " bags"],
) -> Float[Tensor, "bags width"]:
    if not len(which):  # torch refuses an empty table even where no bag reads it
        return torch.zeros(len(starts), table.shape[1])
    return embedding_bag(which, table, starts, mode="sum")
