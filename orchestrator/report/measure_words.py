"""What the methods text says of each kind of measure that a report holds."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report.kinds import KINDS
from orchestrator.report.measures import kind_of
from orchestrator.report.values import Cell, TestSet

#: What each kind is, in words.
WORDS = {
    "auroc": "An AUROC counts a tie as one half; its influence values are DeLong's placement values summed within clusters (Obuchowski).",
    "ap": "Average precision is not interpolated; what chance gives is the prevalence.",
    "accuracy": "A unit counts as right when its class of the highest score, the first of equals, is its true class.",
    "brier": "A Brier score is the mean squared difference of probability and truth, so lower is better.",
    "dice": "Dice is the mean over the images that have the structure, first within patients and then over patients; images without it "
    "are left out, because what a model draws there would decide which images count.",
    "dice_as_published": "Dice is the mean over all images, first within patients and then over patients, and two empty masks count 1.",
    "dice_pooled": "Pooled Dice is one ratio, twice the shared pixels of all images by the pixels of all masks.",
    "hd95": "HD95 is the median over patients of the mean over a patient's images that have the structure; a structure that was not found "
    "counts the diagonal of its image.",
}
_SCORES = {
    "logits": "Scores are logits; a probability is their sigmoid.",
    "probabilities": "Scores are probabilities.",
}


def measure_words(test_sets: Sequence[TestSet], cells: Sequence[Cell]) -> tuple[str, ...]:
    """Return a paragraph on the measures of a report; nothing of those that it does not hold."""
    named = {kind.name for one in test_sets if not one.by_folds and (kind := kind_of(one.measure)) is not None}
    named |= {one.label_measure for one in test_sets if not one.by_folds} | {kind.name for one in cells if (kind := kind_of(one.measure))}
    said = [WORDS[name] for name in KINDS if name in named]
    if any(KINDS[name].scale.resampled for name in named):
        titles = " and ".join(KINDS[name].title for name in KINDS if name in named and KINDS[name].scale.resampled)
        said.append(f"The headline interval of {titles} is the bootstrap's, because the measure is not near linear in the cases.")
    if any(KINDS[name].scale.few_clusters for name in named):
        said.append("Degrees of freedom are at most those of the test patients.")
    if "brier" in named:
        said += [_SCORES[scores] for scores in sorted({one.scores for one in test_sets}) if scores in _SCORES]
    missed = [cell.n_penalised for cell in cells if cell.n_penalised is not None]
    if missed:
        said.append(f"On average {sum(missed) / len(missed):.1f} structures a run were not found.")
    return (" ".join(said),) if said else ()
