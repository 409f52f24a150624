"""Labels: what tells the points of a sweep apart, as text, as equality, as conditions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import TypeVar

from jobs.spec import Json, Scalar, canonical_json

Labels = Mapping[str, Scalar]
_Value = TypeVar("_Value")


def label_value(value: Json) -> Scalar:
    """Return what a label carries for an axis value: plain values as they are, lists and mappings as text."""
    return value if value is None or isinstance(value, (str, int, float, bool)) else canonical_json(value)


def label_text(value: Scalar) -> str:
    """Return a label's value as people read it: 0.0001, true, imagenet."""
    return value if isinstance(value, str) else _text(type(value), value)


@lru_cache(maxsize=65_536)
def _text(_kind: type, value: Scalar) -> str:
    """Remember texts by type and value, because 1, 1.0 and true are equal keys."""
    return canonical_json(value)


def labels_text(labels: Labels) -> str:
    """Return labels as `lr=0.0001,draw=3`, in their order."""
    return ",".join(f"{name}={label_text(value)}" for name, value in labels.items())


def same(left: Scalar, right: Scalar) -> bool:
    """Tell whether two label values are the same; 1 and 1.0 are, 1 and true are not."""
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def carries(labels: Labels, condition: Mapping[str, Iterable[Scalar]]) -> bool:
    """Tell whether labels meet a condition: every name is there, with one of its values."""
    return all(name in labels and any(same(labels[name], value) for value in values) for name, values in condition.items())


def known_names(condition: Mapping[str, _Value], known: Collection[str]) -> dict[str, _Value]:
    """Return a condition by the names that labels have: `pretrain.lr` is `lr` where no other phase has an `lr`."""
    found: dict[str, _Value] = {}
    for name, value in condition.items():
        plain = name.rpartition(".")[2]
        found[plain if name not in known and plain in known else name] = value
    return found


def agree(left: Labels, right: Labels, *, besides: Iterable[str] = ()) -> bool:
    """Tell whether two label sets are equal on every name that both have, leaving some names out."""
    ignored = frozenset(besides)
    return all(same(value, right[name]) for name, value in left.items() if name in right and name not in ignored)
