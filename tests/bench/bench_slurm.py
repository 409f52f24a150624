"""What it costs to submit to Slurm: a real cluster on this machine, whose jobs are held so that they do not measure themselves.

Here: from the sweep's grid to the last sbatch, through the whole protocol (plan, intents, job files, code, arrays). Beside it, on the same
cluster and with the same submitit: one call a job, as its documentation shows it first, and Hydra's submitit launcher. Hydra is in an
environment of its own, made for this bench from `hydra.txt`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from jobs.catalog import Declaration
from jobs.spec import State
from orchestrator.expand import expand
from orchestrator.model import Plan
from tests.bench.bench_expand import Config, Digests, grid_of
from tests.bench.rows import Row
from tests.slurm import client
from tests.slurm.cluster import Cluster, running_cluster
from tests.slurm.configuration import Settings

HERE = Path(__file__).parent
CATALOG = {"bench": Declaration(name="bench", version=1, config=Config, package="bench", starts=("init",))}


def planned(points: int) -> tuple[Plan, float]:
    """Return a plan, and the seconds that it took."""
    started = time.perf_counter()
    plan = expand(grid_of(points), CATALOG, Digests())
    return plan, time.perf_counter() - started


def ours(points: int, cluster: Cluster) -> tuple[float, int]:
    """Return the seconds from the grid to the last sbatch, and the number of calls of sbatch."""
    with _folder() as folder:
        plan, seconds = planned(points)
        config = client.config(folder, canary=10, extra={"hold": "true"})
        started = time.perf_counter()
        summary = client.hand_over(plan, config, wait=False)
        seconds += time.perf_counter() - started
        if summary.counts != {State.SUBMITTED: len(plan.jobs)}:
            raise RuntimeError(f"not all were submitted: {summary.counts}")
        _count_and_cancel(cluster, len(plan.jobs))
        return seconds, len(list((config.run_root / "submissions").glob("*.json")))


def one_by_one(jobs: int, cluster: Cluster) -> float:
    """Return the seconds that submitit takes for so many jobs, one `submit` each."""
    import submitit

    with _folder() as folder:
        executor = submitit.SlurmExecutor(folder=folder)
        executor.update_parameters(partition="normal", time=60, mem="4096MB", additional_parameters={"hold": True})
        started = time.perf_counter()
        for number in range(jobs):
            executor.submit(pow, number, 2)
        seconds = time.perf_counter() - started
        _count_and_cancel(cluster, jobs)
        return seconds


def hydra(command: str, points: int, python: Path) -> float:
    """Return the seconds that Hydra takes to compose, or to launch, so many points."""
    with _folder() as folder:
        command_line = [str(python), str(HERE / "hydra_beside.py"), command, str(folder), str(points)]
        done = subprocess.run(command_line, capture_output=True, text=True, cwd=folder, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"hydra_beside.py {command}: {done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def measure(many: int = 10_000, some: int = 1_000, few: int = 40, composed: int = 300) -> list[Row]:
    """Submit many jobs, and fewer by other means; no job runs."""
    with _hydra() as python, _cluster() as cluster:
        seconds, arrays = ours(many, cluster)
        single = one_by_one(few, cluster) / few
        fewer, _ = ours(some, cluster)
        launched = hydra("launch", some, python)
        _count_and_cancel(cluster, some)
        each = hydra("compose", composed, python) / composed
    plan, expanded = planned(many)
    own = expanded / len(plan.jobs)
    return [
        Row(
            what=f"{many:,} jobs submitted",
            ours=f"{seconds:.1f} s, {arrays} calls of sbatch",
            beside=f"{single * many:,.0f} s (submitit one by one, {few} measured and the rest extrapolated)",
            against=f"{single * many / seconds:.0f} times faster; aim 15 s, 100 times",
            note="from the grid to the last sbatch",
        ),
        Row(
            what=f"{some:,} jobs submitted",
            ours=f"{fewer:.2f} s",
            beside=f"{launched:.1f} s (Hydra's submitit launcher, one array)",
            against=f"{launched / fewer:.0f} times faster; aim 20 times",
            note="both from their first line to the last sbatch",
        ),
        Row(
            what="one point expanded",
            ours=f"{own * 1e6:.0f} us",
            beside=f"{each * 1e3:.1f} ms (Hydra's composer)",
            against=f"{each / own:.0f} times faster; aim 1,000 times",
            note=f"{many:,} points here with their ids, {composed} beside",
        ),
    ]


def _count_and_cancel(cluster: Cluster, expected: int) -> None:
    """See that the queue holds so many jobs, and empty it."""
    queued = len(cluster.squeue())
    if queued != expected:
        raise RuntimeError(f"{queued} jobs are in the queue, and {expected} were submitted")
    cluster.clear()


@contextmanager
def _cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, running_cluster(Path(folder), Settings(max_job_count=20_000)) as cluster:
        before = dict(os.environ)
        os.environ.update(cluster.env)
        try:
            yield cluster
        finally:
            _put_back(before)


def _put_back(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


@contextmanager
def _hydra() -> Iterator[Path]:
    """Make an environment with Hydra, by what is pinned, and return its Python."""
    with _folder() as folder:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        python = folder / "bin" / "python"
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", str(HERE / "hydra.txt")]
        subprocess.run([str(python), *install], check=True, stderr=subprocess.DEVNULL)
        yield python


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        yield Path(folder)
