"""Published marks: the best and the second estimate of a column, and which differences are shown once adjusted, with their legend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from orchestrator.report.stats.estimate import Status
from orchestrator.report.values import Cell, Difference, TestSet
from orchestrator.report.wording import alpha, plural

#: One sign a declared contrast, in the order of the sweep; a sixth contrast doubles the first.
SIGNS = ("†", "‡", "§", "¶", "‖")
#: With one of these a cell is no estimate of a method, or rests on too little to be set above another.
UNRANKED = frozenset({Status.ONE_RUN, Status.NOT_ESTIMABLE, Status.FEW_POSITIVES})


def is_ranked(cell: Cell) -> bool:
    """Tell whether a cell may be best: it has an interval over replicates, and not fewer than ten cases of a class."""
    return cell.estimate is not None and cell.low is not None and not UNRANKED & set(cell.status)


def ranks(cells: Sequence[Cell | None], *, higher_is_better: bool = True) -> list[int | None]:
    """Return 1 for the best and 2 for the second of some cells at the precision that is printed, None for the rest.

    Cells that print alike share a place; two that share the first leave no second. Nothing is best among fewer than two.
    """
    shown = [round(cell.estimate or 0.0, 3) if cell is not None and is_ranked(cell) else None for cell in cells]
    ordered = sorted((value for value in shown if value is not None), reverse=higher_is_better)
    if len(ordered) < 2:
        return [None] * len(shown)
    first, second = ordered[0], ordered[1]
    return [None if value is None else 1 if value == first else 2 if value == second else None for value in shown]


def passes(one: Difference, confidence: float) -> bool:
    """Tell whether a difference is shown once its p value is adjusted."""
    return one.estimate is not None and one.p_adjusted is not None and one.p_adjusted < alpha(confidence)


def signs_of(differences: Iterable[Difference]) -> dict[str, str]:
    """Give each declared contrast its sign."""
    contrasts = list(dict.fromkeys(one.contrast for one in differences))
    return {contrast: SIGNS[index % len(SIGNS)] * (1 + index // len(SIGNS)) for index, contrast in enumerate(contrasts)}


def signed_places(
    differences: Sequence[Difference], signs: Mapping[str, str], confidence: float
) -> dict[tuple[str, str, str | None], tuple[str, ...]]:
    """Return, by (arm, size, finding), the signs of the contrasts in which the arm differs from its baseline."""
    found: dict[tuple[str, str, str | None], tuple[str, ...]] = {}
    for one in differences:
        if passes(one, confidence):
            place = (one.arm, one.size, one.label)
            found[place] = (*found.get(place, ()), signs[one.contrast])
    return found


def legend(cells: Sequence[Cell], differences: Sequence[Difference], test_set: TestSet, *, confidence: float, column: str) -> str:
    """Say what the marks of a table mean. `column` is what a best stands in: `column` or `row`."""
    said: list[str] = []
    if any(rank is not None for rank in ranks(list(cells))):
        of_findings = any(cell.label is not None for cell in cells)
        best = "highest" if (test_set.label_higher_is_better if of_findings else test_set.higher_is_better) else "lowest"
        said.append(f"Bold is the {best} estimate of a {column}, underlined the second; neither says that a difference is shown.")
        said += _left_out(cells)
    signs = signs_of(differences)
    if signs:
        titles = {arm.key: arm.title for arm in test_set.arms}
        adjusted = "Holm-adjusted p" if all(one.label is None for one in differences) else "Benjamini–Hochberg q, exploratory,"
        meant = [f"{sign} from {_baseline(contrast, differences, titles)}" for contrast, sign in signs.items()]
        said.append(f"A sign after a number marks a difference with {adjusted} below {alpha(confidence):g}: {', '.join(meant)}.")
    return " ".join(said)


def _left_out(cells: Sequence[Cell]) -> list[str]:
    known = [cell for cell in cells if cell.estimate is not None]
    alone = sum(Status.ONE_RUN in cell.status for cell in known)
    few = sum(Status.FEW_POSITIVES in cell.status for cell in known)
    why = [
        *([f"{plural(alone, 'number')} from one run"] if alone else []),
        *([f"{plural(few, 'number')} on few positives"] if few else []),
    ]
    return [f"Left out of that ranking: {' and '.join(why)}."] if why else []


def _baseline(contrast: str, differences: Sequence[Difference], titles: Mapping[str, str]) -> str:
    baselines = {titles[one.baseline] for one in differences if one.contrast == contrast}
    return baselines.pop() if len(baselines) == 1 else f"its baseline ({contrast})"
