"""Sweep files to values: read, lay presets below, import phases, check every name, and say where whatever is wrong stands.

Errors of form and errors about one phase are collected, and the first in the file is raised; what concerns several phases is checked
once each of them is right.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from jobs.catalog import Declaration
from orchestrator.clusters import load_cluster
from orchestrator.documents import Node, Source, merge, read_document
from orchestrator.errors import SweepError
from orchestrator.grammar.configs import ConfigFields, fields_of
from orchestrator.grammar.crossings import check_sweep
from orchestrator.grammar.faults import Faults
from orchestrator.grammar.keys import sweep_with
from orchestrator.grammar.phases import CardLookup, Context, find_trainer, read_phase, read_targets
from orchestrator.grammar.questions import read_report, read_sample
from orchestrator.model import Axis, AxisKind, Phase, Sweep

__all__ = ["load_cluster", "load_sweep"]


def load_sweep(path: Path, *, catalog: Mapping[str, Declaration], cards: CardLookup | None = None) -> Sweep:
    """Read a sweep. Raises SweepError with the first thing that is wrong in the file.

    `cards` answers whether a data set card exists: it returns None, or raises the project's Error with a sentence, when there is none.
    """
    return _load(path, catalog, cards, ())


def _load(path: Path, catalog: Mapping[str, Declaration], cards: CardLookup | None, users: tuple[Path, ...]) -> Sweep:
    tree = _read_tree(path, ())
    faults = Faults()
    for file in dict.fromkeys((str(path), *(node.place.file for node in tree.walk()))):
        faults.order(file)
    sweep_with(key for declaration in catalog.values() for key in fields_of(declaration).keys).check(tree, faults)
    clean = _without(tree, faults.paths)
    try:
        imported = _import_phases(clean, (*users, path), catalog, cards)
    except SweepError:
        faults.raise_first()
        raise
    sweep = _read_sweep(tree, clean, imported, catalog, cards, faults)
    faults.raise_first()
    check_sweep(tree, sweep, catalog, faults)
    faults.raise_first()
    return replace(sweep, file=str(path))


def _read_tree(path: Path, below: tuple[Path, ...]) -> Node:
    """Read a file and lay it over the one that it extends. A study's name is its own and is not inherited."""
    tree = read_document(path)
    extends = tree.get("extends")
    if extends is None or not isinstance(extends.value, str):
        return tree
    base_path = _beside(extends)
    if _same_file(base_path, (*below, path)):
        chain = " -> ".join(str(file) for file in (*below, path, base_path))
        raise SweepError(f"files extend each other in a circle: {chain}", path="extends", place=extends.place)
    if not base_path.is_file():
        raise SweepError(f"there is no file {base_path}", path="extends", place=extends.place)
    base = _read_tree(base_path, (*below, path))
    kept = {key: node for key, node in base.entries.items() if key not in ("sweep", "extends")}
    return merge(replace(base, value=kept), tree)


def _beside(node: Node) -> Path:
    """Return the file that a value names, relative to the file that the value stands in."""
    return Path(os.path.normpath(Path(node.place.file).parent / str(node.value)))


def _same_file(path: Path, others: tuple[Path, ...]) -> bool:
    return any(path.resolve() == other.resolve() for other in others)


def _without(tree: Node, faulty: frozenset[str]) -> Node:
    """Leave out the sections that hold a fault, so that the rest can be checked without errors that only follow from it."""
    if not faulty:
        return tree

    def sound(node: Node) -> bool:
        return not any(path == node.path or path.startswith((f"{node.path}.", f"{node.path}[")) for path in faulty)

    kept: dict[str, Node] = {}
    for key, node in tree.entries.items():
        if sound(node):
            kept[key] = node
        elif key == "phases":
            kept[key] = replace(
                node,
                value={
                    name: replace(phase, value={part: item for part, item in phase.entries.items() if sound(item)})
                    for name, phase in node.entries.items()
                    # A phase whose name is wrong was not looked into, and one without a trainer cannot be.
                    if phase.path not in faulty
                },
            )
    return replace(tree, value=kept)


def _import_phases(
    tree: Node, users: tuple[Path, ...], catalog: Mapping[str, Declaration], cards: CardLookup | None
) -> list[tuple[Phase, Source]]:
    """Return the phases of the sweeps under `uses`: train and pick only, with their own seed and top-level axes."""
    found: dict[str, tuple[Phase, Source]] = {}
    uses, own = tree.get("uses"), tree.get("phases")
    for item in uses.items if uses else ():
        path = _beside(item)
        if _same_file(path, users):
            chain = " -> ".join(str(file) for file in (*users, path))
            raise SweepError(f"sweeps use each other in a circle: {chain}", path=item.path, place=item.place)
        if not path.is_file():
            raise SweepError(f"there is no file {path}", path=item.path, place=item.place)
        other = _load(path, catalog, cards, users)
        for phase in other.phases:
            shared = other.compare if phase.shared is None else phase.shared
            brought = replace(phase, imported=True, evaluate=(), shared=shared)
            clash = phase.name in (own.entries if own else {}) or (phase.name in found and found[phase.name][0] != brought)
            if clash:
                raise SweepError(f"{path} brings a phase '{phase.name}', which is here too; rename one", path=item.path, place=item.place)
            found[phase.name] = (brought, other.source)
    return list(found.values())


def _read_sweep(
    tree: Node,
    clean: Node,
    imported: list[tuple[Phase, Source]],
    catalog: Mapping[str, Declaration],
    cards: CardLookup | None,
    faults: Faults,
) -> Sweep:
    """Read every section on its own; what is wrong is recorded."""
    written, sound, data, seed = tree.get("phases"), clean.get("phases"), tree.get("data"), clean.get("seed")
    configs = _configs(sound, catalog)
    shared = _shared_keys(clean.get("compare"))
    context = Context(
        catalog=catalog,
        cards=cards,
        seed=seed.value if seed and isinstance(seed.value, int) else 0,
        faults=faults,
        phases=(*(phase.name for phase, _ in imported), *(written.entries if written else ())),
        data=str(data.value) if data else None,
        missing=str(missing.value) if (missing := clean.get("missing")) else "refuse",
        shared=shared,
    )
    if clean.get("data"):
        context.check_card(clean.entries["data"])
    # A key may belong to the trainer of a phase that could not be read, so then there is nothing to say of the shared axes.
    compare = _read_top_compare(clean.get("compare"), configs, context) if len(configs) == len(written.entries if written else ()) else ()
    phases = [read_phase(name, node, context) for name, node in (sound.entries if sound else {}).items()]
    targets = read_targets(clean.get("evaluate"), context)
    read = [phase for phase in phases if phase is not None]
    followed = {name for phase in read for parents in phase.after for name in parents.roles.values()}
    last = [replace(phase, evaluate=targets) if not phase.evaluate and phase.name not in followed else phase for phase in read]
    allowed, about, name = clean.get("allow_contamination"), clean.get("about"), clean.get("sweep")
    for item in allowed.items if allowed else ():
        context.check_card(item)
    everything = {phase.name: fields_of(catalog[phase.trainer]) for phase, _ in imported} | configs
    return Sweep(
        name=str(name.value) if name else "",
        about=str(about.value) if about else "",
        phases=(*(phase for phase, _ in imported), *last),
        compare=compare,
        report=read_report(clean.get("report")),
        sample=read_sample(clean.get("sample"), context.phases, everything, faults),
        allow_contamination=tuple(str(item.value) for item in allowed.items) if allowed else (),
        seed=context.seed,
        source=_source(tree, imported),
    )


def _configs(phases: Node | None, catalog: Mapping[str, Declaration]) -> dict[str, ConfigFields]:
    """Return the config fields of every phase whose trainer is known."""
    found = {name: find_trainer(node, catalog, Faults()) for name, node in (phases.entries if phases else {}).items()}
    return {name: fields_of(declaration) for name, declaration in found.items() if declaration is not None}


def _shared_keys(compare: Node | None) -> dict[str, Node]:
    shared: dict[str, Node] = {}
    for key, item in compare.entries.items() if compare else ():
        shared |= item.entries if key == "zip" else {key: item}
    return shared


def _read_top_compare(node: Node | None, configs: Mapping[str, ConfigFields], context: Context) -> tuple[Axis, ...]:
    by_trainer = {config.trainer: config for config in configs.values()}
    return tuple(context.axes(list(by_trainer.values())).read(node, AxisKind.COMPARE))


def _source(tree: Node, imported: list[tuple[Phase, Source]]) -> Source:
    source = Source(tree)
    for phase, other in imported:
        source.borrow(f"phases.{phase.name}", other)
    return source
