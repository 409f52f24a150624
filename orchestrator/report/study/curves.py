"""Whole curves against each other: the area between them, its trend, and how many labels an arm is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from orchestrator.report.board import Board
from orchestrator.report.cells import Planned
from orchestrator.report.stats.curves import Reach, analyse, area_weights, reach, reached, trend_weights
from orchestrator.report.stats.estimate import Status
from orchestrator.report.stats.inference import answer
from orchestrator.report.stats.multiplicity import holm
from orchestrator.report.study.chains import Paired, at_boundary, pair_chains, question_of, read, stacked, x_of
from orchestrator.report.study.values import ChainPoint, CurveDifference, Equivalence
from orchestrator.report.values import TestSet

AREA, TREND = "area_between", "trend"
FIELLER = "fieller_obuchowski_rockette"


def compare_curves(
    sides: tuple[Mapping[str, Planned], Mapping[str, Planned]], test_set: TestSet, board: Board, *, contrast: str, confidence: float
) -> tuple[list[CurveDifference], list[Equivalence]]:
    """Compare an arm with its baseline over all numbers of labels; nothing when fewer than two sizes have both."""
    if len([size for size in test_set.sizes if all(size.key in side for side in sides)]) < 2:
        return [], []
    paired = pair_chains(*sides, test_set, board)
    names = [next(iter(side.values())).arm for side in sides]
    place: dict[str, Any] = {
        "test_set": test_set.key,
        "contrast": contrast,
        "arm": names[0],
        "baseline": names[1],
        "measure": test_set.measure,
    }
    status = (Status.MISSING_RUNS,) if paired.incomplete and _has_gaps(sides, paired, board) else ()
    if not paired.usable:
        bare = [_bare(kind, paired, (*status, Status.NOT_ESTIMABLE), place) for kind in (AREA, TREND)]
        return bare, []
    differences = [_difference(kind, paired, test_set, board, status, place, confidence) for kind in (AREA, TREND)]
    return differences, _equivalences(paired, test_set, board, status, place, confidence)


def _has_gaps(sides: Sequence[Mapping[str, Planned]], paired: Paired, board: Board) -> bool:
    return any(side[size.key].missing(board) for side in sides for size in paired.sizes)


def adjust_curves(found: Sequence[CurveDifference]) -> list[CurveDifference]:
    """Adjust p values by Holm over the arms of one contrast, areas and trends each a family of their own."""
    changed = list(found)
    for kind in (AREA, TREND):
        inside = [index for index, one in enumerate(found) if one.kind == kind and one.p is not None]
        for index, value in zip(inside, holm([found[index].p or 0.0 for index in inside]), strict=True):
            changed[index] = replace(changed[index], p_adjusted=value, adjustment="holm", family=len(inside))
    return changed


def _bare(kind: str, paired: Paired, status: Sequence[str], place: Mapping[str, Any]) -> CurveDifference:
    return CurveDifference(
        **place,
        kind=kind,
        estimate=None,
        low=None,
        high=None,
        p=None,
        p_adjusted=None,
        adjustment="",
        family=0,
        estimand="",
        method="none",
        matching=("matched" if paired.matched else "nested") if paired.usable else "none",
        status=tuple(dict.fromkeys(map(str, status))),
        sizes=tuple(size.key for size in paired.sizes),
        n_chains=min(len(paired.a), len(paired.b)),
        left_out=paired.left_out,
        incomplete=paired.incomplete,
    )


def _difference(
    kind: str, paired: Paired, test_set: TestSet, board: Board, status: Sequence[str], place: Mapping[str, Any], confidence: float
) -> CurveDifference:
    weights = (area_weights if kind == AREA else trend_weights)(x_of(paired.sizes))
    a, b = read(paired.a, weights), read(paired.b, weights)
    question = question_of(paired, board, test_set, confidence)
    found = analyse(a[:2], b[:2], matched=paired.matched)
    points: tuple[ChainPoint, ...] = ()
    if paired.matched:
        points = tuple(ChainPoint(replicate=chain[0].name, value=float(value)) for chain, value in zip(paired.a, a[0] - b[0], strict=True))
        edge = a[2].at_boundary or b[2].at_boundary
        joined = replace(a[2], values=a[0] - b[0], areas=a[2].areas - b[2].areas, at_boundary=edge)
        got = answer(found, (joined,), question)
    else:
        got = answer(found, (a[2], b[2]), question)
    head = got.headline
    return replace(
        _bare(kind, paired, (*status, *got.status), place),
        estimate=head.value,
        low=head.low,
        high=head.high,
        p=head.p,
        estimand=head.estimand,
        method=head.method,
        estimates=got.estimates,
        points=points,
    )


def _equivalences(
    paired: Paired, test_set: TestSet, board: Board, status: Sequence[str], place: Mapping[str, Any], confidence: float
) -> list[Equivalence]:
    x = x_of(paired.sizes)
    (a, _), (b, _) = stacked(paired.a), stacked(paired.b)
    edge = at_boundary((*paired.a, *paired.b))
    question = question_of(paired, board, test_set, confidence)
    made: list[Equivalence] = []
    for index, size in enumerate(paired.sizes):
        found = reach(a.level(index), b, x, confidence, matched=paired.matched)
        shown = Reach(value=found.value, beyond=found.beyond, low=None, high=None, has_interval=False) if edge else found
        made.append(
            Equivalence(
                **place,
                size=size.key,
                **_factors(shown, x, index),
                estimand=question.both if shown.has_interval else "",
                method=FIELLER if shown.has_interval else "none",
                matching="matched" if paired.matched else "nested",
                status=tuple(dict.fromkeys(map(str, (*status, *([Status.AT_BOUNDARY] if edge else []))))),
                n_chains=min(len(paired.a), len(paired.b)),
                points=_own_factors(paired, a.values[:, index], b.values, x, index) if paired.matched else (),
            )
        )
    return made


def _factors(found: Reach, x: np.ndarray, index: int) -> dict[str, Any]:
    return {
        "factor": _factor(found.value, x[index]),
        "beyond": found.beyond,
        "lowest": _factor(x[0], x[index]),
        "highest": _factor(x[-1], x[index]),
        "low": _factor(found.low, x[index]),
        "high": _factor(found.high, x[index]),
    }


def _factor(at: float | None, own: float) -> float | None:
    return None if at is None else float(2.0 ** (at - own))


def _own_factors(paired: Paired, levels: np.ndarray, curves: np.ndarray, x: np.ndarray, index: int) -> tuple[ChainPoint, ...]:
    found = [reached(float(level), curve, x) for level, curve in zip(levels, curves, strict=True)]
    return tuple(
        ChainPoint(replicate=chain[0].name, value=_factor(value, x[index]), beyond=beyond)
        for chain, (value, beyond) in zip(paired.a, found, strict=True)
    )
