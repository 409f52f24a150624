"""What jobs would take, by their like and otherwise by their limits."""

from __future__ import annotations

import pytest

from jobs.spec import Resources, Stage
from orchestrator.costs import cost_of, in_words
from tests.orchestrator.standin import job

GPU = Resources(gpus=2, nodes=2, time_minutes=60)
TRAIN = job("t", resources=GPU)
PICK = job("p", (TRAIN,), stage=Stage.PICK)


def test_without_history_it_is_the_time_limits_and_no_seconds() -> None:
    found = cost_of([TRAIN, PICK], {})
    assert (found.work, found.by_history, found.by_limits) == (None, 0.0, 4.0)
    assert in_words(found) == "at most 4 GPU-hours by the time limits of what never ran here"


def test_with_history_it_is_what_their_like_took() -> None:
    found = cost_of([TRAIN, TRAIN, PICK], {("toy", "train"): 1800.0, ("toy", "pick"): 5.0})
    assert (found.work, found.by_limits) == (3605.0, 0.0)
    assert found.gpu_hours == found.by_history == pytest.approx(4.0)
    assert in_words(found) == "about 4 GPU-hours, by what its jobs took here so far"


def test_both_are_told_apart() -> None:
    later = job("l", resources=GPU, phase="later")
    found = cost_of([TRAIN, later], {("toy", "train"): 36_000.0})
    assert found.work is None
    assert (
        in_words(found)
        == "about 40 GPU-hours, by what its jobs took here so far, and at most 4 more GPU-hours by the time limits of what never ran here"
    )


def test_jobs_side_by_side_share_a_gpu() -> None:
    assert cost_of([job("a", resources=Resources(gpus=1, pack=4, time_minutes=60))], {}).by_limits == 0.25


def test_jobs_without_gpus_take_none() -> None:
    assert in_words(cost_of([PICK], {})) == ""
