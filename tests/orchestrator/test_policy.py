"""The table of what follows from a failure."""

from __future__ import annotations

import pytest

from jobs.spec import LOSING_FAILURES, FailureKind, Resources
from orchestrator import policy
from orchestrator.policy import Remedy


def test_every_kind_of_failure_has_a_rule_with_words() -> None:
    assert set(policy.TABLE) == set(FailureKind)
    for kind in FailureKind:
        what, _, then = policy.sentence(kind).partition(": ")
        assert what and then, kind


def test_what_was_stopped_from_outside_goes_on_by_itself_and_nothing_else_does() -> None:
    assert {kind for kind in FailureKind if policy.continues(kind)} == {FailureKind.PREEMPTED, FailureKind.NODE_FAIL, FailureKind.LOST}


def test_what_lost_a_pick_is_the_only_kind_that_resume_leaves_alone() -> None:
    assert {kind for kind in FailureKind if not policy.resumes(kind)} == LOSING_FAILURES


@pytest.mark.parametrize(
    ("kind", "memory", "minutes"),
    [
        (None, 1000, 60),
        (FailureKind.HOST_OOM, 1500, 60),
        (FailureKind.TIMEOUT, 1000, 120),
        (FailureKind.ERROR, 1000, 60),
        (FailureKind.LOST, 1000, 60),
    ],
)
def test_the_next_attempt_asks_for_more_of_what_ran_out(kind: FailureKind | None, memory: int, minutes: int) -> None:
    asked = policy.bumped(Resources(memory_mb=1000, time_minutes=60, cpus=3, gpus=1), kind)
    assert (asked.memory_mb, asked.time_minutes, asked.cpus, asked.gpus) == (memory, minutes, 3, 1)


def test_what_ran_out_again_is_raised_again() -> None:
    asked = [policy.bumped(Resources(memory_mb=1000, time_minutes=60), FailureKind.HOST_OOM, times).memory_mb for times in (0, 1, 2, 3)]
    assert asked == [1500, 1500, 2250, 3375]
    assert policy.bumped(Resources(time_minutes=60), FailureKind.TIMEOUT, 2).time_minutes == 240


def test_a_bump_is_promised_exactly_where_it_is_given() -> None:
    bumping = {kind for kind in FailureKind if policy.bumped(Resources(), kind) != Resources()}
    assert bumping == {kind for kind in FailureKind if policy.rule(kind).remedy is Remedy.BUMP}
