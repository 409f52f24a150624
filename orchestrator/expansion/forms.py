"""The one form in which a config is hashed: every field there, and every value as its type writes it."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import lru_cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from jobs.spec import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a Config dataclass declares: every field's type, and its defaults as JSON."""

    types: Mapping[str, Any]
    defaults: Mapping[str, Json]

    @property
    def required(self) -> tuple[str, ...]:
        """Return the fields without a default."""
        return tuple(name for name in self.types if name not in self.defaults)

    def canonical(self, key: str, value: Json) -> Json:
        """Return a value in the form that its field has: 1 is 1.0 in a float field, a tuple is a list."""
        return canonical_value(self.types[key], value)


@lru_cache(maxsize=256)
def form_of(config: type) -> Form:
    """Read the fields of a Config dataclass once."""
    hints = get_type_hints(config)
    declared = {item.name: hints[item.name] for item in fields(config)}
    defaults: dict[str, Json] = {}
    for item in fields(config):
        if item.default is not MISSING:
            defaults[item.name] = canonical_value(declared[item.name], item.default)
        elif item.default_factory is not MISSING:
            defaults[item.name] = canonical_value(declared[item.name], item.default_factory())
    return Form(types=declared, defaults=defaults)


def canonical_value(kind: Any, value: Any) -> Json:
    """Return a value as plain JSON of the declared type; a value that does not fit is returned as it is."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return canonical_value(_member(get_args(kind), value), value)
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return _number(kind, value)
    if isinstance(value, (list, tuple)):
        return _sequence(kind, value)
    if isinstance(value, Mapping):
        return _mapping(kind, value)
    if is_dataclass(value) and not isinstance(value, type):
        return _mapping(type(value), {item.name: getattr(value, item.name) for item in fields(value)})
    return value


def _number(kind: Any, value: float) -> Json:
    if kind is float:
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _sequence(kind: Any, value: list[Any] | tuple[Any, ...]) -> list[Json]:
    members = get_args(kind)
    if len(members) == len(value) and Ellipsis not in members:
        return [canonical_value(member, item) for member, item in zip(members, value, strict=True)]
    member = members[0] if members else Any
    return [canonical_value(member, item) for item in value]


def _mapping(kind: Any, value: Mapping[Any, Any]) -> dict[str, Json]:
    if is_dataclass(kind) and isinstance(kind, type):
        inner = form_of(kind)
        given = {str(key): canonical_value(inner.types.get(str(key), Any), item) for key, item in value.items()}
        return {**inner.defaults, **given}
    members = get_args(kind)
    member = members[1] if len(members) == 2 else Any
    return {str(key): canonical_value(member, item) for key, item in value.items()}


def _member(members: tuple[Any, ...], value: Any) -> Any:
    """Return the member of a union that a value belongs to; an exact type comes before one it widens to."""
    if value is None:
        return Any
    exact = [member for member in members if (get_origin(member) or member) is type(value)]
    if exact:
        return exact[0]
    if isinstance(value, int) and not isinstance(value, bool) and float in members:
        return float
    if isinstance(value, (list, tuple)):
        return next((member for member in members if (get_origin(member) or member) in (tuple, list)), Any)
    if isinstance(value, Mapping):
        return next((member for member in members if get_origin(member) is not None or is_dataclass(member)), Any)
    return Any
