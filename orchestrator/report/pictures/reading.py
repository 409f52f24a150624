"""Which pictures a report has: those of each arm's first run, and of what it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jobs.paths import RunPaths
from jobs.records import read_record
from jobs.spec import Input, JobSpec, Stage
from orchestrator.model import Plan
from orchestrator.report.pictures.values import Picture
from orchestrator.report.results import Run


def pictures_of(plan: Plan, run: RunPaths, runs: Sequence[Run]) -> tuple[Picture, ...]:
    """Return the last pictures of the first run of each arm, of what it was trained from, and of the test sets that it was scored on."""
    by_id = plan.by_id()
    arms: dict[str, list[str]] = {}
    seen: set[tuple[str, str]] = set()
    for one in runs:
        # The first run of an arm on a test set: which one that is does not depend on what has finished.
        if (one.place.arm, one.place.target) in seen or one.job not in by_id:
            continue
        seen.add((one.place.arm, one.place.target))
        for job in [one.job, *_chain(one.picked.train_job, by_id, run)]:
            arms.setdefault(job, []).append(one.place.arm)
    order = {job.job_id: index for index, job in enumerate(plan.jobs)}
    return tuple(
        picture for job in sorted(arms, key=lambda job: order[job]) for picture in _of_job(by_id[job], run, sorted(set(arms[job])))
    )


def _chain(job: str | None, by_id: Mapping[str, JobSpec], run: RunPaths) -> Iterator[str]:
    """Yield a train job and every train job whose weights are in it, nearest first."""
    waiting, seen = [job], set[str]()
    while waiting:
        here = waiting.pop(0)
        if here is None or here in seen or here not in by_id:
            continue
        seen.add(here)
        spec = by_id[here]
        if spec.stage is Stage.TRAIN:
            yield here
            waiting += [_job_of(item, by_id, run) for item in spec.inputs if item.role != "tuned"]
            tuned = ((_result(run, item.job).get("choice") or {}).get("inputs", {}) for item in spec.inputs if item.role == "tuned")
            decided = (Input(role=role, job=upstream, take="") for inputs in tuned for role, upstream in inputs.items())
            waiting += [_job_of(item, by_id, run) for item in decided]


def _job_of(item: Input, by_id: Mapping[str, JobSpec], run: RunPaths) -> str | None:
    """Return the train job that an input stands for; None where a pick has not chosen."""
    if item.job not in by_id or by_id[item.job].stage is Stage.TRAIN:
        return item.job
    runs = (_result(run, item.job).get("choice") or {}).get("runs", {})
    chosen = runs.get(item.run) if item.run is not None else next(iter(runs.values()), None)
    return (chosen or {}).get("job")


def _of_job(spec: JobSpec, run: RunPaths, arms: Sequence[str]) -> Iterator[Picture]:
    told = _result(run, spec.job_id).get("pictures", ())
    last = max((one["epoch"] or 0 for one in told), default=0)
    for one in told:
        if (one["epoch"] or 0) == last:
            yield Picture(
                job=spec.job_id,
                stage=str(spec.stage),
                phase=spec.phase,
                trial=spec.trial,
                test_set=str(spec.labels.get("target", "")) if spec.stage is Stage.EVALUATE else "",
                arms=tuple(arms),
                name=one["name"],
                epoch=one["epoch"],
                caption=one["caption"],
                file=f"{spec.short_id}-{one['file']}",
                sha256=one["sha256"],
                bytes=one["bytes"],
            )


def _result(run: RunPaths, job: str) -> Mapping[str, Any]:
    try:
        return read_record(run.job(job).result)
    except FileNotFoundError:
        return {}
