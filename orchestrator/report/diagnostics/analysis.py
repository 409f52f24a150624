"""From analysed test sets to their operating points, calibration and curves."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report.diagnostics.calibrations import calibrations, curves
from orchestrator.report.diagnostics.points import operating_points
from orchestrator.report.diagnostics.values import Diagnostics
from orchestrator.report.parts import Part
from orchestrator.report.predictions import Predictions
from orchestrator.report.stats.rates import GRID


def diagnostics_of(parts: Sequence[Part], confidence: float) -> Diagnostics:
    """Look at what the models of every test set do at a threshold, and at their probabilities."""
    boards = [(part, part.board) for part in parts if part.board is not None]
    points = tuple(one for part, board in boards for one in operating_points(part.planned, part.test_set, board, confidence))
    drawn = tuple(one for part, board in boards for one in curves(part.planned, part.test_set, board))
    placed = {point.test_set for point in points}
    notes = tuple(
        f"{part.test_set.title}: no operating points, because no run has thresholds that were chosen on validation."
        for part, board in boards
        if part.test_set.key not in placed and isinstance(board.frame, Predictions)
    )
    return Diagnostics(
        operating_points=points,
        calibrations=tuple(one for part, board in boards for one in calibrations(part.planned, part.test_set, board, confidence)),
        curves=drawn,
        grid=tuple(float(place) for place in GRID) if drawn else (),
        notes=notes,
    )
