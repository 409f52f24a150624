"""A client in a process of its own, to be interrupted and killed: `python -m tests.orchestrator.client BACKEND ROOT NAME SECONDS COUNT`.

The name `search` stands for the plan of `searched`, whatever the count.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from jobs.paths import RunPaths
from orchestrator.backends import base
from orchestrator.backends.base import Notice
from orchestrator.model import ClusterConfig, Plan
from orchestrator.submit import Summary, submit
from tests.orchestrator import standin

ROOT = Path(__file__).parents[2]


def cluster(root: Path, backend: str, *, cpus: int = 2) -> ClusterConfig:
    """Return a cluster config over a run root."""
    return ClusterConfig(name="test", backend=backend, run_root=root, made_root=root / "made", cpus=cpus, gpus=0)


def chains(name: str, seconds: float, count: int) -> Plan:
    """Return a plan of independent chains train -> pick -> evaluate."""
    return standin.plan(*(job for n in range(count) for job in standin.chain(f"{name}{n}", seconds=seconds)))


def searched(seconds: float) -> Plan:
    """Return a plan of one search: two good jobs, one three times as long as the other, and bad ones ten times as long as that.

    The good ones are alike until the last epoch, where the longer one wins, so that neither is ever behind.
    """
    curves = [[0.9] * 12, [*[0.9] * 23, 0.95], *([0.1 * n] * 60 for n in (1, 2, 3))]
    return standin.plan(*standin.search("search", curves, seconds=(seconds / 3, seconds, *[10 * seconds] * 3)))


def run_here(plan: Plan, root: Path, backend: str = "inline", **how: object) -> Summary:
    """Submit a plan in this process."""
    config = cluster(root, backend)
    return submit(plan, RunPaths(root), config, base.load(config), machine={}, runner=standin.RUNNER, **how)  # pyright: ignore[reportArgumentType]


def start(root: Path, backend: str, *, name: str = "c", seconds: float = 0.0, count: int = 3) -> subprocess.Popen[str]:
    """Start a client in a session of its own, as a terminal would."""
    command = [sys.executable, "-m", "tests.orchestrator.client", backend, str(root), name, str(seconds), str(count)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def press_ctrl_c(process: subprocess.Popen[str]) -> None:
    """Send SIGINT to the whole foreground group, as a terminal does."""
    os.killpg(process.pid, signal.SIGINT)


def wait_until(happened: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Wait for something; fail with its name when it does not come."""
    until = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > until:
            raise AssertionError(f"waited {seconds:.0f} s in vain for: {what}")
        time.sleep(0.02)


def main(arguments: list[str]) -> int:
    """Submit chains and print each notice and the summary as lines of JSON."""
    backend, root, name, seconds, count = arguments

    def tell(notice: Notice) -> None:
        sys.stdout.write(json.dumps({"kind": notice.kind, "job": notice.job_id, "state": notice.state, "message": notice.message}) + "\n")
        sys.stdout.flush()

    plan = searched(float(seconds)) if name == "search" else chains(name, float(seconds), int(count))
    summary = run_here(plan, Path(root), backend, notify=tell)
    counts = {str(state): number for state, number in summary.counts.items()}
    sys.stdout.write(json.dumps({"counts": counts, "halted": summary.halted, "submitted": summary.submitted}) + "\n")
    return summary.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
