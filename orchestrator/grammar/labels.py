"""Which labels the points of each phase carry, and with which values: what exclude, when, pick.on, keep and report may name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from jobs.catalog import Declaration
from jobs.spec import Json, Scalar
from orchestrator.documents import Node, describe
from orchestrator.grammar.configs import fields_of
from orchestrator.grammar.faults import Faults, suggest
from orchestrator.model import Axis, AxisKind, Phase

#: With more values than this, an error does not list them.
_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A label: the kinds of axis it comes from, and its values (None: as many as the data have)."""

    kinds: frozenset[AxisKind]
    values: tuple[Json, ...] | None

    def joined(self, other: Label) -> Label:
        """Return the label that two phases carry under one name."""
        if self.values is None or other.values is None:
            return Label(kinds=self.kinds | other.kinds, values=None)
        extra = tuple(value for value in other.values if not any(same_value(value, known) for known in self.values))
        return Label(kinds=self.kinds | other.kinds, values=self.values + extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The labels of every phase, by phase; `everywhere` joins them."""

    by_phase: Mapping[str, Mapping[str, Label]]
    everywhere: Mapping[str, Label] = field(default_factory=dict)


def same_value(one: Json, other: Json) -> bool:
    """Tell whether two values are the same label: 1 and 1.0 are, 1 and true are not."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def labels_of(phases: Sequence[Phase], compare: Sequence[Axis], catalog: Mapping[str, Declaration]) -> Labels:
    """Return the labels that points of each phase can carry, those of the phases before it included.

    A label is also known as `<phase>.<label>`, for two phases that have an axis of one name. Phases must not go round in a circle.
    """
    known = {phase.name: phase for phase in phases}
    found: dict[str, dict[str, Label]] = {}

    def visit(name: str) -> dict[str, Label]:
        if name not in found:
            phase = known[name]
            own = _own(phase, compare if phase.shared is None else phase.shared, catalog)
            labels = own | {f"{name}.{key}": label for key, label in own.items()}
            for parent in parents_of(phase):
                if parent in known:
                    _join(labels, visit(parent))
            found[name] = labels
        return found[name]

    everywhere: dict[str, Label] = {}
    for phase in phases:
        _join(everywhere, visit(phase.name))
    return Labels(by_phase=found, everywhere=everywhere)


def parents_of(phase: Phase) -> tuple[str, ...]:
    """Return the phases that a phase may follow, each once."""
    return tuple(dict.fromkeys(name for parents in phase.after for name in parents.roles.values()))


def _join(labels: dict[str, Label], more: Mapping[str, Label]) -> None:
    for key, label in more.items():
        labels[key] = labels[key].joined(label) if key in labels else label


def _own(phase: Phase, compare: Iterable[Axis], catalog: Mapping[str, Declaration]) -> dict[str, Label]:
    labels: dict[str, Label] = {}
    config = fields_of(catalog[phase.trainer])
    if phase.after_is_axis:
        labels["after"] = Label(kinds=frozenset({AxisKind.COMPARE}), values=tuple(parents.label for parents in phase.after))
    shared = [(axis, [key for key in axis.keys if config.takes(key)]) for axis in compare]
    searched = phase.search.space if phase.search else ()
    for axis, names in [*shared, *((axis, axis.keys) for axis in (*phase.axes, *searched))]:
        for key in names:
            values = tuple(point[key] for point in axis.points if key in point)
            _join(labels, {key: Label(kinds=frozenset({axis.kind}), values=values)})
    return labels | _replicates(phase)


def _replicates(phase: Phase) -> dict[str, Label]:
    kinds = frozenset({AxisKind.REPLICATE})

    def upto(n: int) -> Label:
        return Label(kinds=kinds, values=tuple(range(n)))

    if phase.seeds is not None:
        return {"seed": upto(phase.seeds)}
    draws = phase.draws
    if draws is None:
        return {}
    if draws.scheme == "fraction":
        return {draws.size_label: Label(kinds=kinds, values=draws.fractions), "draw": upto(max(draws.repeats, default=1))}
    if draws.scheme == "kfold":
        return {"fold": upto(draws.folds)} | ({"draw": upto(draws.repeats[0])} if draws.repeats[0] > 1 else {})
    return {"fold": Label(kinds=kinds, values=None)}


def check_labels(node: Node | None, labels: Mapping[str, Label], faults: Faults) -> bool:
    """Record labels, or values of them, that no point carries. Returns whether all are known."""
    good = True
    for key, item in node.entries.items() if node else ():
        label = labels.get(key)
        if label is None:
            plain = [name for name in labels if "." not in name]
            faults.add(item, f"no point carries a label '{key}'{suggest(key, plain, what='there are')}", at=item.key)
            good = False
            continue
        for value in item.items or (item,):
            if label.values is not None and not any(same_value(value.scalar, known) for known in label.values):
                faults.add(value, f"no point has {key} {describe(value)}{_values_hint(value.scalar, label.values)}")
                good = False
    return good


def _values_hint(value: Scalar, values: Sequence[Json]) -> str:
    texts = [known for known in values if isinstance(known, str)]
    if isinstance(value, str) and texts:
        return suggest(value, texts, what="there are")
    return f"; there are {', '.join(str(known) for known in values)}" if len(values) <= _SHOWN else ""
