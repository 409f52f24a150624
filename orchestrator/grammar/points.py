"""Axes as written, read into points whose values have the types of the trainers' configs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.catalog import PRESET
from jobs.spec import Json, canonical_json
from orchestrator.axes import expand_values
from orchestrator.documents import Node
from orchestrator.grammar.configs import ConfigFields, Missing
from orchestrator.grammar.faults import Faults, suggest
from orchestrator.model import Axis, AxisKind, Search


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisReader:
    """Reads axes whose keys belong to the configs of one trainer, or of several for a top-level axis."""

    configs: Sequence[ConfigFields]
    seed: int
    faults: Faults
    check_card: Callable[[Node], None]
    #: The number of values where an axis names none (the space of a search).
    n: int | None = None

    def read(self, node: Node | None, kind: AxisKind) -> list[Axis]:
        """Return the axes under `compare` or `tune`; wrong ones are recorded and left out. `after` is read elsewhere."""
        axes: list[Axis] = []
        for key, item in node.entries.items() if node else ():
            if key == "zip":
                axes += self._zip(item, kind)
            elif key == "data":
                values = self._cards(item)
                axes.append(Axis(kind=kind, keys=("data",), points=tuple({"data": value} for value in values)))
            elif key != "after" and (values := self._values(key, item)):
                axes.append(Axis(kind=kind, keys=(key,), points=tuple({key: value} for value in values)))
        return axes

    def _zip(self, node: Node, kind: AxisKind) -> list[Axis]:
        columns: dict[str, list[Json]] = {}
        for key, item in node.entries.items():
            values = self._cards(item) if key == "data" else self._values(key, item, repeats=True)
            if not values:
                return []
            columns[key] = values
        lengths = {key: len(values) for key, values in columns.items()}
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{key} {length}" for key, length in lengths.items())
            self.faults.add(node, f"zip pairs values one by one, so its lists have one length; here {said}")
            return []
        points = tuple(dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        twice = _twice(points)
        if twice is not None:
            self.faults.add(node, f"the pair {canonical_json(points[twice])} is listed twice; leave one out")
        return [Axis(kind=kind, keys=tuple(columns), points=points)]

    def _cards(self, node: Node) -> list[Json]:
        if not node.items:
            self.faults.add(node, "expects a list of cards")
        for item in node.items:
            self.check_card(item)
        self._refuse_repeats([item.value for item in node.items], node)
        return [item.scalar for item in node.items]

    def _values(self, key: str, node: Node, *, repeats: bool = False) -> list[Json]:
        """Return the values of one key; empty when any is wrong."""
        if key == PRESET and not any(key in config.types for config in self.configs):
            return self._presets(node, repeats=repeats)
        owners = [config for config in self.configs if key in config.types]
        if not owners:
            known = dict.fromkeys(name for config in self.configs for name in config.keys)
            trainers = " and ".join(dict.fromkeys(config.trainer for config in self.configs))
            if known:
                self.faults.add(node, f"unknown key{suggest(key, known, what=f'{trainers} has')}", at=node.key)
            return []
        whole = any(config.whole(key) for config in owners)
        try:
            raw = expand_values(node.plain(), seed=self.seed, name=key, whole=whole, n=self.n)
        except ValueError as wrong:
            self.faults.add(node, str(wrong))
            return []
        places = node.items if len(node.items) == len(raw) else (node,) * len(raw)
        for config in owners:
            read = [config.convert(key, value, place, self.faults) for value, place in zip(raw, places, strict=True)]
            if any(isinstance(value, Missing) for value in read):
                return []
        values: list[Json] = [owners[0].convert(key, value, node, self.faults) for value in raw]
        if not repeats and self.n is None:
            self._refuse_repeats(values, node)
        return values

    def _presets(self, node: Node, *, repeats: bool) -> list[Json]:
        """Return the names of presets, each known to every trainer that has any; empty when one is not."""
        if not node.items:
            self.faults.add(node, "expects a list of presets")
            return []
        owners = [config for config in self.configs if config.presets]
        if not owners and self.configs:
            trainers = " and ".join(dict.fromkeys(config.trainer for config in self.configs))
            self.faults.add(node, f"{trainers} has no presets; leave the axis out", at=node.key)
        known = [check_preset(item, config, self.faults) for item in node.items for config in owners]
        if not repeats:
            self._refuse_repeats([item.value for item in node.items], node)
        return [item.scalar for item in node.items] if owners and all(known) else []

    def _refuse_repeats(self, values: Sequence[Any], node: Node) -> None:
        twice = _twice(values)
        if twice is not None:
            at = node.items[twice] if twice < len(node.items) else node
            self.faults.add(at, f"{canonical_json(values[twice])} is listed twice; leave one out")


def check_preset(node: Node, config: ConfigFields, faults: Faults) -> bool:
    """Tell whether a trainer has the preset that a value names; record it with the nearest when it has not."""
    if node.scalar in config.presets:
        return True
    said = suggest(str(node.scalar), config.presets, what="there are") if config.presets else "; it has none"
    faults.add(node, f"{config.trainer} has no preset '{node.scalar}'{said}")
    return False


def _twice(values: Sequence[Any]) -> int | None:
    """Return the index of the first value that was there before, or None."""
    seen: set[str] = set()
    for index, value in enumerate(values):
        text = canonical_json(value)
        if text in seen:
            return index
        seen.add(text)
    return None


def read_search(node: Node | None, reader: AxisReader) -> Search | None:
    """Return what a `search` asks for: its space as one axis of `samples` points, drawn from every key at once."""
    samples = node.get("samples") if node else None
    if node is None or samples is None or not isinstance(samples.value, int):
        return None
    metric, mode, grace, space = (node.get(key) for key in ("metric", "mode", "grace", "space"))
    name = str(metric.value) if metric else ""
    if metric is not None and not name.startswith("val/"):
        reader.faults.add(metric, f"a metric to search by starts with 'val/', got '{name}'")
    for key, item in space.entries.items() if space else ():
        n = item.get("n")
        if n is not None and n.value != samples.value:
            reader.faults.add(n, f"search.samples says {samples.value}; leave n of '{key}' out")
        if item.get("steps") is not None:
            reader.faults.add(item, "a search samples its space; write {sample: ...} or a list")
    sampler = AxisReader(configs=reader.configs, seed=reader.seed, faults=reader.faults, check_card=reader.check_card, n=samples.value)
    columns = sampler.read(space, AxisKind.TUNE)
    rows = zip(*(axis.points for axis in columns), strict=False)
    points = tuple({key: value for point in row for key, value in point.items()} for row in rows)
    twice = _twice(points)
    if twice is not None and space is not None:
        drawn = canonical_json(points[twice])
        reader.faults.add(space, f"{samples.value} samples draw {drawn} twice; ask for fewer, or draw from a range", at=space.key)
    return Search(
        scheduler=str(node.entries["scheduler"].value),
        metric=name,
        mode=str(mode.value) if mode else default_mode(name),
        samples=samples.value,
        grace=int(grace.value) if grace and isinstance(grace.value, int) else 1,
        space=(Axis(kind=AxisKind.TUNE, keys=tuple(key for axis in columns for key in axis.keys), points=points),),
    )


def default_mode(metric: str | None) -> str:
    """Return whether more or less of a metric is better when a sweep does not say: losses are minimised."""
    return "min" if metric is not None and "loss" in metric else "max"


def keys_of(axes: Sequence[Axis]) -> Mapping[str, Axis]:
    """Return the axis of each key."""
    return {key: axis for axis in axes for key in axis.keys}
