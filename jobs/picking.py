"""Choose on validation: inside a run the checkpoint, between tune points the winner. Reads numbers that training wrote; opens no image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.events import read_events
from jobs.paths import JobPaths, RunPaths
from jobs.records import read_record
from jobs.spec import JobSpec, Json, Stage, State
from jobs.stopping import lost_search
from trainers.errors import Error
from trainers.slugs import auroc_of

#: Value of a rule's `per`: each label has checkpoints of its own.
PER_LABEL = "label"


def pick(spec: JobSpec, run: RunPaths) -> dict[str, Json]:
    """Return the result of a pick job.

    `choice` holds the winner's index, overrides, parents and, for each run, the job, the checkpoints and the value. Every candidate's
    values stand beside it. Raises Error when every candidate lost, or when the metric is none that training wrote.
    """
    rule = spec.config
    judged = [_judge(candidate, rule, run) for candidate in rule["candidates"]]
    winner = _winner(judged, rule, spec)
    chosen = rule["candidates"][winner]
    return {
        "job_id": spec.job_id,
        "stage": str(Stage.PICK),
        "choice": {
            "candidate": winner,
            "overrides": dict(chosen.get("overrides", {})),
            "inputs": dict(chosen.get("inputs", {})),
            "runs": judged[winner]["runs"],
        },
        "candidates": judged,
    }


def _judge(candidate: Mapping[str, Json], rule: Mapping[str, Json], run: RunPaths) -> dict[str, Json]:
    """Return a candidate's chosen checkpoints and values, or why it lost."""
    runs: dict[str, Json] = {}
    for key, job in candidate["runs"].items():
        paths = run.job(job)
        if not paths.result.exists():
            return {"status": _failure(paths), "value": None, "runs": {}}
        trained = read_record(paths.result)
        runs[key] = {"job": job, **_choose(trained, rule, job)}
    values = [item["value"] for item in runs.values()]
    if any(value is None for value in values):
        return {"status": "ok" if rule.get("metric") is None else "NO_VALUE", "value": None, "runs": runs}
    return {"status": "ok", "value": math.fsum(values) / len(values), "runs": runs}


def _choose(trained: Mapping[str, Any], rule: Mapping[str, Json], job: str) -> dict[str, Json]:
    """Return what is chosen of one run: its checkpoints, epoch and value, and for each label its own where the rule says so."""
    kept = trained["checkpoints"]
    chosen = _choose_checkpoints(kept, rule, job)
    if rule.get("per") != PER_LABEL or not chosen["checkpoints"]:
        return chosen
    labels = {label: _choose_for(label, kept, rule, chosen["checkpoints"]) for label in trained["labels"]}
    used = {name for one in labels.values() for name in one["checkpoints"]}
    names = [entry["name"] for entry in sorted(kept, key=_age) if entry["name"] in used]
    return {**chosen, "checkpoints": names, "labels": labels}


def _choose_for(label: str, kept: Sequence[Mapping[str, Any]], rule: Mapping[str, Json], otherwise: Sequence[str]) -> dict[str, Json]:
    """Return the checkpoints of one label, ranked by its own AUROC (MoCo-CXR `select_ensemble.py`), and how many had none.

    Where none has, those that the pick's metric chooses stand in, and `by` names that metric.
    """
    metric = auroc_of(label)
    valued = [entry for entry in kept if _finite(entry["metrics"].get(metric))]
    ranked = sorted(valued, key=lambda entry: (-entry["metrics"][metric], _age(entry)))
    without = len(kept) - len(ranked)
    if not ranked:
        return {"checkpoints": list(otherwise), "by": rule["metric"], "values": [], "without_value": without}
    chosen = ranked[: _count(rule, ranked)]
    values = [entry["metrics"][metric] for entry in chosen]
    return {"checkpoints": [entry["name"] for entry in chosen], "by": metric, "values": values, "without_value": without}


def _age(entry: Mapping[str, Any]) -> tuple[int, str]:
    return entry["step"], entry["name"]


def _count(rule: Mapping[str, Json], ranked: Sequence[Mapping[str, Any]]) -> int:
    """Return how many of some ranked checkpoints are taken."""
    return max(int(rule.get("top", 1)), len(ranked) if rule.get("checkpoints") == "all" and rule.get("top", 1) == 1 else 1)


def _choose_checkpoints(kept: Sequence[Mapping[str, Any]], rule: Mapping[str, Json], job: str) -> dict[str, Json]:
    """Return the names of the chosen checkpoints of one run, its epoch and its value; ties go to the earlier checkpoint."""
    metric, last = rule.get("metric"), max(kept, key=lambda entry: entry["step"])
    if metric is None:
        return {"checkpoints": [last["name"]], "epoch": last["epoch"], "value": None}
    if not any(metric in entry["metrics"] for entry in kept):
        known = ", ".join(sorted({name for entry in kept for name in entry["metrics"] if name.startswith("val/")})) or "none"
        raise Error(f"pick.metric '{metric}' is no metric of job {job[:12]}; its validation metrics are: {known}")
    sign = -1.0 if rule.get("mode", "max") == "max" else 1.0
    valued = [entry for entry in kept if _finite(entry["metrics"].get(metric))]
    ranked = sorted(valued, key=lambda entry: (sign * entry["metrics"][metric], entry["step"]))
    if rule.get("rule", "best") == "last":
        ranked = [entry for entry in ranked if entry["name"] == last["name"]]
    if not ranked:
        return {"checkpoints": [], "epoch": last["epoch"], "value": None}
    chosen = ranked[: _count(rule, ranked)]
    return {"checkpoints": [entry["name"] for entry in chosen], "epoch": chosen[0]["epoch"], "value": chosen[0]["metrics"][metric]}


def _winner(judged: Sequence[Mapping[str, Any]], rule: Mapping[str, Json], spec: JobSpec) -> int:
    """Return the index of the best candidate; ties go to the lower index."""
    standing = [index for index, item in enumerate(judged) if item["status"] == "ok"]
    if not standing:
        raise Error(f"every candidate of {spec.trial} lost: {', '.join(item['status'] for item in judged)}; widen or move the tune axis")
    if rule.get("metric") is None:
        if len(judged) > 1:
            raise Error(f"{spec.trial}: {len(judged)} candidates and no metric to choose by; name pick.metric")
        return 0
    sign = -1.0 if rule.get("mode", "max") == "max" else 1.0
    return min(standing, key=lambda index: (sign * judged[index]["value"], index))


def _failure(paths: JobPaths) -> str:
    if lost_search(paths) is not None:
        return str(State.STOPPED)
    attempts = paths.attempts()
    events = read_events(attempts[-1].events) if attempts else []
    return str(events[-1].get("failure", "LOST")) if events else "LOST"


def _finite(value: Json) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
