"""What a site's Slurm says of itself: partitions with what their nodes have, limits, accounts."""

from __future__ import annotations

import getpass
import re
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.backends.slurm import commands
from orchestrator.errors import BackendError
from orchestrator.model import Partition
from orchestrator.scheduler import Site

_SINFO = "%R|%a|%l|%c|%m|%G|%P"
_GPU = re.compile(r"gpu(?::(?P<type>[A-Za-z][\w.-]*))?:(?P<count>\d+)")
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePartition:
    """A partition, as the largest of its kinds of node has it."""

    name: str
    up: bool
    default: bool
    gpus: int
    #: Types of GPU that a job can ask for by name.
    gpu_types: tuple[str, ...]
    cpus: int
    memory_mb: int
    max_time_minutes: int | None


def partitions() -> tuple[SitePartition, ...]:
    """Ask sinfo, once, for every partition. Raises BackendError."""
    return read_partitions(commands.run("sinfo", "--noheader", "--exact", f"--format={_SINFO}"))


def read_partitions(told: str) -> tuple[SitePartition, ...]:
    """Read the lines of sinfo, one a kind of node; the largest kind stands for its partition."""
    found: dict[str, SitePartition] = {}
    for line in told.splitlines():
        row = line.split("|")
        if len(row) != len(_SINFO.split("|")):
            continue
        name, available, limit, cpus, memory, gres, marked = row
        gpus = [(match["type"], int(match["count"])) for match in _GPU.finditer(gres)]
        one = SitePartition(
            name=name,
            up=available == "up",
            default=marked.endswith("*"),
            gpus=sum(count for _, count in gpus),
            gpu_types=tuple(kind for kind, _ in gpus if kind),
            cpus=_whole(cpus),
            memory_mb=_whole(memory),
            max_time_minutes=minutes_of(limit),
        )
        known = found.get(name)
        if known is None or (one.gpus, one.memory_mb, one.cpus) > (known.gpus, known.memory_mb, known.cpus):
            found[name] = one
    return tuple(found.values())


def _whole(text: str) -> int:
    digits = text.rstrip("+")
    return int(digits) if digits.isdigit() else 0


def minutes_of(limit: str) -> int | None:
    """Read a time limit of sinfo as minutes, rounded down; None for one without end."""
    found = _TIME.fullmatch(limit)
    if found is None:
        return None
    part = {name: int(number) for name, number in found.groupdict().items() if number}
    return part.get("days", 0) * 1440 + part.get("hours", 0) * 60 + part["minutes"] or None


def settings() -> Mapping[str, str]:
    """Return what `scontrol show config` says, by name. Raises BackendError."""
    return read_settings(commands.run("scontrol", "show", "config"))


def read_settings(told: str) -> Mapping[str, str]:
    """Read the lines of `scontrol show config`."""
    return {name.strip(): value.strip() for name, sign, value in (line.partition("=") for line in told.splitlines()) if sign}


def read_site() -> Site:
    """Return what a first cluster config needs to know. Raises BackendError where there is no Slurm, or it does not answer."""
    there = sorted((one for one in partitions() if one.up), key=lambda one: not one.default)
    known = settings()
    limit = known.get("MaxArraySize", "")
    return Site(
        partitions=tuple(
            Partition(name=one.name, gpus=one.gpus, cpus=max(1, one.cpus), memory_mb=one.memory_mb, max_time_minutes=one.max_time_minutes)
            for one in there
        ),
        accounts=accounts() or (),
        gpu_types=tuple(dict.fromkeys(kind for one in there for kind in one.gpu_types)),
        array_size=int(limit) - 1 if limit.isdigit() and int(limit) > 1 else None,
        accounting=known.get("AccountingStorageType", "") not in ("accounting_storage/none", "(null)", ""),
    )


def accounts() -> tuple[str, ...] | None:
    """Return the accounts that this user may charge, the default one first; None where sacctmgr does not answer."""
    try:
        who = f"user={getpass.getuser()}"
        told = commands.run("sacctmgr", "--noheader", "--parsable2", "show", "associations", who, "format=Account")
        first = commands.run("sacctmgr", "--noheader", "--parsable2", "show", "user", getpass.getuser(), "format=DefaultAccount")
    except (BackendError, KeyError, OSError):
        return None
    return tuple(dict.fromkeys(line for line in [*first.split(), *told.split()] if line))


def qualities() -> tuple[str, ...] | None:
    """Return the site's qualities of service; None where sacctmgr does not answer."""
    try:
        return tuple(commands.run("sacctmgr", "--noheader", "--parsable2", "show", "qos", "format=Name").split())
    except BackendError:
        return None
