"""The last job of a sweep: when all that is queued has ended it says so to people, as the cluster config has it, where nobody waits.

It holds nothing that is secret: the config names a variable or a file in which the webhook's address stands.
"""

from __future__ import annotations

import pickle
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from jobs.paths import RunPaths, write_atomically
from jobs.spec import Resources
from orchestrator import intents, scheduler
from orchestrator.backends.slurm import commands
from orchestrator.backends.slurm.request import options_of, setup_lines, within_limits
from orchestrator.ledger import states
from orchestrator.model import ClusterConfig
from orchestrator.notify.told import tell_end
from orchestrator.plans import read_plan

#: What it asks for: it is over in seconds.
ASKS = Resources(cpus=1, memory_mb=1024, time_minutes=10)


class Last:
    """Say how a sweep ended, from a node."""

    def __init__(self, file: str) -> None:
        self._file = file

    def __getstate__(self) -> dict[str, str]:
        return {"file": self._file}

    def __setstate__(self, state: Mapping[str, str]) -> None:
        self.__init__(state["file"])

    def __call__(self) -> None:
        """Tell, unless something of the sweep is queued again: that has a last job of its own. What goes wrong is a line of its log."""
        file = Path(self._file)
        # Written by whoever submitted, into the run root, as the pickles of submitit are.
        tell(file.parent.name, pickle.loads(file.read_bytes()))


def tell(sweep: str, cluster: ClusterConfig) -> None:
    """Say how a sweep stands, unless something of it is on its way."""
    run = RunPaths(cluster.run_root)
    plan = read_plan(run.sweep(sweep).plan)
    asked = scheduler.ask(run, cluster)
    known = states(run, [job.job_id for job in plan.jobs], polled=asked.sightings)
    if any(status.is_live for status in known.values()):
        return
    keeper = scheduler.of(cluster)
    over = keeper.over_budget(run, sweep) if keeper is not None else ""
    for problem in tell_end(run, cluster, plan, known, over_budget=over):
        sys.stderr.write(f"nobody was told from {socket.gethostname()}: {problem}\n")


def submit(run: RunPaths, sweep: str, cluster: ClusterConfig, code: Path) -> str:
    """Queue a last job behind everything of a sweep that is queued, in place of an earlier one. Returns its number; empty without any.

    Raises BackendError when Slurm does not answer or refuses.
    """
    from submitit.core.utils import FailedJobError
    from submitit.slurm.slurm import SlurmExecutor

    natives = [str(held.intent.native["id"]) for held in intents.open_intents(run) if held.intent.sweep == sweep and held.intent.native]
    if not natives:
        return ""
    name = f"orch-tell-{sweep}"
    earlier = commands.run("squeue", "--me", "--noheader", "--states=PENDING", f"--name={name}", "--format=%A").split()
    folder = run.root / "last" / sweep
    file = folder / "cluster.pickle"
    write_atomically(file, pickle.dumps(cluster))
    options = options_of(within_limits(ASKS, cluster), f"{sweep} last", cluster)
    executor = SlurmExecutor(folder=folder, max_num_timeout=1_000_000)
    after = "afterany:" + ":".join(dict.fromkeys(natives))
    executor.update_parameters(**options, dependency=after, job_name=name, setup=setup_lines(cluster, code))
    try:
        with commands.without_job():
            number = str(executor.submit(Last(str(file))).job_id)
    except FailedJobError as error:
        raise commands.refusal(["sbatch"], str(error)) from None
    if earlier:
        commands.run("scancel", *earlier)
    return number
