"""What a raised wish becomes where no node has that much."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.spec import FailureKind, Resources
from orchestrator import policy
from orchestrator.backends.base import Queued
from orchestrator.backends.slurm.request import signal_lead, within_reach
from orchestrator.model import ClusterConfig, Partition, SlurmSite
from tests.orchestrator.standin import job

SMALL = Partition(name="small", gpus=0, cpus=4, memory_mb=4000, max_time_minutes=600)
LARGE = Partition(name="large", gpus=2, cpus=8, memory_mb=8000, max_time_minutes=100)


def site(*partitions: Partition, lead: int = 120) -> ClusterConfig:
    folder = Path("runs")
    return ClusterConfig(
        name="here", backend="slurm", run_root=folder, made_root=folder, partitions=partitions, slurm=SlurmSite(signal_lead=lead)
    )


def again(planned: Resources, after: FailureKind) -> Queued:
    """Return a job that a failure has made ask for more than was planned."""
    asked = policy.bumped(planned, after)
    return Queued(spec=job("a", resources=asked), attempt=2, resources=asked, planned=planned)


@pytest.mark.parametrize(
    ("planned", "after", "memory", "minutes"),
    [
        # It fits as raised.
        (Resources(memory_mb=4000, time_minutes=60), FailureKind.HOST_OOM, 6000, 60),
        # More than any node has: all that the largest has.
        (Resources(memory_mb=7000, time_minutes=60), FailureKind.HOST_OOM, 8000, 60),
        # The longer partition does not hold it, so the shorter one's limit counts; what runs longer saves, and goes on.
        (Resources(memory_mb=7000, time_minutes=90), FailureKind.TIMEOUT, 7000, 100),
        (Resources(memory_mb=1000, time_minutes=500), FailureKind.TIMEOUT, 1000, 600),
        # Of one node four share.
        (Resources(memory_mb=1900, time_minutes=60, pack=4), FailureKind.HOST_OOM, 2000, 60),
    ],
)
def test_a_raised_wish_is_cut_to_what_there_is(planned: Resources, after: FailureKind, memory: int, minutes: int) -> None:
    found = within_reach(again(planned, after), site(SMALL, LARGE))
    assert (found.resources.memory_mb, found.resources.time_minutes) == (memory, minutes)
    assert found.spec.resources == found.resources


def test_a_wish_that_nobody_raised_is_left_for_the_person_who_made_it(tmp_path: Path) -> None:
    asked = Resources(memory_mb=9000)
    plain = Queued(spec=job("a", resources=asked), attempt=1, resources=asked)
    assert within_reach(plain, site(SMALL, LARGE)) is plain
    raised = again(asked, FailureKind.HOST_OOM)
    assert within_reach(raised, site(SMALL, LARGE)) is raised
    assert within_reach(raised, site()) is raised


@pytest.mark.parametrize(("minutes", "lead"), [(1, 10), (2, 60), (3, 120), (600, 120)])
def test_a_job_with_a_short_limit_is_asked_to_save_only_once_it_can_hear_it(minutes: int, lead: int) -> None:
    assert signal_lead(Resources(time_minutes=minutes), site()) == lead
    assert signal_lead(Resources(time_minutes=minutes), site(lead=30)) == min(lead, 30)
