"""Learns a hierarchy of one cohort's codes, or matches the codes of two, outside of any study."""

from pathlib import Path
from typing import Any

import torch

from medrec.cohort import Cohort
from medrec.errors import ConfigError
from medrec.hierarchy._stage_one import CodePairs, match_cohorts
from medrec.hierarchy.mash import Mash, MashConfig
from medrec.knowledge.base import Knowledge, load_knowledge
from medrec.spec import KnowledgeSpec


def settings_of(given: dict[str, Any]) -> MashConfig:
    """Returns the settings of MASH.

    Raises:
        ConfigError: one is unknown or out of its range.
    """
    try:
        return MashConfig(**given)
    except ValueError as error:
        problems: list[Any] = getattr(error, "errors", list)()
        where = ".".join(map(str, problems[0]["loc"])) if problems else ""
        why = problems[0]["msg"] if problems else str(error)
        raise ConfigError(f"`--set {where}`: {why}.") from error


def arrange(
    cohort: Cohort, bundle: Path | None, settings: MashConfig, seed: int, threads: int
) -> Mash:
    """Returns the hierarchy of a cohort's codes, learned from its training visits.

    Args:
        cohort: whose codes.
        bundle: knowledge bundle for it; None: built-in trees, no titles of ICD codes.
        settings: of the three stages.
        seed: of everything random.
        threads: of torch.
    """
    torch.set_num_threads(threads)
    knowledge = _knowledge(cohort, bundle)
    builder = Mash(settings, knowledge)
    builder.fit(knowledge, seed)
    return builder


def match(
    source: tuple[Cohort, Path | None],
    target: tuple[Cohort, Path | None],
    settings: MashConfig,
    seed: int,
    threads: int,
) -> CodePairs:
    """Returns which codes of two cohorts are taken for the same.

    Args:
        source: a cohort and its bundle, if any.
        target: the other.
        settings: of stage I.
        seed: of everything random.
        threads: of torch.

    Raises:
        ConfigError: the settings align nothing.
    """
    if settings.alignment == "none":
        raise ConfigError("`--set alignment=none` matches nothing. Take another alignment.")
    torch.set_num_threads(threads)
    ours, theirs = (_knowledge(*each) for each in (source, target))
    return match_cohorts(ours, theirs, settings.stage_one(), seed)


def _knowledge(cohort: Cohort, bundle: Path | None) -> Knowledge:
    return load_knowledge(cohort, KnowledgeSpec(bundle=None if bundle is None else str(bundle)))
