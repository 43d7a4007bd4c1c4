"""An entry without a grid: the full model, and the arms that its ablations and designs ask for.

part     a named change of settings: an ablation that the model declares, or one of the entry's own
cell     a set of parts that are changed together; the empty set is the full model. An arm is a
         cell's settings: the full model's, overridden by the changes of all its parts. Several
         designs that ask for one cell share the arm
"""

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from medrec import plugins
from medrec.light import ModelFacts
from medrec.spec import KnowledgeSpec, TrialSpec
from sweeps.cohorts import StudyData, located_knowledge
from sweeps.designs._base import DesignKind, DesignRequest, Layout, Run
from sweeps.errors import StudyError
from sweeps.parts import CannotCombineError, all_parts, of, united
from sweeps.record import Arm, Design, SearchPlan
from sweeps.search_plans import make_search, set_by_parts
from sweeps.specs import (
    ablations_of,
    arm_name,
    check_known,
    known_model,
    make_spec,
    on_seeds,
    remarks,
)
from sweeps.study import ArmRequest, SearchRequest, Study, near, parse

Cell = frozenset[str]
FULL: Cell = frozenset()
_LONGEST = 80  # characters of a name; see sweeps.record.Name


@dataclass(frozen=True)
class Entry:
    """What one entry of a study's `arms` comes to; of a re-tuned arm the trials are not known."""

    arms: list[tuple[Arm, list[TrialSpec]]]
    searches: list[SearchPlan] = field(default_factory=list)
    designs: list[Design] = field(default_factory=list)


class _Settings(NamedTuple):
    """A cell's settings: the model's, the loop's, knowledge if not the study's, augmentation."""

    config: dict[str, Any]
    training: dict[str, Any]
    knowledge: KnowledgeSpec | None
    augment: dict[str, Any] | None


class _Asked(NamedTuple):
    """A design of the entry: its name and kind, where it stands in the study, and its layout."""

    name: str
    kind: str
    where: str
    layout: Layout


@dataclass(frozen=True)
class _Made:
    """An arm in the making."""

    name: str
    title: str
    design: str | None
    settings: _Settings
    spec: TrialSpec


def designed_arms(study: Study, data: StudyData, request: ArmRequest, where: str) -> Entry:
    """Returns the arms, the searches that re-tune them, and the designs they belong to.

    Args:
        study: the study.
        data: its cohort and knowledge.
        request: the entry.
        where: its field in the study.

    Raises:
        StudyError: a part, design or setting is wrong; parts that a design needs together set one
            field to different values; or an arm does not differ from the full model.
    """
    return _Compiler(study, data, request, where).entry()


class _Compiler:
    """Works out one entry."""

    def __init__(self, study: Study, data: StudyData, request: ArmRequest, where: str) -> None:
        self.study, self.data, self.request, self.where = study, data, request, where
        self.facts: ModelFacts = known_model(request.model, where)
        self.name = arm_name(request.name or request.model, f"{where}.name")
        self.title = request.title or self.facts.title
        self.declared = ablations_of(request.model)
        self.parts = all_parts(request, self.facts, self.declared, where)
        self.tuning = request.tuning
        if request.settings == "retuned" and self.tuning is None:
            self.tuning = study.tuning
        self._knowledge: dict[str, KnowledgeSpec] = {}

    def entry(self) -> Entry:
        """Returns everything the entry comes to."""
        self._check_tuning()
        asked = self._asked()
        made = {FULL: self._full()}
        notes: dict[str, list[str]] = {design.name: [] for design in asked}
        for design in asked:
            for run in design.layout.runs:
                if run.parts not in made:
                    try:
                        made[run.parts] = self._arm(design, run, made[FULL])
                    except CannotCombineError as error:
                        if not run.optional:
                            raise StudyError(
                                f"field {design.where}: {error} This design needs them together. "
                                "Leave one of them out."
                            ) from error
                        notes[design.name].append(f"Left out: {error}")
        searches = {cell: self._search(arm, cell, made) for cell, arm in made.items()}
        for design in asked:
            notes[design.name] += self._notes(design, made, searches)
        return Entry(
            [self._finished(cell, arm, searches[cell]) for cell, arm in made.items()],
            [search for search in searches.values() if search is not None],
            [self._record(design, made, notes[design.name]) for design in asked],
        )

    # ------------------------------------------------------------------ designs

    def _asked(self) -> list[_Asked]:
        asked = []
        if self.request.ablations:
            layout = self._leave_out(self.request.ablations)
            name = _short(f"{self.name}-ablations")
            asked.append(_Asked(name, "leave_one_out", f"{self.where}.ablations", layout))
        for index, content in enumerate(self.request.designs):
            where = f"{self.where}.designs.{index}"
            said = {name: value for name, value in content.items() if name == "kind"}
            kind = str(parse(_Kind, said, "study", where).kind)
            check_known("sweeps.designs", kind, f"{where}.kind")
            plugin: DesignKind[Any] = plugins.load("sweeps.designs", kind, "DESIGN")
            request: DesignRequest = parse(plugin.request, content, "study", where)
            layout = plugin.lay_out(request, tuple(self.parts), where)
            taken = {design.name for design in asked}
            asked.append(_Asked(request.name or self._free(kind, taken), kind, where, layout))
        return asked

    def _leave_out(self, wanted: Sequence[str]) -> Layout:
        """Returns the layout of `ablations`, which knows the model's declared parts alone."""
        names = tuple(self.declared) if wanted == "all" else tuple(wanted)
        for name in names:
            if name not in self.declared:
                raise StudyError(
                    f"field {self.where}.ablations: {self.facts.name} has no ablation {name!r}."
                    f"{near(name, self.declared)} It has {sorted(self.declared)}."
                )
        if len(set(names)) < len(names):
            raise StudyError(
                f"field {self.where}.ablations: must be distinct, but got {list(names)}."
            )
        return Layout(names, tuple(Run(frozenset([name])) for name in names))

    def _free(self, kind: str, taken: set[str]) -> str:
        """Returns a design's default name, with a number from the second of its kind on."""
        names = (
            _short(f"{self.name}-{kind}" + (f"-{count}" if count > 1 else ""))
            for count in itertools.count(1)
        )
        return next(name for name in names if name not in taken)

    # ------------------------------------------------------------------ arms

    def _full(self) -> _Made:
        request = self.request
        settings = _Settings(request.config, request.training, None, request.augment)
        return _Made(self.name, self._told(""), None, settings, self._spec(settings, self.where))

    def _arm(self, design: _Asked, run: Run, full: _Made) -> _Made:
        parts = sorted(run.parts)
        place = f"{design.where} ({'+'.join(parts)})"
        changes = united(self.parts, run.parts)
        settings = _Settings(
            {**self.request.config, **of(changes, "")},
            {**self.request.training, **of(changes, "training.")},
            self._located(of(changes, "knowledge."), place),
            {**(self.request.augment or {}), **of(changes, "augment.")} or None,
        )
        try:
            spec = self._spec(settings, place)
        except StudyError as error:
            if run.optional:
                raise CannotCombineError(
                    f"{' and '.join(parts)} cannot be changed together: {self.facts.name} refuses "
                    "such settings."
                ) from error
            raise
        if spec.key == full.spec.key:
            raise StudyError(
                f"field {place}: changes nothing, for {self.name} has these settings already. "
                "Leave it out."
            )
        titles = ", ".join(self.parts[part].title for part in parts)
        return _Made(
            name=_short(f"{self.name}-{run.name or '.'.join(parts)}"),
            title=self._told(f", {run.name}: {titles}" if run.name else f" {titles}"),
            design=design.name,
            settings=settings,
            spec=spec,
        )

    def _spec(self, settings: _Settings, where: str) -> TrialSpec:
        config, training, knowledge, augment = settings
        return make_spec(
            self.study, self.data, self.facts, config, training, where, knowledge, augment
        )

    def _told(self, parts: str) -> str:
        """Returns an arm's title."""
        return self.title + parts + (", re-tuned" if self.tuning else "")

    def _located(self, changes: dict[str, Any], where: str) -> KnowledgeSpec | None:
        """Returns the study's knowledge with some changes, each source read once."""
        if not changes:
            return None
        text = json.dumps(changes, sort_keys=True, default=str)
        if text not in self._knowledge:
            content = {**self.study.knowledge.model_dump(), **changes}
            place = f"{where}.knowledge"
            spec: KnowledgeSpec = parse(KnowledgeSpec, content, "study", place)
            self._knowledge[text], _ = located_knowledge(spec, self.data.cohort, place)
        return self._knowledge[text]

    def _finished(
        self, cell: Cell, arm: _Made, search: SearchPlan | None
    ) -> tuple[Arm, list[TrialSpec]]:
        seeded = self.facts.seeded
        specs = [] if search else on_seeds(self.study.seeds, seeded, arm.spec)
        parts = tuple(sorted(cell))
        finished = Arm(
            name=arm.name,
            title=arm.title,
            model=self.request.model,
            ablation="+".join(parts) or None,
            full=self.name if cell else None,
            family=self.name,
            seeded=seeded,
            trials={str(spec.seed): spec.key for spec in specs},
            parts=parts,
            design=arm.design,
            tuned_by=search.name if search else None,
            **remarks(arm.spec),
        )
        return finished, specs

    # ------------------------------------------------------------------ re-tuning

    def _check_tuning(self) -> None:
        retuned, tuning = self.request.settings == "retuned", self.tuning
        if retuned and tuning is None:
            raise StudyError(
                f"field {self.where}.tuning: is missing. `settings: retuned` needs the search "
                "that every arm gets, there or in the study's `tuning`. Example: tuning: "
                "{trials: 20}."
            )
        if tuning is not None and not retuned:
            raise StudyError(
                f"field {self.where}.tuning: belongs to `settings: retuned`. Set that, or leave "
                "it out."
            )

    def _search(self, arm: _Made, cell: Cell, made: dict[Cell, _Made]) -> SearchPlan | None:
        """Returns the search of an arm's own: over the tuned settings that its parts leave."""
        tuning = self.tuning
        if tuning is None:
            return None
        request = SearchRequest(
            name=_short(f"retune-{arm.name}"),
            model=self.request.model,
            config=arm.settings.config,
            training=arm.settings.training,
            **tuning.model_dump(exclude_unset=True),
        )
        without: set[str] = set()
        if cell:
            changed = united(self.parts, cell)
            without = set_by_parts(request.model, changed, arm.spec, made[FULL].spec)
        where, knowledge = f"{self.where}.tuning", arm.settings.knowledge
        augment = arm.settings.augment
        return make_search(self.study, self.data, request, where, knowledge, without, augment)

    # ------------------------------------------------------------------ the record

    def _record(self, design: _Asked, made: dict[Cell, _Made], notes: list[str]) -> Design:
        kind: DesignKind[Any] = plugins.load("sweeps.designs", design.kind, "DESIGN")
        factors = design.layout.factors
        cells = [FULL, *(run.parts for run in design.layout.runs if run.parts in made)]
        return Design(
            name=design.name,
            kind=design.kind,
            title=f"{kind.title}: {made[FULL].title}",
            full=self.name,
            factors=factors,
            levels={made[cell].name: tuple(int(f in cell) for f in factors) for cell in cells},
            settings=self.request.settings,
            notes=(*design.layout.notes, *notes),
        )

    def _notes(
        self, design: _Asked, made: dict[Cell, _Made], searches: dict[Cell, SearchPlan | None]
    ) -> list[str]:
        """Returns what tables of the design must say besides what its layout says."""
        notes = []
        cells = [run.parts for run in design.layout.runs if run.parts in made]
        by_key: dict[str, str] = {}
        for cell in cells:
            name = made[cell].name
            other = by_key.setdefault(made[cell].spec.key, name)
            if other != name:
                notes.append(f"{name} has the settings of {other}, and so its results.")
        reading = [
            part for part in design.layout.factors if of(self.parts[part].changes, "knowledge.")
        ]
        if reading and self.facts.task == "recommendation":
            notes.append(
                f"Other knowledge is read with {', '.join(reading)} changed; DDI rates of the "
                "test split are by the study's graph in every arm."
            )
        full = searches[FULL]
        if full is not None:
            notes.append(
                f"Re-tuned: every arm, the full model too, has the best of {full.trials} trials "
                "of a search of its own."
            )
            for cell in cells:
                own = searches[cell]
                gone = [name for name in full.space if own and name not in own.space]
                if gone:
                    notes.append(f"Not searched for {made[cell].name}: {', '.join(gone)}.")
        return notes


class _Kind(DesignRequest):
    """The one field of a design that is read before its kind is known."""


def _short(name: str) -> str:
    """Returns a name of at most 80 characters; a longer one ends in a digest of the whole.

    Example:
        >>> _short("kindmed-" + "x" * 90)[-12:]
        'xxx-f8b88b8d'
    """
    if len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST - len(digest) - 1]}-{digest}"
