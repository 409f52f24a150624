"""Intervals of proportions and of differences of proportions that hold at 0 and 1. Cases are independent."""

from __future__ import annotations

import math

from scipy import special

from orchestrator.report.stats.intervals import quantile


def wilson(successes: float, total: float, confidence: float = 0.95) -> tuple[float, float] | None:
    """Return the score interval of a proportion (Wilson 1927); None when there are no cases.

    Both counts may be fractions: with `total` divided by a design effect this is the interval for clustered cases. Raises ValueError when
    they are not counts of a part and its whole.
    """
    if _none(successes, total):
        return None
    z2, share = quantile(confidence, math.inf) ** 2, successes / total
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = math.sqrt(z2) / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == total else centre + half)


def clopper_pearson(successes: int, total: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """Return the exact interval of a proportion (Clopper & Pearson 1934), which covers at least as often as it says; None without cases."""
    if _none(successes, total):
        return None
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(special.betaincinv(successes, total - successes + 1, tail))
    high = 1.0 if successes == total else float(special.betaincinv(successes + 1, total - successes, 1 - tail))
    return low, high


def newcombe_independent(first: tuple[float, float], second: tuple[float, float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Return the interval of a difference of two independent proportions, each (successes, total), by Newcombe (1998a), method 10.

    None when either has no cases.
    """
    one, other = wilson(*first, confidence), wilson(*second, confidence)
    if one is None or other is None:
        return None
    return _squared_and_added(first[0] / first[1], one, second[0] / second[1], other, 0.0)


def newcombe_paired(both: int, only_first: int, only_second: int, neither: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """Return the interval of a difference of two paired proportions by Newcombe (1998b), method 10; None without cases.

    The four counts are the cases on which both, the first alone, the second alone and neither succeed; the difference is the first's
    proportion less the second's. The correlation is corrected for continuity when it is positive.
    """
    counts = (both, only_first, only_second, neither)
    if min(counts) < 0:
        raise ValueError(f"counts of cases are not negative, got {counts}")
    total = sum(counts)
    one, other = wilson(both + only_first, total, confidence), wilson(both + only_second, total, confidence)
    if one is None or other is None:
        return None
    return _squared_and_added((both + only_first) / total, one, (both + only_second) / total, other, _phi(*counts))


def _phi(both: int, only_first: int, only_second: int, neither: int) -> float:
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if margins == 0:
        return 0.0
    product, total = both * neither - only_first * only_second, both + only_first + only_second + neither
    return (max(product - total / 2, 0.0) if product > 0 else product) / math.sqrt(margins)


def _squared_and_added(p: float, of_p: tuple[float, float], q: float, of_q: tuple[float, float], phi: float) -> tuple[float, float]:
    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * phi * a * b + b * b, 0.0))

    low = p - q - reach(p - of_p[0], of_q[1] - q)
    high = p - q + reach(of_p[1] - p, q - of_q[0])
    return max(low, -1.0), min(high, 1.0)


def _none(successes: float, total: float) -> bool:
    if not 0 <= successes <= total or math.isinf(total):
        raise ValueError(f"{successes} of {total} is no proportion")
    return total == 0
