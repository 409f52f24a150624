"""What tests of plans share: a resolver that needs no disk, and sweeps from text."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

from jobs.catalog import Declaration
from jobs.spec import JobSpec, Json, Stage
from orchestrator.expand import expand
from orchestrator.expansion.references import DataRef, WeightsRef
from orchestrator.loading import load_sweep
from orchestrator.model import Draws, Plan, Sweep
from tests.golden.trainers import CATALOG

#: Two arms that follow a pretraining or nothing, whose starts and networks are set side by side.
CHAIN = """
    sweep: chain
    data: chexpert
    compare: {init: [imagenet, random], arch: [resnet18, resnet50]}
    phases:
      pretrain:
        trainer: moco_cxr
        tune: {lr: [1e-5, 1e-4]}
      finetune:
        trainer: classification
        compare: {after: [pretrain, none]}
        draws: {fraction: [0.1, 1], repeats: [2, 1]}
        pick: {metric: val/auroc_macro}
        evaluate: [{data: same, split: test}]
"""


def digest(text: str) -> str:
    """Return a made-up sha256."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class FakeResolver:
    """Answers from its fields; tests change them to see what an id depends on."""

    made_data: bool = False
    salt: str = ""
    pairs: int = 56
    missing: frozenset[str] = frozenset()
    label_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tasks: dict[str, str] = field(default_factory=dict)
    traits: dict[str, str] = field(default_factory=dict)
    overlaps: dict[tuple[str, str, str], str] = field(default_factory=dict)
    unions: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def data(self, name: str) -> DataRef:
        self.asked.append(name)
        identity: dict[str, Json] = {
            "card": name,
            "card_sha256": digest(f"{self.salt}{name}"),
            "files": {"train.csv": digest(name)},
            "split": {},
        }
        defaults = {"score_per": "study", "views": "max_logit", "cluster": "patient"}
        if name in self.missing:
            return DataRef(identity={**identity, "files": {}}, resolved=False, problem=f"data '{name}' is not here", defaults=defaults)
        return DataRef(identity=identity, defaults=defaults, traits=self.traits)

    def folds(self, name: str, draws: Draws) -> int:
        return draws.folds if draws.scheme == "kfold" else self.pairs

    def file(self, value: str) -> WeightsRef:
        return WeightsRef(sha256=hashlib.sha256(value.encode()).hexdigest(), named="file")

    def weights(self, value: str, *, arch: str | None) -> WeightsRef | None:
        if value == "random":
            return None
        return WeightsRef(sha256=digest(f"{self.salt}{value}/{arch}"), named=None if value == "imagenet" else "file")

    def labels(self, card: str) -> tuple[str, ...]:
        return self.label_names.get(card, ("effusion", "edema"))

    def task(self, card: str) -> str:
        return self.tasks.get(card, "multilabel")

    def overlap(self, trained: str, card: str, split: str) -> str:
        return self.overlaps.get((trained, card, split), "")

    def pooled(self, card: str, split: str) -> tuple[str, ...]:
        return self.unions.get((card, split), ())


def read(folder: Path, text: str, name: str = "sweep.yaml", *, catalog: Mapping[str, Declaration] = CATALOG) -> Sweep:
    """Load a sweep from text."""
    path = folder / name
    path.write_text(dedent(text), encoding="utf-8")
    return load_sweep(path, catalog=catalog)


def plan_of(folder: Path, text: str, resolver: FakeResolver | None = None) -> Plan:
    """Load and expand a sweep from text."""
    return expand(read(folder, text), CATALOG, resolver or FakeResolver())


def jobs_of(plan: Plan, phase: str, stage: Stage = Stage.TRAIN, **labels: object) -> list[JobSpec]:
    """Return the jobs of a phase and stage that carry some labels."""
    return [
        job
        for job in plan.jobs
        if job.phase == phase and job.stage is stage and all(job.labels.get(name) == value for name, value in labels.items())
    ]


def only(plan: Plan, phase: str, stage: Stage = Stage.TRAIN, **labels: object) -> JobSpec:
    """Return the one job of a phase and stage that carries some labels."""
    (job,) = jobs_of(plan, phase, stage, **labels)
    return job
