"""From analysed test sets to what is said of the study as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from orchestrator.model import Contrast
from orchestrator.report.cells import Planned
from orchestrator.report.design import contrast_text
from orchestrator.report.inputs import Inputs
from orchestrator.report.parts import Part
from orchestrator.report.study.averages import averages
from orchestrator.report.study.borrowed import borrowed_intervals
from orchestrator.report.study.curves import adjust_curves, compare_curves
from orchestrator.report.study.groups import group_differences
from orchestrator.report.study.margins import margin_verdicts
from orchestrator.report.study.pairs import all_pairs
from orchestrator.report.study.ranking import arm_ranks
from orchestrator.report.study.splits import more_draws, variance_splits
from orchestrator.report.study.values import CurveDifference, Equivalence, Study

#: The cells of one arm, by size.
BySize = Mapping[str, Planned]


def study_of(parts: Sequence[Part], inputs: Inputs) -> Study:
    """Analyse a study as a whole."""
    differences: list[CurveDifference] = []
    equivalences: list[Equivalence] = []
    for part in parts:
        for contrast in inputs.report.contrasts:
            own: list[CurveDifference] = []
            for sides in sides_of(part, contrast, inputs):
                if part.board is not None:
                    text, confidence = contrast_text(contrast), inputs.report.confidence
                    found = compare_curves(sides, part.test_set, part.board, contrast=text, confidence=confidence)
                    own += found[0]
                    equivalences += found[1]
            differences += adjust_curves(own)
    margin, confidence = inputs.report.margin, inputs.report.confidence
    splits = [one for part in parts for one in variance_splits(part, inputs.report.confidence)]
    return Study(
        curve_differences=tuple(differences),
        equivalences=tuple(equivalences),
        variance_splits=tuple(splits),
        more_draws=more_draws(splits, parts),
        groups=tuple(one for part in parts for one in group_differences(part, inputs)),
        ranks=tuple(one for part in parts for one in arm_ranks(part, confidence)),
        borrowed=tuple(one for part in parts for one in borrowed_intervals(part, confidence)),
        averages=tuple(averages(parts, inputs)),
        pairs=tuple(one for part in parts for one in all_pairs(part, confidence)),
        margins=() if margin is None else tuple(one for part in parts for one in margin_verdicts(part.differences, margin, confidence)),
    )


def sides_of(part: Part, contrast: Contrast, inputs: Inputs) -> Iterator[tuple[BySize, BySize]]:
    """Yield the cells of each arm and of its baseline by size, for the sizes that are planned for both."""
    for arm, base in inputs.design.pairs(contrast, [arm.key for arm in part.test_set.arms]):
        cells = [{one.size: one for one in part.planned if one.arm == key} for key in (arm, base)]
        shared = [size.key for size in part.test_set.sizes if all(size.key in cell for cell in cells)]
        if shared:
            yield {key: cells[0][key] for key in shared}, {key: cells[1][key] for key in shared}
