"""One phase as written, read into a `Phase`; what needs the other phases is checked once all are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jobs.catalog import PRESET, Declaration
from jobs.spec import Json, Resources, Scalar
from orchestrator.documents import Node
from orchestrator.grammar.configs import ConfigFields, Missing, fields_of
from orchestrator.grammar.faults import Faults, suggest
from orchestrator.grammar.points import AxisReader, check_preset, default_mode, read_search
from orchestrator.grammar.quantities import memory_mb, time_minutes
from orchestrator.model import DEFAULT_ROLE, NO_PARENT, SAME_DATA, Axis, AxisKind, Draws, Parents, Phase, Pick, PickWhen, Target, When
from trainers.errors import Error

_KEYS_OF_SCHEME: Mapping[str, tuple[str, ...]] = {
    "fraction": ("fraction", "count", "repeats", "nested_fractions", "sizes"),
    "kfold": ("folds", "repeats"),
    "leave_pair_out": (),
}

CardLookup = Callable[[str], object | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the reading of every phase of a sweep shares."""

    catalog: Mapping[str, Declaration]
    cards: CardLookup | None
    seed: int
    faults: Faults
    #: The names of all phases, imported ones included.
    phases: Sequence[str]
    #: The default card.
    data: str | None
    #: What becomes of images that are not on disk, where a phase does not say.
    missing: str = "refuse"
    #: Top-level compare axes, by key, with the node that holds them.
    shared: Mapping[str, Node] = field(default_factory=dict)
    _known: dict[str, str] = field(default_factory=dict)

    def check_card(self, node: Node) -> None:
        """Record a card that there is none of."""
        name = node.scalar
        if name == SAME_DATA:
            self.faults.add(node, "'same' is for evaluate alone; name a card")
        if self.cards is None or not isinstance(name, str) or name == SAME_DATA:
            return
        if name not in self._known:
            try:
                self._known[name] = "" if self.cards(name) is not None else f"no data set card '{name}'; `orchestrate data list` shows them"
            except Error as wrong:
                self._known[name] = str(wrong)
        if self._known[name]:
            self.faults.add(node, self._known[name])

    def axes(self, configs: Sequence[ConfigFields]) -> AxisReader:
        """Return a reader of axes for some trainers."""
        return AxisReader(configs=configs, seed=self.seed, faults=self.faults, check_card=self.check_card)


def read_phase(name: str, node: Node, context: Context) -> Phase | None:
    """Read one phase; what is wrong is recorded. None when its trainer is not known."""
    faults = context.faults
    declaration = find_trainer(node, context.catalog, faults)
    if declaration is None:
        return None
    config = fields_of(declaration)
    preset = _read_preset(node, context, config)
    reader = context.axes([config])
    axes = (*reader.read(node.get("compare"), AxisKind.COMPARE), *reader.read(node.get("tune"), AxisKind.TUNE))
    search = read_search(node.get("search"), reader)
    _one_place_each(node, context, config)
    after, is_axis = _read_after(node, declaration, context)
    draws, seeds = _read_draws(node.get("draws"), faults), node.get("seeds")
    if node.get("draws") and seeds:
        faults.add(seeds, "draws and seeds are both given; draws are replicates already, so leave seeds out", at=seeds.key)
    return Phase(
        name=name,
        trainer=declaration.name,
        preset=preset,
        config=read_settings(node.get("config"), config, faults),
        after=after,
        after_is_axis=is_axis,
        axes=axes,
        draws=draws,
        seeds=_whole(seeds, None),
        exclude=tuple(read_labels(item) for item in _items(node, "exclude")),
        when=tuple(_read_when(item, config, _axis_keys(node, context, config), faults) for item in _items(node, "when")),
        pick=_read_pick(node.get("pick"), declaration, faults),
        evaluate=read_targets(node.get("evaluate"), context, same=not node.get("sources")),
        hand_on=_read_hand_on(node, faults),
        search=search,
        resources=replace(read_resources(node.get("resources")), fuse=_value(node, "fuse", True)),
        fuse=_value(node, "fuse", True),
        sweep_seed=context.seed,
        missing=_value(node, "missing", context.missing),
        **_read_data(node, axes, context),
    )


def _read_preset(node: Node, context: Context, config: ConfigFields) -> str | None:
    """Return the preset beside a phase's trainer; one that is not there, or that is an axis too, is recorded."""
    own = node.get(PRESET)
    if own is None:
        return None
    axis = dict(_own_keys(node)).get(PRESET) or (context.shared.get(PRESET) if config.presets else None)
    if axis is not None:
        context.faults.add(own, f"'{PRESET}' stands in {axis.path} too ({axis.key or axis.place}); keep one of the two", at=own.key)
    return str(own.value) if check_preset(own, config, context.faults) else None


def find_trainer(node: Node, catalog: Mapping[str, Declaration], faults: Faults) -> Declaration | None:
    """Return the declaration that a phase names, or None with the nearest one recorded."""
    trainer = node.get("trainer")
    if trainer is None:
        return None
    found = catalog.get(str(trainer.value))
    if found is None:
        faults.add(trainer, f"no trainer '{trainer.value}'{suggest(str(trainer.value), catalog, what='there are')}")
    return found


def _value(node: Node, key: str, default: Any) -> Any:
    found = node.get(key)
    return default if found is None else found.plain()


def _items(node: Node, key: str) -> tuple[Node, ...]:
    found = node.get(key)
    return found.items if found else ()


def _whole(node: Node | None, default: Any) -> Any:
    return default if node is None else node.value


def read_labels(node: Node | None) -> dict[str, tuple[Scalar, ...]]:
    """Return labels with the values that each may have."""
    if node is None:
        return {}
    return {key: tuple(item.scalar for item in value.items) if value.items else (value.scalar,) for key, value in node.entries.items()}


def read_settings(node: Node | None, config: ConfigFields, faults: Faults) -> dict[str, Json]:
    """Return config values by key, each checked against the trainer's field."""
    settings: dict[str, Json] = {}
    for key, item in node.entries.items() if node else ():
        if config.known(item, key, faults):
            value = config.read(key, item, faults)
            if not isinstance(value, Missing):
                settings[key] = value
    return settings


def _own_keys(node: Node) -> list[tuple[str, Node]]:
    """Return every config key that a phase sets, with where: config, compare, tune, search, and inside a zip."""
    found: list[tuple[str, Node]] = []
    search = node.get("search")
    for section in (node.get("config"), node.get("compare"), node.get("tune"), search.get("space") if search else None):
        for key, item in section.entries.items() if section else ():
            found += list(item.entries.items()) if key == "zip" else [(key, item)]
    return [(key, item) for key, item in found if key != "after"]


def _axis_keys(node: Node, context: Context, config: ConfigFields) -> frozenset[str]:
    set_in_config = _value(node, "config", {})
    own = {key for key, _ in _own_keys(node) if key not in set_in_config}
    return frozenset(own | {key for key in context.shared if config.takes(key)})


def _one_place_each(node: Node, context: Context, config: ConfigFields) -> None:
    """Record a key that stands in two of config and the axes."""
    seen: dict[str, Node] = {key: item for key, item in context.shared.items() if config.takes(key)}
    for key, item in _own_keys(node):
        before = seen.setdefault(key, item)
        if before is not item:
            where = before.key or before.place
            context.faults.add(item, f"'{key}' stands in {before.path} too ({where}); keep one of the two", at=item.key)


def _read_data(node: Node, axes: Sequence[Axis], context: Context) -> dict[str, Any]:
    own, sources = node.get("data"), node.get("sources")
    axis = next((item for key, item in _own_keys(node) if key == "data"), None)
    given = [found for found in (own, sources, axis) if found is not None]
    if len(given) > 1:
        context.faults.add(given[-1], f"data stand in {given[0].path} too ({given[0].key}); keep one of the two", at=given[-1].key)
    for card in [own] if own else sources.items if sources else []:
        context.check_card(card)
    default = None if sources or axis else context.data
    return {"data": own.scalar if own else default, "sources": tuple(_value(node, "sources", ()))}


def _read_after(node: Node, declaration: Declaration, context: Context) -> tuple[tuple[Parents, ...], bool]:
    own, compare = node.get("after"), node.get("compare")
    axis = compare.get("after") if compare else None
    if own and axis:
        later, first = (axis, own) if (axis.place.line, axis.place.column) > (own.place.line, own.place.column) else (own, axis)
        context.faults.add(later, f"the parent stands in {first.path} too ({first.key}); keep one of the two", at=later.key)
    if axis is None:
        return ((_read_parents(own, declaration, context),) if own else (Parents(),)), False
    found = tuple(_read_parents(item, declaration, context) for item in axis.items)
    labels = [parents.label for parents in found]
    for index, label in enumerate(labels):
        if label in labels[:index]:
            context.faults.add(axis.items[index], f"'{label}' is listed twice; leave one out")
    return found, True


def _read_parents(node: Node, declaration: Declaration, context: Context) -> Parents:
    if not isinstance(node.value, Mapping):
        if node.value == NO_PARENT:
            return Parents()
        _check_parent(node, context, none=True)
        roles = declaration.roles
        if DEFAULT_ROLE not in roles and len(roles) > 1:
            context.faults.add(node, f"{declaration.name} takes parents by role; write {{{roles[0]}: {node.value}}}")
        return Parents(roles={DEFAULT_ROLE if DEFAULT_ROLE in roles or not roles else roles[0]: str(node.value)})
    weights = node.get("weights")
    if weights is not None:
        for key, other in node.entries.items():
            if key != "weights":
                context.faults.add(other, "weights stand alone; leave the other roles out", at=other.key)
        return Parents(weights=str(weights.value))
    for role, phase in node.entries.items():
        if role not in declaration.roles:
            hint = suggest(role, (*declaration.roles, "weights"), what="its roles are")
            context.faults.add(phase, f"{declaration.name} has no role '{role}'{hint}", at=phase.key)
        _check_parent(phase, context, none=False)
    return Parents(roles={role: str(phase.value) for role, phase in node.entries.items()})


def _check_parent(node: Node, context: Context, *, none: bool) -> None:
    if node.value not in context.phases:
        known = (*context.phases, NO_PARENT) if none else context.phases
        context.faults.add(node, f"no phase '{node.value}'{suggest(str(node.value), known, what='there are')}")


def _check_sizes(node: Node, sizes: str, faults: Faults) -> None:
    """Record keys that draws of an original's kind do not have."""
    nested = {"random": "make every draw its own", "shuffled": "lie inside each other anyway"}
    if sizes not in nested:
        return
    for key, why in (("count", "are of fractions; leave count out"), ("nested_fractions", f"{nested[sizes]}; leave it out")):
        given = node.get(key)
        if given is not None and given.value is not False:
            faults.add(given, f"{sizes} sizes {why}", at=given.key)


def _read_draws(node: Node | None, faults: Faults) -> Draws | None:
    if node is None:
        return None
    scheme = _value(node, "scheme", "fraction")
    allowed = _KEYS_OF_SCHEME[scheme]
    for key in ("fraction", "count", "repeats", "nested_fractions", "sizes", "folds"):
        given = node.get(key)
        if given is not None and key not in allowed:
            faults.add(given, f"scheme {scheme} takes no '{key}'; leave it out", at=given.key)
    fraction, count = node.get("fraction"), node.get("count")
    if fraction and count:
        faults.add(count, "fraction and count are both given; keep one of the two", at=count.key)
    if scheme == "fraction" and not fraction and not count:
        faults.add(node, "the key 'fraction' is missing: shares such as [0.01, 0.1], or `count`", at=node.key)
    _check_sizes(node, _value(node, "sizes", "exact"), faults)
    sizes = fraction or count
    values = tuple(float(item.value) for item in sizes.items) if sizes else (1.0,)  # type: ignore[arg-type]
    for index, item in enumerate(sizes.items if sizes else ()):
        if values[index] in values[:index]:
            faults.add(item, f"{item.value} is listed twice; leave one out")
    repeats, one = _value(node, "repeats", 1), node.get("repeats")
    if one is not None and isinstance(repeats, list) and len(repeats) != len(values):
        faults.add(one, f"repeats are by position: {len(values)} for {len(values)} sizes, got {len(repeats)}")
    return Draws(
        scheme=scheme,
        by=_value(node, "by", "patient"),
        fractions=values,
        counted=count is not None,
        repeats=tuple(repeats) if isinstance(repeats, list) else (repeats,) * len(values),
        nested_fractions=_value(node, "nested_fractions", False),
        sizes=_value(node, "sizes", "exact"),
        folds=_value(node, "folds", 5),
        seed=_value(node, "seed", 0),
    )


def _read_when(node: Node, config: ConfigFields, axis_keys: frozenset[str], faults: Faults) -> When:
    override, settings = _value(node, "override", False), node.get("set")
    for key, item in settings.entries.items() if settings else ():
        if key in axis_keys and not override:
            faults.add(item, f"'{key}' is an axis of this phase; add `override: true` to set it all the same", at=item.key)
    return When(condition=read_labels(node.get("if")), settings=read_settings(settings, config, faults), override=override)


def _read_pick(node: Node | None, declaration: Declaration, faults: Faults) -> Pick | None:
    if node is None:
        return None
    metric, rule, scope, on, top = (node.get(key) for key in ("metric", "rule", "scope", "on", "top"))
    last = rule is not None and rule.value == "last"
    name = None if metric is None else str(metric.value)
    if metric is not None and name is not None and not name.startswith("val/"):
        if name.startswith("test/"):
            faults.add(metric, "a metric to pick on starts with 'val/'; the test split stays shut until the choice is made")
        else:
            faults.add(metric, f"a metric to pick on starts with 'val/'; did you mean 'val/{name.removeprefix('valid/')}'?")
    if metric is None and not last:
        faults.add(node, "the key 'metric' is missing: name a validation metric, or write `rule: last`", at=node.key)
    if last and top is not None and top.value != 1:
        faults.add(top, "rule last takes one checkpoint; leave top out", at=top.key)
    cases = _items(node, "when")
    if last and cases:
        faults.add(node.entries["when"], "rule last takes one checkpoint whatever the labels; leave when out", at=node.entries["when"].key)
    for part in (node, *(settings for case in cases if (settings := case.get("set")))):
        _check_per(part.get("per"), declaration, last, faults)
    if on is not None and (scope is None or scope.value == "draw"):
        faults.add(on, "tuning on some replicates needs one winner for all of them; add `scope: cell` or `scope: sweep`", at=on.key)
    return Pick(
        metric=name,
        mode=_value(node, "mode", default_mode(name)),
        rule=_value(node, "rule", "best"),
        checkpoints=_value(node, "checkpoints", "best"),
        top=_value(node, "top", 1),
        per=_value(node, "per", "run"),
        when=tuple(PickWhen(condition=read_labels(case.get("if")), settings=_value(case, "set", {})) for case in cases),
        scope=_value(node, "scope", "draw"),
        on=read_labels(on),
    )


def _check_per(node: Node | None, declaration: Declaration, last: bool, faults: Faults) -> None:
    """Record a pick for each label where no label can have a checkpoint of its own."""
    if node is None or node.value != "label":
        return
    if last:
        faults.add(node, "rule last takes the last checkpoint for every label; leave per out", at=node.key)
    if not declaration.labels:
        faults.add(node, f"{declaration.name} learns without labels, so none has checkpoints of its own; leave per out", at=node.key)


def read_targets(node: Node | None, context: Context, *, same: bool = True) -> tuple[Target, ...]:
    """Return the evaluations under `evaluate`; `same` says whether `data: same` means anything."""
    targets: list[Target] = []
    for item in node.items if node else ():
        target = _target(item, context.faults)
        card = item.get("data")
        if target.data == SAME_DATA and not same:
            context.faults.add(card or item, "'same' needs one card, and this phase has sources; name the card")
        elif card is not None and target.data != SAME_DATA:
            context.check_card(card)
        if any(replace(target, embedding=other.embedding, arrays=other.arrays, thresholds=other.thresholds) == other for other in targets):
            context.faults.add(item, "this evaluation is listed twice; leave one out")
        targets.append(target)
    return tuple(targets)


def _target(item: Node, faults: Faults) -> Target:
    """Return one evaluation; `outputs` and `embedding` become what it hands out besides predictions."""
    given = dict(item.plain())
    outputs, embedding = given.pop("outputs", ["predictions"]), given.pop("embedding", None)
    if "predictions" not in outputs or len(set(outputs)) != len(outputs):
        faults.add(item.get("outputs") or item, "what is evaluated is predicted: write outputs: [predictions, embeddings]")
    if embedding is not None and "embeddings" not in outputs:
        faults.add(item.get("embedding") or item, "nothing is embedded here: write outputs: [predictions, embeddings] beside it")
    if given.get("thresholds") == "validation":
        del given["thresholds"]
    return Target(**given, embedding=(embedding or "backbone") if "embeddings" in outputs else None, arrays="arrays" in outputs)


def _read_hand_on(node: Node, faults: Faults) -> str:
    found = node.get("hand_on")
    if found is None:
        return "last"
    if node.get("pick"):
        faults.add(found, "a phase with pick hands on the chosen checkpoint; leave hand_on out", at=found.key)
    epoch = found.get("epoch")
    return "last" if epoch is None else f"epoch:{epoch.value}"


def read_resources(node: Node | None) -> Resources:
    """Return what a job asks for, with the defaults of `Resources`."""
    given: dict[str, Any] = dict(node.plain()) if node else {}
    memory, time = given.pop("memory", None), given.pop("time", None)
    if memory is not None:
        given["memory_mb"] = memory_mb(memory)
    if time is not None:
        given["time_minutes"] = time_minutes(time)
    return Resources(**given)
