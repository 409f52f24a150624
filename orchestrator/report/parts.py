"""One test set: its runs laid out, and every arm and declared contrast answered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.report import folds as held
from orchestrator.report.board import Board, lay_out
from orchestrator.report.cells import Planned, cell, no_runs
from orchestrator.report.design import contrast_text
from orchestrator.report.differences import adjust, difference
from orchestrator.report.inputs import CardFacts, Inputs
from orchestrator.report.kinds import KINDS
from orchestrator.report.measures import further_kinds, kind_of, measure_of, measure_title
from orchestrator.report.published import Answered, as_published
from orchestrator.report.results import Run
from orchestrator.report.sizes import size_rank, sizes
from orchestrator.report.values import ArmInfo, Cell, Difference, FoldArea, Published, TestSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one test set adds to a report."""

    test_set: TestSet
    planned: tuple[Planned, ...]
    board: Board | None
    cells: tuple[Cell, ...] = ()
    differences: tuple[Difference, ...] = ()
    label_cells: tuple[Cell, ...] = ()
    label_differences: tuple[Difference, ...] = ()
    folds: tuple[FoldArea, ...] = ()
    as_published: tuple[Published, ...] = ()
    #: Cells of the other measures that masks have.
    further: tuple[Cell, ...] = ()


def part_of(key: str, runs: Sequence[Run], inputs: Inputs) -> Part:
    """Analyse the runs of one test set. Raises ReportError when they were scored on different rows, or on an unknown measure."""
    report, first = inputs.report, runs[0]
    arms = inputs.design.arms({one.place.arm for one in runs})
    planned = _planned(key, runs, arms)
    if any(one.place.fold is not None for one in runs):
        return _by_folds(key, planned, arms, report.confidence)
    card = inputs.cards.get(first.card, CardFacts(title=first.card))
    present = [one for one in runs if one.predictions is not None]
    phases = sorted({one.place.phase for one in runs if not one.place.floor})
    facts = _Facts(
        key=key,
        title=card.title if key == first.card else f"{card.title} ({key})",
        arms=arms,
        measure=measure_of(report.measure, phases=phases, card=first.card),
        cluster=first.cluster,
    )
    if not present:
        return Part(
            test_set=_describe(facts, runs, planned, None),
            planned=planned,
            board=None,
            cells=tuple(no_runs(one, facts.measure) for one in planned),
        )
    options = {"title": f"'{key}'", "groups": card.groups, "cluster": first.cluster, "resamples": report.resamples}
    board = lay_out(present, measure=facts.measure, **options)
    part = _answers(_describe(facts, present, planned, board), planned, board, inputs)
    further = further_kinds(board.frame, board.kind)
    boards = {kind.name: lay_out(present, measure=kind.name, **options) for kind in further}
    asked = {"cluster": part.test_set.cluster, "confidence": report.confidence}
    return replace(
        part, further=tuple(cell(one, boards[kind.name], None, measure=kind.name, **asked) for kind in further for one in planned)
    )


def _planned(key: str, runs: Sequence[Run], arms: Sequence[ArmInfo]) -> tuple[Planned, ...]:
    cells: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        cells.setdefault((run.place.arm, run.place.size), []).append(run)
    order = {arm.key: index for index, arm in enumerate(arms)}
    ranked = sorted(cells, key=lambda place: (order[place[0]], size_rank(place[1])))
    return tuple(Planned(test_set=key, arm=arm, size=size, runs=tuple(_ordered(cells[arm, size]))) for arm, size in ranked)


def _ordered(runs: Iterable[Run]) -> list[Run]:
    def natural(run: Run) -> tuple[object, ...]:
        return tuple((0, float(word), "") if word.replace(".", "", 1).isdigit() else (1, 0.0, word) for word in run.place.replicate.split())

    return sorted(runs, key=lambda run: (natural(run), run.job))


def _answers(test_set: TestSet, planned: tuple[Planned, ...], board: Board, inputs: Inputs) -> Part:
    options = {"measure": test_set.measure, "cluster": test_set.cluster, "confidence": inputs.report.confidence}
    by_finding = {**options, "measure": test_set.label_measure}
    names = [label.name for label in test_set.labels]
    by_place = {(one.arm, one.size): one for one in planned}
    differences: list[Difference] = []
    exploratory: list[Difference] = []
    for contrast in inputs.report.contrasts:
        text = contrast_text(contrast)
        sides = [
            (by_place[arm, size.key], by_place[base, size.key])
            for size in test_set.sizes
            for arm, base in inputs.design.pairs(contrast, [arm.key for arm in test_set.arms])
            if (arm, size.key) in by_place and (base, size.key) in by_place
        ]
        differences += adjust([difference(side, board, None, contrast=text, **options) for side in sides], "holm")
        for side in sides:
            found = [difference(side, board, name, contrast=text, **by_finding) for name in names]
            exploratory += adjust(found, "benjamini_hochberg")
    answers = tuple(cell(one, board, None, **options) for one in planned)
    answered = Answered(
        test_set=test_set,
        planned=planned,
        board=board,
        cells=answers,
        differences=tuple(differences),
        confidence=inputs.report.confidence,
    )
    return Part(
        test_set=test_set,
        planned=planned,
        board=board,
        cells=answers,
        differences=tuple(differences),
        as_published=as_published(inputs.report.as_published, answered),
        label_cells=tuple(cell(one, board, name, **by_finding) for one in planned for name in names),
        label_differences=tuple(exploratory),
    )


def _by_folds(key: str, planned: tuple[Planned, ...], arms: tuple[ArmInfo, ...], confidence: float) -> Part:
    held.check_same_folds(planned, f"'{key}'")
    labels = held.pooled_labels(planned)
    digest, units, patients = held.pooled_digest(planned)
    first = planned[0].runs[0]
    test_set = TestSet(
        key=key,
        title=key,
        card=first.card,
        split=first.split,
        unit=first.unit,
        cluster="patients",
        digest=digest,
        n_units=units,
        n_patients=patients,
        n_clusters=patients,
        measure="auroc",
        measure_title="AUROC within folds",
        labels=labels,
        arms=arms,
        sizes=(),
        by_folds=True,
    )
    areas = tuple(held.fold_area(one, label.name, confidence) for label in labels for one in planned)
    return Part(test_set=test_set, planned=planned, board=None, folds=areas)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What is known of a test set before anything was scored on it."""

    key: str
    title: str
    arms: tuple[ArmInfo, ...]
    measure: str
    cluster: str


def _describe(facts: _Facts, runs: Sequence[Run], planned: Sequence[Planned], board: Board | None) -> TestSet:
    first = runs[0]
    kind = kind_of(facts.measure) or KINDS["auroc"]
    by_finding = KINDS[kind.by_finding or kind.name]
    labels = board.labels if board else ()
    left_out = board.left_out if board else ()
    return TestSet(
        key=facts.key,
        title=facts.title,
        card=first.card,
        split=first.split,
        unit=first.unit,
        cluster={"patient": "patients", "study": "studies", "image": "images"}.get(facts.cluster, facts.cluster),
        digest=str((first.result or {}).get("test_digest", "")),
        n_units=len(board.frame.units) if board else 0,
        n_patients=len(np.unique(board.frame.patients)) if board else 0,
        n_clusters=board.clusters if board else 0,
        measure=facts.measure,
        measure_title=measure_title(facts.measure, [label.name for label in labels if label.in_measure]),
        labels=labels,
        arms=facts.arms,
        sizes=sizes(planned),
        notes=((f"left out, because not every run scores them: {', '.join(left_out)}",) if left_out else ()),
        scores=board.frame.holds() if board else "logits",
        higher_is_better=kind.higher_is_better,
        reference=kind.reference,
        label_measure=by_finding.name,
        label_measure_title=by_finding.title,
        label_higher_is_better=by_finding.higher_is_better,
        label_reference=by_finding.reference,
    )
