"""What the report says of the pool that draws come from and of the patients that picks were validated on."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.model import AxisKind, Contrast
from orchestrator.report.analysis import build
from orchestrator.report.tables import headline
from orchestrator.report.values import Report
from tests.orchestrator.report.made_run import Made


def study(folder: Path, *, pool: int | None, validated: int | None, metric: str | None = "val/auroc_macro", uneven: int = 0) -> Report:
    made = Made(folder, patients=80, pool=pool, validated=validated, uneven=uneven)
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("count", AxisKind.REPLICATE, (64, 256))
    made.axis("draw", AxisKind.REPLICATE, (0, 1, 2))
    for after in ("pretrain", "none"):
        for count in (64, 256):
            for draw in range(3):
                made.evaluation("finetune", {"after": after, "count": count, "draw": draw, "target": "phantom"}, metric=metric)
    return build(made.plan(contrasts=(Contrast(baseline={"after": "none"}),)), made.run)


def said(report: Report, start: str) -> str:
    return next((paragraph for paragraph in report.methods if paragraph.startswith(start)), "")


def test_the_overlap_of_draws_is_said_for_each_number_of_labels(tmp_path: Path) -> None:
    report = study(tmp_path, pool=640, validated=None)
    assert [size.overlap for size in report.test_sets[0].sizes] == pytest.approx([0.1, 0.4])
    text = said(report, "Draws come from one labelled pool")
    assert "64 labelled patients 10\u202f%, 256 labelled patients 40\u202f%" in text
    assert "the overlap makes draws look alike" in text


def test_draws_of_one_size_that_are_not_are_shown_by_their_mean_and_range(tmp_path: Path) -> None:
    report = study(tmp_path / "uneven", pool=640, validated=None, uneven=3)
    test_set = report.test_sets[0]
    assert [(size.n_labeled_patients, size.drawn_range) for size in test_set.sizes] == [(67.0, (64, 70)), (259.0, (256, 262))]
    assert [column.below for column in headline(report, test_set).columns[1:3]] == [
        "134 images on average (draws of 64 to 70)",
        "518 images on average (draws of 256 to 262)",
    ]
    even = study(tmp_path / "even", pool=640, validated=None)
    assert [size.drawn_range for size in even.test_sets[0].sizes] == [None, None]
    assert headline(even, even.test_sets[0]).columns[1].below == "128 images"


def test_draws_of_all_of_the_pool_are_the_same(tmp_path: Path) -> None:
    text = said(study(tmp_path, pool=256, validated=None), "Draws come from one labelled pool")
    assert "draws are the same and seeds alone vary" in text
    assert "look alike" not in text


def test_picking_with_more_patients_than_were_learnt_from_is_said(tmp_path: Path) -> None:
    report = study(tmp_path, pool=None, validated=200)
    assert [size.n_val_patients for size in report.test_sets[0].sizes] == [200, 200]
    text = said(report, "Checkpoints and tuned values were picked")
    assert "up to 200 validation patients" in text
    assert "With 64 labelled patients that is more labels to pick with than to learn from" in text


def test_what_nobody_recorded_is_not_said(tmp_path: Path) -> None:
    report = study(tmp_path, pool=None, validated=200, metric=None)
    assert {(size.overlap, size.n_val_patients) for size in report.test_sets[0].sizes} == {(None, None)}
    assert not said(report, "Draws come from")
    assert not said(report, "Checkpoints and tuned values")
