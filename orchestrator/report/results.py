"""What evaluate jobs left behind: their place in the design, their draw, their pick and their predictions; gaps included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jobs.paths import RunPaths
from jobs.records import read_record
from jobs.spec import Input, JobSpec, Json, Scalar, Stage, State
from orchestrator.errors import ReportError
from orchestrator.model import AxisKind, Plan
from orchestrator.report.design import Design, Place, card_of, pretraining_of, text_of
from orchestrator.report.masks import Masks
from orchestrator.report.predictions import Predictions, read_predictions
from orchestrator.report.stats.operating import F1_ON_TEST, RULES
from trainers.slugs import auroc_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """The labelled subset that a run was trained on."""

    sha256: str | None
    patients: int | None
    images: int | None
    #: How much of the labelled pool it is, which two draws share of their units on average; None where nobody says.
    share: float | None = None
    #: How many units it has, of those that were drawn.
    units: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """Which candidate and which checkpoint a pick chose for a run."""

    train_job: str | None = None
    checkpoint: str | None = None
    #: The checkpoints of each label, where each has its own, and of those that had no AUROC which metric chose instead.
    by_label: Mapping[str, str] = field(default_factory=dict)
    epoch: float | None = None
    #: Validation metric of the checkpoint.
    value: float | None = None
    #: What the validation metric is, and whether more or less of it is better.
    metric: str | None = None
    mode: str = "max"
    #: What it was measured on: the cards, and how many patients and images; None where nobody says.
    validated_on: str | None = None
    val_patients: int | None = None
    val_images: int | None = None
    tuned: Mapping[str, Scalar]
    candidates: int = 1
    #: Candidates that a search stopped before their end.
    stopped: int = 0
    #: Candidates that diverged, collapsed, or gave no value to choose by.
    lost: int = 0
    at_edge: tuple[str, ...] = ()
    scope: str = "draw"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One planned evaluation, of a sweep or from somebody's files. `result` and `predictions` are None while it is not there."""

    #: What tells it apart: a job's id, or the sha256 of its predictions.
    job: str
    trial: str
    #: Where it is: a short job id, or file names.
    source: str
    card: str
    split: str
    #: What is scored: image, study or patient.
    unit: str
    #: What is resampled: patient, study or image.
    cluster: str
    place: Place
    pretraining: str
    result: Mapping[str, Any] | None
    draw: Draw
    picked: Picked
    predictions: Predictions | Masks | None
    #: What thresholds are chosen on, where it is not the trainer that chose them.
    validation: Predictions | Masks | None = None
    #: By finding and rule: the score from which on a unit is called positive, chosen on validation before the test split was opened.
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    #: By finding: validation cases with and without it.
    validation_counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    #: By finding: the threshold of the largest F1 on the test rows themselves, where an evaluation was asked for it as published.
    on_test: Mapping[str, float] = field(default_factory=dict)

    def threshold(self, label: str, rule: str) -> float | None:
        """Return a finding's threshold by a rule, None where there is none."""
        if rule == F1_ON_TEST:
            return self.on_test.get(label)
        return self.thresholds.get(label, {}).get(rule)

    @property
    def name(self) -> str:
        """Return what errors and the ledger call this run."""
        return f"{self.trial} ({self.source})"

    def scores(self) -> Predictions | None:
        """Return its predictions as scores, None while they are not there. Raises ReportError when they are masks."""
        if isinstance(self.predictions, Masks):
            raise ReportError(f"{self.name} drew masks, and this needs scores; set `report.measure` to dice or hd95")
        return self.predictions


def read_runs(plan: Plan, run: RunPaths) -> list[Run]:
    """Read every evaluate job of a plan, in an order that the plan's does not change. Raises ReportError on unreadable predictions."""
    by_id, design = plan.by_id(), Design.of(plan)
    specs = sorted((spec for spec in plan.jobs if spec.stage is Stage.EVALUATE), key=lambda spec: (spec.trial, spec.job_id))
    return [_read(spec, design, run, by_id) for spec in specs]


def _read(spec: JobSpec, design: Design, run: RunPaths, by_id: Mapping[str, JobSpec]) -> Run:
    paths = run.job(spec.job_id)
    result = _json(paths.result) if paths.predictions.exists() else None
    picked = _picked(spec, design.plan, run, by_id)
    trained = _json(run.job(picked.train_job).result) if picked.train_job else None
    place = design.place(spec)
    chosen = ((_json(paths.choice) if result is not None else None) or {}).get("thresholds", {})
    return Run(
        job=spec.job_id,
        trial=spec.trial,
        source=spec.short_id,
        card=card_of(spec),
        split=str(spec.config.get("split", "test" if place.fold is None else "held_out")),
        unit=str(spec.config.get("score_per") or "image"),
        cluster=str(spec.config.get("cluster") or "patient"),
        place=place,
        pretraining=pretraining_of(spec, by_id),
        result=result,
        draw=draw_of(result, trained),
        picked=_validated(picked, trained),
        predictions=read_predictions(paths.predictions, f"{spec.trial} ({spec.short_id})") if result is not None else None,
        thresholds={label: {rule: float(row[rule]) for rule in RULES if rule in row} for label, row in chosen.items()},
        on_test={label: float(row["f1"]) for label, row in ((result or {}).get("thresholds_on_test") or {}).items()},
        validation_counts={label: (int(row["n_pos"]), int(row["n_neg"])) for label, row in chosen.items()},
    )


def draw_of(result: Mapping[str, Any] | None, trained: Mapping[str, Any] | None) -> Draw:
    """Find the draw in the evaluation's result, or in that of the training run behind it."""
    for source in (result or {}, trained or {}):
        if source.get("draw"):
            return _draw_of_facts([source["draw"]])
    opened = [data for data in (trained or {}).get("data", ()) if "train" in data.get("splits", {})]
    if opened and all(data.get("draw") for data in opened):
        return _draw_of_facts([data["draw"] for data in opened])
    # Without a draw all of the training split was used: its size is known, and no digest makes replicates matched.
    sizes = [data["splits"]["train"] for data in opened]
    return Draw(
        sha256=None,
        patients=sum(int(size["patients"]) for size in sizes) if sizes else None,
        images=sum(int(size["images"]) for size in sizes) if sizes else None,
    )


def _validated(picked: Picked, trained: Mapping[str, Any] | None) -> Picked:
    """Add what a run was validated on."""
    opened = [data for data in (trained or {}).get("data", ()) if "val" in data.get("splits", {})]
    if not opened:
        return picked
    sizes = [data["splits"]["val"] for data in opened]
    return replace(
        picked,
        validated_on=", ".join(str(data.get("card", "data")) for data in opened),
        val_patients=sum(int(size["patients"]) for size in sizes),
        val_images=sum(int(size["images"]) for size in sizes),
    )


def _draw_of_facts(facts: Sequence[Mapping[str, Any]]) -> Draw:
    def total(*names: str) -> int | None:
        found = [next((one[name] for name in names if one.get(name) is not None), None) for one in facts]
        known = [int(count) for count in found if count is not None]
        return sum(known) if len(known) == len(found) else None

    units, pool = total("n_units"), total("n_pool_units")
    return Draw(
        sha256="+".join(str(one["sha256"]) for one in facts),
        patients=total("n_patients"),
        images=total("n_images", "n_labeled"),
        share=units / pool if units and pool else None,
        units=units,
    )


def _picked(spec: JobSpec, plan: Plan, run: RunPaths, by_id: Mapping[str, JobSpec]) -> Picked:
    source = next((item for item in spec.inputs if item.job in by_id and by_id[item.job].stage is Stage.PICK), None)
    if source is None:
        job = spec.inputs[0].job if spec.inputs else None
        return Picked(train_job=job, tuned=_tuned(job, plan, run, by_id))
    rule = by_id[source.job].config
    runs = ((_json(run.job(source.job).result) or {}).get("choice") or {}).get("runs", {})
    chosen = runs.get(source.run) if source.run is not None else next(iter(runs.values()), None)
    job = (chosen or {}).get("job")
    tuned = _tuned(job, plan, run, by_id)
    statuses = _statuses(source.job, run, by_id)
    return Picked(
        train_job=job,
        checkpoint=", ".join((chosen or {}).get("checkpoints", ())) or None,
        by_label={label: _said(one, label) for label, one in sorted((chosen or {}).get("labels", {}).items())},
        epoch=(chosen or {}).get("epoch"),
        value=(chosen or {}).get("value"),
        metric=rule.get("metric"),
        mode=str(rule.get("mode") or "max"),
        tuned=tuned,
        candidates=_candidates(source.job, by_id),
        stopped=statuses[State.STOPPED],
        lost=sum(count for status, count in statuses.items() if status not in ("ok", State.STOPPED)),
        at_edge=_at_edge(tuned, plan),
        scope=str(rule.get("scope", "draw")),
    )


def _said(chosen: Mapping[str, Any], label: str) -> str:
    """Say which checkpoints a label has, and by what where its own AUROC could not be had."""
    names = ", ".join(chosen["checkpoints"])
    return names if chosen["by"] == auroc_of(label) else f"{names} by {chosen['by']}"


def _candidates(pick: str, by_id: Mapping[str, JobSpec]) -> int:
    """Return how many tune points stand behind a pick, also when they were tried elsewhere (`pick.on`)."""
    counts = [len(by_id[pick].config.get("candidates", ()))]
    elsewhere = _decided_by(by_id[pick].inputs, by_id)
    return max(1, *counts, *(len(by_id[job].config.get("candidates", ())) for job in elsewhere))


def _statuses(pick: str, run: RunPaths, by_id: Mapping[str, JobSpec]) -> Counter[str]:
    """Count what became of the candidates that stand behind a pick (`_candidates`): `ok`, `STOPPED` by a search, or how they lost.

    A pick that was decided elsewhere has one of its own for each run, all of which may have been decided by the same other pick.
    """
    results = [_json(run.job(job).result) or {} for job in (pick, *_decided_by(by_id[pick].inputs, by_id))]
    tried = max((result.get("candidates", ()) for result in results), key=len, default=())
    return Counter(str(candidate.get("status", "ok")) for candidate in tried)


def _decided_by(inputs: Sequence[Input], by_id: Mapping[str, JobSpec]) -> list[str]:
    trains = [by_id[item.job] for item in inputs if item.job in by_id]
    return [item.job for train in trains for item in train.inputs if item.role == "tuned" and item.job in by_id]


def _tuned(job: str | None, plan: Plan, run: RunPaths, by_id: Mapping[str, JobSpec]) -> dict[str, Scalar]:
    """Return the tuned values of a train job: its labels, or what an upstream pick decided for it."""
    if job is None or job not in by_id:
        return {}
    names = {axis.name for axis in plan.axes if axis.kind is AxisKind.TUNE}
    found = {name: value for name, value in by_id[job].labels.items() if name in names}
    for item in by_id[job].inputs:
        if item.role == "tuned":
            choice = (_json(run.job(item.job).result) or {}).get("choice") or {}
            found.update(choice.get("overrides", {}))
    return dict(sorted(found.items()))


def _at_edge(tuned: Mapping[str, Scalar], plan: Plan) -> tuple[str, ...]:
    """Name the tuned values at an end of a numeric grid of three and more: with two values every winner stands at an end."""
    found: list[str] = []
    for axis in plan.axes:
        numbers = [value for value in axis.values if isinstance(value, (int, float)) and not isinstance(value, bool)]
        if axis.kind is AxisKind.TUNE and len(numbers) == len(axis.values) >= 3 and tuned.get(axis.name) in (min(numbers), max(numbers)):
            found.append(f"{axis.name} {text_of(tuned[axis.name])}")
    return tuple(sorted(found))


def _json(path: Path) -> dict[str, Json] | None:
    try:
        return read_record(path)
    except FileNotFoundError:
        return None
