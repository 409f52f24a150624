"""Arms one by one: replicates gathered into the cells of the headline table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.report.board import Board, Scored
from orchestrator.report.results import Run
from orchestrator.report.stats.estimate import Status
from orchestrator.report.stats.inference import Answer, Question, Replicates, answer
from orchestrator.report.stats.multireader import TwoWay, crossed
from orchestrator.report.values import Cell, LabelInfo, Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Runs that are one replicate: one run, or all runs of one pretraining when there are fewer pretrainings than draws."""

    name: str
    members: tuple[Scored, ...]

    def value(self, label: str | None) -> float:
        """Return the mean area of the members."""
        return float(np.mean([one.areas[label].value for one in self.members]))

    def influence(self, label: str | None) -> np.ndarray:
        """Return the mean influence values (clusters,)."""
        found = [one.areas[label].influence for one in self.members]
        return np.mean([values for values in found if values is not None], axis=0)

    def replicates(self, label: str | None) -> np.ndarray:
        """Return the mean bootstrap replicates (replicates,)."""
        return np.mean([one.areas[label].replicates for one in self.members], axis=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The planned runs of one arm with one number of labels on one test set."""

    test_set: str
    arm: str
    size: str
    runs: tuple[Run, ...]

    def present(self, board: Board) -> list[Scored]:
        """Return the runs that are there."""
        return [board.scored[run.job] for run in self.runs if run.job in board.scored]

    def missing(self, board: Board) -> tuple[str, ...]:
        """Name the replicates that are not there."""
        return tuple(run.place.replicate for run in self.runs if run.job not in board.scored)


def pretrainings(scored: Sequence[Scored]) -> set[str]:
    """Return the pretraining runs behind some runs."""
    return {one.run.pretraining for one in scored if one.run.pretraining}


def replicate_groups(scored: Sequence[Scored]) -> list[Group]:
    """Return what counts as one replicate: never pretrainings times draws, when there are several but fewer pretrainings than draws."""
    behind = pretrainings(scored)
    if 2 <= len(behind) < len(scored):
        return [
            Group(name=f"pretraining {index}", members=tuple(one for one in scored if one.run.pretraining == key))
            for index, key in enumerate(sorted(behind))
        ]
    return [Group(name=one.run.place.replicate, members=(one,)) for one in scored]


def replicate_word(scored: Sequence[Scored], groups: Sequence[Group]) -> str:
    """Say what differs between replicates: pretrainings, seeds on the same labelled patients, or draws of labelled patients."""
    if len(groups) < len(scored):
        return "pretrainings"
    draws = {one.run.draw.sha256 for one in scored}
    only_seeds = all(one.run.place.replicate.startswith("seed") for one in scored)
    return "seeds" if only_seeds or (len(draws) == 1 and len(scored) > 1) else "draws"


def given(scored: Sequence[Scored]) -> tuple[str, ...]:
    """Say what was held fixed: one pretraining run, a tuned value picked for all replicates at once."""
    picked_once = any(one.run.picked.candidates > 1 and one.run.picked.scope in ("cell", "sweep") for one in scored)
    return (*(("pretraining",) if len(pretrainings(scored)) == 1 else ()), *(("pick",) if picked_once else ()))


def fewest(labels: Sequence[LabelInfo], label: str | None) -> tuple[int, int]:
    """Return the patients with and without a finding; over a measure, the fewest of any of its findings."""
    chosen = [one for one in labels if (one.in_measure if label is None else one.name == label)]
    return min((one.n_positive_patients for one in chosen), default=0), min((one.n_negative_patients for one in chosen), default=0)


def stack(groups: Sequence[Group], label: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return values (replicates,), influence (replicates, clusters) and bootstrap areas (replicates, resamples)."""
    return (
        np.array([group.value(label) for group in groups]),
        np.stack([group.influence(label) for group in groups]),
        np.stack([group.replicates(label) for group in groups]),
    )


def at_boundary(groups: Sequence[Group], label: str | None) -> bool:
    """Tell whether any run's value is at an end of its scale."""
    return any(one.areas[label].at_end for group in groups for one in group.members)


def scores_status(scored: Sequence[Scored], label: str | None) -> list[str]:
    """Return what is wrong with the scores of some runs."""
    return [Status.CONSTANT_SCORES] if any(one.areas[label].constant for one in scored) else []


def label_status(board: Board, label: str | None) -> list[str]:
    """Return what is wrong with a finding itself."""
    return [word for one in board.labels if one.name == label for word in one.status]


def cell(planned: Planned, board: Board, label: str | None, *, measure: str, cluster: str, confidence: float) -> Cell:
    """Answer the three questions for one arm; a cell without runs is a cell that says so."""
    scored = [one for one in planned.present(board) if label in one.areas]
    groups = replicate_groups(scored)
    missing = planned.missing(board)
    status = [*label_status(board, label), *scores_status(scored, label), *([Status.MISSING_RUNS] if missing else [])]
    if not groups or any(one.areas[label].influence is None for one in scored):
        return _bare(
            planned, groups, label, measure, (*status, *([] if Status.NOT_ESTIMABLE in status else [Status.NOT_ESTIMABLE])), missing
        )
    values, influence, areas = stack(groups, label)
    positives, negatives = fewest(board.labels, label)
    question = Question(
        confidence=confidence,
        counts=board.counts,
        replicate=replicate_word(scored, groups),
        cluster=cluster,
        given=given(scored),
        positives=positives,
        negatives=negatives,
        clusters=board.clusters,
        scale=board.kind_of(label).scale,
    )
    found = crossed(values, influence)
    side = Replicates(values=values, areas=areas, at_boundary=at_boundary(groups, label), influence=influence.mean(axis=0))
    got = answer(found, (side,), question)
    bare = _bare(planned, groups, label, measure, tuple(dict.fromkeys([*status, *got.status])), missing)
    return _with(bare, got, found)


def _with(bare: Cell, got: Answer, found: TwoWay) -> Cell:
    headline = got.headline
    return replace(
        bare,
        estimate=headline.value,
        low=headline.low,
        high=headline.high,
        estimand=headline.estimand,
        method=headline.method,
        estimates=got.estimates,
        components=components(found),
    )


def components(found: TwoWay) -> dict[str, float | None]:
    """Return what a variance is made of."""
    return {
        "ms_draws": found.ms,
        "var_case": found.var_case,
        "cov_case": found.cov_case,
        "variance_patients": found.variance_patients,
        "variance_draws": found.variance_draws,
        "variance_both": found.variance_both,
    }


def _bare(
    planned: Planned, groups: Sequence[Group], label: str | None, measure: str, status: tuple[str, ...], missing: tuple[str, ...]
) -> Cell:
    scored = [one for group in groups for one in group.members]
    images = [one.run.draw.images for one in scored if one.run.draw.images is not None]
    patients = [one.run.draw.patients for one in scored if one.run.draw.patients is not None]
    points = tuple(
        Point(replicate=group.name, value=group.value(label), jobs=tuple(one.run.job for one in group.members)) for group in groups
    )
    return Cell(
        test_set=planned.test_set,
        arm=planned.arm,
        size=planned.size,
        measure=measure,
        label=label,
        estimate=float(np.mean([point.value for point in points])) if points else None,
        low=None,
        high=None,
        estimand="",
        method="none",
        status=tuple(str(word) for word in status),
        n_labeled=float(np.mean(images)) if images else None,
        n_labeled_patients=float(np.mean(patients)) if patients else None,
        n_planned=len(planned.runs),
        n_runs=len(scored),
        n_replicates=len(groups),
        n_pretrainings=len(pretrainings(scored)),
        n_penalised=_penalised(scored, label),
        missing=missing,
        points=points,
    )


def _penalised(scored: Sequence[Scored], label: str | None) -> float | None:
    counts = [one.areas[label].penalised for one in scored if label in one.areas]
    return float(np.mean(counts)) if any(counts) else None


def no_runs(planned: Planned, measure: str) -> Cell:
    """Return the cell of an arm of which nothing is there."""
    missing = tuple(run.place.replicate for run in planned.runs)
    return _bare(planned, (), None, measure, (Status.MISSING_RUNS, Status.NOT_ESTIMABLE), missing)
