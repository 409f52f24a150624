"""Mirror files into MLflow, one way and idempotent. The only import of mlflow.

Experiment = sweep; one run per train job (a trial), flat, with every grouping key on the run itself. The run of a winner also carries
its pick and its test metrics. One more run, tagged `orch.kind=sweep`, holds the report. The mirror can be deleted and rebuilt.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from jobs.events import read_events
from jobs.paths import JobPaths, RunPaths
from jobs.spec import EventKind, JobSpec, Json, Stage, canonical_json
from orchestrator.errors import TrackingError
from orchestrator.model import AxisKind, Plan

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, Run, RunTag

#: What one `log_batch` may carry (MLflow's own limits).
METRICS_A_BATCH = 1000
PARAMS_A_BATCH = 100
#: Above this many keys the comparison page becomes slow; per-label test metrics go to the table artifact instead.
KEYS_A_RUN = 100
_PARAM_LENGTH = 500


def default_uri(run: RunPaths) -> str:
    """Return the tracking URI of a run root: one sqlite file beside the jobs."""
    return f"sqlite:///{(run.mlflow / 'mlflow.db').resolve()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """What a sync did."""

    experiment: str
    runs: int
    created: int
    updated: int
    metrics: int


@dataclass(slots=True)
class _Trial:
    """What the files say of one train job, in MLflow's terms."""

    spec: JobSpec
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    points: list[tuple[str, int, float, int]] = field(default_factory=list)  # key, step, value, time in ms
    finals: dict[str, float] = field(default_factory=dict)
    status: str = "SCHEDULED"
    started: int = 0
    ended: int = 0


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow from talking to anybody and from printing on first use."""
    keep = dict(os.environ)
    os.environ.update({"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_LOGGING_LEVEL": "ERROR"})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(keep)


def prepare(run: RunPaths, experiment: str, *, uri: str = "") -> str:
    """Create database and experiment, once, and return the experiment's id.

    MLflow's own first use is not safe with several processes (a cold race leaves a half-migrated database), so it happens here, in
    the client, under a lock, before anything is submitted. Raises TrackingError with what to type.
    """
    run.mlflow.mkdir(parents=True, exist_ok=True)
    with FileLock(run.mlflow / "lock"), _quiet():
        client = _client(run, uri)
        try:
            found = client.get_experiment_by_name(experiment)
            if found is not None and found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            if found is not None:
                return str(found.experiment_id)
            location = None if uri else (run.mlflow / "artifacts" / experiment).resolve().as_uri()
            return str(client.create_experiment(experiment, artifact_location=location))
        except Exception as error:
            raise TrackingError(
                f"the MLflow store {uri or default_uri(run)} cannot be used: {error}. It is only a mirror: move it away and `orchestrate sync` rebuilds it"
            ) from error


def _client(run: RunPaths, uri: str) -> MlflowClient:
    import logging

    from mlflow import MlflowClient

    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=uri or default_uri(run))


def sync(plan: Plan, run: RunPaths, *, uri: str = "", code: str = "") -> Synced:
    """Bring the mirror up to what the files say; run twice, it changes nothing.

    `code` is the version of the code for the tag `git_sha`. Metrics go by `log_batch`; a point that was sent is never sent again, so
    that a requeued job's run continues where its resumed training does.
    """
    experiment = prepare(run, experiment_name(plan), uri=uri)
    with FileLock(run.mlflow / "lock"), _quiet():
        client = _client(run, uri)
        existing = _runs_by_job(client, experiment)
        trials = _trials(plan, run, code)
        created = updated = sent = 0
        for trial in trials:
            if trial.status == "SCHEDULED":
                continue
            known = existing.get(trial.spec.job_id)
            if known is None:
                known = _create(client, experiment, trial)
                created += 1
            points = _send(client, known, trial)
            updated += points >= 0
            sent += max(points, 0)
        _sync_report(client, experiment, existing.get(_SWEEP_KEY), plan, run)
        return Synced(experiment=experiment, runs=len(trials), created=created, updated=updated - created, metrics=sent)


_SWEEP_KEY = "sweep"


def experiment_name(plan: Plan) -> str:
    """Return the name of a plan's experiment; a sample run never lands among real ones."""
    return f"{plan.sweep} (sample)" if plan.sample else plan.sweep


def _runs_by_job(client: MlflowClient, experiment: str) -> dict[str, Run]:
    found: dict[str, Run] = {}
    token: str | None = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        for one in page:
            key = one.data.tags.get("job") or (_SWEEP_KEY if one.data.tags.get("orch.kind") == "sweep" else None)
            if key:
                found[key] = one
        token = page.token
        if not token:
            return found


def _create(client: MlflowClient, experiment: str, trial: _Trial) -> Run:
    from mlflow.entities import Param

    one = client.create_run(experiment, start_time=trial.started, tags=trial.tags, run_name=trial.tags["mlflow.runName"])
    params: list[Param] = [Param(key, value) for key, value in trial.params.items()]
    for start in range(0, len(params), PARAMS_A_BATCH):
        client.log_batch(one.info.run_id, params=params[start : start + PARAMS_A_BATCH])
    client.log_dict(one.info.run_id, {"job_id": trial.spec.job_id, **trial.spec.identity()}, "job.json")
    return client.get_run(one.info.run_id)


def _send(client: MlflowClient, one: Run, trial: _Trial) -> int:
    """Send what is new of a trial and return how many metric points that was, or -1 when nothing had changed."""
    from mlflow.entities import Metric, RunTag

    digest = _digest(trial)
    if one.data.tags.get("orch.digest") == digest:
        return -1
    last = int(one.data.tags.get("orch.step", "-1"))
    fresh = [point for point in trial.points if point[1] > last]
    metrics: list[Metric] = [Metric(key, value, time, step) for key, step, value, time in fresh]
    metrics += [
        Metric(key, value, trial.ended or trial.started, 0) for key, value in trial.finals.items() if one.data.metrics.get(key) != value
    ]
    for start in range(0, len(metrics), METRICS_A_BATCH):
        client.log_batch(one.info.run_id, metrics=metrics[start : start + METRICS_A_BATCH])
    newest = max((point[1] for point in trial.points), default=last)
    tags: list[RunTag] = [RunTag(key, value) for key, value in trial.tags.items() if one.data.tags.get(key) != value]
    tags += [RunTag("orch.step", str(newest)), RunTag("orch.digest", digest)]
    client.log_batch(one.info.run_id, tags=tags)
    _set_status(client, one, trial)
    return len(metrics)


def _set_status(client: MlflowClient, one: Run, trial: _Trial) -> None:
    if trial.status == "RUNNING":
        client.update_run(one.info.run_id, status="RUNNING")
    else:
        client.set_terminated(one.info.run_id, status=trial.status, end_time=trial.ended or None)


def _digest(trial: _Trial) -> str:
    import hashlib

    content = [trial.status, sorted(trial.tags.items()), sorted(trial.finals.items()), len(trial.points), trial.ended]
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]


# --- files -> trials ---------------------------------------------------------------------------------------------------------------------


def _trials(plan: Plan, run: RunPaths, code: str) -> list[_Trial]:
    by_id = plan.by_id()
    finals: dict[str, dict[str, float]] = {}
    picked: dict[str, str] = {}
    for spec in plan.jobs:
        result = _json(run.job(spec.job_id).result)
        if result is None:
            continue
        if spec.stage is Stage.PICK:
            for chosen in result["choice"]["runs"].values():
                picked[chosen["job"]] = ",".join(chosen["checkpoints"])
        elif spec.stage is Stage.EVALUATE:
            finals.setdefault(result["train_job"], {}).update(_short_keys(result["metrics"]))
    axes = {axis.name: axis.kind for axis in plan.axes}
    trials = [_trial(spec, plan, run.job(spec.job_id), axes) for spec in plan.jobs if spec.stage is Stage.TRAIN]
    for trial in trials:
        job = trial.spec.job_id
        trial.finals = dict(list({**trial.finals, **finals.get(job, {})}.items())[:KEYS_A_RUN])
        trial.tags["picked"] = "true" if job in picked else "false"
        if job in picked:
            trial.tags["checkpoint"] = picked[job]
        if code:
            trial.tags["git_sha"] = code
        parents = [by_id[item.job] for item in trial.spec.inputs if item.job in by_id]
        if parents:
            trial.tags["parent_jobs"] = ",".join(parent.short_id for parent in parents)
    return trials


def _trial(spec: JobSpec, plan: Plan, paths: JobPaths, axes: Mapping[str, AxisKind]) -> _Trial:
    trial = _Trial(spec=spec)
    result = _json(paths.result)
    arm = {key: value for key, value in spec.labels.items() if axes.get(key) is AxisKind.COMPARE}
    trial.params = _params(spec, result)
    trial.tags = {
        "mlflow.runName": run_name(spec, axes),
        "job": spec.job_id,
        "sweep": plan.sweep,
        "phase": spec.phase,
        "stage": str(spec.stage),
        "cell": "|".join([spec.phase, *(f"{key}={_text(value)}" for key, value in arm.items()), *_size(spec)]),
        "made_data": str(plan.made_data).lower(),
    }
    attempts = paths.attempts()
    trial.tags["attempt"] = str(attempts[-1].number if attempts else 0)
    events = [event for attempt in attempts for event in read_events(attempt.events)]
    if events:
        trial.started, trial.ended = int(events[0]["time"] * 1000), int(events[-1]["time"] * 1000)
        trial.status = _status(events, done=result is not None)
    if trial.status == "FAILED":
        trial.tags["failure"] = str(events[-1].get("failure", "ERROR"))
    if trial.status == "RUNNING":
        trial.ended = 0
    trial.points = _points([attempt.metrics for attempt in attempts], trial.started)
    return trial


def _status(events: Sequence[Mapping[str, Json]], *, done: bool) -> str:
    """Return MLflow's word for where a job stands; a process that died leaves KILLED, never RUNNING for ever."""
    from jobs.events import is_alive

    if done:
        return "FINISHED"
    last = events[-1]["kind"]
    if last == str(EventKind.FAILED):
        return "FAILED"
    if last in (str(EventKind.STOPPED), str(EventKind.CANCELLED)):
        return "KILLED"
    starts = [event for event in events if event["kind"] == str(EventKind.STARTED)]
    return "KILLED" if starts and is_alive(dict(starts[-1])) is False else "RUNNING"


def run_name(spec: JobSpec, axes: Mapping[str, AxisKind]) -> str:
    """Return a short name such as `finetune-pretrain-imagenet-0.01-d03`."""
    words = [spec.phase]
    for key, value in spec.labels.items():
        if key in ("draw", "seed", "fold"):
            words.append(f"{key[0]}{int(value):02d}" if isinstance(value, int) else f"{key[0]}{value}")
        elif axes.get(key) is AxisKind.TUNE:
            words.append(f"{key}={_text(value)}")
        else:
            words.append(_text(value))
    return "-".join(words)[:200]


def _size(spec: JobSpec) -> list[str]:
    return [f"{key}={_text(spec.labels[key])}" for key in ("fraction", "count") if key in spec.labels]


def _params(spec: JobSpec, result: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the params that group and compare: labels first, then scalars of the config, then the size of the draw."""
    params = {("label_fraction" if key == "fraction" else key): _text(value) for key, value in spec.labels.items()}
    params["trainer"] = spec.trainer
    params["training_seed"] = str(spec.seed)
    for key, value in spec.config.items():
        if isinstance(value, (str, int, float, bool)) and key not in params:
            params[key] = _text(value)
    if result is not None:
        train = next((data["splits"].get("train") for data in result.get("data", ()) if data["splits"].get("train")), None)
        if train is not None:
            params.setdefault("n_labeled", str(train["patients"]))
    return {key: value[:_PARAM_LENGTH] for key, value in params.items() if value != ""}


def _text(value: Json) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _points(files: Sequence[Path], started: int) -> list[tuple[str, int, float, int]]:
    """Return metric points by (key, step), the latest attempt's value standing; a torn last line is left out."""
    points: dict[tuple[str, int], float] = {}
    for file in files:
        if not file.exists():
            continue
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            for key, value in entry["metrics"].items():
                if value is not None:
                    points[(key, int(entry["step"]))] = float(value)
    ordered = sorted(points.items(), key=lambda item: (item[0][1], item[0][0]))
    return [(key, step, value, started) for (key, step), value in ordered]


def _short_keys(metrics: Mapping[str, float]) -> dict[str, float]:
    return {key: float(value) for key, value in metrics.items() if math.isfinite(value)}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


# --- the report ----------------------------------------------------------------------------------------------------------------------


def _sync_report(client: MlflowClient, experiment: str, known: Run | None, plan: Plan, run: RunPaths) -> None:
    """Put the report's files and its curves on the sweep's own run, when there is a report that is newer."""
    import hashlib

    from mlflow.entities import Metric, RunTag

    folder = run.sweep(plan.sweep).report
    content = _json(folder / "report.json")
    if content is None:
        return
    digest = hashlib.sha256((folder / "report.json").read_bytes()).hexdigest()[:16]
    if known is not None and known.data.tags.get("orch.digest") == digest:
        return
    if known is None:
        tags = {"orch.kind": "sweep", "mlflow.runName": f"{plan.sweep}: report", "sweep": plan.sweep}
        known = client.create_run(experiment, tags=tags, run_name=tags["mlflow.runName"])
    identity = known.info.run_id
    for name in ("report.html", "report.md", "report.json", "provenance.json"):
        if (folder / name).exists():
            client.log_artifact(identity, str(folder / name), "report")
    metrics: list[Metric] = [Metric(key, value, 0, step) for key, step, value in curve_points(content)]
    for start in range(0, len(metrics), METRICS_A_BATCH):
        client.log_batch(identity, metrics=metrics[start : start + METRICS_A_BATCH])
    note = (folder / "report.md").read_text(encoding="utf-8")[:7900] if (folder / "report.md").exists() else ""
    client.log_batch(identity, tags=[RunTag("orch.digest", digest), RunTag("mlflow.note.content", note)])
    client.set_terminated(identity)


def curve_points(report: Mapping[str, Any]) -> list[tuple[str, int, float]]:
    """Return the label-efficiency curves of a report as metrics `curve/<arm>/<measure>`, with `_lo` and `_hi`, step = n_labeled."""
    points: list[tuple[str, int, float]] = []
    for cell in report.get("cells", ()):
        if cell.get("n_labeled") is None or cell.get("estimate") is None:
            continue
        name = f"curve/{_slug(cell['arm'])}/{cell['measure']}"
        for suffix, key in (("", "estimate"), ("_lo", "low"), ("_hi", "high")):
            if cell.get(key) is not None:
                points.append((name + suffix, int(round(cell["n_labeled"])), float(cell[key])))
    return points


def _slug(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "_-. " else "_" for letter in text).strip()[:80]
