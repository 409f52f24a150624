"""A small job that goes on with what Slurm itself does not do again, while everybody is away.

It follows a sweep as `submit --wait` does, on one CPU: what did not fit into the queue, what was killed or lost, and what ran out of memory
or time with more of it. One a sweep; it ends when nothing is left to do, and queues again at its own time limit.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from jobs.paths import RunPaths, write_atomically
from jobs.records import read_record
from jobs.spec import FailureKind, Resources
from orchestrator import stop_file
from orchestrator.backends import base
from orchestrator.backends.slurm import commands, last
from orchestrator.backends.slurm.request import options_of, setup_lines, within_limits
from orchestrator.decide import Request
from orchestrator.exit_codes import EXIT_DONE
from orchestrator.model import ClusterConfig
from orchestrator.plans import read_plan
from orchestrator.submit import submit

#: Set in the keeper's own process: it needs no keeper.
KEPT = "ORCHESTRATE_KEEPER"
#: What it asks for: a process that mostly sleeps.
ASKS = Resources(cpus=1, memory_mb=2048, time_minutes=24 * 60)
#: What it runs again, with more of what ran out.
AGAIN = frozenset({FailureKind.HOST_OOM, FailureKind.TIMEOUT})
TICK = 0.5


class Keeper:
    """Follow one sweep from a node."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._child: subprocess.Popen[bytes] | None = None

    def __getstate__(self) -> dict[str, str]:
        return {"file": self._file}

    def __setstate__(self, state: Mapping[str, str]) -> None:
        self.__init__(state["file"])

    def __call__(self) -> None:
        """Follow the sweep to its end in a child process. Raises SystemExit with its exit code where that is not 0."""
        signal.signal(signal.SIGTERM, self._on_term)
        self._child = subprocess.Popen([sys.executable, "-m", __name__, self._file], stdin=subprocess.DEVNULL)
        while self._child.poll() is None:
            time.sleep(TICK)
        if self._child.returncode:
            raise SystemExit(self._child.returncode)

    def _on_term(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()

    def checkpoint(self, *args: Any, **kwargs: Any) -> Any:
        """End the child, which has nothing to save, and return what runs after the requeue."""
        from submitit.core.utils import DelayedSubmission

        del args, kwargs
        self._on_term(signal.SIGTERM, None)
        return DelayedSubmission(Keeper(self._file))


def ensure(run: RunPaths, sweep: str, cluster: ClusterConfig, code: Path) -> str:
    """Submit a keeper for a sweep unless one is queued or runs. Returns its number; empty when there was nothing to submit.

    Raises BackendError when Slurm does not answer or refuses.
    """
    from submitit.core.utils import FailedJobError
    from submitit.slurm.slurm import SlurmExecutor

    name = f"orch-keep-{sweep}"
    if os.environ.get(KEPT) or commands.run("squeue", "--me", "--noheader", f"--name={name}", "--format=%A").strip():
        return ""
    folder = run.root / "keepers" / sweep
    file = folder / "cluster.pickle"
    write_atomically(file, pickle.dumps(cluster))
    options = options_of(within_limits(ASKS, cluster), f"{sweep} keeper", cluster)
    executor = SlurmExecutor(folder=folder, max_num_timeout=1_000_000)
    executor.update_parameters(**options, job_name=name, setup=setup_lines(cluster, code))
    try:
        with commands.without_job():
            return str(executor.submit(Keeper(str(file))).job_id)
    except FailedJobError as error:
        raise commands.refusal(["sbatch"], str(error)) from None


def main(arguments: list[str]) -> int:
    """Follow a sweep until nothing of it is left to do; a plan that was submitted meanwhile is followed too. Returns the exit code."""
    file = Path(arguments[0])
    os.environ[KEPT] = "1"
    # Written by whoever submitted, into the run root, as the pickles of submitit are.
    cluster: ClusterConfig = pickle.loads(file.read_bytes())
    run, sweep = RunPaths(cluster.run_root), file.parent.name
    while True:
        before = run.sweep(sweep).plan.read_bytes()
        why = stop_file.reason(run, sweep)
        if why:
            sys.stderr.write(f"the sweep was stopped: {why}; a person has to resume it\n")
            break
        request = Request(resume=True, failures=AGAIN, by_person=False)
        done = submit(read_plan(run.sweep(sweep).plan), run, cluster, base.load(cluster), machine=read_record(run.machine), request=request)
        if done.halted:
            return EXIT_DONE
        if run.sweep(sweep).plan.read_bytes() == before:
            break
    if cluster.notify is not None and cluster.notify.nodes:
        last.tell(sweep, cluster)
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
