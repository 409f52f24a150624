"""The keys of a grammar as Markdown tables: one for each mapping, with the places of its keys, what they are for and what they may be."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from orchestrator.clusters import CLUSTER, PARTITION
from orchestrator.grammar.keys import DRAWS, PHASE, PICK, REPORT, RESOURCES, SAMPLE, SEARCH, SWEEP, TARGET
from orchestrator.grammar.shapes import Anything, Either, Key, ListOf, MapOf, Record, Shape, Variants
from orchestrator.model import ClusterConfig, Draws, Partition, Phase, Pick, ReportSpec, Resources, Sample, Search, Sweep, Target

#: What has keys of its own.
Keyed: TypeAlias = Record | MapOf | Variants

#: The values that stand behind the keys of a record: a field of the same name says the default.
DEFAULTS: tuple[tuple[Record, type], ...] = (
    (SWEEP, Sweep),
    (PHASE, Phase),
    (DRAWS, Draws),
    (PICK, Pick),
    (TARGET, Target),
    (RESOURCES, Resources),
    (SEARCH, Search),
    (REPORT, ReportSpec),
    (SAMPLE, Sample),
    (CLUSTER, ClusterConfig),
    (PARTITION, Partition),
)
#: Keys whose default follows from another key.
DEPENDS = frozenset({"mode"})
#: What the special keys of a mapping with free keys are for.
SPECIAL: Mapping[str, str] = {
    "zip": "Axes that move together: the first values of all, then the second ones.",
    "after": "Phases to follow, set side by side; `none` is the arm without a parent.",
    "data": "Data set cards, set side by side.",
    "preset": "Presets of the trainer, set side by side; below everything that `config`, other axes and `when` set.",
    "weights": "A weights file in place of a phase.",
}
#: And what the free keys are, by a key that stands beside them.
FREE: Mapping[str, str] = {
    "zip": "A key of the trainer's config, and its values.",
    "weights": "A role that the trainer takes, and the phase that fills it.",
    "source": "Whatever else is to be shown.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """A mapping of a grammar, and every place where one like it may stand."""

    paths: tuple[str, ...]
    #: Its tables, in Markdown.
    lines: tuple[str, ...]


def key_tables(root: Record, what: str) -> list[str]:
    """Return Markdown lines for every key of a grammar, a section a mapping; mappings that are alike are told once."""
    lines: list[str] = []
    for found in mappings(root):
        first, *others = found.paths
        lines += ["", f"### `{first}`" if first else f"### Top level of {what}", ""]
        if others:
            lines += [f"The same under {', '.join(f'`{path}`' for path in others)}.", ""]
        lines += found.lines
    return lines[1:]


def mappings(root: Record) -> list[Mapped]:
    """Return every mapping of a grammar once, outer ones first: `phases.<name>.draws`; `[]` stands for an item of a list."""
    places: list[tuple[list[str], list[str]]] = []
    for path, shape in _walk(root, ""):
        lines = _tables(shape)
        known = next((paths for other, paths in places if other == lines), None)
        if known is None:
            places.append((lines, [path]))
        elif path not in known:
            known.append(path)
    return [Mapped(paths=tuple(paths), lines=tuple(lines)) for lines, paths in places]


def _walk(shape: Shape, path: str) -> Iterator[tuple[str, Keyed]]:
    if isinstance(shape, (Variants, Record)) or (isinstance(shape, MapOf) and (shape.special or shape.required)):
        yield path, shape
    for step, inner in _inside(shape):
        yield from _walk(inner, (path + step).lstrip("."))


def _inside(shape: Shape) -> Iterator[tuple[str, Shape]]:
    """Yield what is inside a shape, and how a place goes on there."""
    if isinstance(shape, Record):
        yield from ((f".{name}", key.shape) for name, key in shape.keys.items())
    elif isinstance(shape, MapOf):
        yield ".<name>", shape.item
        yield from ((f".{name}", special) for name, special in shape.special.items())
    elif isinstance(shape, ListOf):
        yield "[]", shape.item
    elif isinstance(shape, Either):
        yield from (("", one) for one in (shape.single, shape.list, shape.mapping) if one is not None)


def _tables(shape: Keyed) -> list[str]:
    heads = ("key", "what it is for", "value")
    if isinstance(shape, Record):
        return table(heads, [_row(shape, name, key) for name, key in shape.keys.items()])
    if isinstance(shape, MapOf):
        return table(heads, _free_rows(shape))
    lines: list[str] = []
    for value, record in shape.by_value.items():
        lines += [f"With `{shape.key}: {value}`:", "", *_tables(record), ""]
    if shape.otherwise is not None:
        lines += [f"Without `{shape.key}`:", "", *_tables(shape.otherwise), ""]
    return lines[:-1]


def _row(record: Record, name: str, key: Key) -> tuple[str, str, str]:
    default = None if key.required else default_of(record, name)
    said = value_words(key.shape) + ("" if default is None else f"; {shown_value(default)} by default")
    return f"`{name}`" + (" (must be given)" if key.required else ""), key.about, said


def _free_rows(shape: MapOf) -> Iterator[tuple[str, str, str]]:
    for name, about in shape.required.items():
        yield f"`{name}` (must be given)", about, value_words(shape.item)
    for name, special in shape.special.items():
        yield f"`{name}`", SPECIAL[name], value_words(special)
    about = next((words for mark, words in FREE.items() if mark in shape.special or mark in shape.required), "")
    yield "any other", about, value_words(shape.item)


def default_of(record: Record, name: str) -> Any:
    """Return the default of a key as the program has it, or None when it has none that stands alone."""
    behind = next((kind for known, kind in DEFAULTS if known is record), None)
    member = None if behind is None else behind.__dataclass_fields__.get(name)
    default = None if member is None or name in DEPENDS else member.default
    return default if isinstance(default, (str, int, float)) and default != "" else None


def value_words(shape: Shape) -> str:
    """Say what a value looks like."""
    if isinstance(shape, ListOf):
        plain = shape.words != "a list" or isinstance(shape.item, Anything)
        return shape.words if plain else f"a list, each item {value_words(shape.item)}"
    if isinstance(shape, MapOf) and not shape.special:
        return f"a mapping from {shape.key_words} to {value_words(shape.item)}"
    return shape.words


def shown_value(value: Any) -> str:
    """Write a value as a person writes it in YAML."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(shown_value(item) for item in value)}]"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in line) + " |" for line in lines]
