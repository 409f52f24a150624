"""The points of a phase: what precedes it, times its axes, times its replicates, less what is excluded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from jobs.catalog import PRESET, Declaration
from jobs.spec import Json, Scalar
from orchestrator.expansion.forms import Form, form_of
from orchestrator.expansion.joins import Handed, joined
from orchestrator.expansion.labels import carries, known_names, label_value, same
from orchestrator.expansion.places import fault
from orchestrator.expansion.presets import laid_below
from orchestrator.expansion.references import Resolver
from orchestrator.expansion.replicates import Replicate, has_folds, origins_of, pairing_of, replicates_of
from orchestrator.model import DEFAULT_ROLE, NO_PARENT, Axis, AxisInfo, AxisKind, Draws, Parents, Phase, Sweep

AFTER, DATA, FLOOR = "after", "data", "floor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a phase once it is expanded: what it hands on, and the labels that this may carry."""

    handed: Sequence[Handed]
    axes: Mapping[str, AxisInfo]
    #: Replicate label -> the draws, or the number of seeds, that it comes from.
    origins: Mapping[str, Draws | int]
    #: Compare axes that the whole sweep shares.
    shared: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All that expanding a phase may look at."""

    sweep: Sweep
    catalog: Mapping[str, Declaration]
    resolver: Resolver
    known: Mapping[str, Known]
    #: Phases of the no-network floor, which carry `after: floor`.
    floors: frozenset[str] = frozenset()
    #: A sampled sweep has lost values on purpose: conditions that match nothing are no fault there.
    sampled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One alternative of what a phase follows, and what that leaves of its config."""

    parents: Parents
    #: Config keys that belong to the parent's job here.
    dropped: frozenset[str]
    label: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One train job to be: its labels, what the axes set, and what it starts from."""

    labels: Mapping[str, Scalar]
    settings: Mapping[str, Json]
    branch: Branch
    parents: tuple[tuple[str, Handed], ...]
    replicate: Replicate
    cards: tuple[str, ...]
    #: Labels of tune axes that no pick has decided yet, and the place of the point on each axis.
    open: tuple[str, ...] = ()
    grid: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """What one value of an axis does to a point."""

    labels: Mapping[str, Scalar]
    settings: Mapping[str, Json]
    #: What a preset lays below the settings of all axes.
    below: Mapping[str, Json] = field(default_factory=dict)
    card: str | None = None
    open: tuple[str, ...] = ()
    grid: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PhasePoints:
    """The points of a phase, and the labels that they may carry."""

    points: Sequence[Point]
    axes: Mapping[str, AxisInfo]
    origins: Mapping[str, Draws | int]
    shared: frozenset[str]
    notes: tuple[str, ...] = ()


def points_of(phase: Phase, scene: Scene) -> PhasePoints:
    """Expand one phase whose parents are expanded. Raises SweepError with its place for a condition that matches nothing."""
    return _Expansion(phase, scene).run()


@dataclass(slots=True)
class _Expansion:
    """The work of expanding one phase."""

    phase: Phase
    scene: Scene
    fields: Form = field(init=False)
    starts: frozenset[str] = field(init=False)
    names: dict[str, str] = field(init=False)
    equal: tuple[tuple[str, str], ...] = field(init=False)
    infos: dict[str, AxisInfo] = field(init=False)
    shared: set[str] = field(init=False)
    matched: set[str] = field(default_factory=set)
    by_axis: dict[tuple[int, frozenset[str]], list[Shift]] = field(default_factory=dict)
    by_card: dict[tuple[str, ...], list[tuple[Mapping[str, Scalar], Replicate]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        declaration = self.scene.catalog[self.phase.trainer]
        self.fields = form_of(declaration.config)
        self.starts = frozenset(declaration.starts) - frozenset(declaration.needs)
        parents = [self.scene.known[name] for name in self._parent_names()]
        self.infos = {name: info for parent in parents for name, info in parent.axes.items()}
        self.shared = {name for parent in parents for name in parent.shared}
        carried = {name: origin for parent in parents for name, origin in parent.origins.items()}
        self.equal = pairing_of(self.phase, carried).equal
        self.names = self._own_names()

    def run(self) -> PhasePoints:
        inherited = dict(self.infos)
        points = [point for branch in self._branches() for point in self._points(branch)]
        self._require_matches()
        origins = {name: origin for parent in self._parent_names() for name, origin in self.scene.known[parent].origins.items()}
        origins |= {self.names.get(name, name): origin for name, origin in origins_of(self.phase).items()}
        # The sweep's own axes come before the phase's, as they stand in the file.
        own = sorted((name for name in self.infos if name not in inherited), key=lambda name: self.infos[name].phase != "")
        axes = {name: self.infos[name] for name in (*inherited, *own)}
        return PhasePoints(
            points=points, axes=axes, origins=origins, shared=frozenset(self.shared), notes=tuple(self._collapsed(inherited))
        )

    def _parent_names(self) -> list[str]:
        return list(dict.fromkeys(name for parents in self.phase.after for name in parents.roles.values()))

    def _own_names(self) -> dict[str, str]:
        """Name own labels apart from those that a parent brings: `lr` becomes `finetune.lr` where `pretrain` has an `lr`."""
        paired = {own for carried, own in self.equal if carried == own}
        own = [key for axis in self._own_axes() for key in axis.keys]
        own += [name for name in origins_of(self.phase) if name not in paired]
        if self.phase.after_is_axis or self.phase.name in self.scene.floors:
            own.append(AFTER)
        return {name: f"{self.phase.name}.{name}" if name in self.infos else name for name in own}

    def _own_axes(self) -> tuple[Axis, ...]:
        search = self.phase.search
        return self.phase.axes if search is None else (*self.phase.axes, *search.space)

    def _branches(self) -> list[Branch]:
        found: list[Branch] = []
        for parents in self.phase.after:
            follows = bool(parents.roles) or parents.weights is not None
            label: dict[str, Scalar] = {}
            if self.phase.after_is_axis:
                label = {self.names[AFTER]: parents.label}
            elif self.phase.name in self.scene.floors:
                label = {self.names[AFTER]: FLOOR}
            # A parent in another role is no start: what it hands on is something else, and the job has its own start beside it.
            started = follows and (not parents.roles or DEFAULT_ROLE in parents.roles)
            dropped = self.starts & set(self.fields.types) if started else frozenset[str]()
            found.append(Branch(parents=parents, dropped=dropped, label=label))
        for branch in found:
            for name, value in branch.label.items():
                self._note(name, AxisKind.COMPARE, value)
        return found

    # --- one branch

    def _points(self, branch: Branch) -> Iterator[Point]:
        factors = [shifts for axis in self._own_axes() if (shifts := self._shifts(axis, branch))]
        handed = {name: self.scene.known[name].handed for name in self._parent_names()}
        for labels, open_labels, grid, parents in joined(branch.parents.roles, handed):
            inherited, top = self._top_level(labels, branch)
            inherited = replace(inherited, open=open_labels, grid=grid)
            for shifts in product(*top, (Shift(labels=branch.label, settings={}),), *factors):
                yield from self._replicated(branch, dict(labels), (inherited, *shifts), parents)

    def _replicated(
        self, branch: Branch, labels: dict[str, Scalar], shifts: Sequence[Shift], parents: tuple[tuple[str, Handed], ...]
    ) -> Iterator[Point]:
        settings = {key: value for shift in shifts for key, value in shift.below.items()}
        open_labels: tuple[str, ...] = ()
        card = self.phase.data
        for shift in shifts:
            labels.update(shift.labels)
            settings.update(shift.settings)
            open_labels += shift.open
            card = shift.card or card
        # Axes of earlier phases first, then own ones by name, so that the order of keys in the file changes no candidate's number.
        inherited, *own_shifts = shifts
        grid = (*inherited.grid, *sorted(place for shift in own_shifts for place in shift.grid))
        cards = self.phase.sources or ((card,) if card else ())
        for own, replicate in self._replicates(cards):
            if any(name in labels and not same(labels[name], replicate.labels[key]) for name, key in self.equal):
                continue
            full = {**labels, **own}
            if self._excluded(full):
                continue
            yield Point(
                labels=full,
                settings=self._when(full, settings, branch) if self.phase.when else settings,
                branch=branch,
                parents=parents,
                replicate=replicate if replicate.index else self._inherited_index(replicate, full),
                cards=cards,
                open=open_labels,
                grid=grid,
            )

    def _inherited_index(self, replicate: Replicate, labels: Mapping[str, Scalar]) -> Replicate:
        """Give a phase without replicates of its own the number of those that it inherits, so that these differ in their seed."""
        carried = [name for name, info in self.infos.items() if info.kind is AxisKind.REPLICATE and name in labels]
        index = tuple(value for name in carried if isinstance(value := labels[name], int) and name.rpartition(".")[2] != "count")
        return Replicate(labels=replicate.labels, index=index, draw=replicate.draw) if index else replicate

    def _top_level(self, labels: Mapping[str, Scalar], branch: Branch) -> tuple[Shift, list[list[Shift]]]:
        """Return what inherited labels of the sweep's own axes set, and the shifts of those that are not inherited."""
        inherited: dict[str, Json] = {}
        below: dict[str, Json] = {}
        factors: list[list[Shift]] = []
        for axis in self.scene.sweep.compare if self.phase.shared is None else self.phase.shared:
            usable = [key for key in axis.keys if self._takes(key) and key not in branch.dropped]
            if not usable or any(key in self.phase.config for key in usable):
                continue
            shifts = self._shifts(axis, branch, top=True)
            if not all(key in labels for key in axis.keys):
                self.shared.update(axis.keys)
                factors.append(shifts)
                continue
            fitting = [shift for shift in shifts if all(same(labels[key], value) for key, value in shift.labels.items())]
            below.update(fitting[0].below if fitting else {})
            inherited.update(fitting[0].settings if fitting else {key: labels[key] for key in usable if key in self.fields.types})
        return Shift(labels={}, settings=inherited, below=below), factors

    def _takes(self, key: str) -> bool:
        """Tell whether an axis of this name sets anything in this phase."""
        return key in self.fields.types or (key == PRESET and bool(self.scene.catalog[self.phase.trainer].presets))

    def _below(self, values: Mapping[str, Json], branch: Branch) -> Mapping[str, Json]:
        """Return what the preset of an axis value sets below everything else."""
        name = values.get(PRESET)
        if PRESET in self.fields.types or not isinstance(name, str) or not self._takes(PRESET):
            return {}
        set_by_it = laid_below(self.scene.catalog[self.phase.trainer], self.phase, name)
        return {key: value for key, value in set_by_it.items() if key not in branch.dropped}

    def _shifts(self, axis: Axis, branch: Branch, *, top: bool = False) -> list[Shift]:
        """Return what each value of an axis does; none when all its keys belong to the parent's job."""
        known = (id(axis), branch.dropped)
        if known not in self.by_axis:
            self.by_axis[known] = [] if all(key in branch.dropped for key in axis.keys) else self._shifts_of(axis, branch, top=top)
        return self.by_axis[known]

    def _shifts_of(self, axis: Axis, branch: Branch, *, top: bool) -> list[Shift]:
        names = {key: key if top else self.names[key] for key in axis.keys}
        axis_name = "+".join(sorted(names.values()))
        found: list[Shift] = []
        for index, values in enumerate(axis.points):
            canon = {key: self.fields.canonical(key, value) if key in self.fields.types else value for key, value in values.items()}
            labels = {names[key]: label_value(value) for key, value in canon.items()}
            for name, value in labels.items():
                self._note(name, axis.kind, value, phase="" if top else self.phase.name)
            is_open = axis.kind is AxisKind.TUNE
            found.append(
                Shift(
                    labels=labels,
                    settings={key: value for key, value in canon.items() if key in self.fields.types and key not in branch.dropped},
                    below=self._below(values, branch),
                    card=canon.get(DATA) if DATA not in self.fields.types else None,
                    open=tuple(labels) if is_open else (),
                    grid=((axis_name, index),) if is_open else (),
                )
            )
        return found

    # --- replicates, conditions

    def _replicates(self, cards: tuple[str, ...]) -> list[tuple[Mapping[str, Scalar], Replicate]]:
        if cards not in self.by_card:
            folds = 0
            if has_folds(self.phase) and self.phase.draws is not None:
                folds = self.scene.resolver.folds(cards[0], self.phase.draws)
            found: list[tuple[Mapping[str, Scalar], Replicate]] = [
                ({self.names.get(name, name): value for name, value in one.labels.items()}, one) for one in replicates_of(self.phase, folds)
            ]
            for labels, _ in found:
                for name, value in labels.items():
                    self._note(name, AxisKind.REPLICATE, value)
            self.by_card[cards] = found
        return self.by_card[cards]

    def _excluded(self, labels: Mapping[str, Scalar]) -> bool:
        hit = False
        for index, condition in enumerate(self.phase.exclude):
            if carries(labels, known_names(condition, self.infos)):
                self.matched.add(f"exclude[{index}]")
                hit = True
        return hit

    def _when(self, labels: Mapping[str, Scalar], settings: Mapping[str, Json], branch: Branch) -> Mapping[str, Json]:
        changed: dict[str, Json] = {}
        for index, when in enumerate(self.phase.when):
            if carries(labels, known_names(when.condition, self.infos)):
                self.matched.add(f"when[{index}]")
                changed |= {key: self.fields.canonical(key, value) for key, value in when.settings.items() if key not in branch.dropped}
        return {**settings, **changed} if changed else settings

    def _require_matches(self) -> None:
        if self.scene.sampled:
            return
        conditions = {f"exclude[{index}]": "excludes nothing" for index in range(len(self.phase.exclude))}
        conditions |= {f"when[{index}]": "applies to nothing" for index in range(len(self.phase.when))}
        for name, nothing in conditions.items():
            if name not in self.matched:
                labels = ", ".join(f"{axis} ({', '.join(map(str, info.values))})" for axis, info in self.infos.items())
                raise fault(
                    self.scene.sweep,
                    f"phases.{self.phase.name}.{name}",
                    f"{nothing}: no point carries these labels; the labels here are {labels or 'none'}",
                )

    def _note(self, name: str, kind: AxisKind, value: Scalar, *, phase: str | None = None) -> None:
        """Remember a label's value, in order of appearance."""
        info = self.infos.get(name)
        if info is None:
            self.infos[name] = AxisInfo(name=name, kind=kind, phase=self.phase.name if phase is None else phase, values=(value,))
        elif not any(same(value, known) for known in info.values):
            self.infos[name] = AxisInfo(name=name, kind=info.kind, phase=info.phase, values=(*info.values, value))

    def _collapsed(self, inherited: Mapping[str, AxisInfo]) -> Iterator[str]:
        """Say which labels an arm without a parent leaves out."""
        left_out = [name for name in inherited if name not in self.shared]
        if left_out and any(not parents.roles and parents.weights is None for parents in self.phase.after):
            yield f"{self.phase.name}: after={NO_PARENT} leaves out {', '.join(left_out)} of the phase that it skips"
