"""Cohorts and bundles for the tests of bundles."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from medrec.cohort import Cohort
from medrec.knowledge.build import build_bundle
from medrec.knowledge.bundle import Bundle
from medrec.knowledge.options import KnowledgeOptions
from tests.medrec.small import small_cohort, to_codes

OPTIONS = KnowledgeOptions(text_dimension=16)


def changed(**vocabulary: tuple[str, ...]) -> Cohort:
    """Returns the small cohort with other codes; without codes of a kind where there are none."""
    cohort = small_cohort()
    codes = {kind: to_codes([[]] * 63) for kind, names in vocabulary.items() if not names}
    return replace(
        cohort, vocabulary=cohort.vocabulary | vocabulary, codes={**cohort.codes, **codes}
    )


@cache
def small_bundle() -> Bundle:
    """Returns what the embedded tables alone say about the small cohort."""
    return build_bundle(small_cohort(), None, OPTIONS)[0]


def built(
    folder: Path | None, cohort: Cohort | None = None, **options: Any
) -> tuple[Bundle, tuple[str, ...]]:
    """Returns the bundle out of a folder of sources, without text, and what is missing."""
    chosen = KnowledgeOptions(**{"text": "none", **options})
    return build_bundle(cohort or small_cohort(), folder, chosen)
