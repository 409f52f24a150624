"""Views over findings and replicates together: what a mean over findings hides, with intervals from the crossed bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.report import cells
from orchestrator.report.board import Board, Scored
from orchestrator.report.cells import Group, Planned
from orchestrator.report.differences import pair
from orchestrator.report.parts import Part
from orchestrator.report.stats.estimate import Status
from orchestrator.report.stats.inference import ENOUGH, NO_SPREAD
from orchestrator.report.stats.intervals import percentile
from orchestrator.report.stats.scales import Scale
from orchestrator.report.stats.views import crossed_replicates, interquartile_mean, probability_of_improvement
from orchestrator.report.values import View

#: From areas (replicates, findings, resamples) of one or two arms to a number in every resample.
_Statistic = Callable[..., np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """What all views of one test set share."""

    part: Part
    board: Board
    #: Findings that the measure averages.
    findings: tuple[str, ...]
    confidence: float

    @property
    def scale(self) -> Scale:
        return self.board.kind_of(self.findings[0]).scale

    @property
    def better(self) -> float:
        return 1.0 if self.board.kind_of(self.findings[0]).higher_is_better else -1.0

    def scored(self, planned: Planned) -> list[Scored]:
        return [one for one in planned.present(self.board) if all(name in one.areas for name in self.findings)]

    def values(self, groups: Sequence[Group]) -> np.ndarray:
        """Return areas (replicates, findings, 1)."""
        return np.array([[[group.value(name)] for name in self.findings] for group in groups])

    def resampled(self, groups: Sequence[Group]) -> np.ndarray:
        """Return areas (replicates, findings, resamples)."""
        return np.stack([[group.replicates(name) for name in self.findings] for group in groups])


def views(part: Part, confidence: float) -> list[View]:
    """Return the middle half of each arm over findings and replicates, and for each declared difference that of the arm less the baseline's
    and how often a run of the arm beats one of the baseline.

    Draws that both arms share are drawn again together, and replicates without a partner are left out. Findings are those that the
    measure averages, and are not drawn again: they share patients and models.
    """
    board = part.board
    known = [] if board is None else [one for one in board.scored.values() if None in one.areas]
    if board is None or not known:
        return []
    findings = tuple(label.name for label in board.labels if label.in_measure and all(label.name in one.areas for one in known))
    if not findings:
        return []
    frame = _Frame(part=part, board=board, findings=findings, confidence=confidence)
    by_place = {(one.arm, one.size): one for one in part.planned}
    pairs = dict.fromkeys((one.arm, one.baseline, one.size) for one in part.differences)
    found = [view for one in part.planned if (view := _of_arm(one, frame)) is not None]
    return [*found, *(view for arm, base, size in pairs for view in _of_pair(by_place[arm, size], by_place[base, size], frame))]


def _of_arm(planned: Planned, frame: _Frame) -> View | None:
    scored = frame.scored(planned)
    if not scored:
        return None
    groups = cells.replicate_groups(scored)
    facts = {"baseline": None, "name": "interquartile_mean", **_facts((planned,), (groups,), frame)}
    return _view(interquartile_mean, (groups,), facts, frame, keep=frame.scale.inside)


def _of_pair(arm: Planned, base: Planned, frame: _Frame) -> list[View]:
    paired = pair(frame.scored(arm), frame.scored(base))
    if paired.matching == "none":
        return []
    sides = (paired.a, paired.b)
    facts = {"baseline": base.arm, "matching": paired.matching, **_facts((arm, base), sides, frame)}
    matched = paired.is_paired or len(paired.a) == len(paired.b) == 1

    def less(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return interquartile_mean(first) - interquartile_mean(second)

    def wins(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return probability_of_improvement(frame.better * first, frame.better * second)

    return [
        _view(less, sides, {"name": "interquartile_mean_difference", **facts}, frame, matched=matched),
        _view(wins, sides, {"name": "probability_of_improvement", **facts}, frame, matched=matched, keep=Scale().inside),
    ]


def _facts(planned: Sequence[Planned], sides: Sequence[Sequence[Group]], frame: _Frame) -> dict[str, Any]:
    """Return what a view says of its runs, and what its interval is about."""
    many = max(sides, key=lambda side: len({group.name for group in side}))
    replicated = max(map(len, sides)) > 1
    word = cells.replicate_word([one for group in many for one in group.members], many)
    held = dict.fromkeys(each for side in sides for each in cells.given([one for group in side for one in group.members]))
    given = "".join(f"_given_{one}" for one in held)
    cluster = frame.part.test_set.cluster
    missing = any(one.missing(frame.board) for one in planned)
    return {
        "test_set": planned[0].test_set,
        "arm": planned[0].arm,
        "size": planned[0].size,
        "estimand": f"new_{word}_new_{cluster}{given}" if replicated else f"these_models_new_{cluster}",
        "method": "crossed_bootstrap" if replicated else "patient_bootstrap",
        "status": (*(() if replicated else (str(Status.ONE_RUN),)), *((str(Status.MISSING_RUNS),) if missing else ())),
        "n_replicates": min(map(len, sides)),
        "n_findings": len(frame.findings),
    }


def _view(
    statistic: _Statistic,
    sides: Sequence[Sequence[Group]],
    facts: dict[str, Any],
    frame: _Frame,
    *,
    matched: bool = True,
    keep: Callable[[float, float], tuple[float, float]] | None = None,
) -> View:
    value = float(statistic(*(frame.values(side) for side in sides))[0])
    resampled = crossed_replicates(statistic, [frame.resampled(side) for side in sides], frame.board.counts, matched=matched)
    resampled = resampled[np.isfinite(resampled)]
    ends = percentile(resampled, frame.confidence) if len(resampled) >= ENOUGH else None
    if ends is None or ends[1] - ends[0] <= NO_SPREAD:
        # Resamples that never move, as where every run beats every other, say nothing of an interval.
        return View(**{**facts, "value": value, "method": "none", "status": (*facts["status"], str(Status.NOT_ESTIMABLE))})
    low, high = ends if keep is None else keep(*ends)
    return View(**facts, value=value, low=low, high=high)
