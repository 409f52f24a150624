"""Every estimand of a report has a name of the list, and what was held fixed is in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from jobs.spec import Scalar
from orchestrator.model import AxisKind, Contrast
from orchestrator.report.analysis import build
from orchestrator.report.lines import lines
from orchestrator.report.values import Report
from tests.orchestrator.report.made_run import Made, many_arms, quickstart

#: What is random, what is held fixed; `chance` and the areas within folds are no estimates of a population.
NAMES = re.compile(
    r"(these_models_(new_patients|this_test_set)|new_(draws|seeds|pretrainings)_(new_patients|this_test_set))"
    r"(_given_pretraining)?(_given_pick)?(_given_borrowed_spread)?"
)
DRAWS = 4


def with_pretrainings(folder: Path, seeds: tuple[int, ...], scope: str = "draw") -> Report:
    made = Made(folder, patients=80)
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("draw", AxisKind.REPLICATE, tuple(range(DRAWS)))
    tuned: dict[str, tuple[Scalar, ...]] = {"lr": (1e-4, 1e-3)}
    for after in ("pretrain", "none"):
        for draw in range(DRAWS):
            own: dict[str, Any] = {"pretraining": {"images": "real"}, "pretraining_seed": seeds[draw]} if after == "pretrain" else {}
            made.evaluation("finetune", {"after": after, "draw": draw, "target": "phantom"}, draw_sd=0.2, tuned=tuned, scope=scope, **own)
    return build(made.plan(contrasts=(Contrast(baseline={"after": "none"}),)), made.run)


def of_pretrained(report: Report) -> tuple[str, int, int]:
    cell = next(one for one in report.cells if "after=pretrain" in one.arm)
    return cell.estimand, cell.n_replicates, cell.n_pretrainings


@pytest.mark.parametrize(
    ("seeds", "wanted"),
    [
        ((1, 1, 1, 1), ("new_draws_new_patients_given_pretraining", DRAWS, 1)),
        # As many pretrainings as draws: each replicate has its own, and all sources are drawn together.
        ((1, 2, 3, 4), ("new_draws_new_patients", DRAWS, DRAWS)),
        # Fewer: the replicate is the pretraining, never pretrainings times draws.
        ((1, 1, 2, 2), ("new_pretrainings_new_patients", 2, 2)),
    ],
)
def test_pretrainings_are_replicates_where_there_are_several(tmp_path: Path, seeds: tuple[int, ...], wanted: tuple[str, int, int]) -> None:
    report = with_pretrainings(tmp_path, seeds)
    assert of_pretrained(report) == wanted
    (difference,) = report.differences
    assert (difference.estimand, difference.n_replicates) == wanted[:2]
    assert ("one pretraining run" in report.verdicts[0].evidence) == (wanted[2] == 1)


def test_a_value_picked_for_all_draws_is_in_the_name(tmp_path: Path) -> None:
    report = with_pretrainings(tmp_path, (1, 1, 1, 1), scope="cell")
    assert of_pretrained(report)[0] == "new_draws_new_patients_given_pretraining_given_pick"
    assert "given the picked values" in report.verdicts[0].evidence


def test_every_row_has_a_name_of_the_list(tmp_path: Path) -> None:
    for made, plan in (many_arms(tmp_path / "many", patients=60, draws=3), quickstart(tmp_path / "quick", patients=60, draws=3)):
        rows = lines(build(plan, made.run))
        unnamed = {row.estimand for row in rows if not NAMES.fullmatch(row.estimand)}
        assert unnamed <= {""}
        assert all(row.low is None for row in rows if not row.estimand)
