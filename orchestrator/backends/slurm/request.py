"""What sbatch is asked for: a partition that fits, GPUs as the site wants them asked for, and the options of a script. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from jobs.spec import Json, Resources
from orchestrator.backends.base import Queued
from orchestrator.errors import BackendError
from orchestrator.model import ClusterConfig, Partition

#: What people see in `squeue` beside the name.
_COMMENT_LENGTH = 120


def partition_for(asked: Resources, cluster: ClusterConfig) -> Partition | None:
    """Return the first partition whose nodes have enough, one without GPUs first where none are asked for; None when the site has no list.

    Raises BackendError naming each partition and what it lacks.
    """
    if not cluster.partitions:
        return None
    fitting = [one for one in cluster.partitions if not _lacks(asked, one)]
    if not fitting:
        lacking = "; ".join(f"'{one.name}' has {', '.join(_lacks(asked, one))}" for one in cluster.partitions)
        raise BackendError(f"cluster '{cluster.name}': no partition fits {_words(asked)}: {lacking}; lower `resources:` of the phase")
    return min(fitting, key=lambda one: one.gpus > 0 and asked.gpus == 0)


def _lacks(asked: Resources, partition: Partition) -> list[str]:
    longest = partition.max_time_minutes
    return [
        f"{there} {what} a node"
        for what, wanted, there in (
            ("gpus", asked.gpus, partition.gpus),
            ("cpus", asked.cpus, partition.cpus),
            ("MB", asked.memory_mb, partition.memory_mb),
        )
        if wanted > there
    ] + ([f"at most {longest} minutes"] if longest is not None and asked.time_minutes > longest else [])


def _words(asked: Resources) -> str:
    return f"gpus: {asked.gpus}, cpus: {asked.cpus}, memory: {asked.memory_mb}M, time: {asked.time_minutes}m on {asked.nodes} node(s)"


def packed(asked: Resources, lanes: int) -> Resources:
    """Return what so many jobs side by side ask for: the GPUs once, CPUs and memory for each."""
    if lanes == 1:
        return asked
    return Resources(
        gpus=asked.gpus,
        cpus=asked.cpus * lanes,
        memory_mb=asked.memory_mb * lanes,
        time_minutes=asked.time_minutes,
        nodes=asked.nodes,
        pack=asked.pack,
    )


def options_of(asked: Resources, about: str, cluster: ClusterConfig, *, parallel: int | None = None) -> dict[str, Json]:
    """Return the parameters of submitit's Slurm executor for one array. Raises BackendError when no partition fits."""
    site, partition = cluster.slurm, partition_for(asked, cluster)
    processes = max(1, asked.gpus)
    options: dict[str, Json] = {
        "time": asked.time_minutes,
        "nodes": asked.nodes,
        "ntasks_per_node": processes,
        "cpus_per_task": max(1, asked.cpus // processes),
        "mem": f"{asked.memory_mb}MB",
        "signal_delay_s": site.signal_lead,
        "comment": "".join(letter if letter.isprintable() else " " for letter in about)[:_COMMENT_LENGTH],
        "stderr_to_stdout": True,
        "partition": partition.name if partition else None,
        "account": cluster.account,
        "qos": site.qos,
        "constraint": site.constraint,
        "exclude": ",".join(site.exclude) or None,
    }
    extra: dict[str, Json] = {"requeue": True, "kill-on-invalid-dep": "yes", **site.extra}
    if asked.gpus and site.gres:
        options["gres"] = f"{site.gres}:{asked.gpus}"
    elif asked.gpus:
        options["gpus_per_node"] = asked.gpus
    if parallel is not None:
        options["array_parallelism"] = parallel
    given = {key: value for key, value in options.items() if value is not None}
    # submitit names a wckey of its own, which sites that check them refuse.
    return given | {"wckey": None, "additional_parameters": extra}


def refuse_impossible(jobs: Sequence[Queued], cluster: ClusterConfig) -> None:
    """Raise BackendError for the first job that no partition of the site can hold, or that asks for what cannot be shared."""
    for job in jobs:
        asked = job.resources
        if asked.pack > 1 and (asked.nodes > 1 or asked.gpus > 1):
            raise BackendError(
                f"{job.spec.sweep}: phase '{job.spec.phase}' packs {asked.pack} jobs that each run on several GPUs; "
                "leave `pack` out, or ask for one GPU and one node"
            )
        try:
            partition_for(packed(asked, asked.pack), cluster)
        except BackendError as error:
            raise BackendError(f"{job.spec.sweep}: phase '{job.spec.phase}': {error}") from None


def python_command(cluster: ClusterConfig, executable: str, places: Sequence[Path]) -> str:
    """Return the shell command that starts Python on a node: the site's own, else this Python, in the container where there is one."""
    inner = cluster.slurm.python or shlex.quote(executable)
    if cluster.container is None:
        return inner
    binds = ",".join(str(place) for place in dict.fromkeys(places))
    return shlex.join(["apptainer", "exec", "--nv", "--bind", binds, cluster.container]) + f" {cluster.slurm.python or 'python3'}"


def setup_lines(cluster: ClusterConfig, code: Path) -> list[str]:
    """Return the shell lines before the command: the site's own, then where the submitted code is, before whatever else is found."""
    return [*cluster.setup, f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}", "export PYTHONUNBUFFERED=1"]
