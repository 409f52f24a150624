"""What a sweep asks of its report and of its sample, read and checked against the labels that its points carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.documents import Node
from orchestrator.grammar.configs import ConfigFields
from orchestrator.grammar.faults import Faults, suggest
from orchestrator.grammar.labels import Label, check_labels
from orchestrator.grammar.phases import read_labels, read_settings
from orchestrator.model import AxisKind, Contrast, ReportSpec, Sample

#: The phase, and the value of `after`, of the no-network arm.
FLOOR = "floor"
_REPLICATE = "is a replicate: its values are averaged with an interval and never set against each other"
_TUNED = "is a tune axis: pick chooses among its values, and losers are not evaluated"


def read_report(node: Node | None) -> ReportSpec:
    """Return what a `report` block asks for."""
    if node is None:
        return ReportSpec()
    given: dict[str, Any] = dict(node.plain())
    if isinstance(given.get("measure"), str):
        given["measure"] = {"default": given["measure"]}
    baseline = given.pop("baseline", None)
    for key in ("subgroups", "reference", "notes", "as_published"):
        if key in given:
            given[key] = tuple(given[key])
    groups = {name: tuple(sets) if isinstance(sets, list) else (sets,) for name, sets in given.pop("groups", {}).items()}
    contrasts = tuple(Contrast(baseline=labels) for labels in _listed(baseline))
    return ReportSpec(**given, contrasts=contrasts, groups=groups)


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def check_report(node: Node | None, labels: Mapping[str, Label], phases: tuple[str, ...], cards: frozenset[str], faults: Faults) -> None:
    """Record labels, phases and cards that a `report` block names and that the sweep has none of."""
    if node is None:
        return
    floor = node.get("floor")
    floors = (FLOOR, *(f"{FLOOR}_{name}" for name in phases)) if floor and floor.value else ()
    known = dict(labels)
    for label, values in {"phase": (*phases, *floors), "data": tuple(sorted(cards)), "after": floors[:1]}.items():
        arm = Label(kinds=frozenset({AxisKind.COMPARE}), values=values)
        if values:
            known[label] = known[label].joined(arm) if label in known else arm
    baseline = node.get("baseline")
    for item in (baseline.items or (baseline,)) if baseline else ():
        if check_labels(item, known, faults):
            _check_contrasted(item, known, faults)
    groups = node.get("groups")
    for group in groups.entries.values() if groups else ():
        for item in group.items or (group,):
            check_labels(item, known, faults)
    for key in ("over", "by"):
        named = node.get(key)
        if named is not None and named.value not in known:
            plain = [name for name in known if "." not in name]
            faults.add(named, f"no point carries a label '{named.value}'{suggest(str(named.value), plain, what='there are')}")
    _check_references(node.get("reference"), faults)
    _check_measures(node.get("measure"), phases, cards, faults)


def _check_contrasted(node: Node, known: Mapping[str, Label], faults: Faults) -> None:
    for key, item in node.entries.items():
        kinds = known[key].kinds
        if kinds == {AxisKind.TUNE}:
            faults.add(item, f"'{key}' {_TUNED}", at=item.key)
        elif key in ("seed", "draw", "fold"):
            faults.add(item, f"'{key}' {_REPLICATE}", at=item.key)


def _check_references(node: Node | None, faults: Faults) -> None:
    """Record published values without a number, and numbers that are none."""
    for item in (node.items or ()) if node else ():
        if item.get("value") is None:
            faults.add(item, "the key 'value' is missing: say what was published")
        for key in ("value", "low", "high", "fraction", "count"):
            given = item.get(key)
            if given is not None and (isinstance(given.value, bool) or not isinstance(given.value, (int, float))):
                faults.add(given, f"expects a number, got {given.value!r}")


def _check_measures(node: Node | None, phases: tuple[str, ...], cards: frozenset[str], faults: Faults) -> None:
    names = ("default", *phases, *sorted(cards))
    for key, item in node.entries.items() if node else ():
        if key not in names:
            faults.add(item, f"'{key}' is no phase and no card of this sweep{suggest(key, names, what='there are')}", at=item.key)


def read_sample(node: Node | None, phases: Sequence[str], configs: Mapping[str, ConfigFields], faults: Faults) -> Sample | None:
    """Return how `--sample` cuts the sweep; overrides are checked against the trainers' configs."""
    if node is None:
        return None
    given: dict[str, Any] = dict(node.plain())
    given["keep"] = read_labels(node.get("keep"))
    settings, overrides = {}, node.get("set")
    for phase, item in overrides.entries.items() if overrides else ():
        if phase in configs:
            settings[phase] = read_settings(item, configs[phase], faults)
        elif phase not in phases:
            faults.add(item, f"no phase '{phase}'{suggest(phase, phases, what='there are')}", at=item.key)
    given["set"] = settings
    return Sample(**given)
