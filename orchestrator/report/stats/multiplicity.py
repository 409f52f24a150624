"""Adjusting p values for how many questions were asked."""

from __future__ import annotations

from collections.abc import Sequence


def holm(values: Sequence[float]) -> list[float]:
    """Adjust p values so that the chance of any false claim in the family stays at the level (Holm 1979), in the order given."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    adjusted = [0.0] * len(values)
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = running
    return adjusted


def benjamini_hochberg(values: Sequence[float]) -> list[float]:
    """Adjust p values so that the expected share of false claims stays at the level (Benjamini & Hochberg 1995), in the order given."""
    order = sorted(range(len(values)), key=lambda index: values[index], reverse=True)
    adjusted = [0.0] * len(values)
    running = 1.0
    for place, index in enumerate(order):
        running = min(running, values[index] * len(values) / (len(values) - place))
        adjusted[index] = running
    return adjusted
