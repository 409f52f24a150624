"""Thresholds are those of trying every score, and those that the report would choose."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.report.stats.operating import thresholds_of
from trainers.evaluation import targets, youden


def naive_youden(truth: np.ndarray, score: np.ndarray) -> float:
    """Try every score; compare sensitivity + specificity in whole numbers; the smallest of equals."""
    positives, negatives = int((truth == 1).sum()), int((truth == 0).sum())
    best: tuple[int, float] | None = None
    for at in sorted(set(score.tolist())):
        right = sum(1 for t, s in zip(truth, score, strict=True) if t == 1 and s >= at) * negatives
        right += sum(1 for t, s in zip(truth, score, strict=True) if t == 0 and s < at) * positives
        if best is None or right > best[0]:
            best = (right, at)
    assert best is not None
    return best[1]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(-6, 6)), min_size=2, max_size=40))
def test_youden_is_that_of_trying_every_score(pairs: list[tuple[bool, int]]) -> None:
    truth = np.array([float(positive) for positive, _ in pairs], np.float32)
    score = np.array([value / 8 for _, value in pairs], np.float32)
    if 0 < truth.sum() < len(truth):
        assert youden(truth, score) == naive_youden(truth, score)


def test_equals_are_equal_where_fractions_would_round() -> None:
    # 2/2 + 2/6 at 1.0 and 1/2 + 5/6 at 3.0 are both 4/3, and their sums in float64 are not.
    truth = np.array([1, 1] + [0] * 6, np.float32)
    score = np.array([3, 1, 0, 0, 1, 1, 1, 3], np.float32)
    assert 2 / 2 + 2 / 6 < 1 / 2 + 5 / 6
    assert youden(truth, score) == naive_youden(truth, score) == 1.0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(-6, 6)), min_size=2, max_size=40))
def test_the_trainer_and_the_report_choose_the_same_thresholds(pairs: list[tuple[bool, int]]) -> None:
    truth = np.array([float(positive) for positive, _ in pairs], np.float32)
    score = np.array([value / 8 for _, value in pairs], np.float32)
    if 0 < truth.sum() < len(truth):
        assert {"youden": youden(truth, score), **targets(truth, score)} == thresholds_of(truth, score)
