"""The page of the coverage study: its tables as they come, and which cells hold what is promised."""

from __future__ import annotations

from collections.abc import Sequence

from tests.orchestrator.report.stats.coverage_study import EFFECT, FLOOR, PROMISED_CLAIMS, PROMISED_COVERAGE, REPETITIONS, Cell, Tally
from tests.orchestrator.report.stats.made_world import ARM, DRAW, EVERYBODY, OWN, PREVALENCE

Found = Sequence[tuple[Cell, Tally]]


def page(grid: Found, beyond: Found, twins: Found, repetitions: int) -> str:
    """Return the page as Markdown."""
    parts = [
        _head(repetitions),
        f"## Every cell\n\n{_grid(grid)}",
        f"## Beyond the grid\n\n{_BEYOND}\n\n{_beyond(beyond)}",
        f"## The bootstrap twin\n\n{_TWINS.format(repetitions=twins[0][0].repetitions)}\n\n{_twins(twins)}",
        f"## What others do in the same worlds\n\n{_OTHERS}\n\n{_others(grid)}",
    ]
    return "\n\n".join(parts) + "\n"


def _head(repetitions: int) -> str:
    asked = "" if repetitions == REPETITIONS else f" --repetitions {repetitions}"
    error = 100 * (0.95 * 0.05 / repetitions) ** 0.5
    return f"""# Coverage study

Written by `python -m tests.orchestrator.report.stats.coverage_study{asked}`; every number is as it came.

Each cell is {repetitions:,} experiments in a made world (`tests/orchestrator/report/stats/made_world.py`): new patients, new draws,
new models, and an area under the ROC curve that is known. The intervals and p values are those of the functions that the report calls.
Coverage is the share of 95 % intervals that hold the true value, the area .80 or the difference {EFFECT:.2f}; a false claim is p < .05
between two equal arms. The standard error of a share near 95 % is {error:.2f} percentage points.

A patient has 1, 1, 2 or 4 images; {100 * PREVALENCE:.0f} % of patients are positive, and half of their images are. Images of one patient
are alike by `rho`. Of the variance of a score {EVERYBODY:.2f} is common to all models, {ARM:.2f} an arm's in all its draws, {DRAW:.2f} a
draw's in both matched arms, {OWN:.2f} a model's own. `sd` is the standard deviation over draws of an arm's area in the population.

Promised for five draws and more, sd up to .02, and 50 positive patients and more: coverage {_range(PROMISED_COVERAGE)}, false claims
{_range(PROMISED_CLAIMS)}. Everywhere else coverage is at least {FLOOR:g} %, or the cell carries a status."""


def _range(ends: tuple[float, float]) -> str:
    return f"{ends[0]:g} to {ends[1]:g} %"


_BEYOND = """50 positive patients, five draws, sd .02, rho .3, matched, except for what is said; the effect is .03, or .01 at an area of
.95. Status is the share of experiments whose arm carried one (a run at 0 or 1, where another interval is the headline). A finding with
fewer than ten positive patients carries `few_positives` in every report."""
_TWINS = """50 positive patients, rho .3, matched; {repetitions:,} experiments a cell, 1,000 resamples each. OR-Hillis is the headline;
the crossed bootstrap stands beside it in `report.json`."""
_OTHERS = """Coverage of the same area by an interval for these models on new patients (draws held fixed, as in MoCo-CXR), and by a t
interval over draws (the test set held fixed); false claims between equal arms by the independent t-test over draws (as in Ark and the
benchmark of transformers), and by the paired one. Matched draws."""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["--:"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _percent(tally: Tally, name: str) -> str:
    return f"{tally.share(name):.1f}" if tally.of[name] else "–"


def _where(cell: Cell) -> list[str]:
    world = cell.world
    return [str(world.positives), f"{world.rho:g}", str(world.draws), f"{world.draw_sd:g}"]


def _pairs(grid: Found) -> list[tuple[tuple[Cell, Tally], tuple[Cell, Tally]]]:
    """Join the matched and the unmatched world of one cell."""
    return list(zip([one for one in grid if one[0].world.matched], [one for one in grid if not one[0].world.matched], strict=True))


def _grid(grid: Found) -> str:
    heads = ["positive patients", "rho", "draws", "sd", "one arm", "matched", "false claims", "not matched", "false claims", "promised"]
    rows = [
        [
            *_where(cell),
            _percent(matched, "arm/covered"),
            *(_percent(tally, name) for tally in (matched, apart) for name in ("gap/covered", "null/claimed")),
            "yes" if cell.promised else "",
        ]
        for (cell, matched), (_, apart) in _pairs(grid)
    ]
    return _table(heads, rows)


def _beyond(beyond: Found) -> str:
    heads = ["what", "one arm", "difference", "false claims", "status, %"]
    names = ("arm/covered", "gap/covered", "null/claimed", "arm/status")
    rows = [[cell.words, *(_percent(tally, name) for name in names)] for cell, tally in beyond]
    return _table(heads, rows)


def _twins(twins: Found) -> str:
    heads = ["draws", "sd", "one arm, OR-Hillis", "crossed bootstrap", "difference, OR-Hillis", "crossed bootstrap"]
    names = [f"{what}/{method}" for what in ("arm", "gap") for method in ("obuchowski_rockette_hillis", "crossed_bootstrap")]
    rows = [[str(cell.world.draws), f"{cell.world.draw_sd:g}", *(_percent(tally, name) for name in names)] for cell, tally in twins]
    return _table(heads, rows)


def _others(grid: Found) -> str:
    heads = ["positive patients", "rho", "draws", "sd", "draws fixed", "test set fixed", "ours", "independent t", "paired t", "ours"]
    names = ("arm/influence", "arm/t", "arm/covered", "null/independent_t", "null/paired_t", "null/claimed")
    return _table(heads, [[*_where(cell), *(_percent(tally, name) for name in names)] for (cell, tally), _ in _pairs(grid)])
