"""How fast a sweep is mirrored into MLflow, beside logging the same runs call by call, and a sync that finds nothing new."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from jobs.paths import RunPaths
from jobs.spec import Stage
from orchestrator import tracking, tracking_store
from orchestrator.mirror.trials import trial_entries
from orchestrator.model import Plan
from tests.bench.rows import Row
from tests.orchestrator.mirror.played import SWEEP, Player, plan_of, write_line

RUNS = 1000
#: 40 metric keys a run: `train/loss`, `train/lr`, `val/auroc_macro`, `val/loss` and one for each of these.
FINDINGS = tuple(f"finding_{index:02d}" for index in range(36))
#: Runs that are logged call by call: they take long enough.
BESIDE = 8
#: Runs of long curves, and the steps that are logged of each, with five values a step.
LONG_RUNS, STEPS = 4, 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Played:
    plan: Plan
    run: RunPaths
    trains: int


def measure() -> list[Row]:
    """Play a sweep of many draws, mirror it, mirror it again, log some of its runs as a training script would, and mirror long curves."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many, long = _played(folder / "many", RUNS), _long(folder / "long")
        started = time.perf_counter()
        tracking.prepare(many.run, tracking.experiment_name(many.plan))
        prepared = time.perf_counter() - started
        first, seconds, cpu = _synced(many)
        again, seconds_again, cpu_again = _synced(many)
        tracking.prepare(long.run, tracking.experiment_name(long.plan))
        curves, seconds_long, cpu_long = _synced(long)
        if (first.created, again.created + again.updated + again.metrics, curves.created) != (many.trains, 0, long.trains):
            raise AssertionError(f"the mirror is not what was played: {first}, {again}, {curves}")
        theirs = BESIDE / _logged_by_hand(many.plan, many.run, folder / "by_hand.db")
        size = (many.run.mlflow / "mlflow.db").stat().st_size / 1e6
    ours = first.created / seconds
    return [
        Row(what="database made, once (import of mlflow and migrations)", ours=f"{prepared:.1f} s"),
        Row(
            what=f"{first.created:,} chosen runs, 35 params, data sets and a model each, {first.metrics:,} values, mirrored",
            ours=f"{ours:.0f} runs/s",
            beside=f"{theirs:.1f} runs/s with one `log_metric` a point, without data sets and models",
            against=f"{ours / theirs:.0f} times; aim 30 runs/s",
            note=f"{seconds:.1f} s, of that {cpu:.1f} s CPU; database {size:.0f} MB",
        ),
        Row(
            what="the same again, nothing new",
            ours=f"{seconds_again:.2f} s",
            against="aim 2 s",
            note=f"{cpu_again:.2f} s CPU; {first.created / seconds_again:.0f} runs/s",
        ),
        Row(
            what=f"{curves.created} runs of long curves, {curves.metrics:,} values, mirrored",
            ours=f"{curves.metrics / seconds_long:,.0f} values/s",
            against="aim 10,000 values/s",
            note=f"{seconds_long:.1f} s, of that {cpu_long:.1f} s CPU",
        ),
    ]


def _synced(played: _Played) -> tuple[tracking.Synced, float, float]:
    """Sync once, and return the seconds and the CPU seconds that it took too."""
    started, used = time.perf_counter(), time.process_time()
    found = tracking.sync(played.plan, played.run)
    return found, time.perf_counter() - started, time.process_time() - used


def _played(folder: Path, runs: int) -> _Played:
    """Play draws of one arm, each with its pick and its evaluation."""
    plan = plan_of(folder, SWEEP.replace("fraction: [0.1, 1.0], repeats: [2, 1]", f"fraction: [0.1], repeats: [{runs}]"))
    run = RunPaths(folder / "run")
    jobs = [job for job in plan.jobs if job.labels.get("after") == "none"]
    Player(run=run, epochs=3, findings=FINDINGS).play(jobs)
    return _Played(plan=plan, run=run, trains=sum(job.stage is Stage.TRAIN for job in jobs))


def _long(folder: Path) -> _Played:
    """Play a few draws, and write long curves behind what each has logged."""
    played = _played(folder, LONG_RUNS)
    for job in played.plan.jobs:
        if job.labels.get("after") == "none" and job.stage is Stage.TRAIN:
            for step in range(100, 100 + STEPS):
                values = {"train/loss": 1 / step, "train/lr": 1e-3, "train/images_per_second": 300.0 + step % 7, "val/loss": 3 / step}
                write_line(played.run, job, 1, {**values, "val/auroc_macro": 1 - 3 / step}, step=step)
    return played


def _logged_by_hand(plan: Plan, run: RunPaths, database: Path) -> float:
    """Return the seconds that some runs take when each param and each point is logged by a call of its own, with MLflow's defaults."""
    from mlflow import MlflowClient
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    event.remove(Engine, "connect", tracking_store._without_waiting)
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
