"""Several test sets: the equal-weight average over them, a number of the same replicates, and never a pool of their patients.

Test sets are separate populations. The average of a replicate is one number, so draws are analysed as on one test set; the variance over
patients adds with weights 1/K^2, and a patient who is in several test sets is one cluster of all of them. The bootstrap twin resamples
each test set's own patients, those of several once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from orchestrator.report.board import Board, Scored
from orchestrator.report.cells import Planned, cell
from orchestrator.report.design import contrast_text
from orchestrator.report.differences import adjust, difference
from orchestrator.report.inputs import Inputs
from orchestrator.report.kinds import Measured
from orchestrator.report.parts import Part
from orchestrator.report.results import Run
from orchestrator.report.study.joint_resamples import joint_replicates
from orchestrator.report.study.values import Average
from orchestrator.report.values import Cell, Difference


@dataclass(frozen=True, slots=True, kw_only=True)
class _Joint:
    """Test sets laid over each other: who is in any of them, and the runs that all of them have."""

    keys: tuple[str, ...]
    #: Clusters in all, and how many of them are in two test sets and more.
    clusters: int
    shared: int
    measure: str
    cluster: str
    board: Board
    planned: tuple[Planned, ...]


def averages(parts: Sequence[Part], inputs: Inputs) -> list[Average]:
    """Average every arm, and every declared difference, over the test sets that have the same measure and cluster.

    p values are adjusted by Holm within each contrast. An arm, a number of labels or a replicate that one test set lacks is in no average;
    lacking replicates are named.
    """
    found: list[Average] = []
    # A measure whose interval is resampled is not near linear in the cases, and test sets are resampled each for itself.
    able = [part for part in parts if part.board is not None and not part.board.kind.scale.resampled]
    for kind in dict.fromkeys((part.test_set.measure, part.test_set.cluster) for part in able):
        own = [part for part in able if (part.test_set.measure, part.test_set.cluster) == kind]
        if len(own) > 1:
            found += _of(_joined(own), own, inputs)
    return found


def _of(joint: _Joint, parts: Sequence[Part], inputs: Inputs) -> list[Average]:
    options = {"measure": joint.measure, "cluster": joint.cluster, "confidence": inputs.report.confidence}
    by_place = {(one.arm, one.size): one for one in joint.planned}
    made = [_plain(cell(one, joint.board, None, **options), joint) for one in joint.planned]
    arms = [arm.key for arm in parts[0].test_set.arms if any(arm.key == one.arm for one in joint.planned)]
    for contrast in inputs.report.contrasts:
        sides = [
            (by_place[arm, size], by_place[base, size])
            for size in dict.fromkeys(one.size for one in joint.planned)
            for arm, base in inputs.design.pairs(contrast, arms)
            if (arm, size) in by_place and (base, size) in by_place
        ]
        text = contrast_text(contrast)
        tested = adjust([difference(side, joint.board, None, contrast=text, **options) for side in sides], "holm")
        made += [_plain(one, joint) for one in tested]
    return made


def _joined(parts: Sequence[Part]) -> _Joint:
    boards = [part.board for part in parts if part.board is not None]
    ids = [np.unique(_ids(board, part.test_set.cluster)) for board, part in zip(boards, parts, strict=True)]
    union, counts = np.unique(np.concatenate(ids), return_counts=True)
    places = [np.searchsorted(union, one) for one in ids]
    cells = [{(one.arm, one.size): one for one in part.planned} for part in parts]
    common = [place for place in cells[0] if all(place in one for one in cells)]
    drawn = joint_replicates(boards, places, len(union))
    scored: dict[str, Scored] = {}
    for place in common:
        for first in cells[0][place].runs:
            same = [_same(first, one[place], board) for one, board in zip(cells, boards, strict=True)]
            known = [one for one in same if one is not None]
            if len(known) == len(same):
                replicates = np.mean([own[one.run.job] for own, one in zip(drawn, known, strict=True)], axis=0)
                average = replace(_mean([one.areas[None] for one in known], places, len(union)), replicates=replicates)
                scored[first.job] = replace(known[0], areas={None: average})
    return _Joint(
        keys=tuple(part.test_set.key for part in parts),
        clusters=len(union),
        shared=int((counts > 1).sum()),
        measure=parts[0].test_set.measure,
        cluster=parts[0].test_set.cluster,
        board=replace(boards[0], clusters=len(union), labels=(), scored=scored, left_out=()),
        planned=tuple(cells[0][place] for place in common),
    )


def _ids(board: Board, cluster: str) -> np.ndarray:
    return {"patients": board.frame.patients, "studies": board.frame.studies, "images": board.frame.units}[cluster]


def _same(first: Run, planned: Planned, board: Board) -> Scored | None:
    """Return the run of a test set that scores the same model as a run of another one: same replicate, same train job."""
    job = first.picked.train_job
    for one in planned.present(board):
        if one.run.place.replicate == first.place.replicate and None in one.areas:
            return one if one.run.picked.train_job in (job, None) or job is None else None
    return None


def _mean(areas: Sequence[Measured], places: Sequence[np.ndarray], clusters: int) -> Measured:
    """Average a measure over test sets; at an end of its scale a value has no variance, so that the average has no interval."""
    moved: np.ndarray | None = np.zeros(clusters)
    for area, place in zip(areas, places, strict=True):
        if area.influence is None or area.at_end:
            moved = None
            break
        np.add.at(moved, place, area.influence / len(areas))
    value = float(np.mean([area.value for area in areas]))
    return Measured(value=value, influence=moved, replicates=np.empty(0), constant=any(area.constant for area in areas))


def _plain(one: Cell | Difference, joint: _Joint) -> Average:
    is_difference = isinstance(one, Difference)
    facts: dict[str, Any] = {
        "baseline": one.baseline if is_difference else None,
        "contrast": one.contrast if is_difference else None,
        "p": one.p if is_difference else None,
        "p_adjusted": one.p_adjusted if is_difference else None,
        "adjustment": one.adjustment if is_difference else "",
        "family": one.family if is_difference else 0,
        "matching": one.matching if is_difference else "",
    }
    return Average(
        **facts,
        test_sets=joint.keys,
        arm=one.arm,
        size=one.size,
        measure=one.measure,
        estimate=one.estimate,
        low=one.low,
        high=one.high,
        estimand=one.estimand,
        method=one.method,
        status=one.status,
        n_replicates=one.n_replicates,
        n_clusters=joint.clusters,
        n_shared=joint.shared,
        missing=one.unmatched if is_difference else one.missing,
        estimates=one.estimates,
    )
