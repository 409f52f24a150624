"""Checkpoints of each label's own: ranked by its AUROC on validation, against a few lines that do the same slowly."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.paths import RunPaths, write_atomically
from jobs.spec import pretty_json
from tests.jobs.test_picking import METRIC, one, picking

LABELS = ("Pleural Effusion", "Edema", "Lung Opacity")
SLUGS = ("pleural_effusion", "edema", "lung_opacity")


def trained(run: RunPaths, job: str, macro: list[float | None], *columns: list[float | None]) -> None:
    """Write the result of a train job: the metric of the pick by epoch, and of each label a column of AUROCs; None is absent."""
    kept: list[dict[str, Any]] = []
    for epoch, value in enumerate(macro, start=1):
        areas = {f"val/auroc/{slug}": column[epoch - 1] for slug, column in zip(SLUGS, columns, strict=True)}
        # A manifest has null for what was no number.
        metrics = {name: area if math.isfinite(area) else None for name, area in {METRIC: value, **areas}.items() if area is not None}
        kept.append({"name": f"epoch-{epoch:04d}", "epoch": epoch, "step": 10 * epoch, "files": {}, "metrics": metrics})
    write_atomically(run.job(job).result, pretty_json({"checkpoints": kept, "labels": list(LABELS)}).encode())


def chosen(run: RunPaths, **rule: Any) -> dict[str, Any]:
    return picking(run, [one("a")], per="label", **rule)["choice"]["runs"][""]


def test_each_label_has_the_checkpoint_that_is_best_for_it(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    trained(run, "a", [0.6, 0.7, 0.65], [0.9, 0.8, 0.7], [0.1, 0.2, 0.3], [0.5, 0.6, 0.5])
    found = chosen(run)
    assert {label: each["checkpoints"] for label, each in found["labels"].items()} == {
        "Pleural Effusion": ["epoch-0001"],
        "Edema": ["epoch-0003"],
        "Lung Opacity": ["epoch-0002"],
    }
    assert found["labels"]["Edema"] == {"checkpoints": ["epoch-0003"], "by": "val/auroc/edema", "values": [0.3], "without_value": 0}
    # What is evaluated is each checkpoint once; the run itself is judged by the pick's metric, as without labels.
    assert found["checkpoints"] == ["epoch-0001", "epoch-0002", "epoch-0003"]
    assert (found["epoch"], found["value"]) == (2, 0.7)


def test_ties_go_to_the_earlier_checkpoint(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    trained(run, "a", [0.5, 0.5, 0.5], [0.8, 0.9, 0.9], [0.7, 0.7, 0.7], [0.1, 0.3, 0.3])
    late, early = ["epoch-0002", "epoch-0003"], ["epoch-0001", "epoch-0002"]
    assert [each["checkpoints"] for each in chosen(run, top=2)["labels"].values()] == [late, early, late]


def test_what_is_not_a_number_never_wins_and_is_counted(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    trained(run, "a", [0.6, 0.7, 0.65], [None, 0.8, 0.7], [0.1, math.nan, None], [math.inf, 0.6, 0.5])
    found = chosen(run)["labels"]
    assert [(each["checkpoints"], each["without_value"]) for each in found.values()] == [
        (["epoch-0002"], 1),
        (["epoch-0001"], 2),
        (["epoch-0002"], 1),
    ]


def test_a_label_without_any_value_takes_what_the_metric_chooses_and_says_so(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    trained(run, "a", [0.6, 0.7, 0.65], [0.9, 0.8, 0.7], [None, None, None], [0.5, 0.6, 0.5])
    assert chosen(run)["labels"]["Edema"] == {"checkpoints": ["epoch-0002"], "by": METRIC, "values": [], "without_value": 3}
    assert chosen(run, top=2)["labels"]["Edema"]["checkpoints"] == ["epoch-0002", "epoch-0003"]


def test_all_that_were_kept_are_all_that_have_a_value(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    trained(run, "a", [0.6, 0.7, 0.65], [0.9, None, 0.95], [0.1, 0.2, 0.3], [0.5, 0.6, 0.5])
    found = chosen(run, checkpoints="all")["labels"]
    assert found["Pleural Effusion"]["checkpoints"] == ["epoch-0003", "epoch-0001"]
    assert len(found["Edema"]["checkpoints"]) == len(found["Lung Opacity"]["checkpoints"]) == 3


def test_the_winner_between_tune_points_is_that_of_the_metric(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    trained(run, "a", [0.6], [0.99], [0.99], [0.99])
    trained(run, "b", [0.7], [0.5], [0.5], [0.5])
    found = picking(run, [one("a"), one("b")], per="label")["choice"]
    assert found["candidate"] == 1 and found["runs"][""]["job"] == "b"


def test_a_run_without_a_value_of_the_metric_loses_as_ever(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    trained(run, "a", [0.6], [0.5], [0.5], [0.5])
    trained(run, "b", [math.nan], [0.9], [0.9], [0.9])
    found = picking(run, [one("b"), one("a")], per="label")
    assert [candidate["status"] for candidate in found["candidates"]] == ["NO_VALUE", "ok"]


def test_a_choice_for_the_run_alone_says_nothing_of_labels(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    trained(run, "a", [0.6, 0.7], [0.9, 0.8], [0.1, 0.2], [0.5, 0.6])
    assert "labels" not in picking(run, [one("a")])["choice"]["runs"][""]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_an_auroc_is_better_when_it_is_larger_whatever_the_metric_wants(tmp_path: Path, mode: str) -> None:
    run = RunPaths(tmp_path)
    trained(run, "a", [0.6, 0.7], [0.9, 0.8], [0.1, 0.2], [0.5, 0.6])
    assert chosen(run, mode=mode)["labels"]["Pleural Effusion"]["checkpoints"] == ["epoch-0001"]


areas = st.lists(st.sampled_from([None, math.nan, 0.2, 0.5, 0.50000001, 0.9]), min_size=4, max_size=4)


@settings(max_examples=100, deadline=None)
@given(columns=st.tuples(areas, areas, areas), top=st.integers(1, 6))
def test_it_is_what_sorting_by_hand_gives(columns: tuple[list[float | None], ...], top: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = RunPaths(Path(folder))
        trained(run, "a", [0.1, 0.4, 0.3, 0.2], *columns)
        found = chosen(run, top=top)
    for label, column in zip(LABELS, columns, strict=True):
        left = [(value, epoch) for epoch, value in enumerate(column, start=1) if value is not None and not math.isnan(value)]
        best: list[int] = []
        while left and len(best) < top:
            highest = max(value for value, _ in left)
            first = min(epoch for value, epoch in left if value == highest)
            best.append(first)
            left = [pair for pair in left if pair[1] != first]
        expected = best or [2, 3, 4, 1][:top]
        assert found["labels"][label]["checkpoints"] == [f"epoch-{epoch:04d}" for epoch in expected]
        assert (found["labels"][label]["by"] == METRIC) == (not best)
    used = {name for each in found["labels"].values() for name in each["checkpoints"]}
    assert found["checkpoints"] == sorted(used)
