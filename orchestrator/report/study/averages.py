"""Several test sets: the equal-weight average over them, a number of the same replicates, and never a pool of their patients.

Test sets are separate populations. The average of a replicate is one number, so draws are analysed as on one test set; the variance over
patients adds with weights 1/K^2, and a patient who is in several test sets is one cluster of all of them. The bootstrap twin resamples
each test set's own patients, those of several once.

An arm is the same on two test sets when its labels are: one model, evaluated on both. Arms that were trained on the card of the test set
(`data` is an axis, and `evaluate: {data: same}`) are another model on each and one arm of the average. A replicate of it is the mean over
the models of one seed or draw, so that intervals hold how the models of each test set differ between replicates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from orchestrator.arms import Arm
from orchestrator.expansion.points import DATA
from orchestrator.model import Contrast
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
from orchestrator.report.values import ArmInfo, Cell, Difference
from orchestrator.report.wording import SEPARATOR


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
    #: By test set: what each of its arms is called in the average.
    called: tuple[Mapping[str, str], ...]
    #: By the name in the average: the title of an arm.
    titles: Mapping[str, str]


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
    for contrast in inputs.report.contrasts:
        found = [_pairs(part, called, contrast, inputs) for part, called in zip(parts, joint.called, strict=True)]
        sides = [
            (by_place[arm, size], by_place[base, size])
            for size in dict.fromkeys(one.size for one in joint.planned)
            for arm, base in found[0]
            if (arm, size) in by_place and (base, size) in by_place and all((arm, base) in own for own in found)
        ]
        text = contrast_text(contrast)
        tested = adjust([difference(side, joint.board, None, contrast=text, **options) for side in sides], "holm")
        made += [_plain(one, joint) for one in tested]
    return made


def _pairs(part: Part, called: Mapping[str, str], contrast: Contrast, inputs: Inputs) -> list[tuple[str, str]]:
    """Return (arm, its baseline) of a test set as the average calls them, in their order."""
    arms = [arm.key for arm in part.test_set.arms if arm.key in called]
    return [(called[arm], called[base]) for arm, base in inputs.design.pairs(contrast, arms)]


def _called(parts: Sequence[Part]) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Return, by test set, what the average calls the arms that all test sets have, and the titles of those names.

    An arm that stands on all test sets keeps its name. Of the others, the card that they were trained on is left out where it is the
    test set's own.
    """
    everywhere = set.intersection(*({arm.key for arm in part.test_set.arms} for part in parts))
    named = [{arm.key: arm if arm.key in everywhere else own_card(arm, part.test_set.card) for arm in part.test_set.arms} for part in parts]
    common = set.intersection(*({one.key for one in own.values()} for own in named))
    titles = {one.key: one.title for one in named[-1].values() if one.key in common}
    return [{key: one.key for key, one in own.items() if one.key in common} for own in named], titles


def own_card(arm: ArmInfo, card: str) -> ArmInfo:
    """Return an arm without the label that says that it was trained on a card, in its name and its title; as it is where none says so."""
    labels = {name: value for name, value in arm.labels.items() if name.rpartition(".")[2] != DATA or value != card}
    if len(labels) == len(arm.labels):
        return arm
    words = [word for word in arm.title.split(SEPARATOR) if word != card]
    return replace(arm, key=Arm(phase=arm.phase, labels=labels).name, labels=labels, title=SEPARATOR.join(words) or arm.phase)


def _joined(parts: Sequence[Part]) -> _Joint:
    boards = [part.board for part in parts if part.board is not None]
    ids = [np.unique(_ids(board, part.test_set.cluster)) for board, part in zip(boards, parts, strict=True)]
    union, counts = np.unique(np.concatenate(ids), return_counts=True)
    places = [np.searchsorted(union, one) for one in ids]
    called, titles = _called(parts)
    cells = [{(own[one.arm], one.size): one for one in part.planned if one.arm in own} for part, own in zip(parts, called, strict=True)]
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
                scored[first.job] = replace(known[0], run=_together(known), areas={None: average})
    return _Joint(
        keys=tuple(part.test_set.key for part in parts),
        clusters=len(union),
        shared=int((counts > 1).sum()),
        measure=parts[0].test_set.measure,
        cluster=parts[0].test_set.cluster,
        board=replace(boards[0], clusters=len(union), labels=(), scored=scored, left_out=()),
        planned=tuple(replace(cells[0][place], arm=place[0]) for place in common),
        called=tuple(called),
        titles=titles,
    )


def _ids(board: Board, cluster: str) -> np.ndarray:
    return {"patients": board.frame.patients, "studies": board.frame.studies, "images": board.frame.units}[cluster]


def _same(first: Run, planned: Planned, board: Board) -> Scored | None:
    """Return the run of a test set that belongs to a run of another one: same replicate, and the same train job where one arm is meant."""
    job = first.picked.train_job if planned.arm == first.place.arm else None
    for one in planned.present(board):
        if one.run.place.replicate == first.place.replicate and None in one.areas:
            return one if one.run.picked.train_job in (job, None) or job is None else None
    return None


def _together(known: Sequence[Scored]) -> Run:
    """Return the run that stands for one replicate on all test sets: of several models, their draws and pretrainings are one."""
    run = known[0].run
    if all(one.run.place.arm == run.place.arm for one in known):
        return run
    digests = [one.run.draw.sha256 for one in known]
    draw = replace(run.draw, sha256=None if None in digests else "+".join(map(str, digests)))
    return replace(run, draw=draw, pretraining="+".join(sorted({one.run.pretraining for one in known if one.run.pretraining})))


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
        title=joint.titles[one.arm],
        baseline_title=joint.titles[one.baseline] if is_difference else None,
        arms=_stands_for(one.arm, joint),
        baseline_arms=_stands_for(one.baseline, joint) if is_difference else (),
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


def _stands_for(name: str, joint: _Joint) -> tuple[str, ...]:
    """Return the arm of each test set that an average means by a name."""
    return tuple(next(arm for arm, known in own.items() if known == name) for own in joint.called)
