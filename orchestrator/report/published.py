"""What original studies' own procedures make of the same predictions, beside what this report says: asked for as `report.as_published`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import numpy as np

from orchestrator.report import cells
from orchestrator.report.board import Board, Scored
from orchestrator.report.cells import Planned
from orchestrator.report.differences import difference
from orchestrator.report.stats.bootstrap import Counts, auroc_replicates, resample
from orchestrator.report.stats.estimate import Status
from orchestrator.report.stats.means import independent_t
from orchestrator.report.stats.originals import (
    RESAMPLES,
    Bounds,
    mean_and_population_sd,
    moco_cxr_interval,
    unichest_interval,
    unichest_macro,
)
from orchestrator.report.stats.simultaneous import covariance_of_arms, covariance_of_pairs, min_p
from orchestrator.report.values import Cell, Difference, Published, TestSet

#: The level at which the originals call a difference significant; none of them lets it be chosen.
LEVEL = 0.05
_RUNS = (
    "mean and standard deviation (divided by n) over runs, and Student's independent t-test at .05 of the best arm against each other one. "
    "It holds the test set fixed, so it says nothing of new patients; it does not allow for the best being chosen by the same numbers, nor "
    "for the number of tests; and its p above .05 does not show that two arms are equal."
)
#: What each procedure does, and what it does not cover, in a sentence that stands beside its rows.
SAID: Mapping[str, str] = {
    "moco_cxr": (
        f"MoCo-CXR: rows of the test set are resampled {RESAMPLES:,} times with the draws held fixed; the bootstrap mean and the 25th and "
        "975th value are printed. It does not cover new draws, nor images of one patient being alike, nor the number of comparisons."
    ),
    "ark": f"Ark: {_RUNS}",
    "benchmark": f"Benchmark of transformers: {_RUNS} The best arm of a group, such as CNNs, is set against the best of another in the "
    "same way, both chosen by their test scores; this report's groups are chosen on validation.",
    "unichest": (
        f"UniChest: rows of the test set are resampled {RESAMPLES:,} times for the first run alone; the 51st and 951st value make a 90 % "
        "interval, and the bounds over findings are the means of the bounds of each. It does not cover 95 %, nor other runs, nor images of "
        "one patient being alike, and averaged bounds are no interval of an average."
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What this report itself says of one test set."""

    test_set: TestSet
    planned: tuple[Planned, ...]
    board: Board
    cells: tuple[Cell, ...]
    differences: tuple[Difference, ...]
    confidence: float

    def cell(self, planned: Planned) -> Cell:
        """Return the cell of an arm and a number of labels."""
        return next(one for one in self.cells if (one.arm, one.size) == (planned.arm, planned.size))

    def playing(self) -> list[Planned]:
        """Return the arms that have runs and are no floor."""
        floors = {arm.key for arm in self.test_set.arms if arm.floor}
        return [one for one in self.planned if one.arm not in floors and runs_of(one, self.board)]


def as_published(asked: Sequence[str], answered: Answered) -> tuple[Published, ...]:
    """Return the rows of each procedure, in the order asked for."""
    procedures: Mapping[str, Callable[[Answered], list[Published]]] = {
        "moco_cxr": _moco_cxr,
        "ark": _runs_against_the_best,
        "benchmark": _runs_against_the_best,
        "unichest": _unichest,
    }
    return tuple(
        replace(row, procedure=name, not_covered=SAID[name]) for name in dict.fromkeys(asked) for row in procedures[name](answered)
    )


def runs_of(planned: Planned, board: Board) -> list[Scored]:
    """Return the runs of an arm that have the measure."""
    return [one for one in planned.present(board) if None in one.areas]


def _row(answered: Answered, planned: Planned, runs: int) -> Published:
    """Return a row that holds this report's answer alone."""
    ours = answered.cell(planned)
    return Published(
        procedure="",
        test_set=planned.test_set,
        size=planned.size,
        arm=planned.arm,
        baseline=None,
        label=None,
        n_runs=runs,
        ours_estimate=ours.estimate,
        ours_low=ours.low,
        ours_high=ours.high,
        ours_estimand=ours.estimand,
        not_covered="",
    )


# MoCo-CXR


def _moco_cxr(answered: Answered) -> list[Published]:
    rows = _Rows.of(answered.board)
    found = [_moco_cell(answered, one, rows) for one in answered.playing()]
    return found + [row for one in answered.differences if (row := _moco_difference(answered, one, rows)) is not None]


def _moco_cell(answered: Answered, planned: Planned, rows: _Rows) -> Published:
    runs = runs_of(planned, answered.board)
    row = _row(answered, planned, len(runs))
    return _with_bounds(row, lambda: moco_cxr_interval(np.mean([rows.measure(one) for one in runs], axis=0)), answered)


def _moco_difference(answered: Answered, ours: Difference, rows: _Rows) -> Published | None:
    """Pair draws by their place in the list, as the script does; None when either arm has no run."""
    sides = [next(one for one in answered.planned if (one.arm, one.size) == (key, ours.size)) for key in (ours.arm, ours.baseline)]
    a, b = _by_place(*(runs_of(side, answered.board) for side in sides))
    if not a:
        return None
    row = replace(
        _row(answered, sides[0], len(a)),
        baseline=ours.baseline,
        ours_estimate=ours.estimate,
        ours_low=ours.low,
        ours_high=ours.high,
        ours_estimand=ours.estimand,
        ours_p=ours.p_adjusted,
        ours_claim=reading(ours.estimate, ours.p_adjusted, 1 - answered.confidence),
    )
    gaps = [(one, other) for one, other in zip(a, b, strict=True)]
    row = _with_bounds(
        row, lambda: moco_cxr_interval(np.mean([rows.measure(one) - rows.measure(other) for one, other in gaps], axis=0)), answered
    )
    if row.low is None or row.high is None:
        return row
    return replace(row, claim="higher" if row.low > 0 else "lower" if row.high < 0 else "open")


def _by_place(a: list[Scored], b: list[Scored]) -> tuple[list[Scored], list[Scored]]:
    """Keep the replicates that both arms have, in order; where names are not shared, the first of each."""
    names = [{one.run.place.replicate: one for one in side} for side in (a, b)]
    shared = [name for name in names[0] if name in names[1]]
    if shared:
        return [names[0][name] for name in shared], [names[1][name] for name in shared]
    fewest = min(len(a), len(b))
    return a[:fewest], b[:fewest]


# UniChest


def _unichest(answered: Answered) -> list[Published]:
    rows = _Rows.of(answered.board)
    return [row for planned in answered.playing() for row in _unichest_arm(answered, planned, rows)]


def _unichest_arm(answered: Answered, planned: Planned, rows: _Rows) -> list[Published]:
    """Return a row for each finding of the measure, when there are several, and one for the measure; all of the first run."""
    run, row = runs_of(planned, answered.board)[0], _row(answered, planned, 1)
    names = [label.name for label in answered.board.labels if label.in_measure]

    def bounds(name: str) -> Bounds:
        return unichest_interval(run.areas[name].value, rows.finding(run, name))

    # This report's interval of a finding stands in its own table.
    bare = replace(row, ours_estimate=None, ours_low=None, ours_high=None, ours_estimand="")
    alone = [_with_bounds(replace(bare, label=name), partial(bounds, name), answered) for name in (names if len(names) > 1 else ())]
    return [*alone, _with_bounds(row, lambda: unichest_macro([bounds(name) for name in names]), answered)]


# Ark, and the benchmark of transformers


def _runs_against_the_best(answered: Answered) -> list[Published]:
    rows: list[Published] = []
    by_size = {size: list(group) for size, group in groupby(sorted(answered.playing(), key=_size), key=_size)}
    for size in (one.key for one in answered.test_set.sizes if one.key in by_size):
        arms = by_size[size]
        values = [np.array([one.areas[None].value for one in runs_of(arm, answered.board)]) for arm in arms]
        best = max(range(len(arms)), key=lambda index: float(values[index].mean()))
        ours = _all_pairs(answered, arms)
        for index, arm in enumerate(arms):
            rows.append(_against(answered, arm, values[index], None if index == best else (arms[best].arm, values[best]), ours))
    return rows


def _size(planned: Planned) -> str:
    return planned.size


def _against(
    answered: Answered, arm: Planned, values: np.ndarray, best: tuple[str, np.ndarray] | None, ours: Mapping[frozenset[str], float]
) -> Published:
    mean, spread = mean_and_population_sd(values)
    row = replace(_row(answered, arm, len(values)), estimate=mean, spread=spread)
    if best is None:
        return replace(row, claim="best", ours_claim="best")
    tested = independent_t(values, best[1])
    p = ours.get(frozenset((arm.arm, best[0])))
    return replace(
        row,
        baseline=best[0],
        p=tested.p,
        claim=reading(tested.statistic, tested.p, LEVEL),
        ours_p=p,
        ours_claim=reading(-1.0, p, 1 - answered.confidence),
        status=tuple(str(word) for word in tested.status),
    )


def _all_pairs(answered: Answered, arms: Sequence[Planned]) -> dict[frozenset[str], float]:
    """Return the p of each pair of arms, adjusted over all pairs by max-t: the best was chosen by the numbers that it is tested on."""
    replicated = [one for one in arms if len(cells.replicate_groups(runs_of(one, answered.board))) > 1]
    found: dict[tuple[int, int], Difference] = {}
    for i, arm in enumerate(replicated):
        for j in range(i + 1, len(replicated)):
            one = difference(
                (arm, replicated[j]),
                answered.board,
                None,
                contrast="all pairs",
                measure=answered.test_set.measure,
                cluster=answered.test_set.cluster,
                confidence=answered.confidence,
            )
            if one.p is not None:
                found[i, j] = one
    if not found:
        return {}
    stacked = [cells.stack(cells.replicate_groups(runs_of(one, answered.board)), None) for one in replicated]
    matched = all(one.matching == "matched" for one in found.values()) and len({len(values) for values, _, _ in stacked}) == 1
    of_arms = covariance_of_arms([values for values, _, _ in stacked], [moved for _, moved, _ in stacked], matched=matched)
    adjusted = min_p(np.array([one.p for one in found.values()]), covariance_of_pairs(of_arms, list(found)))
    return {frozenset((replicated[i].arm, replicated[j].arm)): p for (i, j), p in zip(found, adjusted.p_adjusted, strict=True)}


# What they share


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Replicates of areas when rows of the test set are resampled as if each were a patient of its own."""

    board: Board
    counts: Counts
    known: dict[tuple[str, str], np.ndarray]

    @classmethod
    def of(cls, board: Board) -> _Rows:
        return cls(board=board, counts=resample(len(board.frame.units), RESAMPLES), known={})

    def finding(self, run: Scored, name: str) -> np.ndarray:
        """Return the replicates (resamples,) of one run's area of one finding."""
        key = (run.run.job, name)
        if key not in self.known:
            self.known[key] = self._areas(run, name)
        return self.known[key]

    def measure(self, run: Scored) -> np.ndarray:
        """Return the replicates (resamples,) of the mean over the findings of the measure; NaN where a class was not drawn."""
        return np.mean([self.finding(run, label.name) for label in self.board.labels if label.in_measure], axis=0)

    def _areas(self, run: Scored, name: str) -> np.ndarray:
        frame = run.run.scores()
        if frame is None:
            raise ValueError(f"{run.run.name} has no predictions")
        frame = frame.only([label.name for label in self.board.labels])
        column = frame.labels.index(name)
        rows = np.flatnonzero(frame.truth[:, column] >= 0)
        return auroc_replicates(frame.truth[rows, column], frame.score[rows, column], rows, self.counts)


def _with_bounds(row: Published, made: Callable[[], Bounds], answered: Answered) -> Published:
    """Add an original's interval to a row; a status where its script would have stopped."""
    if not answered.test_set.measure.startswith("auroc"):
        return replace(row, status=(str(Status.NOT_ESTIMABLE),))
    try:
        bounds = made()
    except ValueError:
        return replace(row, status=(str(Status.NOT_ESTIMABLE),))
    return replace(row, estimate=bounds.value, low=bounds.low, high=bounds.high)


def reading(difference: float | None, p: float | None, level: float) -> str:
    """Say what a test is read as: higher, lower, open (no difference shown), or nothing where there is no p."""
    if p is None or difference is None:
        return ""
    return "open" if p >= level else "higher" if difference > 0 else "lower"


def sentences(asked: Iterable[str]) -> tuple[str, ...]:
    """Return what the procedures asked for do, and what they do not cover."""
    return tuple(SAID[name] for name in dict.fromkeys(asked))
