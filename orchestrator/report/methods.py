"""The methods text: only what was done, in the order in which a reader asks."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report.measure_words import measure_words
from orchestrator.report.values import Cell, FoldArea, TestSet
from orchestrator.report.wording import percent


def methods(
    test_sets: Sequence[TestSet],
    cells: Sequence[Cell],
    folds: Sequence[FoldArea],
    *,
    confidence: float,
    resamples: int,
    by_name: bool = False,
    views: bool = False,
) -> tuple[str, ...]:
    """Return the paragraphs of the methods text."""
    level = percent(confidence)
    said: list[str] = []
    if cells:
        cluster = " and ".join(sorted({test_set.cluster for test_set in test_sets if not test_set.by_folds}))
        said += [_intervals(level, cluster), _bootstrap(resamples, cluster), _matching(by_name), _multiplicity()]
        said += [
            *measure_words(test_sets, cells),
            *_limits(cells, known=any(size.overlap for one in test_sets for size in one.sizes)),
            *_pools(test_sets),
            *_validated(test_sets),
        ]
    if views:
        said.append(_views())
    if folds:
        said.append(_folds(folds[0], level))
    return tuple(said)


def _intervals(level: str, cluster: str) -> str:
    return (
        f"Every interval is {level}. Headline intervals treat replicates (labelled draws or seeds) and test {cluster} as random and "
        "crossed: the Obuchowski–Rockette analysis with Hillis's degrees of freedom, its covariances from influence values summed within "
        f"{cluster}. An interval is never narrower than the one for these models on new {cluster}. Intervals of one "
        "arm are formed on the logit scale, differences on the raw scale."
    )


def _bootstrap(resamples: int, cluster: str) -> str:
    return (
        f"The bootstrap twin resamples {cluster} {resamples:,} times, the same resamples for every run, and replicates independently of "
        "them, their spread widened by √(D/(D−1)); it is a percentile interval. For these models on "
        f"new {cluster} an interval corrected for bias and skewness (BCa, Efron 1987) stands beside it. Point estimates are the "
        "statistic itself, not a bootstrap mean."
    )


def _matching(by_name: bool) -> str:
    if by_name:
        return (
            "Two arms are matched where they name the same draw, which is taken to be the same labelled patients; a difference is then "
            "formed within each draw. Runs told apart by a seed or a file name are not matched: each arm then has a variance of its own."
        )
    return (
        "Two arms are matched when the sha256 of the labelled patients of a draw is equal on both sides; a difference is then formed "
        "within each draw. Seeds on identical data are not matched: each arm then has a draw variance of its own."
    )


def _multiplicity() -> str:
    return (
        "p values are two-sided and adjusted by Holm within one test set, measure and declared contrast, over all arms and label counts. "
        "Differences by finding are exploratory and adjusted by Benjamini–Hochberg over the findings of one comparison."
    )


def _views() -> str:
    return (
        "The middle half (interquartile mean) and the probability of improvement (Agarwal et al. 2021) are over the findings of the "
        "measure and all runs together. Their intervals are percentiles of the crossed bootstrap, in which what redrawn runs move is "
        "widened by √(D/(D−1)) and runs that two arms share are redrawn together; findings are held fixed, and nothing is tested."
    )


def _limits(cells: Sequence[Cell], *, known: bool) -> list[str]:
    said: list[str] = []
    replicates = sorted({cell.n_replicates for cell in cells if cell.n_replicates > 1})
    if replicates and 2 / 2 ** replicates[0] > 0.05:
        said.append(
            f"With {replicates[0]} replicates the smallest two-sided p that a sign-flip test over replicates alone could reach is "
            f"{2 / 2 ** replicates[0]:.4g}: what goes below it leans on the model of the variance."
        )
    # A share of the pool that draws have recorded is said for each number of labels, see `_pools`.
    shares = sorted({float(cell.size.removeprefix("fraction=")) for cell in cells if cell.size.startswith("fraction=")})
    if shares and not known:
        listed = ", ".join(percent(share) for share in shares)
        alike = " At 30\u202f% and more the overlap makes draws look alike." if shares[-1] >= 0.3 else ""
        said.append(
            f"Draws come from one labelled pool, so two draws of a fraction share about that fraction of their patients ({listed}); the "
            f"question answered is a new draw from this pool.{alike}"
        )
    return said


def _pools(test_sets: Sequence[TestSet]) -> list[str]:
    """Say how much of their patients two draws share, for each number of labels."""
    shares = {size.title: size.overlap for one in test_sets for size in one.sizes if size.overlap is not None}
    if not shares:
        return []
    listed = ", ".join(f"{title} {percent(round(share, 3))}" for title, share in shares.items())
    alike = " At 30\u202f% and more the overlap makes draws look alike." if any(0.3 <= share < 1 for share in shares.values()) else ""
    same = " Where all of the pool is used draws are the same and seeds alone vary." if 1.0 in shares.values() else ""
    return [
        f"Draws come from one labelled pool, and two of them have in common, on average: {listed}. The question answered is a new draw "
        f"from this pool.{alike}{same}"
    ]


def _validated(test_sets: Sequence[TestSet]) -> list[str]:
    """Say on how many patients picks were validated, and where that is more than there were labels to learn from."""
    sizes = {size.key: size for one in test_sets for size in one.sizes if size.n_val_patients is not None}
    if not sizes:
        return []
    most = max(size.n_val_patients or 0 for size in sizes.values())
    fewer = [size.title for size in sizes.values() if (size.n_labeled_patients or most) < (size.n_val_patients or 0)]
    small = (
        f" With {' and '.join(fewer)} that is more labels to pick with than to learn from: not what a study with so few labels could do."
        if fewer
        else ""
    )
    return [
        f"Checkpoints and tuned values were picked on up to {most:,} validation patients, the same for every draw, so that intervals are "
        f"conditional on them.{small}"
    ]


def _folds(one: FoldArea, level: str) -> str:
    how = f"all {one.assignments:,} assignments" if one.exact else f"{one.assignments:,} sampled assignments"
    return (
        "Cases were held out fold by fold, and scores are compared within a fold only: the area is the mean over folds, ties counting "
        f"half. The chance range holds the central {level} of areas over {how} of the positive labels to patients, patients ranked by "
        "their mean held-out score. Folds overlap and are not independent replicates, so there is no interval and no test of one arm "
        "against another."
    )
