"""Scripts for sbatch, as submitit writes them: the same text is submitted and shown by `--dry-run`. submitit is imported here when used."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.paths import RunPaths
from orchestrator import intents
from orchestrator.backends.base import Need, Part
from orchestrator.backends.slurm.request import python_command, setup_lines
from orchestrator.model import ClusterConfig

#: Stands for a submission that has no number yet.
NO_NUMBER = "0" * 12


def executor(run: RunPaths, sid: str, cluster: ClusterConfig, part: Part, natives: Sequence[str], code: Path) -> Any:
    """Make submitit's executor for one part: what it writes and reads lies in the submission's own folder."""
    from submitit.slurm.slurm import SlurmExecutor

    made = SlurmExecutor(
        folder=intents.folder(run, sid),
        # Attempts are counted by the ledger; submitit's own count would end a job that is asked to save often.
        max_num_timeout=1_000_000,
        python=python_command(cluster, sys.executable),
    )
    made.update_parameters(**parameters(sid, part, natives, cluster, code))
    return made


def script(run: RunPaths, cluster: ClusterConfig, part: Part, natives: Sequence[str], code: Path, sid: str = NO_NUMBER) -> str:
    """Return the script of one part."""
    import shlex

    from submitit.slurm.slurm import _make_sbatch_string

    folder = intents.folder(run, sid)
    command = f"{python_command(cluster, sys.executable)} -u -m submitit.core._submit {shlex.quote(str(folder))}"
    count: dict[str, Any] = {"map_count": len(part.elements)} if len(part.elements) > 1 else {}
    return _make_sbatch_string(command=command, folder=folder, **parameters(sid, part, natives, cluster, code), **count)


def parameters(sid: str, part: Part, natives: Sequence[str], cluster: ClusterConfig, code: Path) -> dict[str, Any]:
    """Return submitit's parameters of one part; `natives` are the scheduler's ids of the parts before it."""
    given: dict[str, Any] = dict(part.options)
    given["job_name"] = f"orch-{sid[:12]}"
    given["setup"] = setup_lines(cluster, code)
    # What sbatch was asked for is not what srun gives a process: since Slurm 22.05 that would be bound to a single CPU.
    given["srun_args"] = [f"--cpus-per-task={given['cpus_per_task']}"]
    if part.needs:
        given["dependency"] = dependency(part.needs, natives)
    return given


def dependency(needs: Sequence[Need], natives: Sequence[str]) -> str:
    """Return what sbatch's `--dependency` says: all of the needs, joined by kind."""
    by_kind: dict[str, list[str]] = {}
    for need in needs:
        native = need.native if need.part is None else natives[need.part]
        by_kind.setdefault(need.kind, []).append(native if need.index is None else f"{native}_{need.index}")
    return ",".join(":".join([kind, *waited]) for kind, waited in by_kind.items())
