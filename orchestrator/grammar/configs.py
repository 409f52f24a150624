"""What a trainer's `Config` accepts: its keys, and values checked by pydantic against the types of its fields."""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from jobs.catalog import PRESET, Declaration
from jobs.spec import Json
from orchestrator.documents import Node, describe
from orchestrator.grammar.faults import Faults, suggest
from orchestrator.grammar.shapes import Schema

_WORDS: Mapping[object, str] = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}


class Missing:
    """Stands for a value that was not read because it is wrong."""


MISSING = Missing()


@dataclasses.dataclass(frozen=True)
class ConfigFields:
    """The fields of one trainer's config."""

    trainer: str
    types: Mapping[str, Any]
    defaults: Mapping[str, Any]
    about: Mapping[str, str]
    #: The names of the trainer's presets.
    presets: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the config keys in order."""
        return tuple(self.types)

    def whole(self, key: str) -> bool:
        """Tell whether a key takes whole numbers and no others."""
        return _bare(self.types.get(key)) is int

    def takes(self, key: str) -> bool:
        """Tell whether an axis of this name sets anything: a key, or the trainer's presets."""
        return key in self.types or (key == PRESET and bool(self.presets))

    def known(self, node: Node, key: str, faults: Faults) -> bool:
        """Tell whether a key is one of this config; record it with the nearest when it is not."""
        if key in self.types:
            return True
        hint = suggest(key, self.keys, what=f"{self.trainer} has")
        if key == PRESET:
            hint = "; a preset stands beside `trainer`, or is an axis under compare"
        faults.add(node, f"unknown key{hint}", at=node.key)
        return False

    def read(self, key: str, node: Node, faults: Faults) -> Json | Missing:
        """Return a value as JSON of the field's type (1 becomes 1.0 for a number), or MISSING with a fault recorded."""
        return self.convert(key, node.plain(), node, faults)

    def convert(self, key: str, value: Json, node: Node, faults: Faults) -> Json | Missing:
        """Return a value of the field's type; faults point at `node`."""
        from pydantic import ValidationError

        adapter = _adapter(self.types[key])
        try:
            return adapter.dump_python(adapter.validate_json(json.dumps(value), strict=True), mode="json")
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            faults.add(_inside(node, problem["loc"]), _sentence(self.types[key], problem, value, node))
            return MISSING

    def schema(self) -> Schema:
        """Return the config as JSON Schema, with defaults and what is said of each key."""
        properties: Schema = {}
        for key, annotation in self.types.items():
            properties[key] = {**_adapter(annotation).json_schema()}
            if key in self.about:
                properties[key]["description"] = self.about[key]
            if key in self.defaults:
                properties[key]["default"] = self.defaults[key]
        return {"type": "object", "properties": properties, "additionalProperties": False}


def fields_of(declaration: Declaration) -> ConfigFields:
    """Return the config fields of a trainer."""
    return _fields_of(declaration.name, declaration.config, tuple(declaration.presets))


@cache
def _fields_of(name: str, config: type, presets: tuple[str, ...]) -> ConfigFields:
    hints = get_type_hints(config, include_extras=True)
    members = [item for item in dataclasses.fields(config) if item.init]
    return ConfigFields(
        trainer=name,
        types={item.name: hints[item.name] for item in members},
        defaults={item.name: _plain(value) for item in members if (value := _default(item)) is not dataclasses.MISSING},
        about={item.name: str(item.metadata["doc"]) for item in members if "doc" in item.metadata},
        presets=presets,
    )


def _default(item: dataclasses.Field[Any]) -> Any:
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return item.default


def _plain(value: Any) -> Json:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


@cache
def _adapter(annotation: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(annotation)


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def words_of(annotation: Any) -> str:
    """Say a type in words: `a whole number`, `one of 'a', 'b'`, `a list of numbers`."""
    annotation = _bare(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        shown = ", ".join(f"'{value}'" if isinstance(value, str) else json.dumps(value) for value in arguments)
        return f"one of {shown}" if len(arguments) > 1 else shown
    if origin in (Union, types.UnionType):
        return " or ".join(words_of(item) for item in arguments)
    if annotation in _WORDS:
        return _WORDS[annotation]
    if origin in (tuple, list, frozenset):
        kinds = {item for item in arguments if item is not Ellipsis}
        return "a list" if len(kinds) != 1 else f"a list, each item {words_of(next(iter(kinds)))}"
    return "a mapping" if isinstance(origin, type) and issubclass(origin, Mapping) else "another type"


def _inside(node: Node, location: tuple[int | str, ...]) -> Node:
    """Return the part of a value that pydantic points at, or the value where it names a type instead."""
    for step in location:
        child = node.items[step] if isinstance(step, int) and step < len(node.items) else node.get(str(step))
        if child is None:
            return node
        node = child
    return node


def _sentence(annotation: Any, problem: Mapping[str, Any], value: Json, node: Node) -> str:
    if "ctx" in problem and problem["type"] != "literal_error" and get_origin(annotation) is Annotated:
        return f"{problem['msg'].removeprefix('Input ')}, got {json.dumps(value)}"
    inside = _inside(node, problem["loc"])
    got = describe(inside) if inside is not node or value == node.plain() else json.dumps(value)
    options = [item for item in get_args(_bare(annotation)) if isinstance(item, str)] if get_origin(_bare(annotation)) is Literal else []
    near = suggest(value, options) if isinstance(value, str) else ""
    return f"expects {words_of(annotation)}, got {got}" + (near if "did you mean" in near else "")
