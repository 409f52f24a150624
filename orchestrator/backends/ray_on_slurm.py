"""One Slurm allocation of several nodes that becomes a Ray cluster: the whole plan as one Tune experiment in it, and then it is given back.

For studies of many short jobs, which would each wait in the queue otherwise. The allocation runs on when the client has gone. What it does
not finish before its time limit is saved, and the allocation queues again by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from jobs.paths import RunPaths
from jobs.spec import Resources
from orchestrator import intents
from orchestrator.backends import base
from orchestrator.backends.base import Capabilities, Notice, Part, Queued, Session, Submission
from orchestrator.backends.slurm import launch, snapshot
from orchestrator.backends.slurm.poll import poll
from orchestrator.backends.slurm.request import options_of, refuse_unwritable
from orchestrator.backends.slurm.scripts import script
from orchestrator.errors import BackendError
from orchestrator.intents import Held, Intent
from orchestrator.model import ClusterConfig, Partition
from orchestrator.sightings import Sighting


def make(cluster: ClusterConfig) -> RayOnSlurm:
    """Make the backend for a cluster config."""
    return RayOnSlurm(cluster)


class RayOnSlurm:
    """A Ray cluster in one allocation."""

    name = "ray_on_slurm"
    capabilities = Capabilities(detaches=True, parallel=True, searches=True, needs_shared_fs=True, scheduler="slurm")

    def __init__(self, cluster: ClusterConfig) -> None:
        self._cluster = cluster
        self._run = RunPaths(cluster.run_root)

    def render(self, sweep: str, jobs: Sequence[Queued]) -> Submission:
        """Ask for the nodes, and say what runs in them. Raises BackendError without a partition, or for a job that no node can hold."""
        ask, node = self._cluster.allocation, _partition_of(self._cluster)
        refuse_unwritable(self._cluster)
        base.refuse_oversized(jobs, cpus=node.cpus, gpus=node.gpus, cluster=self._cluster.name)
        if not jobs:
            return Submission(backend=self.name, sweep=sweep, jobs=(), text="")
        wanted = Resources(gpus=node.gpus, cpus=node.cpus, memory_mb=node.memory_mb, time_minutes=ask.time_minutes, nodes=ask.nodes)
        leaves_out = sorted({name for job in jobs for name in job.leaves_out})
        options = options_of(wanted, f"{sweep} ray", replace(self._cluster, partitions=(node,)), leaves_out=leaves_out)
        # One task a node starts that node's Ray, which hands out the CPUs and GPUs itself.
        options |= {"ntasks_per_node": 1, "cpus_per_task": node.cpus}
        code = snapshot.code_folder(self._run, self._cluster)
        terms = {
            "signal_lead": self._cluster.slurm.signal_lead,
            "gpus": node.gpus * ask.nodes,
            "memory_mb": node.memory_mb,
            "minutes": ask.time_minutes,
            "node_cpus": node.cpus,
            "node_gpus": node.gpus,
            "code": code.name,
            "leaves_out": leaves_out,
        }
        part = Part(elements=((tuple(job.spec.job_id for job in jobs),),), options=options, terms=terms)
        where = f"as one Ray Tune experiment on {ask.nodes} x ({node.cpus} cpus, {node.gpus} gpus) of Slurm"
        text = base.listing(sweep, jobs, where) + "\n" + script(self._run, self._cluster, part, (), code)
        return Submission(backend=self.name, sweep=sweep, jobs=tuple(jobs), text=text, parts=(part,))

    def submit(self, submission: Submission, session: Session) -> frozenset[str]:
        """Hand the allocation over to sbatch; gives up on nothing. Raises BackendError when sbatch refuses."""
        with intents.beating(session.run, [session.intent.sid]):
            code = snapshot.take(session.run, self._cluster, name=str(submission.parts[0].terms["code"]))
            sent = launch.send(session.run, session.intent, submission.parts[0], (), self._cluster, code)
        if sent is not None and sent.native is not None:
            session.notify(Notice(kind="note", message=f"{sent.native['id']}: a Ray cluster for {len(submission.jobs)} jobs"))
        return frozenset()

    def poll(self, run: RunPaths, found: Sequence[Intent]) -> Mapping[str, Sighting] | None:
        """Ask the queue and the records where the allocations stand; None when they do not answer."""
        return poll(run, [one for one in found if one.backend == self.name], accounting=self._cluster.slurm.accounting)

    def recover(self, run: RunPaths, found: Sequence[Held]) -> None:
        """Adopt allocations whose client died before it noted their number."""
        launch.recover(run, [held for held in found if held.intent.backend == self.name], self._cluster)

    def cancel(self, run: RunPaths, intent: Intent, jobs: Sequence[str]) -> None:
        """Ask the experiment in the allocation to cancel jobs; it ends by itself when nothing is left."""
        intents.ask_to_cancel(run, intent.sid, jobs)


def _partition_of(cluster: ClusterConfig) -> Partition:
    wanted = cluster.allocation.partition
    for one in cluster.partitions:
        if wanted in (None, one.name):
            return one
    known = ", ".join(one.name for one in cluster.partitions) or "none"
    raise BackendError(
        f"cluster '{cluster.name}': ray_on_slurm takes whole nodes of a partition"
        + (f" '{wanted}'" if wanted else "")
        + f", and `partitions:` has {known}; write `partitions: {{NAME: {{cpus: ..., memory: ..., gpus: ...}}}}`"
    )
