"""Picks: which runs choose among themselves, what their candidates are, and who won for whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from jobs.spec import Input, JobSpec, Json, Resources, Scalar, Stage
from orchestrator.expansion.labels import carries, known_names, labels_text
from orchestrator.expansion.places import fault
from orchestrator.expansion.points import Point, Scene
from orchestrator.expansion.presets import RETENTION
from orchestrator.expansion.replicates import SIZE_LABELS
from orchestrator.expansion.specs import Content, Face, SpecWriter
from orchestrator.expansion.trains import TUNED, Trained, TrainWriter, inputs_of
from orchestrator.model import AxisInfo, AxisKind, Phase, Pick
from orchestrator.searches import SEARCH, rule_of

#: A pick reads numbers: no GPU, one core, little memory, minutes.
_PICK_MEMORY_MB, _PICK_MINUTES = 2048, 10

GroupKey = tuple[tuple[str, Scalar], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """One run of a pick's choice: what is evaluated and handed on."""

    pick: JobSpec
    run: str
    labels: Mapping[str, Scalar]
    point: Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One tune point of a pick: its run for every replicate, and what tells it from the others."""

    place: tuple[int, ...]
    runs: Mapping[str, Trained]
    overrides: Mapping[str, Json]
    parents: Mapping[str, str]

    def content(self) -> dict[str, Json]:
        """Return the candidate as it stands in the pick's config."""
        runs = {key: one.spec.job_id for key, one in self.runs.items()}
        return {"runs": runs, "overrides": dict(self.overrides), "inputs": dict(self.parents)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """The jobs of one phase with a pick, parents first, and its winners."""

    jobs: Sequence[JobSpec]
    winners: Sequence[Winner]
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Picker:
    """Makes the picks of one phase."""

    phase: Phase
    rule: Pick
    axes: Mapping[str, AxisInfo]
    scene: Scene
    writer: SpecWriter
    trains: TrainWriter

    def __post_init__(self) -> None:
        when = tuple(replace(case, condition=known_names(case.condition, self.axes)) for case in self.rule.when)
        self.rule = replace(self.rule, on=known_names(self.rule.on, self.axes), when=when)

    def run(self, points: Sequence[Point]) -> Picked:
        """Return train and pick jobs for the points of the phase. Raises SweepError when `pick.on` matches nothing."""
        waiting = [point for point in points if point.open and not carries(point.labels, self.rule.on)] if self.rule.on else []
        aside = {id(point) for point in waiting}
        grid = [self.trains.write(point) for point in points if id(point) not in aside]
        if self.rule.on and not any(one.point.open for one in grid):
            raise fault(self.scene.sweep, self._path("on"), "matches no point that has a tune axis: name a value that its label takes")
        groups: dict[GroupKey, list[Trained]] = {}
        for one in grid:
            groups.setdefault(self._group(one.point), []).append(one)
        jobs = [one.spec for one in grid]
        winners: list[Winner] = []
        decided: dict[GroupKey, tuple[JobSpec, Sequence[Candidate]]] = {}
        for key, members in groups.items():
            candidates = self._candidates(members)
            pick = self._pick(key, candidates, members)
            decided[key] = (pick, candidates)
            jobs.append(pick)
            winners += self._winners(pick, candidates)
        tuned = [self._tuned(list(virtual), decided) for virtual in self._collapsed(waiting)]
        jobs += [one.spec for one in tuned]
        for one in tuned:
            candidates = self._candidates([one])
            pick = self._pick(self._own(one.point), candidates, [one])
            jobs.append(pick)
            winners += self._winners(pick, candidates)
        return Picked(jobs=jobs, winners=winners, notes=tuple(self._notes([*grid, *tuned])))

    def _notes(self, trained: Sequence[Trained]) -> Iterator[str]:
        """Say where fewer checkpoints are kept than the pick could use."""
        kept = [count for one in trained if isinstance(count := one.spec.config.get(RETENTION), int) and count >= 0]
        least = min(kept, default=None)
        if least is None or self.rule.rule != "best":
            return
        if self.rule.top > least + 1:
            yield f"{self.phase.name}: pick.top is {self.rule.top}, and {RETENTION} keeps {least} besides the last: raise {RETENTION}"
        elif self.rule.per == "label" and least <= self.rule.top:
            yield (
                f"{self.phase.name}: each label picks among the checkpoints that are kept, the {least} best by {self.rule.metric} and the "
                f"last: raise {RETENTION} for a wider choice"
            )

    def _path(self, key: str) -> str:
        return f"phases.{self.phase.name}.pick.{key}"

    # --- groups

    def _own(self, point: Point) -> GroupKey:
        return tuple((name, value) for name, value in point.labels.items() if name not in point.open)

    def _group(self, point: Point) -> GroupKey:
        """Return what the runs that choose among themselves have in common. A run without an open tune axis stands alone."""
        own = self._own(point)
        if not point.open or self.rule.scope == "draw":
            return own
        if self.rule.scope == "sweep":
            return tuple((name, None) for name in sorted(point.open))
        return tuple((name, value) for name, value in own if not self._is_pooled(name))

    def _is_pooled(self, name: str) -> bool:
        if name in self.rule.on:
            return True
        return self.axes[name].kind is AxisKind.REPLICATE and name.rpartition(".")[2] not in SIZE_LABELS

    def _run_key(self, point: Point) -> str:
        """Name a run within its pick by the labels that the group pools; empty for a pick of one run."""
        if not point.open:
            return ""
        if self.rule.scope == "draw":
            pooled = {name: value for name, value in point.labels.items() if name in self.rule.on}
        else:
            group = {name for name, _ in self._group(point)}
            pooled = {name: value for name, value in self._own(point) if name not in group}
        return labels_text(dict(sorted(pooled.items())))

    # --- picks

    def _candidates(self, members: Sequence[Trained]) -> list[Candidate]:
        by_place: dict[tuple[int, ...], list[Trained]] = {}
        for one in members:
            by_place.setdefault(place_of(one.point), []).append(one)
        rows = [by_place[place] for place in sorted(by_place)]
        overrides, parents = differing(rows, self.trains.before), differing_parents(rows)
        return [
            Candidate(
                place=place,
                runs={self._run_key(one.point): one for one in row},
                overrides=overrides[index],
                parents=parents[index],
            )
            for index, (place, row) in enumerate(zip(sorted(by_place), rows, strict=True))
        ]

    def _pick(self, key: GroupKey, candidates: Sequence[Candidate], members: Sequence[Trained]) -> JobSpec:
        rule = self._rule_of(members)
        config = {
            "metric": rule.metric,
            "mode": rule.mode,
            "rule": rule.rule,
            "checkpoints": rule.checkpoints,
            "top": rule.top,
            "scope": rule.scope,
            "candidates": [candidate.content() for candidate in candidates],
        }
        if rule.per != "run":
            # Only where it is asked for, so that other picks are what they were.
            config["per"] = rule.per
        if self.phase.search is not None and len(candidates) > 1:
            self._require_one_run_each(candidates)
            config[SEARCH] = rule_of(self.phase.search)
        inputs = [
            Input(role="candidate", job=candidate.runs[run].spec.job_id, take="result")
            for candidate in candidates
            for run in sorted(candidate.runs)
        ]
        labels = {} if members[0].point.open and rule.scope == "sweep" else dict(key)
        ask = self.phase.resources
        face = Face(
            trial=f"{self.phase.name}/{labels_text(labels)}" if labels else self.phase.name,
            labels=labels,
            resources=replace(
                Resources(),
                memory_mb=min(ask.memory_mb, _PICK_MEMORY_MB),
                time_minutes=min(ask.time_minutes, _PICK_MINUTES),
                fuse=ask.fuse,
            ),
            resolved=all(one.spec.resolved for one in members),
        )
        return self.writer.write(Stage.PICK, face, config=Content.of(config), inputs=inputs)

    def _rule_of(self, members: Sequence[Trained]) -> Pick:
        """Return the rule for the runs of one choice. Raises SweepError when `pick.when` tells some of them apart."""
        rule = self.rule
        for index, case in enumerate(rule.when):
            met = {carries(one.point.labels, case.condition) for one in members}
            if len(met) > 1:
                message = f"is met by some of the runs that choose among themselves and not by others (pick.scope: {rule.scope})"
                raise fault(self.scene.sweep, self._path(f"when[{index}]"), f"{message}: name labels that all of them share")
            if met == {True}:
                rule = replace(rule, **case.settings)
        return rule

    def _require_one_run_each(self, candidates: Sequence[Candidate]) -> None:
        """Refuse a search whose candidates have several runs: one that loses on one draw would be out on all of them."""
        if any(len(candidate.runs) > 1 for candidate in candidates):
            raise fault(
                self.scene.sweep,
                f"phases.{self.phase.name}.search",
                f"stops runs one by one, and a candidate here is {max(len(one.runs) for one in candidates)} runs (pick.scope: "
                f"{self.rule.scope}): use `scope: draw`, or name in `pick.on` the one replicate that is searched",
            )

    def _winners(self, pick: JobSpec, candidates: Sequence[Candidate]) -> list[Winner]:
        runs: dict[str, Trained] = {}
        for candidate in candidates:
            for run, one in candidate.runs.items():
                runs.setdefault(run, one)
        return [Winner(pick=pick, run=run, labels=dict(self._own(one.point)), point=one.point) for run, one in runs.items()]

    # --- winners trained elsewhere than they were tuned (`pick.on`)

    def _collapsed(self, waiting: Sequence[Point]) -> list[list[Point]]:
        """Gather the tune points that would have been, for each run outside `pick.on`."""
        found: dict[GroupKey, list[Point]] = {}
        for point in waiting:
            found.setdefault(self._own(point), []).append(point)
        return list(found.values())

    def _tuned(self, virtual: list[Point], decided: Mapping[GroupKey, tuple[JobSpec, Sequence[Candidate]]]) -> Trained:
        """Return the train job that takes its pick's choice. Raises SweepError when the choice would mean something else here."""
        where = labels_text(dict(self._own(virtual[0])))
        found = decided.get(self._group(virtual[0]))
        if found is None:
            raise fault(self.scene.sweep, self._path("on"), f"no point is tuned for {where}: name a value that this arm has too")
        pick, candidates = found
        by_place = {candidate.place: candidate for candidate in candidates}
        tuned_keys = sorted(candidates[0].overrides)
        kept: dict[str, Json] | None = None
        for point in virtual:
            candidate = by_place.get(place_of(point))
            if candidate is None:
                continue
            config = self.trains.write(point).spec.config
            rest = {key: value for key, value in config.items() if key not in tuned_keys}
            kept = rest if kept is None else kept
            usual = self.trains.before
            if rest != kept or {key: config.get(key, usual.get(key)) for key in tuned_keys} != dict(candidate.overrides):
                raise fault(
                    self.scene.sweep,
                    self._path("on"),
                    f"a tune point sets other keys at {where} than where it is tuned: let `when` name the same labels, or drop `on`",
                )
            self._require_parents(point, virtual[0], candidate, where)
        if kept is None:
            raise fault(self.scene.sweep, self._path("on"), f"no tuned point is allowed at {where}: check `exclude`")
        constant = tuple(item for item in inputs_of(virtual[0]) if item.role not in candidates[0].parents)
        point = replace(virtual[0], labels=dict(self._own(virtual[0])), open=(), grid=())
        return self.trains.write_tuned(point, kept, tuned_keys, (Input(role=TUNED, job=pick.job_id, take="choice"), *constant))

    def _require_parents(self, point: Point, first: Point, candidate: Candidate, where: str) -> None:
        """See that the parents that a candidate stands for are those that this run would start from."""
        for (role, parent), (_, usual) in zip(point.parents, first.parents, strict=True):
            decided = candidate.parents.get(role)
            fits = parent == usual if decided is None else decided == parent.job and not parent.run and parent.take in ("choice", "last")
            if not fits:
                raise fault(
                    self.scene.sweep,
                    self._path("on"),
                    f"the winner would start from another job at {where} than where it is tuned: use `scope: draw` without `on`",
                )


def place_of(point: Point) -> tuple[int, ...]:
    """Return where a point stands on its open tune axes."""
    return tuple(index for _, index in point.grid)


def differing(rows: Sequence[Sequence[Trained]], before: Mapping[str, Json]) -> list[dict[str, Json]]:
    """Return, for each candidate, the config keys that tell it from the others; all its runs agree on them.

    `before` says what keys that a config leaves out stand for.
    """
    if len(rows) == 1:
        return [{}]
    common: list[dict[str, Json]] = []
    for row in rows:
        config = {**before, **row[0].spec.config}
        for one in row[1:]:
            other = {**before, **one.spec.config}
            config = {key: value for key, value in config.items() if key in other and other[key] == value}
        common.append(config)
    keys = [key for key in common[0] if all(key in config for config in common)]
    varying = [key for key in keys if any(config[key] != common[0][key] for config in common[1:])]
    return [{key: config[key] for key in varying} for config in common]


def differing_parents(rows: Sequence[Sequence[Trained]]) -> list[dict[str, str]]:
    """Return, for each candidate, the parents that tell it from the others; all its runs agree on them."""
    found: list[dict[str, str]] = [{} for _ in rows]
    if len(rows) == 1:
        return found
    for role in dict.fromkeys(role for row in rows for one in row for role, _ in one.point.parents):
        jobs = [{parent.job for one in row for name, parent in one.point.parents if name == role} for row in rows]
        if all(len(each) == 1 for each in jobs) and len({job for each in jobs for job in each}) > 1:
            for row, each in zip(found, jobs, strict=True):
                row[role] = next(iter(each))
    return found
