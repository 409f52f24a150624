"""Truths and predictions as arrays: shapes, codes and names as UniChest's test leaves them, areas against scikit-learn."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.trainers.test_prediction_table import LABELS, POLICIES, rows_of, scores_of
from trainers.api import Scores
from trainers.array_files import write_arrays


def read(folder: Path) -> tuple[np.ndarray, np.ndarray, list[list[str]], list[str]]:
    here = folder / "made"
    found = list(csv.reader(io.StringIO((here / "result.csv").read_text(encoding="utf-8"))))
    return np.load(here / "gt.npy"), np.load(here / "pred.npy"), found, (here / "images.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("labels", [LABELS, LABELS[::-1], LABELS[1:]])
def test_the_files_hold_each_unit_in_its_order(tmp_path: Path, labels: tuple[str, ...]) -> None:
    scores = scores_of(rows_of(200))
    said = write_arrays(scores, labels, POLICIES, tmp_path)
    truth, probability, table, images = read(tmp_path)
    assert said["shape"] == [200, len(labels)] == list(truth.shape) == list(probability.shape) and truth.dtype == probability.dtype == "f4"
    assert sorted(said["files"]) == sorted(path.name for path in (tmp_path / "made").iterdir())
    assert images == scores.rows.images.tolist() and table[0] == ["metric", *labels, "mean"] and table[1][0] == "AUC" and len(table) == 2
    areas: list[float] = []
    for column, label in enumerate(labels):
        at = LABELS.index(label)
        # Uncertain is unknown; a missing effusion is negative by policy, a missing edema is unknown.
        by_hand = {1.0: 1.0, 0.0: 0.0, -1.0: -1.0}
        missing = 0.0 if label == "effusion" else -1.0
        assert truth[:, column].tolist() == [by_hand.get(float(value), missing) for value in scores.rows.labels[:, at]]
        assert np.allclose(probability[:, column], 1 / (1 + np.exp(-scores.logits[:, at])), atol=1e-7)
        known = truth[:, column] >= 0
        areas.append(roc_auc_score(truth[known, column], probability[known, column]))
    assert [float(value) for value in table[1][1:]] == pytest.approx([*areas, np.mean(areas)])


def test_a_label_without_both_classes_has_an_empty_cell_and_is_in_no_mean(tmp_path: Path) -> None:
    rows = rows_of(40)
    labels = rows.labels.copy()
    labels[:, 0] = 0.0
    write_arrays(scores_of(replace(rows, labels=labels)), LABELS, POLICIES, tmp_path / "one")
    row = read(tmp_path / "one")[2][1]
    assert row[1] == "" and float(row[2]) == float(row[3])
    labels[:, 1] = -1.0
    write_arrays(scores_of(replace(rows, labels=labels)), LABELS, POLICIES, tmp_path / "none")
    assert read(tmp_path / "none")[2][1] == ["AUC", "", "", ""]


def test_scores_far_from_zero_are_probabilities_and_the_digest_follows_the_content(tmp_path: Path) -> None:
    rows = rows_of(4)
    logits = np.array([[-1e4, 1e4], [-90, 90], [0, -0.0], [3, -3]], np.float32)
    first = write_arrays(Scores(rows=rows, logits=logits, labels=LABELS), LABELS, POLICIES, tmp_path / "a")
    probability = read(tmp_path / "a")[1]
    assert probability[0].tolist() == [0.0, 1.0] and bool(np.isfinite(probability).all())
    assert write_arrays(Scores(rows=rows, logits=logits, labels=LABELS), LABELS, POLICIES, tmp_path / "b") == first
    logits[3, 0] = 2
    assert write_arrays(Scores(rows=rows, logits=logits, labels=LABELS), LABELS, POLICIES, tmp_path / "b") != first
