"""From runs to the values of a report."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.paths import RunPaths
from orchestrator.errors import ReportError
from orchestrator.model import Plan
from orchestrator.report import wording
from orchestrator.report.alone import replicate_tests
from orchestrator.report.diagnostics.analysis import diagnostics_of
from orchestrator.report.inputs import Inputs, inputs_of
from orchestrator.report.ledger import ledger
from orchestrator.report.methods import methods
from orchestrator.report.parts import Part, part_of
from orchestrator.report.published_groups import published_groups
from orchestrator.report.references import references
from orchestrator.report.results import Run
from orchestrator.report.study.analysis import study_of
from orchestrator.report.study.average_words import average_verdicts
from orchestrator.report.study.groups import silent_groups
from orchestrator.report.study.methods import study_methods
from orchestrator.report.subgroups.analysis import subgroups_of
from orchestrator.report.swaps import swaps
from orchestrator.report.values import Report
from orchestrator.report.views import views


def build(plan: Plan, run: RunPaths) -> Report:
    """Read what a sweep's evaluations left in a run root and compute its report; what is missing is named, never hidden.

    Raises ReportError when nothing is there yet, when runs of one test set were scored on different rows, or on an unknown measure.
    """
    return analyse(inputs_of(plan, run))


def analyse(inputs: Inputs) -> Report:
    """Compute a report of a plan's runs, or of anybody's predictions. Raises ReportError as `build` does."""
    if not inputs.runs:
        raise ReportError(f"sweep '{inputs.sweep}' evaluates nothing, so there is nothing to report; add `evaluate:` to a phase")
    if all(one.predictions is None for one in inputs.runs):
        raise ReportError(f"none of the {len(inputs.runs)} evaluations of '{inputs.sweep}' has finished yet; type: {inputs.next_step}")
    return _assemble(inputs, [part_of(key, group, inputs) for key, group in _test_sets(inputs.runs).items()])


def _assemble(inputs: Inputs, parts: Sequence[Part]) -> Report:
    test_sets = tuple(part.test_set for part in parts)
    cells = tuple(one for part in parts for one in part.cells)
    differences = tuple(one for part in parts for one in part.differences)
    label_cells = tuple(one for part in parts for one in part.label_cells)
    further = tuple(one for part in parts for one in part.further)
    rows = tuple(row for part in parts for row in ledger(part.planned, part.board))
    areas = tuple(one for part in parts for one in part.folds)
    study = study_of(parts, inputs)
    unheard = [text for part in parts for text in silent_groups(part, inputs)]
    published, unplaced = references(inputs.report.reference, test_sets)
    subgroups = subgroups_of(parts, inputs.report.subgroups, inputs.report.confidence)
    together = tuple(view for part in parts for view in views(part, inputs.report.confidence))
    verdicts = average_verdicts(study.averages, test_sets, inputs.report.confidence) if inputs.report.verdict else []
    verdicts += [
        wording.verdict(one, part.test_set, confidence=inputs.report.confidence, several_sets=len(parts) > 1)
        for part in parts
        for one in part.differences
        if inputs.report.verdict
    ]
    return Report(
        sweep=inputs.sweep,
        title=inputs.report.title or inputs.sweep,
        about=inputs.about,
        made_data=inputs.made_data,
        sample=inputs.sample,
        makes_verdicts=inputs.report.verdict,
        confidence=inputs.report.confidence,
        resamples=inputs.report.resamples,
        n_planned=len(inputs.runs),
        n_present=sum(one.predictions is not None for one in inputs.runs),
        test_sets=test_sets,
        cells=cells,
        differences=differences,
        label_cells=label_cells,
        label_differences=tuple(one for part in parts for one in part.label_differences),
        folds=areas,
        diagnostics=diagnostics_of(parts, inputs.report.confidence),
        subgroups=subgroups,
        study=study,
        ledger=rows,
        verdicts=tuple(verdicts),
        notes=inputs.report.notes,
        plan_notes=inputs.notes,
        warnings=(*inputs.warnings, *wording.warnings(cells, test_sets, rows), *subgroups.notes, *unheard, *unplaced),
        methods=(
            *methods(
                test_sets,
                (*cells, *further),
                areas,
                confidence=inputs.report.confidence,
                resamples=inputs.report.resamples,
                by_name=inputs.draws_by_name,
                views=any(one.n_findings > 1 for one in together),
            ),
            *study_methods(study),
        ),
        references=published,
        contamination=inputs.contamination,
        further=further,
        pictures=inputs.pictures,
        as_published=(*(one for part in parts for one in part.as_published), *published_groups(parts, study.groups, inputs)),
        replicate_tests=replicate_tests(differences, cells),
        swap_tests=tuple(one for part in parts for one in swaps(part)),
        views=together,
    )


def _test_sets(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group runs by the target that they were planned to be scored on."""
    grouped: dict[str, list[Run]] = {}
    for run in runs:
        grouped.setdefault(run.place.target, []).append(run)
    return dict(sorted(grouped.items()))
