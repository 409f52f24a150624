"""From the files of a run root to the values of a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.paths import RunPaths
from jobs.records import read_record
from orchestrator.errors import Error, ReportError
from orchestrator.model import Plan
from orchestrator.report import folds as held
from orchestrator.report import wording
from orchestrator.report.board import Board, lay_out
from orchestrator.report.cells import Planned, cell, no_runs
from orchestrator.report.design import Design, card_of, contrast_text
from orchestrator.report.differences import adjust, difference
from orchestrator.report.measures import measure_of, measure_title
from orchestrator.report.methods import methods
from orchestrator.report.results import Run, read_runs
from orchestrator.report.values import ArmInfo, Cell, Difference, FoldArea, LedgerRow, Report, SizeInfo, TestSet


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What one test set adds to a report."""

    test_set: TestSet
    planned: tuple[Planned, ...]
    board: Board | None
    cells: tuple[Cell, ...] = ()
    differences: tuple[Difference, ...] = ()
    label_cells: tuple[Cell, ...] = ()
    label_differences: tuple[Difference, ...] = ()
    folds: tuple[FoldArea, ...] = ()


def build(plan: Plan, run: RunPaths) -> Report:
    """Read what a sweep's evaluations left in a run root and compute its report; what is missing is named, never hidden.

    Raises ReportError when nothing is there yet, when runs of one test set were scored on different rows, or on an unknown measure.
    """
    runs = read_runs(plan, run)
    if not runs:
        raise ReportError(f"sweep '{plan.sweep}' evaluates nothing, so there is nothing to report; add `evaluate:` to a phase")
    if all(one.predictions is None for one in runs):
        raise ReportError(
            f"none of the {len(runs)} evaluations of '{plan.sweep}' has finished yet; type: orchestrate status {plan.file or plan.sweep}"
        )
    design = Design.of(plan)
    parts = [_part(key, group, design, run) for key, group in _test_sets(runs).items()]
    return _assemble(plan, runs, parts)


def _assemble(plan: Plan, runs: Sequence[Run], parts: Sequence[_Part]) -> Report:
    test_sets = tuple(part.test_set for part in parts)
    cells = tuple(one for part in parts for one in part.cells)
    ledger = tuple(row for part in parts for row in _ledger(part))
    areas = tuple(one for part in parts for one in part.folds)
    verdicts = [
        wording.verdict(one, part.test_set, confidence=plan.report.confidence, several_sets=len(parts) > 1)
        for part in parts
        for one in part.differences
        if plan.report.verdict
    ]
    return Report(
        sweep=plan.sweep,
        title=plan.report.title or plan.sweep,
        about=plan.about,
        made_data=plan.made_data,
        sample=plan.sample,
        makes_verdicts=plan.report.verdict,
        confidence=plan.report.confidence,
        resamples=plan.report.resamples,
        n_planned=len(runs),
        n_present=sum(one.predictions is not None for one in runs),
        test_sets=test_sets,
        cells=cells,
        differences=tuple(one for part in parts for one in part.differences),
        label_cells=tuple(one for part in parts for one in part.label_cells),
        label_differences=tuple(one for part in parts for one in part.label_differences),
        folds=areas,
        ledger=ledger,
        verdicts=tuple(verdicts),
        notes=plan.report.notes,
        plan_notes=plan.notes,
        warnings=(*wording.warnings(cells, test_sets, ledger), *wording.not_yet(plan.report)),
        methods=methods(test_sets, cells, areas, confidence=plan.report.confidence, resamples=plan.report.resamples),
    )


def _test_sets(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group runs by the target that they were planned to be scored on."""
    grouped: dict[str, list[Run]] = {}
    for run in runs:
        grouped.setdefault(run.place.target, []).append(run)
    return dict(sorted(grouped.items()))


def _part(key: str, runs: Sequence[Run], design: Design, run: RunPaths) -> _Part:
    report = design.plan.report
    arms = design.arms({one.place.arm for one in runs})
    planned = _planned(key, runs, arms)
    if any(one.place.fold is not None for one in runs):
        return _part_by_folds(key, planned, arms, report.confidence)
    card = card_of(runs[0].spec)
    groups, title = _card_facts(card, run)
    present = [one for one in runs if one.predictions is not None]
    phases = sorted({one.place.phase for one in runs if not one.place.floor})
    facts = _Facts(
        key=key,
        title=title if key == card else f"{title} ({key})",
        arms=arms,
        measure=measure_of(report.measure, phases=phases, card=card),
        cluster=str(runs[0].spec.config.get("cluster") or "patient"),
    )
    if not present:
        return _Part(
            test_set=_describe(facts, runs, planned, None),
            planned=planned,
            board=None,
            cells=tuple(no_runs(one, facts.measure) for one in planned),
        )
    board = lay_out(present, title=f"'{key}'", measure=facts.measure, groups=groups, cluster=facts.cluster, resamples=report.resamples)
    return _answers(_describe(facts, present, planned, board), planned, board, design)


def _planned(key: str, runs: Sequence[Run], arms: Sequence[ArmInfo]) -> tuple[Planned, ...]:
    cells: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        cells.setdefault((run.place.arm, run.place.size), []).append(run)
    order = {arm.key: index for index, arm in enumerate(arms)}
    ranked = sorted(cells, key=lambda place: (order[place[0]], _size_rank(place[1])))
    return tuple(Planned(test_set=key, arm=arm, size=size, runs=tuple(_ordered(cells[arm, size]))) for arm, size in ranked)


def _answers(test_set: TestSet, planned: tuple[Planned, ...], board: Board, design: Design) -> _Part:
    options = {"measure": test_set.measure, "cluster": test_set.cluster, "confidence": design.plan.report.confidence}
    names = [label.name for label in test_set.labels]
    by_place = {(one.arm, one.size): one for one in planned}
    differences: list[Difference] = []
    exploratory: list[Difference] = []
    for contrast in design.plan.report.contrasts:
        text = contrast_text(contrast)
        sides = [
            (by_place[arm, size.key], by_place[base, size.key])
            for size in test_set.sizes
            for arm, base in design.pairs(contrast, [arm.key for arm in test_set.arms])
            if (arm, size.key) in by_place and (base, size.key) in by_place
        ]
        differences += adjust([difference(side, board, None, contrast=text, **options) for side in sides], "holm")
        for side in sides:
            found = [difference(side, board, name, contrast=text, **{**options, "measure": "auroc"}) for name in names]
            exploratory += adjust(found, "benjamini_hochberg")
    return _Part(
        test_set=test_set,
        planned=planned,
        board=board,
        cells=tuple(cell(one, board, None, **options) for one in planned),
        differences=tuple(differences),
        label_cells=tuple(cell(one, board, name, **{**options, "measure": "auroc"}) for one in planned for name in names),
        label_differences=tuple(exploratory),
    )


def _part_by_folds(key: str, planned: tuple[Planned, ...], arms: tuple[ArmInfo, ...], confidence: float) -> _Part:
    held.check_same_folds(planned, f"'{key}'")
    labels = held.pooled_labels(planned)
    digest, units, patients = held.pooled_digest(planned)
    spec = planned[0].runs[0].spec
    test_set = TestSet(
        key=key,
        title=key,
        card=card_of(spec),
        split=str(spec.config.get("split", "held_out")),
        unit=str(spec.config.get("score_per") or "image"),
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
    return _Part(test_set=test_set, planned=planned, board=None, folds=areas)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What is known of a test set before anything was scored on it."""

    key: str
    title: str
    arms: tuple[ArmInfo, ...]
    measure: str
    cluster: str


def _describe(facts: _Facts, runs: Sequence[Run], planned: Sequence[Planned], board: Board | None) -> TestSet:
    result, spec = runs[0].result or {}, runs[0].spec
    labels = board.labels if board else ()
    left_out = board.left_out if board else ()
    return TestSet(
        key=facts.key,
        title=facts.title,
        card=card_of(spec),
        split=str(spec.config.get("split", "test")),
        unit=str(spec.config.get("score_per") or "image"),
        cluster={"patient": "patients", "study": "studies", "image": "images"}.get(facts.cluster, facts.cluster),
        digest=str(result.get("test_digest", "")),
        n_units=len(board.frame.units) if board else 0,
        n_patients=len(np.unique(board.frame.patients)) if board else 0,
        n_clusters=board.clusters if board else 0,
        measure=facts.measure,
        measure_title=measure_title(facts.measure, [label.name for label in labels if label.in_measure]),
        labels=labels,
        arms=facts.arms,
        sizes=_sizes(planned),
        notes=((f"left out, because not every run scores them: {', '.join(left_out)}",) if left_out else ()),
    )


def _sizes(planned: Sequence[Planned]) -> tuple[SizeInfo, ...]:
    found: list[SizeInfo] = []
    for key in sorted({one.size for one in planned}, key=_size_rank):
        draws = [run.draw for one in planned if one.size == key for run in one.runs]
        images = [draw.images for draw in draws if draw.images is not None]
        patients = [draw.patients for draw in draws if draw.patients is not None]
        found.append(
            SizeInfo(
                key=key,
                title=_size_title(key, patients),
                n_labeled=float(np.mean(images)) if images else None,
                n_labeled_patients=float(np.mean(patients)) if patients else None,
            )
        )
    return tuple(found)


def _size_title(key: str, patients: Sequence[int]) -> str:
    if key.startswith("fraction="):
        return f"{wording.percent(float(key.removeprefix('fraction=')))} of the labels"
    if key.startswith("count="):
        return f"{float(key.removeprefix('count=')):,g} labelled patients"
    return "all labels" if not patients else f"{np.mean(patients):,.0f} labelled patients"


def _size_rank(key: str) -> tuple[int, float]:
    _, _, value = key.partition("=")
    return (1, float(value)) if value else (2, 0.0)


def _ordered(runs: Iterable[Run]) -> list[Run]:
    def natural(run: Run) -> tuple[object, ...]:
        return tuple((0, float(word), "") if word.replace(".", "", 1).isdigit() else (1, 0.0, word) for word in run.place.replicate.split())

    return sorted(runs, key=lambda run: (natural(run), run.spec.job_id))


def _card_facts(name: str, run: RunPaths) -> tuple[Mapping[str, Sequence[str]], str]:
    """Return the groups of findings and the title that a card declares; none and the name itself when the card is not found here."""
    from trainers.data.cards import load_card

    folders = [Path(folder) for folder in read_record(run.machine).get("card_paths", ())] if run.machine.exists() else []
    try:
        card = load_card(name, folders)
    except Error:
        return {}, name
    return card.groups, card.title


def _ledger(part: _Part) -> list[LedgerRow]:
    rows: list[LedgerRow] = []
    for planned in part.planned:
        for run in planned.runs:
            scored = part.board.scored.get(run.spec.job_id) if part.board else None
            rows.append(
                LedgerRow(
                    job=run.spec.job_id,
                    train_job=run.picked.train_job,
                    trial=run.spec.trial,
                    test_set=planned.test_set,
                    arm=planned.arm,
                    size=planned.size,
                    replicate=run.place.replicate,
                    present=run.predictions is not None,
                    value=scored.areas[None].value if scored and None in scored.areas else None,
                    n_labeled_patients=run.draw.patients,
                    n_labeled_images=run.draw.images,
                    draw=run.draw.sha256,
                    checkpoint=run.picked.checkpoint,
                    epoch=run.picked.epoch,
                    picked=run.picked.tuned,
                    picked_value=run.picked.value,
                    candidates=run.picked.candidates,
                    stopped=run.picked.stopped,
                    at_edge=run.picked.at_edge,
                )
            )
    return rows
