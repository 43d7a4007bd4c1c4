"""Hidden parents of real ICD-9 codes are found again by their published titles."""

import numpy as np
import pytest

from medrec.hierarchy._batches import Known
from medrec.hierarchy._node_vectors import nearest, node_vectors
from medrec.hierarchy._parents import parent_ranks, parent_scores
from medrec.hierarchy._skeleton import Skeleton, hold_out
from medrec.hierarchy._stage_two import embed
from medrec.hierarchy._texts import text_half
from medrec.hierarchy.mash import MashConfig
from medrec.knowledge.icd import icd9_diagnoses
from medrec.knowledge.planted_titles import planted_titles
from tests.shared_data import shared_data


def published() -> Skeleton:
    """Returns the synthetic cohort's diagnoses in CMS's ICD-9-CM tree, with CMS's titles."""
    titles = shared_data("knowledge", "open", "icd", "CMS32_DESC_LONG_DX.txt.gz")
    inner = shared_data("knowledge", "open", "icd", "icd-9-hierarchy.json.gz")
    tree = icd9_diagnoses(titles, inner)
    wanted = (name.removeprefix("diagnoses/") for name in planted_titles())
    above = set(tree.parents.values())
    codes = sorted(name for name in wanted if name in tree.titles and name not in above)
    known = sorted({name for code in codes for name in tree.ancestors(code)})
    names = [*codes, *known]
    row = {name: i for i, name in enumerate(names)}
    return Skeleton(
        names=tuple(names),
        titles=tuple(tree.titles[name] for name in names),
        parents=np.array([row.get(tree.parents.get(name, ""), -1) for name in names]),
        kinds=np.zeros(len(names), dtype=np.int64),
        codes=len(codes),
    )


@pytest.mark.slow
@pytest.mark.parametrize("geometry", ["hyperbolic", "euclidean"])
def test_four_of_five_hidden_parents_are_among_the_first_ten(geometry):
    known = published()
    _, test = hold_out(known, 0.05, 0.1, 0)
    visible = known.without(test)
    config = MashConfig(geometry=geometry)
    text, _ = text_half(known.titles, (), config.code_dim // 2)
    x = node_vectors(text[: known.codes], text[known.codes :], visible)
    near = nearest(x[: known.codes], known.kinds[: known.codes], config.neighbours)
    none = np.empty((0, 2), dtype=np.int64)
    z = embed(Known(x, visible, none, near), config.stage_two(), 0)
    scores = parent_scores(z, visible, test, geometry)
    ranks = parent_ranks(scores, visible.candidates, known.parents[test])
    assert len(test) > 200
    assert (ranks <= 10).mean() >= 0.8
