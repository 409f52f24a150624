"""Submitting stand-in jobs to the test cluster, in this process or in one that can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.paths import RunPaths
from orchestrator.backends import base
from orchestrator.model import ClusterConfig, Partition, Plan, SlurmSite
from orchestrator.plans import read_plan, write_plan
from orchestrator.submit import Summary, submit
from tests.orchestrator.standin import bodies

ROOT = Path(__file__).resolve().parents[2]
NODE = Path(__file__).parent / "node"


def config(folder: Path, *, partition: str = "normal", **site: Any) -> ClusterConfig:
    """Return a cluster config whose nodes run the stand-in stage."""
    return ClusterConfig(
        name="here",
        backend="slurm",
        run_root=folder / "runs",
        made_root=folder / "made",
        partitions=(Partition(name=partition, gpus=2, cpus=4, memory_mb=8000, max_time_minutes=600),),
        setup=(f"export PYTHONPATH={NODE}:{ROOT}",),
        slurm=SlurmSite(**{"canary": 0, "signal_lead": 30, **site}),
    )


def hand_over(plan: Plan, cluster: ClusterConfig, **how: Any) -> Summary:
    """Submit a plan in this process; `wait=True` follows it to its end. SLURM_CONF must be in the environment."""
    return submit(plan, RunPaths(cluster.run_root), cluster, base.load(cluster), machine={}, **how)


def in_process(plan: Plan, cluster: ClusterConfig, before: str = "", env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a process of its own that submits a plan; `before` is Python that it runs first (to patch, to arrange its own death)."""
    file = cluster.run_root.parent / "handed.json"
    write_plan(file, plan)
    code = (
        "from pathlib import Path\n"
        "from tests.slurm import client\n"
        "from orchestrator.plans import read_plan\n"
        f"folder = Path({str(cluster.run_root.parent)!r})\n"
        f"{before}\n"
        f"client.hand_over(read_plan(folder / 'handed.json'), client.config(folder), wait=False)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=dict(env or os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ran(plan: Plan, cluster: ClusterConfig) -> dict[str, list[int]]:
    """Return the attempts whose body ran, by trial."""
    run = RunPaths(cluster.run_root)
    return {job.trial: [attempt for attempt, _ in bodies(run.job(job.job_id).folder)] for job in plan.jobs}


__all__ = ["NODE", "ROOT", "config", "hand_over", "in_process", "ran", "read_plan"]
