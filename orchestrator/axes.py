"""The values of an axis: lists, exact grids, and samples that never change when more are asked for.

A sampled value is a pure function of (sweep seed, name of the key, index): parameters are independent, and adding one or raising `n`
changes no earlier point. Grids and logarithms are computed in decimal and rounded once, so that every machine gets the same doubles
and a log grid from 1e-4 to 1e-1 in four steps holds 0.001 and not a neighbour of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext

from jobs.spec import Json

_CONTEXT = Context(prec=40)
#: A sample of whole numbers skips those it had; this many tries for each value and it gives up.
_TRIES = 1000


def uniform(seed: int, name: str, index: int) -> Decimal:
    """Return a number strictly between 0 and 1 that depends on its three arguments only (52 bits of a sha256)."""
    digest = hashlib.sha256(f"{seed}\0{name}\0{index}".encode()).digest()
    bits = int.from_bytes(digest[:8], "big") >> 12
    return _CONTEXT.divide(Decimal(2 * bits + 1), Decimal(1 << 53))


def grid(low: float, high: float, steps: int, *, log: bool = False) -> list[float]:
    """Return `steps` values from `low` to `high`, both exact, evenly spaced on a linear or a log scale.

    Raises ValueError when a log scale has a bound that is not positive, or both bounds are equal.
    """
    if low == high:
        raise ValueError("'from' and 'to' are equal; write the one value as a list")
    first, last = _scaled(low, log=log), _scaled(high, log=log)
    with localcontext(_CONTEXT):
        inner = [first + (last - first) * index / (steps - 1) for index in range(1, steps - 1)]
        return [float(low), *(float(value.exp() if log else value) for value in inner), float(high)]


def sample_range(seed: int, name: str, low: float, high: float, n: int, *, log: bool = False, whole: bool = False) -> list[float]:
    """Return `n` numbers between the bounds, evenly on a linear or log scale; `whole` gives distinct whole numbers, bounds included.

    Raises ValueError when the bounds are in the wrong order, hold too few whole numbers, or a log scale has one that is not positive.
    """
    if low >= high:
        raise ValueError("'from' must be below 'to'")
    if whole and not (float(low).is_integer() and float(high).is_integer()):
        raise ValueError("'from' and 'to' must be whole numbers for a key that takes whole numbers")
    if whole and n > high - low + 1:
        raise ValueError(f"there are only {high - low + 1:g} whole numbers from {low:g} to {high:g}, and n is {n}")
    # A whole number stands for everything that rounds to it, so that both bounds are as likely as the rest.
    half = Decimal("0.5") if whole else Decimal(0)
    start, end = Decimal(repr(low)) - half, Decimal(repr(high)) + half
    if log and start <= 0:
        raise ValueError("a log scale needs bounds above 0")

    def value(index: int) -> Decimal:
        share = uniform(seed, name, index)
        if log:
            return (start.ln() + share * (end.ln() - start.ln())).exp()
        return start + share * (end - start)

    with localcontext(_CONTEXT):
        if not whole:
            return [float(value(index)) for index in range(n)]
        rounded = (min(max(int(value(index).to_integral_value(ROUND_HALF_EVEN)), int(low)), int(high)) for index in range(_TRIES * n))
        return _distinct(rounded, n)


def sample_normal(seed: int, name: str, mean: float, sd: float, n: int) -> list[float]:
    """Return `n` draws of a normal distribution, to 12 significant digits (the last ones depend on a machine's logarithm)."""
    from statistics import NormalDist

    distribution = NormalDist(mean, sd)
    return [float(f"{distribution.inv_cdf(float(uniform(seed, name, index))):.12g}") for index in range(n)]


def sample_choice(seed: int, name: str, values: list[Json], n: int) -> list[Json]:
    """Return `n` different items of a list, in random order. Raises ValueError when there are fewer."""
    if n > len(values):
        raise ValueError(f"there are only {len(values)} values, and n is {n}")
    left = list(values)
    return [left.pop(int(uniform(seed, name, index) * len(left))) for index in range(n)]


def _scaled(bound: float, *, log: bool) -> Decimal:
    number = Decimal(repr(bound))
    if not log:
        return number
    if number <= 0:
        raise ValueError("a log scale needs bounds above 0")
    return number.ln(_CONTEXT)


def _distinct(values: Iterator[int], n: int) -> list[float]:
    found: dict[int, None] = {}
    for value in values:
        found[value] = None
        if len(found) == n:
            return list(found)
    raise ValueError(f"found only {len(found)} different whole numbers; write them as a list")


def _whole(points: list[float]) -> list[Json]:
    if not all(point.is_integer() for point in points):
        shown = ", ".join(f"{point:g}" for point in points)
        raise ValueError(f"the steps are no whole numbers ({shown}); choose other steps, or write a list")
    return [int(point) for point in points]


def expand_values(values: Json, *, seed: int, name: str, whole: bool, n: int | None = None) -> list[Json]:
    """Return the values of an axis as written: a list, `{from, to, steps, scale}` or `{sample, ..., n}`.

    `n` stands in for one that is not written. Raises ValueError with a sentence.
    """
    if isinstance(values, list):
        return values if n is None else [values[int(uniform(seed, name, index) * len(values))] for index in range(n)]
    how = values.get("sample")
    if how is None:
        points = grid(values["from"], values["to"], values["steps"], log=values.get("scale") == "log")
        return _whole(points) if whole else points
    count = values.get("n", n)
    makers: dict[str, Callable[[], list[Json]]] = {
        "log_uniform": lambda: sample_range(seed, name, values["from"], values["to"], count, log=True, whole=whole),
        "uniform": lambda: sample_range(seed, name, values["from"], values["to"], count, whole=whole),
        "normal": lambda: sample_normal(seed, name, values["mean"], values["sd"], count),
        "choice": lambda: sample_choice(seed, name, values["of"], count),
    }
    return makers[how]()
