"""Train jobs of a plan as runs of the mirror: what their files say, with every grouping key on the run itself."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.events import read_events
from jobs.paths import AttemptPaths, JobPaths, RunPaths
from jobs.pictures import pictures_in
from jobs.spec import JobSpec, Json, Stage, State, pretty_json, spec_to_json
from orchestrator.errors import Error
from orchestrator.expansion.labels import label_text
from orchestrator.ledger import JobStatus, states
from orchestrator.mirror.entries import PARAM_LENGTH, TAG_LENGTH, Entry, clean_key, content_digest
from orchestrator.mirror.inputs import used_by
from orchestrator.mirror.models import model_of
from orchestrator.mirror.names import Names
from orchestrator.mirror.outcomes import Outcome, finals_of, outcomes_of, read_json, target_name, test_table, validation_table
from orchestrator.mirror.series import points_of
from orchestrator.model import Plan

#: A start belongs to the parent's job when there is a parent; people still group by it.
INHERITED = ("init", "arch")
#: A job on a host that cannot be asked counts as dead when its files have been silent for so many seconds.
SILENT_AFTER = 6 * 3600.0
_WORDS: Mapping[State, str] = {
    State.SUCCEEDED: "FINISHED",
    State.FAILED: "FAILED",
    State.STOPPED: "KILLED",
    State.CANCELLED: "KILLED",
    State.INTERRUPTED: "KILLED",
    State.RUNNING: "RUNNING",
    State.SUBMITTED: "SCHEDULED",
    State.NEW: "KILLED",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Study:
    """What every trial of a plan shares."""

    plan: Plan
    run: RunPaths
    digest: str
    by_id: Mapping[str, JobSpec]
    names: Names
    #: Phases whose winners are evaluated: what they train on is labelled.
    evaluated: frozenset[str]
    outcomes: Mapping[str, Outcome]
    code: str


def trial_entries(plan: Plan, run: RunPaths, *, code: str = "", statuses: Mapping[str, JobStatus] | None = None) -> Iterator[Entry]:
    """Yield an entry for every train job that was ever started, in the plan's order.

    `statuses` is what a caller who asked the scheduler knows (`orchestrator.ledger.states`); without it the files alone are asked.
    """
    trains = [spec for spec in plan.jobs if spec.stage is Stage.TRAIN]
    known = statuses if statuses is not None else states(run, [spec.job_id for spec in trains])
    study = _study(plan, run, code)
    for spec in trains:
        attempts = [attempt for attempt in run.job(spec.job_id).attempts() if attempt.claim.exists()]
        status = known[spec.job_id]
        # One that was started only after its state was read comes with the next sync.
        if attempts and (status.attempt or status.state not in (State.NEW, State.SUBMITTED)):
            yield _entry(spec, study, attempts, status)


def plan_digest(plan: Plan) -> str:
    """Return a digest of which jobs a plan holds."""
    return content_digest("\n".join(sorted(job.job_id for job in plan.jobs)).encode())


def _study(plan: Plan, run: RunPaths, code: str) -> _Study:
    return _Study(
        plan=plan,
        run=run,
        digest=plan_digest(plan),
        by_id=plan.by_id(),
        names=Names.of(plan),
        evaluated=frozenset(spec.phase for spec in plan.jobs if spec.stage is Stage.EVALUATE),
        outcomes=outcomes_of(plan, run),
        code=code,
    )


def _environment(attempt: AttemptPaths) -> Mapping[str, Any]:
    """Return what an attempt noted of its machine; nothing when that note is damaged: nothing follows from it."""
    try:
        return read_json(attempt.env) or {}
    except Error:
        return {}


def _entry(spec: JobSpec, study: _Study, attempts: Sequence[AttemptPaths], status: JobStatus) -> Entry:
    paths = study.run.job(spec.job_id)
    result = read_json(paths.result)
    events = {attempt.number: read_events(attempt.events) for attempt in attempts}
    times = [event["time"] for listed in events.values() for event in listed] or [_modified(attempts[-1].claim)]
    word = _word(status, attempts, done=result is not None)
    ended = None if word in ("RUNNING", "SCHEDULED") else _milliseconds(times[-1])
    outcome = study.outcomes.get(spec.job_id, Outcome())
    name, params = study.names.run_name(spec), _params(spec, study, result)
    inputs, scored = used_by(spec, result, outcome)
    # What people look for a model by.
    labels = {key for key in map(clean_key, (*study.names.params[spec.phase].values(), "n_labeled")) if key in params}
    return Entry(
        key=spec.job_id,
        name=name,
        status=word,
        started=_milliseconds(times[0]),
        ended=ended,
        params=params,
        tags=_tags(spec, study, attempts[-1], status, outcome) | _draw_tags(result),
        first_tags={"git_sha": code} if (code := str(_environment(attempts[-1]).get("code") or study.code)) else {},
        points=points_of([(attempt, _start(events[attempt.number], attempt)) for attempt in attempts]),
        finals=finals_of(outcome),
        artifacts=_artifacts(spec, paths, attempts, result, outcome),
        pictures=_pictures(paths, study.run, outcome),
        inputs=inputs,
        model=model_of(spec, study.run, result, outcome, name=name, params={key: params[key] for key in sorted(labels)}, scored=scored),
    )


def _word(status: JobStatus, attempts: Sequence[AttemptPaths], *, done: bool) -> str:
    """Return MLflow's word for where a job stands: nothing that nobody runs stays RUNNING for ever."""
    if done:
        return "FINISHED"
    if status.state is State.UNKNOWN:
        last = attempts[-1]
        heard = max(_modified(path) for path in (last.claim, last.events, last.metrics, last.stdout))
        return "RUNNING" if time.time() - heard < SILENT_AFTER else "KILLED"
    return _WORDS[status.state]


# --- names, params, tags -----------------------------------------------------------------------------------------------------------------


def _params(spec: JobSpec, study: _Study, result: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what runs are grouped and compared by: labels, then the scalars of the config, then what was drawn.

    A param can be written once. These never change while a job lives: what a pick decides, and the size of a draw, are added when known.
    """
    values: dict[str, Json] = {study.names.params[spec.phase][name]: value for name, value in spec.labels.items()}
    cards = [str(source.get("card")) for source in spec.data.get("sources", ())]
    further: list[Mapping[str, Json]] = [
        spec.config,
        {key: _inherited(spec, key, study.by_id) for key in INHERITED},
        {"seed": spec.seed, "training_seed": spec.seed, "trainer": spec.trainer, "phase": spec.phase, "data": "+".join(cards)},
        (result or {}).get("config") or {},
    ]
    for source in further:
        values |= {key: value for key, value in source.items() if values.get(key) is None}
    values |= _counts(spec, study, result)
    return {
        clean_key(key): label_text(value)[:PARAM_LENGTH]
        for key, value in values.items()
        if isinstance(value, (str, int, float, bool)) and value != ""
    }


def _inherited(spec: JobSpec, key: str, by_id: Mapping[str, JobSpec]) -> Json:
    """Return a config value of the nearest job upstream that has it."""
    waiting = [item.job for item in spec.inputs]
    while waiting:
        parent = by_id.get(waiting.pop(0))
        if parent is None:
            continue
        if parent.stage is Stage.TRAIN and key in parent.config:
            return parent.config[key]
        waiting += [item.job for item in parent.inputs]
    return None


def _counts(spec: JobSpec, study: _Study, result: Mapping[str, Any] | None) -> dict[str, Json]:
    opened = [data["splits"]["train"] for data in (result or {}).get("data", ()) if "train" in data.get("splits", {})]
    if not opened:
        return {}
    labelled = spec.data.get("draw") is not None or spec.phase in study.evaluated
    names = ("n_labeled", "n_labeled_patients") if labelled else ("n_images", "n_patients")
    return {name: sum(int(split[unit]) for split in opened) for name, unit in zip(names, ("images", "patients"), strict=True)}


def _tags(spec: JobSpec, study: _Study, last: AttemptPaths, status: JobStatus, outcome: Outcome) -> dict[str, str]:
    plan = study.plan
    parents = [study.by_id[item.job] for item in spec.inputs if item.job in study.by_id]
    tags = {
        "sweep": plan.sweep,
        "phase": spec.phase,
        "cell": study.names.cell(spec),
        "plan": study.digest,
        "attempt": str(last.number),
        "trial": spec.trial,
        "made_data": str(plan.made_data).lower(),
        "parent_jobs": ",".join(parent.short_id for parent in parents),
        "failure": str(status.failure or ""),
        "failure_message": status.message if status.state is not State.STOPPED else "",
        "stopped_by": status.message if status.state is State.STOPPED else "",
        "checkpoint": outcome.checkpoint,
    }
    if outcome.picked is not None:
        tags["picked"] = str(outcome.picked).lower()
    return {key: value[:TAG_LENGTH] for key, value in tags.items() if value}


def _draw_tags(result: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the digest of the draw: runs of two arms are matched when it is the same."""
    digests = [str(data["draw"]["sha256"])[:16] for data in (result or {}).get("data", ()) if (data.get("draw") or {}).get("sha256")]
    return {"draw_sha256": "+".join(digests)[:TAG_LENGTH]} if digests else {}


# --- artifacts ---------------------------------------------------------------------------------------------------------------------------


def _artifacts(
    spec: JobSpec, paths: JobPaths, attempts: Sequence[AttemptPaths], result: Mapping[str, Any] | None, outcome: Outcome
) -> dict[str, bytes]:
    found = {"job.json": pretty_json(spec_to_json(spec)).encode()}
    if result is not None:
        found["result.json"] = paths.result.read_bytes()
    tables = {"tables/validation.json": validation_table(result), "tables/test.json": test_table(outcome)}
    found |= {path: content for path, content in tables.items() if content is not None}
    for attempt in attempts:
        if attempt.traceback.exists():
            found[f"attempts/{attempt.number}/traceback.txt"] = attempt.traceback.read_bytes()
    return found


def _pictures(paths: JobPaths, run: RunPaths, outcome: Outcome) -> dict[str, bytes]:
    """Return the pictures of a job in the order in which they were made, and those of its evaluations."""
    found = {f"pictures/{one.path.name}": one.path.read_bytes() for one in pictures_in(paths.pictures)}
    for spec, result in sorted(outcome.evaluations, key=lambda each: each[0].job_id):
        folder = f"pictures/{result['split']}/{target_name(spec, result)}"
        found |= {f"{folder}/{one.path.name}": one.path.read_bytes() for one in pictures_in(run.job(spec.job_id).pictures)}
    return found


# --- clocks ------------------------------------------------------------------------------------------------------------------------------


def _start(events: Sequence[Mapping[str, Json]], attempt: AttemptPaths) -> int:
    return _milliseconds(events[0]["time"] if events else _modified(attempt.claim))


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
