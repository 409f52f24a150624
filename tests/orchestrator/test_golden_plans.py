"""The worked sweeps expand to the jobs that were counted by hand, and to the same ids as when they were last looked at.

After a change that is meant to change ids: `python tests/orchestrator/test_golden_plans.py` writes the listings again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.spec import JobSpec, Stage
from orchestrator.expand import expand
from orchestrator.loading import load_sweep
from orchestrator.model import Plan, Sweep
from tests.golden.trainers import CATALOG
from tests.orchestrator.planning import FakeResolver

GOLDEN = Path(__file__).parents[1] / "golden"
#: Sweep -> jobs, and for each phase its train, pick and evaluate jobs.
COUNTS: dict[str, tuple[int, dict[str, tuple[int, int, int]]]] = {
    "moco_cxr": (582, {"pretrain": (6, 0, 0), "finetune": (240, 112, 224)}),
    "ark_transfer": (542, {"ark": (1, 1, 0), "transfer": (100, 100, 100), "segment": (80, 80, 80)}),
    "unichest": (18, {"conquer": (1, 1, 4), "divide": (2, 2, 8)}),
    "ag_cnn": (114, {"global": (2, 2, 2), "local": (18, 18, 18), "fusion": (18, 18, 18)}),
    "benchmark": (490, {"finetune": (290, 100, 100)}),
    "presets": (225, {"pretrain": (9, 0, 0), "finetune": (72, 72, 72)}),
    "real_xrays": (336, {"probe": (112, 112, 112)}),
}
SHOWN = 12


def load(name: str) -> Sweep:
    return load_sweep(GOLDEN / "sweeps" / f"{name}.yaml", catalog=CATALOG)


def plan_of(name: str) -> Plan:
    return expand(load(name), CATALOG, FakeResolver())


def stages(plan: Plan) -> dict[str, tuple[int, int, int]]:
    found = Counter((job.phase, job.stage) for job in plan.jobs)
    phases = dict.fromkeys(job.phase for job in plan.jobs)
    return {phase: (found[phase, Stage.TRAIN], found[phase, Stage.PICK], found[phase, Stage.EVALUATE]) for phase in phases}


def line(job: JobSpec) -> str:
    inputs = " ".join(f"{item.role}={item.job[:6]}:{item.take}" for item in job.inputs[:3])
    more = f" and {len(job.inputs) - 3} more" if len(job.inputs) > 3 else ""
    return f"{job.short_id} {job.stage:8} {job.trial}{' <- ' if inputs else ''}{inputs}{more}"


def listing(plan: Plan) -> str:
    """Return the plan as people can check it: counts, notes, the first jobs of each kind, and a digest of the whole."""
    lines = [line(job) for job in plan.jobs]
    shown: list[str] = []
    for phase in dict.fromkeys(job.phase for job in plan.jobs):
        for stage in Stage:
            kind = [text for text, job in zip(lines, plan.jobs, strict=True) if job.phase == phase and job.stage is stage]
            shown += [f"-- {phase} {stage}: {len(kind)}", *kind[:SHOWN]] if kind else []
    whole = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return "\n".join([f"{plan.sweep}: {len(plan.jobs)} jobs", *(f"note: {note}" for note in plan.notes), *shown, f"sha256 {whole}"]) + "\n"


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name: str) -> None:
    plan = plan_of(name)
    total, phases = COUNTS[name]
    assert stages(plan) == phases
    assert len(plan.jobs) == total


def test_one_winner_for_a_cell() -> None:
    sweep = load("moco_cxr")
    pretrain, finetune = sweep.phases
    assert finetune.pick is not None
    celled = replace(sweep, phases=(pretrain, replace(finetune, pick=replace(finetune.pick, scope="cell"))))
    plan = expand(celled, CATALOG, FakeResolver())
    assert len(plan.jobs) == 534
    picks = [job for job in plan.jobs if job.stage is Stage.PICK]
    # 4 arms x 4 fractions between 3 learning rates, and 48 runs without a tune axis that pick for themselves.
    assert Counter(len(job.config["candidates"]) for job in picks) == {3: 16, 1: 48}
    assert Counter(len(job.inputs) for job in picks if len(job.config["candidates"]) == 3) == {15: 12, 3: 4}


@pytest.mark.parametrize("name", COUNTS)
def test_listing(name: str) -> None:
    assert listing(plan_of(name)) == (GOLDEN / "plans" / f"{name}.txt").read_text(encoding="utf-8")


if __name__ == "__main__":
    for each in COUNTS:
        (GOLDEN / "plans" / f"{each}.txt").write_text(listing(plan_of(each)), encoding="utf-8")
