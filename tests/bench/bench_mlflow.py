"""How fast a sweep is mirrored into MLflow, beside logging the same runs call by call, and a sync that finds nothing new."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from jobs.paths import RunPaths
from jobs.spec import JobSpec, Stage
from orchestrator import tracking
from orchestrator.mirror.trials import trial_entries
from orchestrator.model import Plan
from tests.bench.rows import Row
from tests.orchestrator.mirror.played import SWEEP, Player, plan_of

RUNS = 300
#: 40 metric keys a run: `train/loss`, `train/lr`, `val/auroc_macro`, `val/loss` and one for each of these.
FINDINGS = tuple(f"finding_{index:02d}" for index in range(36))
#: Runs that are logged call by call: they take long enough.
BESIDE = 8


def measure() -> list[Row]:
    """Play a sweep of many draws, mirror it, mirror it again, and log some of its runs as a training script would."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan, run, trains = _played(folder)
        started = time.perf_counter()
        tracking.prepare(run, tracking.experiment_name(plan))
        prepared = time.perf_counter()
        first = tracking.sync(plan, run)
        synced = time.perf_counter()
        again = tracking.sync(plan, run)
        ended = time.perf_counter()
        if (first.created, again.created + again.updated + again.metrics) != (len(trains), 0):
            raise AssertionError(f"the mirror is not what was played: {first}, {again}")
        ours = first.created / (synced - prepared)
        theirs = BESIDE / _logged_by_hand(plan, run, folder / "by_hand.db")
        size = (run.mlflow / "mlflow.db").stat().st_size / 1e6
    return [
        Row(what="database made, once (import of mlflow and migrations)", ours=f"{prepared - started:.1f} s"),
        Row(
            what=f"{first.created} runs of 40 metrics and 35 params, {first.metrics:,} points, mirrored",
            ours=f"{ours:.0f} runs/s",
            beside=f"{theirs:.1f} runs/s with one `log_metric` a point",
            against=f"{ours / theirs:.0f} times; aim 30 runs/s",
            note=f"{synced - prepared:.1f} s, database {size:.0f} MB",
        ),
        Row(what="the same again, nothing new", ours=f"{ended - synced:.2f} s", note=f"{first.created / (ended - synced):.0f} runs/s"),
    ]


def _played(folder: Path) -> tuple[Plan, RunPaths, list[JobSpec]]:
    plan = plan_of(folder, SWEEP.replace("fraction: [0.1, 1.0], repeats: [2, 1]", f"fraction: [0.1], repeats: [{RUNS}]"))
    run = RunPaths(folder / "run")
    trains = [job for job in plan.jobs if job.labels.get("after") == "none" and job.stage is Stage.TRAIN]
    Player(run=run, epochs=3, findings=FINDINGS).play(trains)
    return plan, run, trains


def _logged_by_hand(plan: Plan, run: RunPaths, database: Path) -> float:
    """Return the seconds that some runs take when each param and each point is logged by a call of its own, with MLflow's defaults."""
    from mlflow import MlflowClient
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    event.remove(Engine, "connect", tracking._without_waiting)
    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    experiment = client.create_experiment("by hand", artifact_location=(database.parent / "by_hand").as_uri())
    entries = list(trial_entries(plan, run))[:BESIDE]
    started = time.perf_counter()
    for entry in entries:
        identity = client.create_run(experiment, run_name=entry.name, tags=dict(entry.tags)).info.run_id
        for key, value in entry.params.items():
            client.log_param(identity, key, value)
        for point in entry.points:
            client.log_metric(identity, point.key, point.value, timestamp=point.time, step=point.step)
        client.set_terminated(identity)
    return time.perf_counter() - started
