"""Checks of numbers in a config, without torch: they run when a sweep is planned."""

from __future__ import annotations

from math import inf


def within(config: object, **bounds: tuple[float, float]) -> None:
    """Refuse a field outside its bounds, both ends included. Raises ValueError in a sentence."""
    for name, (low, high) in bounds.items():
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            what = f"{low:g} or more" if high == inf else f"between {low:g} and {high:g}"
            raise ValueError(f"{name}: is {value}, and must be {what}")


def positive(config: object, *names: str) -> None:
    """Refuse a field that is not above zero. Raises ValueError in a sentence."""
    for name in names:
        if not getattr(config, name) > 0:
            raise ValueError(f"{name}: is {getattr(config, name)}, and must be above 0")
