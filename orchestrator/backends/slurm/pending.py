"""Why a job waits, in words: the reasons of squeue's manual, each with what would help. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from orchestrator.scheduler import Waiting

_SHORTER = "a shorter `time`, less `memory` or fewer `gpus` fit into a gap sooner"
_OWN_JOBS = "nothing to do: it starts when jobs of yours end"
_RELEASE = "`scontrol release {native}` lets it go on"
_ASK = "ask the administrators"
_SMALLER = "ask for less under the phase's `resources`, or choose another partition in the cluster config; then cancel it and submit again"
_IN_CONFIG = "correct `{key}` in the cluster config, cancel it and submit again"

#: Reason -> (what it means, what would help).
REASONS: Mapping[str, tuple[str, str]] = {
    # Nothing is wrong.
    "Resources": ("it is next in line, and waits until enough of a node is free", _SHORTER),
    "Priority": ("others in its partition come first", _SHORTER),
    "Dependency": ("it waits for jobs that it depends on", ""),
    "None": ("the scheduler has not looked at it yet", ""),
    "BeginTime": ("it was started before and Slurm puts it back; it may start again about two minutes after that", ""),
    "Cleaning": ("its last run is still being cleared away", ""),
    "WaitingForScheduling": ("the scheduler has not looked at it yet", ""),
    "SystemFailure": ("Slurm itself, its disk or its network failed", _ASK),
    "NonZeroExitCode": ("its last run failed", ""),
    "BurstBufferStageIn": ("its data are being brought to the burst buffer", ""),
    "BurstBufferOperation": ("the burst buffer could not do what it asks for", _ASK),
    "PowerNotAvail": ("there is not enough electrical power to start it", ""),
    "PowerReserved": ("the electrical power it needs is reserved", ""),
    "Prolog": ("the node is being prepared for it", ""),
    "NodeProlog": ("the node is being prepared for it", ""),
    "JobArrayTaskLimit": ("as many elements of its array run as may at once", "raise `slurm: {parallel: ...}` in the cluster config"),
    "Licenses": ("it waits for a licence", ""),
    "BurstBufferResources": ("it waits for room in the burst buffer", ""),
    "FrontEndDown": ("the front end that starts it is down", _ASK),
    "SchedDefer": ("the scheduler puts off looking at new jobs", ""),
    "MaxRequeue": ("it was put back as often as the site allows", _RELEASE + ", or cancel it and submit again"),
    # Nodes.
    "ReqNodeNotAvail": ("a node that it needs is down, drained or reserved, such as for maintenance", "`sinfo -R` says why; " + _SHORTER),
    "NodeDown": ("a node that it needs is down", "`sinfo -R` says why"),
    "Reservation": ("it waits for its reservation to begin", ""),
    "ReservationDeleted": ("its reservation is gone", _IN_CONFIG.format(key="slurm: {extra: {reservation: ...}}")),
    "InvalidQOS": ("its quality of service is none of the site's", _IN_CONFIG.format(key="slurm: {qos: ...}")),
    "BadConstraints": ("no node has what it asks for", _SMALLER),
    "PartitionConfig": ("no node of its partition has what it asks for", _SMALLER),
    "NodesUnavailable": ("the nodes that could run it are down or drained", "`sinfo -R` says why"),
    # Partitions.
    "PartitionDown": ("its partition is down", "wait, or choose another partition in the cluster config"),
    "PartitionInactive": ("its partition takes no jobs just now", "wait, or choose another partition in the cluster config"),
    "PartitionNodeLimit": ("it asks for more nodes than its partition allows", _SMALLER),
    "PartitionTimeLimit": ("it asks for more time than its partition allows, and will never start there", _SMALLER),
    # Somebody's doing.
    "JobHeldUser": ("you hold it", _RELEASE),
    "JobHeldAdmin": ("an administrator holds it", _ASK),
    "JobHoldMaxRequeue": ("it was put back as often as the site allows, and is held", _RELEASE),
    "JobLaunchFailure": ("it could not be launched", "cancel it and submit again"),
    "launch failed requeued held": ("it could not be launched, was put back, and is held", _RELEASE),
    "DependencyNeverSatisfied": ("what it depends on failed, so it will never start", "`resume` runs what failed, and then this one"),
    "DeadLine": ("it can no longer end before its deadline", "cancel it and submit again"),
    "InvalidAccount": ("its account is none of yours", _IN_CONFIG.format(key="account")),
    "AccountNotAllowed": ("its account may not use this partition or quality of service", _IN_CONFIG.format(key="account")),
    "QOSNotAllowed": ("its quality of service may not be used here", _IN_CONFIG.format(key="slurm: {qos: ...}")),
    # Limits, as the site sets them for a quality of service or an account.
    "AssociationJobLimit": ("your account runs as many jobs as it may", _OWN_JOBS),
    "AssociationResourceLimit": ("your account has as much as it may", _OWN_JOBS),
    "AssociationTimeLimit": ("your account's time is used up", _ASK + " for more, or use another `account`"),
    "QOSJobLimit": ("its quality of service runs as many jobs as it may", _OWN_JOBS),
    "QOSResourceLimit": ("its quality of service has as much as it may", _OWN_JOBS),
    "QOSTimeLimit": ("its quality of service has used up its time", _ASK + " for more, or use another `qos`"),
    "QOSUsageThreshold": ("its quality of service has been used too much lately", ""),
}

#: Limits have names made of parts: whose, what kind, of what, counted how, for whom.
_LIMIT = re.compile(
    r"(?P<whose>QOS|Assoc)?(?P<kind>Grp|Max|Min)"
    r"(?P<what>BB|Billing|CPU|Cpu|Energy|GRES|SubmitJobs?|Jobs?|License|Mem(?:ory)?|Node|WallDuration|Wall|Unknown)"
    r"(?P<minutes>(?:Run)?Minutes)?(?:Per(?P<each>Job|Node|User|Account))?(?:Limit|NotSatisfied)?"
)
_RESOURCES: Mapping[str, str] = {
    "bb": "burst buffer",
    "billing": "billed resources",
    "cpu": "CPU cores",
    "energy": "energy",
    "gres": "GPUs",
    "job": "running jobs",
    "jobs": "running jobs",
    "submitjob": "submitted jobs",
    "submitjobs": "submitted jobs",
    "license": "licences",
    "mem": "memory",
    "memory": "memory",
    "node": "nodes",
    "wallduration": "time",
    "wall": "time",
}


def waiting_for(reason: str, native: str = "") -> Waiting:
    """Say in words why a job waits, and what would help. A reason that is not known is shown as it is."""
    word, _, detail = reason.strip().strip("()").partition(",")
    word = word.strip() or "None"
    known = REASONS.get(word) or _of_limit(word)
    if known is None:
        return Waiting(reason=word, why=f"Slurm says: {reason.strip()}")
    why, then = known
    more = f" ({detail.strip()})" if detail.strip() else ""
    return Waiting(reason=word, why=why + more, then=then.replace("{native}", native or "JOBID"))


def _of_limit(word: str) -> tuple[str, str] | None:
    """Say what a limit of a quality of service or an account means, from the parts of its name."""
    found = _LIMIT.fullmatch(word)
    if found is None:
        return None
    whose = "its account" if found["whose"] == "Assoc" else "its quality of service"
    what = _RESOURCES.get(found["what"].lower(), "resources")
    if found["kind"] == "Min":
        return f"it asks for fewer {what} than {whose} wants at least", "choose another partition or `qos` in the cluster config"
    if found["minutes"]:
        what = f"time of {what}" if found["minutes"] == "Minutes" else f"time of {what} of running jobs"
    if found["each"] in ("Job", "Node") or found["what"] == "WallDuration":
        return f"it asks for more {what} than {whose} allows one {(found['each'] or 'job').lower()}, and will never start so", _SMALLER
    if found["kind"] == "Grp" and found["minutes"] == "Minutes":
        return f"{whose} has used up its {what}", _ASK + " for more, or use another `account` or `qos`"
    if found["kind"] == "Grp":
        return f"all jobs of {whose} together have as much of its {what} as they may", "nothing to do: it starts when others of them end"
    return f"your jobs have as much of the {what} of {whose} as one {(found['each'] or 'user').lower()} may", _OWN_JOBS
