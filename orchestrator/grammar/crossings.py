"""What only shows when all phases are known: circles, labels that nobody carries, evaluations that nobody picks for."""

from __future__ import annotations

from collections.abc import Mapping

from jobs.catalog import Declaration
from jobs.spec import Split
from orchestrator.documents import Node
from orchestrator.grammar.faults import Faults
from orchestrator.grammar.labels import Label, check_labels, labels_of, parents_of
from orchestrator.grammar.questions import check_report
from orchestrator.model import SAME_DATA, AxisKind, Phase, Sweep


def check_sweep(tree: Node, sweep: Sweep, catalog: Mapping[str, Declaration], faults: Faults) -> None:
    """Record what is wrong between the phases of a sweep whose sections are each right."""
    nodes = tree.entries["phases"].entries
    known = {phase.name: phase for phase in sweep.phases}
    for name, node in nodes.items():
        circle = _circle(name, known)
        if circle:
            faults.add(_after_node(node), f"phases follow each other in a circle: {' -> '.join(circle)}")
    if faults:
        return
    labels = labels_of(sweep.phases, sweep.compare, catalog)
    top = tree.get("evaluate")
    for name, node in nodes.items():
        phase = known[name]
        _check_data(node, phase, faults)
        _check_parents(node, phase, known, faults)
        _check_pick(node, phase, known, labels.by_phase[name], faults)
        _check_search(node, phase, faults)
        _check_targets(node, phase, node.get("evaluate") or top, faults)
        _check_conditions(node, labels.by_phase[name], faults)
    check_report(tree.get("report"), labels.everywhere, tuple(known), _cards(sweep), faults)
    sample = tree.get("sample")
    check_labels(sample.get("keep") if sample else None, labels.everywhere, faults)


def _circle(start: str, known: Mapping[str, Phase]) -> tuple[str, ...] | None:
    """Return the shortest way from a phase through its parents back to itself, or None."""
    ways: list[tuple[str, ...]] = [(start,)]
    seen: set[str] = set()
    for way in ways:
        for parent in parents_of(known[way[-1]]):
            if parent == start:
                return (*way, parent)
            if parent not in seen:
                seen.add(parent)
                ways.append((*way, parent))
    return None


def _after_node(node: Node) -> Node:
    compare = node.get("compare")
    return node.get("after") or (compare.get("after") if compare else None) or node


def _check_parents(node: Node, phase: Phase, known: Mapping[str, Phase], faults: Faults) -> None:
    for name in parents_of(phase):
        pick = known[name].pick
        if pick is not None and "label" in (pick.per, *(case.settings.get("per") for case in pick.when)):
            said = f"starts from one checkpoint, and the pick of '{name}' has some for each label; leave `per: label` out there"
            where = _after_node(node)
            faults.add(where, said, at=where.key)


def _has_data_axis(phase: Phase) -> bool:
    return any("data" in axis.keys for axis in phase.axes)


def _check_data(node: Node, phase: Phase, faults: Faults) -> None:
    if phase.data is None and not phase.sources and not _has_data_axis(phase):
        faults.add(node, "names no data; write `data: <card>` here or at the top of the sweep", at=node.key)


def open_tunes(phase: Phase, known: Mapping[str, Phase]) -> tuple[str, ...]:
    """Return the tune keys that are undecided when a phase picks: its own, and those of parents that do not pick themselves."""
    own = [axis for axis in phase.axes if axis.kind is AxisKind.TUNE]
    keys = [key for axis in (*own, *(phase.search.space if phase.search else ())) for key in axis.keys]
    for name in parents_of(phase):
        if known[name].pick is None:
            keys += open_tunes(known[name], known)
    return tuple(dict.fromkeys(keys))


def _check_pick(node: Node, phase: Phase, known: Mapping[str, Phase], labels: Mapping[str, Label], faults: Faults) -> None:
    pick, written = phase.pick, node.get("pick")
    if pick is None or written is None:
        return
    undecided = open_tunes(phase, known)
    if pick.metric is None and undecided:
        faults.add(written, f"nothing says how to choose among the values of {', '.join(undecided)}; name a metric", at=written.key)
    cases = written.get("when")
    for case in cases.items if cases else ():
        check_labels(case.get("if"), labels, faults)
    on = written.get("on")
    if on is not None and check_labels(on, labels, faults):
        for key, item in on.entries.items():
            if labels[key].kinds != {AxisKind.REPLICATE}:
                said = "the tune grid runs on some values of fraction, count, draw, fold or seed"
                faults.add(item, f"'{key}' is no replicate; {said}", at=item.key)


def _check_search(node: Node, phase: Phase, faults: Faults) -> None:
    written = node.get("search")
    if written is not None and phase.pick is None:
        said = "a search ends with the choice of a winner; add `pick: {metric: ...}` to this phase"
        faults.add(written, said, at=written.key)


def _check_targets(node: Node, phase: Phase, written: Node | None, faults: Faults) -> None:
    if not phase.evaluate or written is None:
        return
    where = node if written.path == "evaluate" else written
    if phase.pick is None:
        faults.add(where, "evaluates, but picks nothing; add `pick: {metric: val/...}`, or `pick: {rule: last}`", at=where.key)
    folds = phase.draws is not None and phase.draws.scheme != "fraction"
    for target, item in zip(phase.evaluate, written.items, strict=True):
        if target.split == Split.HELD_OUT and not folds:
            faults.add(item.get("split") or item, "held_out is the test part of a fold; it needs draws with scheme kfold or leave_pair_out")
        if target.data == SAME_DATA and phase.sources and where is node:
            faults.add(node, "evaluates 'same' by the sweep's default, but has sources; say under `evaluate` which card", at=node.key)


def _check_conditions(node: Node, labels: Mapping[str, Label], faults: Faults) -> None:
    for key in ("exclude", "when"):
        listed = node.get(key)
        for item in listed.items if listed else ():
            check_labels(item.get("if") if key == "when" else item, labels, faults)


def _cards(sweep: Sweep) -> frozenset[str]:
    """Return every card that a sweep names."""
    found: set[str] = set()
    for phase in sweep.phases:
        found.update(phase.sources, (target.data for target in phase.evaluate), [phase.data] if phase.data else [])
        found.update(str(point["data"]) for axis in phase.axes for point in axis.points if "data" in point)
    return frozenset(found - {SAME_DATA})
