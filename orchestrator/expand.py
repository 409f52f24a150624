"""Expand a sweep into a plan: pure, parents before children, every job with the id that its result will be found under."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from jobs.catalog import PRESET, WATCH, Declaration
from jobs.spec import JobSpec
from orchestrator.arms import Arm, arms, check_groups, partners, without_partner
from orchestrator.errors import ReportError
from orchestrator.expansion.checks import check_phases
from orchestrator.expansion.contamination import guard
from orchestrator.expansion.evaluations import Evaluator
from orchestrator.expansion.floors import with_floors
from orchestrator.expansion.joins import Handed
from orchestrator.expansion.labels import labels_text
from orchestrator.expansion.packing import packed_notes
from orchestrator.expansion.picks import Picker, Winner
from orchestrator.expansion.places import fault
from orchestrator.expansion.points import Known, PhasePoints, Scene, points_of
from orchestrator.expansion.pooling import joined_notes, refuse_pooled
from orchestrator.expansion.references import Remembering, Resolver
from orchestrator.expansion.sources import seen_notes
from orchestrator.expansion.specs import Fragments, SpecWriter
from orchestrator.expansion.trains import Trained, TrainWriter, metrics_of
from orchestrator.model import AxisInfo, Phase, Plan, Sweep
from orchestrator.searches import search_notes

#: A tuning budget this much larger than another arm's is said in the plan and in the report.
UNEQUAL_BUDGETS = 2


def expand(sweep: Sweep, catalog: Mapping[str, Declaration], resolver: Resolver, *, sampled: bool = False) -> Plan:
    """Return the plan of a sweep. Raises SweepError, with its place in the file, for a sweep that cannot be what its author meant.

    `sampled` says that `orchestrator.expansion.sampling` cut the sweep, so that conditions on values that were cut are no fault.
    """
    sweep, floors = with_floors(sweep, catalog)
    ordered = in_order(sweep)
    check_phases(sweep, ordered, catalog)
    asked = Remembering(resolver)
    work = _Work(sweep=sweep, catalog=catalog, resolver=asked, floors=floors, sampled=sampled)
    for phase in ordered:
        work.add(phase)
    if not work.jobs:
        raise fault(sweep, "phases", "there is nothing to run: every point is excluded")
    guarded = guard(sweep, work.jobs, asked)
    plan = Plan(
        sweep=sweep.name,
        about=sweep.about,
        jobs=guarded.jobs,
        axes=tuple(work.axes.values()),
        report=sweep.report,
        notes=(*work.notes, *(() if sampled else guarded.notes), *asked.problems),
        sample=sampled,
        made_data=asked.made_data,
        file=sweep.file,
        contamination=guarded.allowed,
    )
    return with_report_notes(plan, sweep)


def in_order(sweep: Sweep) -> list[Phase]:
    """Return the phases with parents before children, else as written. Raises SweepError for a circle or an unknown phase."""
    by_name = {phase.name: phase for phase in sweep.phases}
    ordered: dict[str, Phase] = {}

    def visit(phase: Phase, above: tuple[str, ...]) -> None:
        if phase.name in ordered:
            return
        if phase.name in above:
            raise fault(sweep, f"phases.{phase.name}.after", f"goes in a circle: {' after '.join((*above, phase.name))}")
        for name in (name for parents in phase.after for name in parents.roles.values()):
            if name not in by_name:
                raise fault(sweep, f"phases.{phase.name}.after", f"there is no phase '{name}'; the phases are {', '.join(by_name)}")
            visit(by_name[name], (*above, phase.name))
        ordered[phase.name] = phase

    for phase in sweep.phases:
        visit(phase, ())
    return list(ordered.values())


@dataclass(slots=True, kw_only=True)
class _Work:
    """A plan in the making."""

    sweep: Sweep
    catalog: Mapping[str, Declaration]
    resolver: Resolver
    floors: frozenset[str]
    sampled: bool
    jobs: list[JobSpec] = field(default_factory=list)
    axes: dict[tuple[str, str], AxisInfo] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    known: dict[str, Known] = field(default_factory=dict)
    taken: dict[str, JobSpec] = field(default_factory=dict)
    fragments: Fragments = field(default_factory=Fragments)

    def add(self, phase: Phase) -> None:
        """Expand one more phase whose parents are expanded."""
        scene = Scene(
            sweep=self.sweep, catalog=self.catalog, resolver=self.resolver, known=self.known, floors=self.floors, sampled=self.sampled
        )
        expanded = points_of(phase, scene)
        cards = list(dict.fromkeys(point.cards for point in expanded.points))
        refuse_pooled(self.sweep, phase, cards, self.resolver)
        self.notes += joined_notes(self.sweep, phase, cards, self.resolver)
        self.notes += seen_notes(phase, self.resolver)
        self.notes += expanded.notes
        for info in expanded.axes.values():
            self._merge(info)
        writer = SpecWriter(sweep=self.sweep.name, phase=phase.name, declaration=self.catalog[phase.trainer], fragments=self.fragments)
        trains = TrainWriter(phase, scene, writer)
        if phase.pick is None:
            trained = [trains.write(point) for point in expanded.points]
            self._extend(phase, [one.spec for one in trained])
            handed = list(_handed_trains(phase, trained)) if self._is_followed(phase) else []
        else:
            self.notes += _choosing_with_labels(phase, self.catalog[phase.trainer])
            picked = Picker(phase, phase.pick, expanded.axes, scene, writer, trains).run(expanded.points)
            self._extend(phase, picked.jobs)
            self.notes += picked.notes
            evaluator = Evaluator(phase, scene, writer)
            self._extend(phase, evaluator.run(picked.winners))
            self.notes += evaluator.notes(picked.winners)
            handed = list(_handed_winners(picked.winners)) if self._is_followed(phase) else []
        self._close(phase, expanded)
        self.known[phase.name] = Known(handed=handed, axes=expanded.axes, origins=expanded.origins, shared=expanded.shared)
        self.notes += packed_notes(phase.name, (job for job in self.jobs if job.phase == phase.name))
        if phase.search is not None:
            self.notes += search_notes(phase.name, phase.search, (job for job in self.jobs if job.phase == phase.name))

    def _is_followed(self, phase: Phase) -> bool:
        return any(phase.name in parents.roles.values() for other in self.sweep.phases for parents in other.after)

    def _close(self, phase: Phase, expanded: PhasePoints) -> None:
        """Refuse a path that ends before a pick has decided its tune axes."""
        if phase.pick is None and not self._is_followed(phase):
            loose = next((point for point in expanded.points if point.open), None)
            if loose is not None:
                axes = f"axis {loose.open[0]} is" if len(loose.open) == 1 else f"axes {', '.join(loose.open)} are"
                message = f"the tune {axes} still open where the path ends: add a pick to '{phase.name}'"
                raise fault(self.sweep, f"phases.{phase.name}", message)

    def _merge(self, info: AxisInfo) -> None:
        key = (info.phase, info.name)
        known = self.axes.get(key)
        if known is not None:
            values = (*known.values, *(value for value in info.values if value not in known.values))
            info = AxisInfo(name=info.name, kind=info.kind, phase=info.phase, values=values)
        self.axes[key] = info

    def _extend(self, phase: Phase, jobs: Sequence[JobSpec]) -> None:
        """Take jobs over. Raises SweepError when two of them are the same job."""
        for job in jobs:
            other = self.taken.setdefault(job.job_id, job)
            if other is not job:
                presets = [str(one.labels[PRESET]) for one in (other, job) if PRESET in one.labels]
                hint = ""
                if len(set(presets)) == 2:
                    hint = f"; the presets {' and '.join(presets)} differ here in no key that config, the axes and `when` leave to them"
                raise fault(
                    self.sweep,
                    f"phases.{phase.name}",
                    f"two points resolve to the same {job.stage} job, {other.trial} and {job.trial}: exclude one, or let their configs "
                    f"differ{hint}",
                )
        self.jobs += jobs


def _choosing_with_labels(phase: Phase, trainer: Declaration) -> Iterator[str]:
    """Say where labels choose what a trainer learnt without them."""
    for where, metric in metrics_of(phase):
        if trainer.labels or trainer.monitored_by(metric) != WATCH:
            continue
        yield (
            f"{phase.name}: its {where} reads '{metric}', which is measured on validation labels: '{trainer.name}' learns without "
            "labels, and what is handed on is chosen with them, which is a supervised choice"
        )


def _handed_trains(phase: Phase, trained: Sequence[Trained]) -> Iterator[Handed]:
    for one in trained:
        yield Handed(
            labels=one.point.labels,
            job=one.spec.job_id,
            take=phase.hand_on,
            resolved=one.spec.resolved,
            open=one.point.open,
            grid=one.point.grid,
        )


def _handed_winners(winners: Sequence[Winner]) -> Iterator[Handed]:
    for winner in winners:
        yield Handed(labels=winner.labels, job=winner.pick.job_id, take="choice", run=winner.run, resolved=winner.pick.resolved)


def with_report_notes(plan: Plan, sweep: Sweep) -> Plan:
    """Check the report's contrasts against the arms, and say what people should know of them. Raises SweepError."""
    listed = arms(plan)
    notes = [*plan.notes, *_budget_notes(listed)]
    contrasts = plan.report.contrasts
    for index, contrast in enumerate(contrasts):
        try:
            partners(listed, contrast.baseline)
        except ReportError as error:
            path = "report.baseline" if len(contrasts) == 1 else f"report.baseline[{index}]"
            raise fault(sweep, path, str(error)) from error
        single = [arm.name for arm in without_partner(listed, contrast.baseline)]
        if single:
            have = "has" if len(single) == 1 else "have"
            notes.append(f"{'; '.join(single)} {have} no partner for the baseline {labels_text(contrast.baseline)}")
    if plan.report.groups:
        try:
            check_groups(listed, plan.report.groups)
        except ReportError as error:
            if not plan.sample:
                raise fault(sweep, "report.groups", str(error)) from error
            notes.append(f"groups are not compared in this sample: {error}")
    return Plan(**{name: getattr(plan, name) for name in plan.__dataclass_fields__ if name != "notes"}, notes=tuple(notes))


def _budget_notes(listed: Sequence[Arm]) -> Iterator[str]:
    """Say where the arms of one phase tried very different numbers of candidates."""
    for phase in dict.fromkeys(arm.phase for arm in listed):
        inside = [arm for arm in listed if arm.phase == phase and not arm.is_floor]
        if not inside:
            continue
        most, least = max(inside, key=lambda arm: arm.candidates), min(inside, key=lambda arm: arm.candidates)
        if most.candidates > UNEQUAL_BUDGETS * least.candidates:
            yield f"tuning budgets differ: {most.name} tries {most.candidates} candidates, {least.name} {least.candidates}"
