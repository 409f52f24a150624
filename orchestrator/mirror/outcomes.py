"""What picks and evaluations say of a train job, as values that a run has once and as tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.paths import RunPaths
from jobs.records import read_record
from jobs.spec import JobSpec, Json, Stage
from orchestrator.mirror.entries import FINAL_KEYS, KeyBudget, clean_key, finite, table
from orchestrator.model import Plan


@dataclass(slots=True)
class Outcome:
    """What picks and evaluations say of one train job."""

    #: None until a pick has looked at it.
    picked: bool | None = None
    checkpoints: tuple[str, ...] = ()
    #: Label -> its checkpoints, where each label has its own.
    by_label: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    epoch: float | None = None
    value: float | None = None
    metric: str = ""
    evaluations: list[tuple[JobSpec, Mapping[str, Any]]] = field(default_factory=list)

    @property
    def checkpoint(self) -> str:
        """Return the names of the chosen checkpoints; by label where each label has its own."""
        each = "; ".join(f"{label}: {','.join(names)}" for label, names in self.by_label.items())
        return each or ",".join(self.checkpoints)


def outcomes_of(plan: Plan, run: RunPaths) -> dict[str, Outcome]:
    """Read every pick and evaluation of a plan that is there, by the train job that it is of."""
    found: dict[str, Outcome] = {}
    for spec in plan.jobs:
        result = read_json(run.job(spec.job_id).result) if spec.stage is not Stage.TRAIN else None
        if result is None:
            continue
        if spec.stage is Stage.EVALUATE:
            found.setdefault(result["train_job"], Outcome()).evaluations.append((spec, result))
            continue
        for candidate in spec.config.get("candidates", ()):
            for job in candidate["runs"].values():
                one = found.setdefault(job, Outcome())
                one.picked = bool(one.picked)
        for chosen in result["choice"]["runs"].values():
            one = found.setdefault(chosen["job"], Outcome())
            one.picked, one.checkpoints, one.metric = True, tuple(chosen["checkpoints"]), str(spec.config.get("metric") or "")
            one.epoch, one.value = chosen["epoch"], chosen["value"]
            one.by_label = {label: tuple(own["checkpoints"]) for label, own in sorted(chosen.get("labels", {}).items())}
    return found


def finals_of(outcome: Outcome) -> dict[str, float]:
    """Return test metrics of every evaluation, and what the pick saw; findings one by one only where they fit, else in the table."""
    found = picked_of(outcome)
    for spec, result in outcome.evaluations:
        found |= named_of(spec, result)
    values = {clean_key(key): value for key, value in finite(found).items()}
    admitted = KeyBudget(FINAL_KEYS, depth=2).admit(values)
    return {key: values[key] for key in sorted(admitted)}


def picked_of(outcome: Outcome) -> dict[str, Json]:
    """Return what a pick saw of the one that it chose, as `picked/<measure>`."""
    found: dict[str, Json] = {}
    if outcome.value is not None:
        found[f"picked/{outcome.metric.partition('/')[2]}"] = outcome.value
    if outcome.epoch is not None:
        found["picked/epoch"] = outcome.epoch
    return found


def named_of(spec: JobSpec, result: Mapping[str, Any]) -> dict[str, Json]:
    """Return an evaluation's metrics as `<split>/<card>/<measure>`."""
    return {f"{result['split']}/{target_name(spec, result)}/{measure}": value for measure, value in measures_of(result).items()}


def target_name(spec: JobSpec, result: Mapping[str, Any]) -> str:
    """Return the card that was scored, followed by its units where two evaluations share it: `chexpert:study:max_logit`."""
    _, *rest = str(spec.labels.get("target", "")).split("/")
    return ":".join([result["card"], *rest[1:]])


def measures_of(result: Mapping[str, Any]) -> dict[str, Json]:
    """Return an evaluation's metrics by measure, without the split and card before them."""
    prefix = f"{result['split']}/{result['card']}/"
    return {key.removeprefix(prefix): value for key, value in result["metrics"].items()}


def validation_table(result: Mapping[str, Any] | None) -> bytes | None:
    """Return every validation metric of every kept checkpoint; None while there is none."""
    rows = [
        [kept["name"], kept["epoch"], key, value]
        for kept in (result or {}).get("checkpoints", ())
        for key, value in sorted(finite(kept["metrics"]).items())
    ]
    return table(["checkpoint", "epoch", "metric", "value"], rows) if rows else None


def test_table(outcome: Outcome) -> bytes | None:
    """Return every test metric of every evaluation; None while there is none."""
    rows = [
        [target_name(spec, result), str(result["split"]), measure, value]
        for spec, result in outcome.evaluations
        for measure, value in sorted(finite(measures_of(result)).items())
    ]
    return table(["card", "split", "measure", "value"], rows) if rows else None


def read_json(path: Path) -> dict[str, Json] | None:
    """Read a JSON file; None when there is none, or a power cut left it empty. Raises Error for one that is damaged."""
    try:
        return read_record(path) if path.stat().st_size else None
    except FileNotFoundError:
        return None
