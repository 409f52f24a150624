"""Every reason of Slurm's own list has words; one that is not in it is shown as it is."""

from __future__ import annotations

import pytest

from orchestrator.backends.slurm.pending import REASONS, waiting_for

#: The reasons that Slurm 22.05 can print, out of its own library; QOS and association limits are made of parts.
SLURM_22 = """
Priority Dependency Resources PartitionNodeLimit PartitionTimeLimit PartitionDown PartitionInactive JobHeldAdmin JobHeldUser BeginTime
Licenses AssociationJobLimit AssociationResourceLimit AssociationTimeLimit Reservation ReqNodeNotAvail FrontEndDown SchedDefer NodeDown
BadConstraints SystemFailure JobLaunchFailure NonZeroExitCode InvalidAccount InvalidQOS QOSUsageThreshold QOSJobLimit QOSResourceLimit
QOSTimeLimit Cleaning Prolog QOSNotAllowed AccountNotAllowed DependencyNeverSatisfied JobHoldMaxRequeue JobArrayTaskLimit
BurstBufferResources BurstBufferStageIn BurstBufferOperation PowerNotAvail PowerReserved ReservationDeleted DeadLine None
QOSGrpCpuLimit QOSGrpCPUMinutesLimit QOSGrpCPURunMinutesLimit QOSGrpJobsLimit QOSGrpMemLimit QOSGrpNodeLimit QOSGrpSubmitJobsLimit
QOSGrpWallLimit QOSMaxCpuPerJobLimit QOSMaxCpuMinutesPerJobLimit QOSMaxNodePerJobLimit QOSMaxWallDurationPerJobLimit
QOSMaxCpuPerUserLimit QOSMaxJobsPerUserLimit QOSMaxNodePerUserLimit QOSMaxSubmitJobPerUserLimit QOSMinCpuNotSatisfied AssocGrpCpuLimit
AssocGrpCPUMinutesLimit AssocGrpCPURunMinutesLimit AssocGrpJobsLimit AssocGrpMemLimit AssocGrpNodeLimit AssocGrpSubmitJobsLimit
AssocGrpWallLimit AssocMaxJobsLimit AssocMaxCpuPerJobLimit AssocMaxCpuMinutesPerJobLimit AssocMaxNodePerJobLimit AssocMaxSubmitJobLimit
AssocMaxWallDurationPerJobLimit AssocMaxCpuPerNode AssocGrpMemMinutes AssocMaxMemPerJob AssocMaxMemPerNode AssocGrpGRES
AssocGrpGRESMinutes AssocGrpGRESRunMinutes AssocMaxGRESPerJob AssocMaxGRESPerNode AssocMaxGRESMinutesPerJob AssocGrpBB AssocGrpLicense
AssocGrpEnergy AssocGrpBilling AssocGrpBillingRunMinutes QOSGrpUnknown QOSMaxMemoryPerUser QOSMaxGRESPerUser QOSMaxGRESPerJob QOSMinGRES
QOSMinMemory QOSMinNode QOSGrpGRES QOSGrpGRESMinutes QOSGrpGRESRunMinutes QOSMaxBillingPerUser MaxGRESPerAccount MaxCpuPerAccount
"""


@pytest.mark.parametrize("reason", SLURM_22.split())
def test_every_reason_has_words(reason: str) -> None:
    found = waiting_for(reason, "12_3")
    assert found.reason == reason
    assert reason not in found.why
    assert "{native}" not in found.then


@pytest.mark.parametrize(
    ("reason", "why", "then"),
    [
        ("(Resources)", "it is next in line", "fit into a gap sooner"),
        ("QOSMaxGRESPerUser", "your jobs have as much of the GPUs of its quality of service as one user may", "when jobs of yours end"),
        ("AssocGrpGRES", "all jobs of its account together have as much of its GPUs as they may", "when others of them end"),
        ("AssocGrpGRESMinutes", "its account has used up its time of GPUs", "another `account`"),
        ("QOSMaxWallDurationPerJobLimit", "will never start so", "ask for less under the phase's `resources`"),
        ("PartitionTimeLimit", "more time than its partition allows", "ask for less"),
        ("JobHeldUser", "you hold it", "scontrol release 12_3"),
        ("ReqNodeNotAvail, UnavailableNodes:n1", "(UnavailableNodes:n1)", "sinfo -R"),
        ("BeginTime", "two minutes", ""),
        ("DependencyNeverSatisfied", "will never start", "`resume`"),
    ],
)
def test_a_reason_says_what_it_means_and_what_would_help(reason: str, why: str, then: str) -> None:
    found = waiting_for(reason, "12_3")
    assert why in found.why
    assert then in found.then


def test_a_reason_that_is_not_known_is_shown_as_it_is() -> None:
    found = waiting_for("MoonPhase, waning")
    assert (found.reason, found.why, found.then) == ("MoonPhase", "Slurm says: MoonPhase, waning", "")


def test_no_reason_at_all_is_a_scheduler_that_has_not_looked() -> None:
    assert waiting_for("").why == REASONS["None"][0]
