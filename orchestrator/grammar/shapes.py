"""The shapes that values may have. A shape checks a value, and says itself as JSON Schema, so that the two cannot differ."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from jobs.spec import Json
from orchestrator.documents import Node, describe
from orchestrator.grammar.faults import Faults, suggest

Schema: TypeAlias = dict[str, Json]


class Shape(Protocol):
    """What a value may look like."""

    @property
    def words(self) -> str:
        """Say what is expected: `a whole number`."""
        ...

    def check(self, node: Node, faults: Faults) -> None:
        """Record what is wrong with a value."""
        ...

    def schema(self) -> Schema:
        """Return the shape as JSON Schema."""
        ...


def expected(shape: Shape, node: Node) -> str:
    """Say that a value is none of a shape."""
    return f"expects {shape.words}, got {describe(node)}"


def _bracketed(node: Node) -> str:
    if isinstance(node.value, Mapping):
        return "; write [{...}]"
    return f"; write [{node.scalar}]" if node.scalar is not None else ""


def _add_missing(name: str, about: str, node: Node, faults: Faults) -> None:
    sentence = about.rstrip(".")
    if sentence[1:2].islower():
        sentence = sentence[0].lower() + sentence[1:]
    faults.add(node, f"the key '{name}' is missing: {sentence}", at=node.key or node.place)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text, as a whole of a pattern where there is one."""

    pattern: str | None = None
    words: str = "a text"

    def check(self, node: Node, faults: Faults) -> None:
        """Record a value that is no text or does not fit the pattern."""
        text = node.value
        if not isinstance(text, str) or not text or (self.pattern is not None and not re.fullmatch(self.pattern, text)):
            quote = "; write it in quotes" if isinstance(text, (int, float)) and self.pattern is None else ""
            faults.add(node, expected(self, node) + quote)

    def schema(self) -> Schema:
        """Return the shape as JSON Schema."""
        return {"type": "string"} if self.pattern is None else {"type": "string", "pattern": f"^(?:{self.pattern})$"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A whole number that is not below `low` nor above `high`."""

    low: int
    #: Counts have one, so that a slip of a digit does not fill the memory.
    high: int | None = None

    @property
    def words(self) -> str:
        """Say what is expected."""
        return f"a whole number from {self.low} " + ("up" if self.high is None else f"to {self.high}")

    def check(self, node: Node, faults: Faults) -> None:
        """Record a value that is no such number."""
        number = node.value
        good = isinstance(number, int) and not isinstance(number, bool)
        if not good or number < self.low or (self.high is not None and number > self.high):  # type: ignore[operator]
            faults.add(node, expected(self, node))

    def schema(self) -> Schema:
        """Return the shape as JSON Schema."""
        return {"type": "integer", "minimum": self.low} | ({} if self.high is None else {"maximum": self.high})


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number between bounds: `above` and `below` are themselves excluded, `most` is included."""

    above: float | None = None
    below: float | None = None
    most: float | None = None

    @property
    def words(self) -> str:
        """Say what is expected."""
        bounds = [("above", self.above), ("below", self.below), ("at most", self.most)]
        said = " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)
        return f"a number {said}" if said else "a number"

    def check(self, node: Node, faults: Faults) -> None:
        """Record a value that is no such number."""
        number = node.value
        good = isinstance(number, (int, float)) and not isinstance(number, bool)
        if not good or not self._holds(float(number)):  # type: ignore[arg-type]
            faults.add(node, expected(self, node))

    def _holds(self, number: float) -> bool:
        if self.above is not None and not number > self.above:
            return False
        if self.below is not None and not number < self.below:
            return False
        return self.most is None or number <= self.most

    def schema(self) -> Schema:
        """Return the shape as JSON Schema."""
        bounds = {"exclusiveMinimum": self.above, "exclusiveMaximum": self.below, "maximum": self.most}
        return {"type": "number"} | {name: bound for name, bound in bounds.items() if bound is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """true or false."""

    words: str = "true or false"

    def check(self, node: Node, faults: Faults) -> None:
        """Record a value that is neither."""
        if not isinstance(node.value, bool):
            hint = ""
            if isinstance(node.value, str) and node.value.lower() in ("yes", "on", "no", "off"):
                hint = f"; write {'true' if node.value.lower() in ('yes', 'on') else 'false'}"
            faults.add(node, expected(self, node) + hint)

    def schema(self) -> Schema:
        """Return the shape as JSON Schema."""
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of a few words."""

    options: tuple[str, ...]
    #: What is expected, where the words are not all that may be written.
    said: str = ""
    #: Words that people write and that are not offered, each with its sentence.
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """Say what is expected."""
        return self.said or ("one of " if len(self.options) > 1 else "") + ", ".join(self.options)

    def check(self, node: Node, faults: Faults) -> None:
        """Record a value that is none of them, with the nearest."""
        if isinstance(node.value, str) and node.value in self.refused:
            faults.add(node, self.refused[node.value])
        elif not isinstance(node.value, str) or node.value not in self.options:
            near = suggest(node.value, self.options) if isinstance(node.value, str) else ""
            faults.add(node, expected(self, node) + (near if "did you mean" in near else ""))

    def schema(self) -> Schema:
        """Return the shape as JSON Schema."""
        return {"enum": list(self.options)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """A single value of any kind but null: what a label may be."""

    words: str = "a single value"

    def check(self, node: Node, faults: Faults) -> None:
        """Record a list, a mapping or nothing."""
        if node.scalar is None:
            faults.add(node, expected(self, node))

    def schema(self) -> Schema:
        """Return the shape as JSON Schema."""
        return {"type": ["string", "number", "boolean"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Anything:
    """Any value; what it may be depends on a trainer and is checked against its `Config`."""

    words: str = "a value"

    def check(self, node: Node, faults: Faults) -> None:
        """Record nothing."""

    def schema(self) -> Schema:
        """Return the shape as JSON Schema."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOf:
    """A list with at least one item."""

    item: Shape
    words: str = "a list"

    def check(self, node: Node, faults: Faults) -> None:
        """Record a value that is no list, an empty list, or items of another shape."""
        if not isinstance(node.value, tuple):
            faults.add(node, expected(self, node) + _bracketed(node))
        elif not node.value:
            faults.add(node, "the list is empty; leave the key out, or name at least one")
        for item in node.items:
            self.item.check(item, faults)

    def schema(self) -> Schema:
        """Return the shape as JSON Schema."""
        return {"type": "array", "items": self.item.schema(), "minItems": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOf:
    """A mapping whose keys a person chooses."""

    item: Shape
    #: What a key must look like, as a whole.
    pattern: str | None = None
    key_words: str = "a name"
    words: str = "a mapping"
    #: Special keys with a shape of their own.
    special: Mapping[str, Shape] = field(default_factory=dict)
    #: Keys that are refused, each with its sentence.
    refused: Mapping[str, str] = field(default_factory=dict)
    #: Keys that must be there, each with what it is for.
    required: Mapping[str, str] = field(default_factory=dict)

    def check(self, node: Node, faults: Faults) -> None:
        """Record a value that is no mapping, an empty one, bad keys and bad values."""
        if not isinstance(node.value, Mapping):
            faults.add(node, expected(self, node))
        elif not node.value:
            faults.add(node, "the mapping is empty; leave the key out, or write at least one key")
        for key, item in node.entries.items():
            if key in self.refused:
                faults.add(item, self.refused[key], at=item.key)
            elif self.pattern is not None and not re.fullmatch(self.pattern, key):
                faults.add(item, f"a key here is {self.key_words}, got '{key}'", at=item.key)
            else:
                self.special.get(key, self.item).check(item, faults)
        for name, about in self.required.items():
            if isinstance(node.value, Mapping) and name not in node.entries:
                _add_missing(name, about, node, faults)

    def schema(self) -> Schema:
        """Return the shape as JSON Schema."""
        schema: Schema = {"type": "object", "additionalProperties": self.item.schema(), "minProperties": 1}
        if self.pattern is not None:
            schema["propertyNames"] = {"pattern": f"^(?:{self.pattern})$"}
        if self.special:
            schema["properties"] = {key: shape.schema() for key, shape in self.special.items()}
        return schema | ({"required": list(self.required)} if self.required else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key of a record: what it is for, and what its value looks like."""

    about: str
    shape: Shape
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A mapping whose keys the grammar names."""

    keys: Mapping[str, Key]
    words: str = "a mapping"
    #: Keys that people write and that mean something else here, each with its sentence.
    refused: Mapping[str, str] = field(default_factory=dict)

    def check(self, node: Node, faults: Faults) -> None:
        """Record unknown, refused and missing keys, and values of another shape."""
        if not isinstance(node.value, Mapping):
            faults.add(node, expected(self, node))
            return
        for key, item in node.entries.items():
            if key in self.keys:
                self.keys[key].shape.check(item, faults)
            else:
                faults.add(item, self.refused.get(key) or f"unknown key{suggest(key, self.keys, what='the keys here are')}", at=item.key)
        for name, key in self.keys.items():
            if key.required and name not in node.entries:
                _add_missing(name, key.about, node, faults)

    def schema(self) -> Schema:
        """Return the shape as JSON Schema."""
        schema: Schema = {
            "type": "object",
            "properties": {name: key.shape.schema() | {"description": key.about} for name, key in self.keys.items()},
            "additionalProperties": False,
        }
        required = [name for name, key in self.keys.items() if key.required]
        return schema | ({"required": required} if required else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Either:
    """A shape by the kind of the value: single, list or mapping."""

    words: str
    single: Shape | None = None
    list: Shape | None = None
    mapping: Shape | None = None

    def check(self, node: Node, faults: Faults) -> None:
        """Check against the shape of the value's kind; record a kind that is not allowed."""
        if isinstance(node.value, Mapping):
            shape = self.mapping
        elif isinstance(node.value, tuple):
            shape = self.list
        else:
            shape = self.single if node.value is not None else None
        if shape is None:
            faults.add(node, expected(self, node) + (_bracketed(node) if self.list is not None else ""))
        else:
            shape.check(node, faults)

    def schema(self) -> Schema:
        """Return the shape as JSON Schema."""
        return {"anyOf": [shape.schema() for shape in (self.single, self.list, self.mapping) if shape is not None]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variants:
    """Records told apart by the value of one key, or by its absence."""

    key: str
    by_value: Mapping[str, Record]
    otherwise: Record | None = None
    words: str = "a mapping"

    def check(self, node: Node, faults: Faults) -> None:
        """Check against the record that the key's value names."""
        found = node.get(self.key)
        if found is None and self.otherwise is not None:
            self.otherwise.check(node, faults)
        elif found is None:
            faults.add(node, f"the key '{self.key}' is missing: {Choice(options=tuple(self.by_value)).words}", at=node.key or node.place)
        elif isinstance(found.value, str) and found.value in self.by_value:
            self.by_value[found.value].check(node, faults)
        else:
            Choice(options=tuple(self.by_value)).check(found, faults)

    def schema(self) -> Schema:
        """Return the shape as JSON Schema."""
        records = [record.schema() for record in self.by_value.values()]
        return {"oneOf": records + ([self.otherwise.schema()] if self.otherwise else [])}
