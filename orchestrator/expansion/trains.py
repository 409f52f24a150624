"""Train jobs: points with their config resolved, their data named and their seed set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields

from jobs.catalog import Declaration
from jobs.spec import Input, JobSpec, Json, Stage, canonical_json
from orchestrator.expansion.forms import form_of
from orchestrator.expansion.labels import labels_text
from orchestrator.expansion.places import fault
from orchestrator.expansion.points import Branch, Point, Scene
from orchestrator.expansion.presets import beside_own
from orchestrator.expansion.references import DataRef, WeightsRef
from orchestrator.expansion.replicates import training_seed
from orchestrator.expansion.sources import SourceMetrics
from orchestrator.expansion.specs import EMPTY, ConfigTemplate, Content, Face, SpecWriter
from orchestrator.grammar.faults import suggest
from orchestrator.model import DEFAULT_ROLE, Phase
from trainers.errors import WeightsError
from trainers.slugs import slug
from trainers.version import LOOP_VERSION

#: Config key of a train job that names what decides which checkpoints are kept.
MONITOR = "monitor"
#: Config key of a train job that lists what an upstream pick fills in, and the role of that pick.
TUNED_KEYS, TUNED = "tuned_keys", "tuned"
#: Config keys that name an architecture, for weights that depend on it.
_ARCHITECTURE = ("arch", "backbone")
_EPOCH = "epoch:"
#: Value of `keep_best` that keeps every checkpoint.
KEEP_ALL = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A point and its train job."""

    point: Point
    spec: JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """External files that a job starts from. A path is never in an id: the digest stands for it, and `named` for its name."""

    weights: Content = EMPTY
    named: Mapping[str, str] = field(default_factory=dict)
    resolved: bool = True


_NO_START = Start()


@dataclass(slots=True)
class TrainWriter:
    """Writes the train jobs of one phase."""

    phase: Phase
    scene: Scene
    writer: SpecWriter
    _templates: dict[frozenset[str], ConfigTemplate] = field(default_factory=dict)
    _data: dict[tuple[Json, ...], tuple[Content, bool]] = field(default_factory=dict)
    _starts: dict[tuple[Json, ...], Start] = field(default_factory=dict)
    _tasks: dict[tuple[str, ...], dict[str, tuple[Json, Json]]] = field(default_factory=dict)
    _seeds: dict[tuple[int, ...], int] = field(default_factory=dict)
    _checked: set[str] = field(default_factory=set)

    @property
    def before(self) -> dict[str, Json]:
        """Return what keys that a config leaves out stand for: they came after the first results."""
        declared = form_of(self.writer.declaration.config)
        return {key: declared.canonical(key, value) for key, value in self.writer.declaration.before.items()}

    def write(self, point: Point) -> Trained:
        """Return the train job of a point. Raises SweepError for a config that its trainer refuses."""
        template = self._template(point.branch)
        start = self._weights_of(point, template.base)
        config, text = template.fill({**point.settings, **start.named, **self._by_task(point, template.base)})
        if text not in self._checked:
            self._check(config, point)
            self._checked.add(text)
        content = Content(value=config, text=text)
        return Trained(point=point, spec=self._spec(point, content, inputs_of(point), start))

    def write_tuned(self, point: Point, kept: Mapping[str, Json], tuned_keys: list[str], inputs: tuple[Input, ...]) -> Trained:
        """Return a train job whose `tuned_keys`, and the parents that go with them, a pick fills in."""
        config = Content.of({**kept, TUNED_KEYS: tuned_keys})
        return Trained(point=point, spec=self._spec(point, config, inputs, self._weights_of(point, kept)))

    def _spec(self, point: Point, config: Content, inputs: tuple[Input, ...], start: Start) -> JobSpec:
        data, data_resolved = self._data_of(point)
        index = point.replicate.index
        seed = self._seeds.get(index)
        if seed is None:
            seed = self._seeds[index] = training_seed(self.phase.sweep_seed, self.phase.name, index)
        face = Face(
            trial=f"{self.phase.name}/{labels_text(point.labels)}" if point.labels else self.phase.name,
            labels=point.labels,
            resources=self.phase.resources,
            resolved=start.resolved and data_resolved and all(parent.resolved for _, parent in point.parents),
        )
        return self.writer.write(
            Stage.TRAIN, face, config=config, data=data, weights=start.weights, inputs=inputs, seed=seed, loop=LOOP_VERSION
        )

    def _template(self, branch: Branch) -> ConfigTemplate:
        found = self._templates.get(branch.dropped)
        if found is None:
            declared = form_of(self.writer.declaration.config)
            given = {key: declared.canonical(key, value) for key, value in self.phase.config.items()}
            given = {**beside_own(self.writer.declaration, self.phase), **given}
            base = {key: value for key, value in {**declared.defaults, **given}.items() if key not in branch.dropped}
            base |= {key: None for key in declared.required if key not in given and key not in branch.dropped}
            if self.phase.hand_on.startswith(_EPOCH) and "keep_best" in base and "keep_best" not in given:
                # Retention knows the last and the best; an epoch that is handed on by its number has to be kept for that.
                base["keep_best"] = KEEP_ALL
            pick = self.phase.pick
            if pick is not None and pick.metric is not None and pick.rule == "best":
                base[MONITOR] = {"metric": pick.metric, "mode": pick.mode}
            found = self._templates[branch.dropped] = ConfigTemplate(base, self.writer.fragments, self.before)
        return found

    def _by_task(self, point: Point, base: Mapping[str, Json]) -> dict[str, Json]:
        """Return what keys that a config leaves to the task of its card stand for."""
        if point.cards not in self._tasks:
            task = self.scene.resolver.task(point.cards[0]) if point.cards else ""
            self._tasks[point.cards] = self.writer.declaration.by_task(task)
        told = self._tasks[point.cards]
        return {key: value for key, (left, value) in told.items() if {**base, **point.settings}.get(key) == left}

    def _data_of(self, point: Point) -> tuple[Content, bool]:
        draw = point.replicate.draw
        key = (point.cards, None if draw is None else canonical_json(draw))
        found = self._data.get(key)
        if found is None:
            self._refuse_other_labels(point.cards)
            found = self._data[key] = data_content([self.scene.resolver.data(card) for card in point.cards], draw, self.phase.missing)
        return found

    def _refuse_other_labels(self, cards: tuple[str, ...]) -> None:
        trainer, resolver = self.writer.declaration, self.scene.resolver
        path = f"phases.{self.phase.name}.data"
        for card in cards if trainer.labels else ():
            if not resolver.labels(card):
                message = f"data '{card}' has no labels, and trainer '{trainer.name}' learns from labels: name a card with labels"
                raise fault(self.scene.sweep, path, message)
            if (task := resolver.task(card)) not in ("", *trainer.tasks):
                raise fault(self.scene.sweep, path, of_another_task(card, task, trainer))

    def _weights_of(self, point: Point, base: Mapping[str, Json]) -> Start:
        """Return what a point starts from outside the plan: its own start, or the file of `after: {weights: ...}`."""
        declaration = self.writer.declaration
        started = DEFAULT_ROLE in point.branch.parents.roles
        if started and not declaration.needs:
            return _NO_START
        settings = point.settings
        file = point.branch.parents.weights
        names = declaration.needs if started else declaration.starts
        key = (file, *names, *(settings.get(name, base.get(name)) for name in (*names, *_ARCHITECTURE)))
        if key not in self._starts:
            self._starts[key] = self._start_of(file, {**base, **settings}, names)
        return self._starts[key]

    def _start_of(self, file: str | None, config: Mapping[str, Json], names: Sequence[str]) -> Start:
        arch = next((value for key in _ARCHITECTURE if isinstance(value := config.get(key), str)), None)
        defaults = {item.name: item.default for item in fields(self.writer.declaration.config) if item.default is not MISSING}
        # A need whose value is the trainer's default names no file; without a default, every value does.
        unnamed = {name for name in self.writer.declaration.needs if name in defaults and config.get(name) == defaults[name]}
        needs = set(self.writer.declaration.needs) - unnamed
        known = [name for name in names if name not in unnamed]
        wanted = {key: value for key in known if isinstance(value := config.get(key), str)}
        if file is not None:
            wanted = {DEFAULT_ROLE: file} | {key: value for key, value in wanted.items() if key in needs}
        resolver = self.scene.resolver
        refs = {key: self._file(key, value) if key in needs else resolver.weights(value, arch=arch) for key, value in wanted.items()}
        found = {key: ref for key, ref in refs.items() if ref is not None}
        files = {key: ref.sha256 for key, ref in found.items() if ref.sha256 is not None}
        return Start(
            weights=Content.of(files) if files else EMPTY,
            named={key: ref.named for key, ref in found.items() if ref.named is not None and key in config},
            resolved=all(ref.resolved for ref in found.values()),
        )

    def _file(self, key: str, value: str) -> WeightsRef:
        try:
            return self.scene.resolver.file(value)
        except WeightsError as error:
            raise fault(self.scene.sweep, f"phases.{self.phase.name}.config.{key}", str(error)) from error

    def _check(self, config: Mapping[str, Json], point: Point) -> None:
        """Let the trainer look at a whole config, and see that the epoch to hand on is one that it reaches."""
        kind = self.writer.declaration.config
        path = f"phases.{self.phase.name}"
        missing = [key for key in form_of(kind).required if config.get(key, "") is None]
        if missing:
            message = f"the trainer '{self.phase.trainer}' needs '{missing[0]}': set it in config, or make it an axis"
            raise fault(self.scene.sweep, f"{path}.config", message)
        if hasattr(kind, "__post_init__"):
            try:
                self.writer.declaration.configured({key: value for key, value in config.items() if key != MONITOR})
            except (ValueError, TypeError) as error:
                where = labels_text(point.labels)
                raise fault(self.scene.sweep, f"{path}.config", f"{error}{f' (at {where})' if where else ''}") from error
        self._refuse_unwritten(config)
        self._refuse_of_no_source(point.cards)
        epochs = config.get("epochs")
        if self.phase.hand_on.startswith(_EPOCH) and isinstance(epochs, int) and int(self.phase.hand_on[len(_EPOCH) :]) > epochs:
            wanted = self.phase.hand_on[len(_EPOCH) :]
            message = f"hands on epoch {wanted}, and '{self.phase.name}' trains {epochs} epochs: name one of those"
            raise fault(self.scene.sweep, f"{path}.hand_on", message)

    def _refuse_unwritten(self, config: Mapping[str, Json]) -> None:
        """Refuse a choice by a metric that a trainer without labels does not write; what one with labels writes depends on the data."""
        trainer = self.writer.declaration
        if trainer.labels or not trainer.monitors:
            return
        for where, metric in metrics_of(self.phase):
            path, key = f"phases.{self.phase.name}.{where}.metric", trainer.monitored_by(metric)
            if key is None:
                hint = suggest(metric, tuple(trainer.monitors), what="there are")
                message = f"trainer '{trainer.name}' predicts no labels and writes no '{metric}'{hint}"
                raise fault(self.scene.sweep, path, message)
            if key and not config.get(key, trainer.before.get(key)):
                message = f"trainer '{trainer.name}' writes '{metric}' only with `{key}`: set it in config, `{key}: 1`"
                raise fault(self.scene.sweep, path, message)

    def _refuse_of_no_source(self, cards: tuple[str, ...]) -> None:
        """Refuse a choice by a metric that a trainer which is validated by source does not write of these cards."""
        trainer, resolver = self.writer.declaration, self.scene.resolver
        if trainer.by_source is None:
            return
        known = SourceMetrics(labels={card: [slug(name) for name in resolver.labels(card)] for card in cards}, networks=trainer.by_source)
        for where, metric in metrics_of(self.phase):
            wrong = None if trainer.monitored_by(metric) is not None else known.refusal(metric)
            if wrong is not None:
                message = f"'{metric}' {wrong}; '{trainer.name}' is validated on each source by itself"
                raise fault(self.scene.sweep, f"phases.{self.phase.name}.{where}.metric", message)


def metrics_of(phase: Phase) -> Iterator[tuple[str, str]]:
    """Give the metrics that decide in a phase, each with the key that names it: `pick`, `search`."""
    if phase.pick is not None and phase.pick.metric is not None:
        yield "pick", phase.pick.metric
    if phase.search is not None:
        yield "search", phase.search.metric


def data_content(refs: list[DataRef], draw: Mapping[str, Json] | None, missing: str) -> tuple[Content, bool]:
    """Return what a job's `data` holds, and whether all of it could be resolved."""
    # What was always refused stands in no id.
    choice: dict[str, Json] = {} if missing == "refuse" else {"missing": missing}
    content = {"sources": [{**ref.identity, **choice} for ref in refs], "draw": None if draw is None else dict(draw)}
    return Content.of(content), all(ref.resolved for ref in refs)


def inputs_of(point: Point) -> tuple[Input, ...]:
    """Return the inputs of a train job, by role."""
    if not point.parents:
        return ()
    ordered = sorted(point.parents, key=lambda pair: pair[0])
    return tuple(Input(role=role, job=parent.job, take=parent.take, run=parent.run) for role, parent in ordered)


def of_another_task(card: str, task: str, trainer: Declaration) -> str:
    """Return what is wrong with a card whose labels are of a kind that a trainer neither learns nor predicts."""
    return f"data '{card}' is for {task}, and trainer '{trainer.name}' is for {' and '.join(trainer.tasks)}: name a card for that"
