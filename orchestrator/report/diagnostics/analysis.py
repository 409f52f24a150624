"""From analysed test sets to their operating points, calibration and curves."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report.diagnostics.calibrations import calibrations, curves
from orchestrator.report.diagnostics.points import operating_points
from orchestrator.report.diagnostics.values import Diagnostics, OperatingPoint
from orchestrator.report.parts import Part
from orchestrator.report.predictions import Predictions
from orchestrator.report.stats.operating import F1_ON_TEST
from orchestrator.report.stats.rates import GRID


def diagnostics_of(parts: Sequence[Part], confidence: float) -> Diagnostics:
    """Look at what the models of every test set do at a threshold, and at their probabilities."""
    boards = [(part, part.board) for part in parts if part.board is not None]
    points = tuple(one for part, board in boards for one in operating_points(part.planned, part.test_set, board, confidence))
    drawn = tuple(one for part, board in boards for one in curves(part.planned, part.test_set, board))
    placed = {point.test_set for point in points if point.rule != F1_ON_TEST}
    notes = tuple(
        f"{part.test_set.title}: no operating points, because no run has thresholds that were chosen on validation."
        for part, board in boards
        if part.test_set.key not in placed and isinstance(board.frame, Predictions)
    )
    notes += tuple(_without(part, points) for part, _ in boards if _unplaced(part, points))
    published = {point.test_set for point in points if point.rule == F1_ON_TEST}
    notes += tuple(
        f"{part.test_set.title}: F1 and accuracy also stand as published, at thresholds that were chosen on the test rows themselves: "
        "an F1 is too high there, and these numbers are no results."
        for part, _ in boards
        if part.test_set.key in published
    )
    return Diagnostics(
        operating_points=points,
        calibrations=tuple(one for part, board in boards for one in calibrations(part.planned, part.test_set, board, confidence)),
        curves=drawn,
        grid=tuple(float(place) for place in GRID) if drawn else (),
        notes=notes,
    )


def _unplaced(part: Part, points: Sequence[OperatingPoint]) -> list[str]:
    """Name the findings without a threshold of validation, on a test set where others have one."""
    placed = {point.label for point in points if point.test_set == part.test_set.key and point.source == "validation"}
    return [label.title for label in part.test_set.labels if label.name not in placed] if placed else []


def _without(part: Part, points: Sequence[OperatingPoint]) -> str:
    names = ", ".join(_unplaced(part, points))
    return f"{part.test_set.title}: no threshold for {names}, because validation does not have both cases with it and cases without."
