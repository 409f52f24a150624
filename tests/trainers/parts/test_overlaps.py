"""Measures of masks: against loops, and against what a report makes of the same table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from orchestrator.report.kinds import KINDS
from orchestrator.report.masks import Masks
from orchestrator.report.predictions import read_predictions
from orchestrator.report.stats.bootstrap import resample
from tests.trainers.made_data import made_rows
from trainers.api import Overlaps
from trainers.parts.overlaps import dice, measure, overlap_table
from trainers.states import write_scores


def made(n: int = 24, seed: int = 0) -> Overlaps:
    """Return counts of n images of n / 2 patients: some without the structure, some not found, some not annotated."""
    random = np.random.default_rng(seed)
    true, predicted = random.integers(1, 90, (n, 2)), random.integers(1, 90, (n, 2))
    true[random.random((n, 2)) < 0.3] = 0
    predicted[random.random((n, 2)) < 0.3] = 0
    both = (np.minimum(true, predicted) * random.random((n, 2))).astype(np.int64)
    drawn = (true > 0) & (predicted > 0)
    return Overlaps(
        rows=made_rows(n),
        structures=("heart", "lungs"),
        known=random.random((n, 2)) < 0.9,
        intersection=both,
        predicted=predicted,
        true=true,
        hd95=np.where(drawn, random.random((n, 2)) * 20, np.nan),
        diagonal=np.full(n, 30.0),
        loss=0.25,
    )


def naive_dice(overlaps: Overlaps, column: int, *, empty: bool) -> float:
    patients: dict[str, list[float]] = {}
    for at, patient in enumerate(overlaps.rows.patients.tolist()):
        if overlaps.known[at, column] and (empty or overlaps.true[at, column]):
            size = overlaps.predicted[at, column] + overlaps.true[at, column]
            patients.setdefault(patient, []).append(2 * overlaps.intersection[at, column] / size if size else 1.0)
    return sum(sum(values) / len(values) for values in patients.values()) / len(patients)


def test_dice_is_that_of_loops_and_two_empty_masks_are_one() -> None:
    overlaps = made()
    found = measure(overlaps, prefix="val")
    for kind, empty in (("dice", False), ("dice_as_published", True)):
        values = [naive_dice(overlaps, column, empty=empty) for column in range(2)]
        assert found[f"val/{kind}"] == pytest.approx(sum(values) / 2)
        assert found[f"val/{kind}/lungs"] == pytest.approx(values[1])
    assert found["val/loss"] == 0.25
    both_empty = (overlaps.true == 0) & (overlaps.predicted == 0)
    assert both_empty.any() and (dice(overlaps)[both_empty] == 1).all()


@pytest.mark.parametrize("kind", ["dice", "dice_as_published", "dice_pooled", "hd95"])
def test_a_report_makes_the_same_of_the_table(tmp_path: Path, kind: str) -> None:
    overlaps = made()
    write_scores(overlaps, tmp_path / "val.parquet")
    frame = read_predictions(tmp_path / "val.parquet", "made")
    assert isinstance(frame, Masks)
    clusters, cluster = np.unique(frame.patients, return_inverse=True)
    counts = resample(len(clusters), 8)
    ours = measure(overlaps, prefix="test")
    for column, name in enumerate(frame.labels):
        theirs = KINDS[kind].of(frame, column, cluster, counts)
        assert theirs is not None
        assert ours[f"test/{kind}/{name}"] == pytest.approx(theirs.value, rel=1e-12)


def test_the_table_has_a_row_for_what_is_annotated_and_nulls_where_a_mask_is_empty(tmp_path: Path) -> None:
    overlaps = made()
    table = overlap_table(overlaps).to_pylist()
    assert len(table) == overlaps.known.sum()
    assert all((row["hd95"] is None) == (row["true"] == 0 or row["predicted"] == 0) for row in table)
    first = table[0]
    assert (first["image"], first["patient"]) == (str(overlaps.rows.images[0]), str(overlaps.rows.patients[0]))
    write_scores(overlaps, tmp_path / "val.parquet")
    assert pq.read_table(tmp_path / "val.parquet").to_pylist() == table


def test_what_no_image_can_tell_is_absent() -> None:
    overlaps = made(8)
    nothing = Overlaps(
        rows=overlaps.rows,
        structures=("heart",),
        known=np.ones((8, 1), dtype=bool),
        intersection=np.zeros((8, 1), np.int64),
        predicted=np.zeros((8, 1), np.int64),
        true=np.zeros((8, 1), np.int64),
    )
    assert measure(nothing, prefix="val") == {"val/dice_as_published/heart": 1.0, "val/dice_as_published": 1.0}


def test_traits_of_images_stand_in_the_table_and_in_what_a_report_reads(tmp_path: Path) -> None:
    overlaps = made()
    sex = np.array(["F", "M", "F"] * 8)
    overlaps = replace(overlaps, rows=replace(overlaps.rows, traits={"sex": sex}))
    pq.write_table(overlap_table(overlaps, ("sex",)), tmp_path / "predictions.parquet")
    frame = read_predictions(tmp_path / "predictions.parquet", "made")
    of_image = dict(zip(overlaps.rows.images.tolist(), sex.tolist(), strict=True))
    assert frame.traits["sex"].tolist() == [of_image[image] for image in frame.units.tolist()]
