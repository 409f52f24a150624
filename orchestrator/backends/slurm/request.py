"""What sbatch is asked for: a partition that fits, GPUs as the site wants them asked for, and the options of a script. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from jobs.spec import Json, Resources
from orchestrator.backends.base import Queued
from orchestrator.errors import BackendError
from orchestrator.model import ClusterConfig, Partition

#: Seconds from which on a job hears a signal: Slurm looks every 30 whether one is due, and sends it early. Python has to be up by then.
_STARTING = 60
_SHORTEST_LEAD = 10
#: What people see in `squeue` beside the name.
_COMMENT_LENGTH = 120
#: As many elements at once as there are; submitit's own default would hold all but 256 of them back.
_ALL_AT_ONCE = 4_000_000
#: What a submission is found again by, written to, and waits by: another value of these would break the protocol.
_RESERVED = {"array", "dependency", "error", "job-name", "kill-on-invalid-dep", "no-requeue", "open-mode", "output", "requeue", "signal"}
_RESERVED |= {"comment", "ignore-pbs", "parsable", "quiet", "test-only", "wait", "wrap"}
#: Options that have a key of their own, and where it stands.
_KEYED: Mapping[str, str] = {
    "account": "`account:`",
    "constraint": "`slurm: {constraint: ...}`",
    "cpus-per-task": "`resources: {cpus: ...}` of the phase",
    "exclude": "`slurm: {exclude: [...]}`",
    "gpus-per-node": "`resources: {gpus: ...}` of the phase",
    "gres": "`slurm: {gres: ...}`",
    "mem": "`resources: {memory: ...}` of the phase",
    "nodes": "`resources: {nodes: ...}` of the phase",
    "ntasks-per-node": "`resources: {gpus: ...}` of the phase",
    "partition": "`partitions:`",
    "qos": "`slurm: {qos: ...}`",
    "time": "`resources: {time: ...}` of the phase",
}
#: What a path of a script must not hold, and who else reads it there.
_SPECIAL = {"%": "Slurm's names of output files", ":": "the search path of Python"}
#: What separates the bind mounts of a container.
_BINDS = ",:"


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


def within_limits(asked: Resources, cluster: ClusterConfig) -> Resources:
    """Return what is asked for with no more time than the nodes that fit otherwise give: what runs longer saves, and goes on.

    The jobs of one allocation each fit; their times together may not.
    """
    if not cluster.partitions or any(not _lacks(asked, one) for one in cluster.partitions):
        return asked
    brief = replace(asked, time_minutes=0)
    limits = [one.max_time_minutes for one in cluster.partitions if not _lacks(brief, one)]
    longest = max((limit for limit in limits if limit is not None), default=None)
    return asked if longest is None else replace(asked, time_minutes=min(asked.time_minutes, longest))


def within_reach(job: Queued, cluster: ClusterConfig) -> Queued:
    """Return a job whose wish a failure has raised, cut back to the most that a partition has which could hold it as planned."""
    planned, asked = job.planned, job.resources
    if planned is None or any(not _lacks(packed(asked, asked.pack), one) for one in cluster.partitions):
        return job
    most = [
        replace(
            asked,
            memory_mb=min(asked.memory_mb, one.memory_mb // planned.pack),
            time_minutes=min(asked.time_minutes, asked.time_minutes if one.max_time_minutes is None else one.max_time_minutes),
        )
        for one in cluster.partitions
        if not _lacks(packed(planned, planned.pack), one)
    ]
    if not most:
        return job
    cut = max(most, key=lambda one: (one.memory_mb, one.time_minutes))
    return replace(job, resources=cut, spec=replace(job.spec, resources=cut))


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


def signal_lead(asked: Resources, cluster: ClusterConfig) -> int:
    """Return how many seconds before its limit a job is asked to save: what the config says, but never while it is still starting."""
    return max(_SHORTEST_LEAD, min(cluster.slurm.signal_lead, 60 * asked.time_minutes - _STARTING))


def options_of(
    asked: Resources, about: str, cluster: ClusterConfig, *, parallel: int | None = None, leaves_out: Sequence[str] = ()
) -> dict[str, Json]:
    """Return the parameters of submitit's Slurm executor for one array that also leaves some nodes out.

    Raises BackendError when no partition fits.
    """
    site, partition = cluster.slurm, partition_for(asked, cluster)
    processes = max(1, asked.gpus)
    options: dict[str, Json] = {
        "time": asked.time_minutes,
        "nodes": asked.nodes,
        "ntasks_per_node": processes,
        "cpus_per_task": max(1, asked.cpus // processes),
        "mem": f"{asked.memory_mb}MB",
        "signal_delay_s": signal_lead(asked, cluster),
        "comment": "".join(letter if _fits_a_line(letter) else " " for letter in about)[:_COMMENT_LENGTH],
        "stderr_to_stdout": True,
        "partition": partition.name if partition else None,
        "account": (partition and partition.account) or cluster.account,
        "qos": (partition and partition.qos) or site.qos,
        "constraint": (partition and partition.constraint) or site.constraint,
        "exclude": ",".join(dict.fromkeys([*site.exclude, *leaves_out])) or None,
    }
    # `true` stands for an option that takes no value.
    extra: dict[str, Json] = {"requeue": True, "kill-on-invalid-dep": "yes"}
    extra |= {name: True if value == "true" else value for name, value in site.extra.items()}
    if asked.gpus and site.gres:
        options["gres"] = f"{site.gres}:{asked.gpus}"
    elif asked.gpus:
        options["gpus_per_node"] = asked.gpus
    options["array_parallelism"] = _ALL_AT_ONCE if parallel is None else parallel
    given = {key: value for key, value in options.items() if value is not None}
    # submitit names a wckey of its own, which sites that check them refuse.
    return given | {"wckey": None, "additional_parameters": extra}


def refuse_impossible(jobs: Sequence[Queued], cluster: ClusterConfig) -> None:
    """Raise BackendError for what no script can say, and for the first job that no partition holds or that asks for what is not shared."""
    refuse_unwritable(cluster)
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


def refuse_unwritable(cluster: ClusterConfig) -> None:
    """Raise BackendError for a value of the cluster config that a script cannot hold, or that would break what is found by it.

    A line of options ends with the line, whatever quotes stand in it: what followed would be run. And sbatch takes a backslash for an
    escape even between quotes.
    """
    for key, text in _texts(cluster):
        if not _fits_a_line(text):
            raise BackendError(
                f"cluster '{cluster.name}': {key}: {text!r} cannot stand in a line of options; leave line breaks and backslashes out"
            )
    for letter, where in _SPECIAL.items():
        if letter in str(cluster.run_root):
            raise BackendError(
                f"cluster '{cluster.name}': run_root: '{letter}' in {cluster.run_root} means something in {where}; choose another folder"
            )
    for key, path in _bound(cluster) if cluster.container else ():
        if any(letter in str(path) for letter in _BINDS):
            raise BackendError(f"cluster '{cluster.name}': {key}: {path} cannot be bound into a container; use a path without ',' and ':'")
    for name in cluster.slurm.extra:
        if name in _RESERVED:
            raise BackendError(f"cluster '{cluster.name}': slurm: extra: '{name}' is set for every submission; leave it out")
        if name in _KEYED:
            raise BackendError(
                f"cluster '{cluster.name}': slurm: extra: '{name}' has a place of its own: {_KEYED[name]}; leave it out here"
            )


def _fits_a_line(text: str) -> bool:
    return text.isprintable() and "\\" not in text


def _texts(cluster: ClusterConfig) -> Iterator[tuple[str, str]]:
    """Yield every text and path that stands in a line of options, with its key."""
    site = cluster.slurm
    yield "run_root", str(cluster.run_root)
    yield "account", cluster.account or ""
    for one in cluster.partitions:
        words = {"account": one.account, "qos": one.qos, "constraint": one.constraint}
        yield "partitions", one.name
        yield from ((f"partitions: {one.name}: {key}", word or "") for key, word in words.items())
    yield from (("slurm: qos", site.qos or ""), ("slurm: constraint", site.constraint or ""), ("slurm: gres", site.gres or ""))
    yield from (("slurm: exclude", node) for node in site.exclude)
    yield from ((f"slurm: extra: {name}", value) for name, value in site.extra.items())


def _bound(cluster: ClusterConfig) -> Iterator[tuple[str, Path]]:
    """Yield what a job in a container must see of this machine, with its key."""
    yield from (("run_root", cluster.run_root), ("made_root", cluster.made_root))
    if cluster.data_root is not None:
        yield "data_root", cluster.data_root
    yield from ((f"data: {name}", path) for name, path in cluster.data.items())
    yield from ((f"weights: {name}", path) for name, path in cluster.weights.items())


def python_command(cluster: ClusterConfig, executable: str) -> str:
    """Return the shell command that starts Python on a node: the site's own, else this Python, in the container where there is one."""
    inner = cluster.slurm.python or shlex.quote(executable)
    if cluster.container is None:
        return inner
    binds = ",".join(dict.fromkeys(str(path) for _, path in _bound(cluster)))
    return shlex.join(["apptainer", "exec", "--nv", "--bind", binds, cluster.container]) + f" {cluster.slurm.python or 'python3'}"


def setup_lines(cluster: ClusterConfig, code: Path) -> list[str]:
    """Return the shell lines before the command: the site's own, then where the submitted code is, before whatever else is found."""
    return [
        *cluster.setup,
        f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}",
        # `python -m` looks in the folder that it is started in before all else, and that is where sbatch was called.
        "export PYTHONSAFEPATH=1",
        "export PYTHONUNBUFFERED=1",
    ]
