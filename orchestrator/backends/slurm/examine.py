"""Whether a site's Slurm is what the cluster config says, one line a thing: `doctor --cluster NAME`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from orchestrator.backends.slurm import commands, site
from orchestrator.backends.slurm.visit import visit
from orchestrator.checks import Check
from orchestrator.errors import BackendError
from orchestrator.model import ClusterConfig, Partition

_COMMANDS = ("sbatch", "squeue", "srun", "scancel", "scontrol", "sinfo")
#: Kinds of file system that only one machine can see, and folders that no two machines share.
_IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_ONE_DISK = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "overlay", "f2fs"})
_PRIVATE = tuple(Path(place) for place in ("/tmp", "/var/tmp", "/dev/shm", "/run"))


def examine(cluster: ClusterConfig, *, deep: bool) -> Iterator[Check]:
    """Look at commands, controller, accounting, partitions, account, array size and run root; `deep` also sends a job to look at a node."""
    missing = [name for name in _COMMANDS if shutil.which(name) is None]
    if missing:
        text = f"there is no {', '.join(missing)} here: type this on a login node of the cluster, or load its module first"
        yield Check(what="slurm", ok=False, text=text)
        return
    try:
        settings = site.settings()
    except BackendError as error:
        yield Check(what="slurm", ok=False, text=f"{error}: ask the administrators when the controller is back")
        return
    yield Check(what="slurm", ok=True, text=f"{settings.get('SLURM_VERSION', '')}, cluster '{settings.get('ClusterName', '')}' answers")
    yield _accounting(cluster)
    yield from _partitions(cluster)
    yield from _charged(cluster)
    yield _array_size(cluster, settings)
    yield _requeue(settings)
    if not deep:
        yield _shared(cluster)
        return
    yield from visit(cluster)


def _accounting(cluster: ClusterConfig) -> Check:
    there = shutil.which("sacct") is not None
    done = commands.call("sacct", "-X", "-n", "-P", "--starttime=now", "--format=JobID") if there else None
    answers = done is not None and done.returncode == 0
    if cluster.slurm.accounting and not answers:
        said = " ".join(done.stderr.split()) if done is not None else "there is no sacct here"
        return Check(what="accounting", ok=False, text=f"{said}: write `slurm: {{accounting: false}}` in the cluster config")
    if not cluster.slurm.accounting:
        more = "; sacct answers here, so `accounting: true` would tell how jobs ended and what they used" if answers else ""
        return Check(what="accounting", ok=True, text=f"not asked, as the cluster config says{more}")
    return Check(what="accounting", ok=True, text="sacct answers")


def _partitions(cluster: ClusterConfig) -> Iterator[Check]:
    try:
        there = {one.name: one for one in site.partitions()}
    except BackendError as error:
        yield Check(what="partitions", ok=False, text=str(error))
        return
    if not cluster.partitions:
        yield Check(what="partitions", ok=True, text="none in the cluster config: the site's default one is used, and nothing is checked")
    for claimed in cluster.partitions:
        yield _partition(claimed, there.get(claimed.name), there)


def _partition(claimed: Partition, real: site.SitePartition | None, there: Mapping[str, site.SitePartition]) -> Check:
    what = f"partition {claimed.name}"
    if real is None:
        return Check(what=what, ok=False, text=f"there is none of that name; there are {', '.join(there)}: correct `partitions`")
    if not real.up:
        return Check(what=what, ok=False, text="it is down: wait, or take it out of `partitions`")
    too_much = [
        f"`{key}: {wanted}{unit}` is more than the {actual}{unit} of its largest node"
        for key, wanted, actual, unit in (
            ("gpus", claimed.gpus, real.gpus, ""),
            ("cpus", claimed.cpus, real.cpus, ""),
            ("memory", claimed.memory_mb, real.memory_mb, "M"),
        )
        if wanted > actual
    ]
    longest = real.max_time_minutes
    if longest is not None and (claimed.max_time_minutes is None or claimed.max_time_minutes > longest):
        too_much.append(f"`max_time` must be at most {longest}m")
    if too_much:
        return Check(what=what, ok=False, text="; ".join(too_much) + ": correct it in the cluster config")
    text = f"a node has {real.gpus} GPUs, {real.cpus} CPUs, {real.memory_mb} MB; jobs of {_limit(longest)}"
    return Check(what=what, ok=True, text=text)


def _limit(minutes: int | None) -> str:
    return "any length" if minutes is None else f"at most {minutes} minutes"


def _charged(cluster: ClusterConfig) -> Iterator[Check]:
    accounts = {name for name in (cluster.account, *(one.account for one in cluster.partitions)) if name is not None}
    mine = site.accounts() if accounts else None
    yield from (_account(name, mine) for name in sorted(accounts))
    qualities = {name for name in (cluster.slurm.qos, *(one.qos for one in cluster.partitions)) if name is not None}
    there = site.qualities() if qualities else None
    for name in sorted(qualities):
        good = there is None or name in there
        text = f"'{name}'" if good else f"there is no '{name}'; there are {', '.join(there or ())}: correct `qos`"
        yield Check(what="qos", ok=good, text=text)


def _account(name: str, mine: Sequence[str] | None) -> Check:
    if mine and name not in mine:
        return Check(what="account", ok=False, text=f"'{name}' is none of yours; you have {', '.join(mine)}: correct `account`")
    if mine:
        return Check(what="account", ok=True, text=f"'{name}' is yours")
    why = "sacctmgr does not answer" if mine is None else "the site lists none for you"
    return Check(what="account", ok=True, text=f"'{name}'; {why}, so it is not checked")


def _array_size(cluster: ClusterConfig, settings: Mapping[str, str]) -> Check:
    limit, ours = settings.get("MaxArraySize", ""), cluster.slurm.array_size
    if not limit.isdigit():
        return Check(what="array size", ok=True, text=f"{ours}; the site does not say its limit")
    if int(limit) < 2:
        return Check(what="array size", ok=False, text="the site allows no arrays (MaxArraySize 0): ask the administrators")
    if ours + 1 > int(limit):
        return Check(what="array size", ok=False, text=f"{ours} is too many: write `slurm: {{array_size: {int(limit) - 1}}}`")
    return Check(what="array size", ok=True, text=f"{ours}, and the site allows {int(limit) - 1}")


def _requeue(settings: Mapping[str, str]) -> Check:
    if settings.get("JobRequeue") == "0":
        text = "the site restarts nothing unless a job asks for it, and ours ask (`--requeue`)"
        return Check(what="requeue", ok=True, text=text)
    return Check(what="requeue", ok=True, text="Slurm restarts jobs after preemption and lost nodes")


def _shared(cluster: ClusterConfig) -> Check:
    """Say whether nodes can see the run root, as far as this machine can tell."""
    root = cluster.run_root.absolute()
    kind = filesystem_of(root)
    private = next((place for place in _PRIVATE if root.is_relative_to(place)), None)
    if private is not None or kind in _IN_MEMORY:
        where = f"{private}, which every machine has for itself" if private is not None else f"a {kind}, which is this machine's memory"
        return Check(what="run root", ok=False, text=f"{root} is in {where}: set `run_root` to a folder that nodes see, or try --deep")
    if kind in _ONE_DISK:
        return Check(what="run root", ok=True, text=f"{root} ({kind}: a disk of this machine; --deep asks a node whether it sees it)")
    return Check(what="run root", ok=True, text=f"{root} ({kind or 'unknown kind of file system'})")


def filesystem_of(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """Return the kind of the file system that a path is on, or will be; empty where nothing tells."""
    place = os.path.realpath(path)
    try:
        lines = [line.split(" ") for line in mounts.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return ""
    best, kind = -1, ""
    for line in lines:
        point = line[1].replace("\\040", " ") if len(line) > 2 else ""
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if point and inside and len(point) >= best:
            best, kind = len(point), line[2]
    return kind
