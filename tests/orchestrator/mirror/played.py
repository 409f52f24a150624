"""A sweep whose jobs are played: everything runs through the real seam, and only the learning is left out.

Numbers follow from the job's id, so that the same job always says the same. What goes wrong is said by job id in `Troubles`.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs import main
from jobs.paths import RunPaths, write_atomically
from jobs.picking import pick
from jobs.spec import JobSpec, Json, Stage, pretty_json, spec_to_json
from jobs.stages import Node, Stopped
from orchestrator.model import ClusterConfig, Plan
from orchestrator.workspace import Workspace

SWEEP = """
sweep: play
about: Does MoCo help when labels are few?
data: phantom
phases:
  pretrain:
    trainer: moco_cxr
    data: phantom_unlabelled
    config: {arch: slim, px: 64, init: random, epochs: 4}
    tune: {lr: [1e-4, 1e-3]}
  finetune:
    trainer: classification
    config: {arch: slim, px: 64, init: random, freeze: backbone}
    compare: {after: [pretrain, none]}
    draws: {fraction: [0.1, 1.0], repeats: [2, 1], by: patient, seed: 0}
    pick: {metric: val/auroc_macro}
    evaluate: [{data: same, split: test}]
report: {baseline: {after: none}, over: fraction}
"""
FINDINGS = ("pleural_effusion", "edema", "cardiomegaly")


@dataclass(slots=True)
class Troubles:
    """What goes wrong, by job id: an exception to raise, after how many epochs; a job is stopped when it raises `Stopped`."""

    raises: dict[str, Exception] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Player:
    """Plays the jobs of plans in one run root."""

    run: RunPaths
    epochs: int = 3
    #: Validation metrics an epoch, besides `val/auroc_macro` and `val/loss`.
    findings: tuple[str, ...] = FINDINGS
    troubles: Troubles = field(default_factory=Troubles)

    def play(self, jobs: Iterable[JobSpec]) -> dict[str, int]:
        """Run jobs in their order and return their exit codes."""
        codes: dict[str, int] = {}
        real, main.run_stage = main.run_stage, self.stage
        try:
            for spec in jobs:
                file = self.run.job(spec.job_id).job
                if not file.exists():
                    write_atomically(file, pretty_json(spec_to_json(spec)).encode())
                codes[spec.job_id] = main.run(file)
        finally:
            main.run_stage = real
        return codes

    def stage(self, node: Node) -> dict[str, Json]:
        """Stand in for the three stages."""
        if node.spec.stage is Stage.PICK:
            return pick(node.spec, node.run)
        return self._train(node) if node.spec.stage is Stage.TRAIN else self._evaluate(node)

    def _train(self, node: Node) -> dict[str, Json]:
        spec = node.spec
        kept: dict[str, float] = {}
        for epoch in range(1, self.epochs + 1):
            if spec.job_id in self.troubles.raises and epoch > self.troubles.after.get(spec.job_id, 0):
                raise self.troubles.raises[spec.job_id]
            node.host.log(epoch * 10 - 5, epoch - 1, {"train/loss": 1 / epoch, "train/lr": 1e-3})
            areas = {f"val/auroc/{name}": number(spec, "val", epoch, name) for name in self.findings}
            kept = {"train/loss": 0.9 / epoch, "val/auroc_macro": sum(areas.values()) / len(areas), "val/loss": 0.5 / epoch, **areas}
            node.host.log(epoch * 10, epoch, kept)
            node.host.keep(f"epoch-{epoch:04d}", kept, {"safetensors": write_weights}, {"step": epoch * 10, "epoch": epoch})
        draw = spec.data.get("draw")
        patients = 100 if draw is None else round(100 * float(draw.get("fraction", 1.0)))
        return {
            "job_id": spec.job_id,
            "stage": "train",
            "config": {key: value for key, value in spec.config.items() if key not in ("monitor", "tuned_keys")},
            "labels": list(self.findings),
            "metrics": kept,
            "steps": self.epochs * 10,
            "epochs": self.epochs,
            "data": [
                {
                    "card": spec.data["sources"][0]["card"],
                    "splits": {"train": {"images": 2 * patients, "patients": patients}, "val": {"images": 40, "patients": 20}},
                    "draw": None if draw is None else {"sha256": digest(draw), "n_patients": patients, "n_images": 2 * patients},
                }
            ],
            "checkpoints": [{key: entry[key] for key in ("name", "epoch", "step", "metrics", "files")} for entry in node.store.kept()],
        }

    def _evaluate(self, node: Node) -> dict[str, Json]:
        spec = node.spec
        runs = node.result_of(spec.inputs[0].job)["choice"]["runs"]
        chosen = runs[spec.inputs[0].run]
        card, split = spec.data["sources"][0]["card"], spec.config["split"]
        areas = {f"{split}/{card}/auroc/{name}": number(spec, "test", 0, name) for name in self.findings}
        macro = {f"{split}/{card}/auroc_macro": sum(areas.values()) / len(areas), f"{split}/{card}/loss": 0.4}
        return {
            "job_id": spec.job_id,
            "stage": "evaluate",
            "train_job": chosen["job"],
            "checkpoints": chosen["checkpoints"],
            "card": card,
            "split": split,
            "labels": list(self.findings),
            "units": {"score_per": "study", "views": "max_logit", "cluster": "patient"},
            "metrics": {**areas, **macro},
            "n_images": 40,
            "n_units": 20,
            "n_patients": 20,
            "test_digest": "t" * 64,
            "predictions_digest": "p" * 64,
            "data": [{"card": card, "splits": {"test": {"images": 40, "patients": 20}}, "draw": None}],
        }


def write_weights(path: Path) -> None:
    """Write a file where weights would be."""
    path.write_bytes(b"weights")


def number(spec: JobSpec, *what: object) -> float:
    """Return a number in [0.5, 1) that follows from the job and what it is of."""
    return 0.5 + random.Random(f"{spec.job_id}{what}").random() / 2


def digest(value: Mapping[str, Any]) -> str:
    """Return a sha256 of a mapping."""
    return hashlib.sha256(pretty_json(dict(value)).encode()).hexdigest()


def plan_of(folder: Path, text: str = SWEEP) -> Plan:
    """Expand a sweep as the command would, on made data."""
    file = folder / "play.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    cluster = ClusterConfig(name="here", backend="inline", run_root=folder / "run", made_root=folder / "made")
    return Workspace(cluster=cluster).plan(file)


def trains(plan: Plan, phase: str = "finetune") -> list[JobSpec]:
    return [job for job in plan.jobs if job.stage is Stage.TRAIN and job.phase == phase]


def write_line(run: RunPaths, job: JobSpec, attempt: int, metrics: dict[str, float | None], *, step: int = 1) -> None:
    """Append a line of metrics to an attempt, as a host does."""
    file = run.job(job.job_id).attempt(attempt).metrics
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"step": step, "epoch": 1, "metrics": metrics}) + "\n")


__all__ = ["FINDINGS", "SWEEP", "Player", "Stopped", "Troubles", "digest", "number", "plan_of", "trains", "write_line"]
