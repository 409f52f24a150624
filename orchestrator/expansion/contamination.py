"""Whether training has seen test images of other cards: refused, unless the sweep allows it, and then said wherever results are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from jobs.spec import JobSpec, Json, Split, Stage, canonical_json
from orchestrator.expansion.places import fault
from orchestrator.expansion.references import Resolver
from orchestrator.model import SAME_DATA, Contamination, Sweep

_KEY = "allow_contamination"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Training:
    """What one train job learns from: a phase, a card, and the draw as text."""

    phase: str
    card: str
    draw: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """The jobs of a plan, those that are scored on images seen in training marked, and what there is to say of them."""

    jobs: tuple[JobSpec, ...]
    allowed: tuple[Contamination, ...]
    notes: tuple[str, ...]


def guard(sweep: Sweep, jobs: Sequence[JobSpec], resolver: Resolver) -> Guarded:
    """Look at every evaluation and all training before it. Raises SweepError for a test set that was seen and that is not allowed.

    `jobs` has parents before children. What was seen is no part of what determines a result, so ids stay.
    """
    look = _Look(sweep=sweep, resolver=resolver)
    checked = tuple(look.at(job) for job in jobs)
    needed = {one.card for one in look.found}
    notes = tuple(
        f"{_KEY}: '{card}' is not needed, since no test image of it is known to be seen in training: take it out"
        for card in dict.fromkeys(sweep.allow_contamination)
        if card not in needed
    )
    return Guarded(jobs=checked, allowed=tuple(look.found), notes=notes)


@dataclass(slots=True, kw_only=True)
class _Look:
    sweep: Sweep
    resolver: Resolver
    found: dict[Contamination, None] = field(default_factory=dict)
    #: Job -> all training behind it; equal sets are one object, of which plans have few.
    _behind: dict[str, frozenset[_Training]] = field(default_factory=dict)
    _known: dict[frozenset[_Training], frozenset[_Training]] = field(default_factory=dict)
    _answers: dict[tuple[str, str, str, str, frozenset[_Training]], tuple[Contamination, ...]] = field(default_factory=dict)

    def at(self, job: JobSpec) -> JobSpec:
        """Return a job, marked when it is scored on images that were seen."""
        behind = self._all_behind(job)
        if job.stage is not Stage.EVALUATE:
            return job
        card, split = _cards(job)[0], str(job.config["split"])
        key = (job.phase, card, split, _draw(job) if split == Split.HELD_OUT else "", behind)
        if key not in self._answers:
            self._answers[key] = tuple(self._seen(*key))
            if self._answers[key] and card not in self.sweep.allow_contamination:
                raise self._refused(self._answers[key])
            self.found |= dict.fromkeys(self._answers[key])
        return replace(job, contamination=tuple(one.sentence for one in self._answers[key])) if self._answers[key] else job

    def _all_behind(self, job: JobSpec) -> frozenset[_Training]:
        draw = _draw(job)
        own = [_Training(phase=job.phase, card=card, draw=draw) for card in _cards(job)] if job.stage is Stage.TRAIN else []
        behind = frozenset(own).union(*{self._behind[item.job] for item in job.inputs})
        behind = self._behind[job.job_id] = self._known.setdefault(behind, behind)
        return behind

    def _seen(self, phase: str, card: str, split: str, draw: str, behind: frozenset[_Training]) -> Iterator[Contamination]:
        for one in sorted(behind, key=lambda one: (one.phase, one.card, one.draw)):
            if one.card == card and split == Split.HELD_OUT and one.draw != draw:
                why = "it is not trained on the same fold, so it learns from patients that are held out here"
            else:
                why = self.resolver.overlap(one.card, card, split)
            if why:
                yield Contamination(card=card, split=split, phase=phase, trained_in=one.phase, trained_on=one.card, why=why)

    def _refused(self, seen: Sequence[Contamination]) -> Exception:
        distinct = list(dict.fromkeys(seen))
        first = distinct[0]
        more = f" (and {len(distinct) - 1} more)" if len(distinct) > 1 else ""
        message = (
            f"{first.sentence}{more}: leave one of the two out, or type `{_KEY}: [{first.card}]` at the top of the sweep, "
            "which the report then says on its first page"
        )
        return fault(self.sweep, self._path(first), message)

    def _path(self, one: Contamination) -> str:
        """Return where the target stands: under its phase, or at the top of the sweep for a phase that has none of its own."""
        phase = next(phase for phase in self.sweep.phases if phase.name == one.phase)
        asked = [(target.data, target.split) for target in phase.evaluate]
        wanted = [asked.index((name, one.split)) for name in (one.card, SAME_DATA) if (name, one.split) in asked]
        tail = f"evaluate[{wanted[0]}].data" if wanted else "evaluate"
        own, source = f"phases.{one.phase}", self.sweep.source
        if source is not None and source.place(f"{own}.evaluate") == source.place(own) and source.place("evaluate") is not None:
            return tail
        return f"{own}.{tail}"


def _cards(job: JobSpec) -> list[str]:
    return [source["card"] for source in job.data.get("sources", ())]


def _draw(job: JobSpec) -> str:
    draw: Json = job.data.get("draw")
    return "" if draw is None else canonical_json(draw)
