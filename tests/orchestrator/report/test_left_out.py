from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs.paths import RunPaths
from jobs.spec import JobSpec, Stage
from orchestrator.model import Plan
from orchestrator.report.analysis import analyse
from orchestrator.report.inputs import inputs_of
from orchestrator.report.left_out import left_out
from tests.orchestrator.report.made_run import quickstart


def skipping(plan: Plan) -> Plan:
    """Return the plan as if its sweep had `missing: skip`."""

    def job(spec: JobSpec) -> JobSpec:
        return replace(spec, data={**spec.data, "sources": [{**source, "missing": "skip"} for source in spec.data["sources"]]})

    return replace(plan, jobs=tuple(job(spec) for spec in plan.jobs))


def record(run: RunPaths, spec: JobSpec, sha256: str, **images: int) -> None:
    """Write into a job's result what it left out, of 100 images a split."""
    file = run.job(spec.job_id).result
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    left_out = {split: {"images": images.get(split, 0), "of": 100, "sha256": sha256} for split in ("train", "val", "test")}
    content["data"] = [{"card": "padchest", "splits": {}, "draw": None, "left_out": left_out}]
    file.write_text(json.dumps(content), encoding="utf-8")


def test_what_was_left_out_is_said_once_with_its_splits(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path)
    run, plan = made.run, skipping(plan)
    with_result = [spec for spec in plan.jobs if run.job(spec.job_id).result.exists() and spec.stage in (Stage.TRAIN, Stage.EVALUATE)]
    for spec in with_result:
        record(run, spec, "a", train=18, test=3)
    sentence = "padchest: images are not on disk and were left out (missing: skip): 18 of 100 of train, 3 of 100 of test"
    assert left_out(plan, run) == (sentence,)
    assert sentence in analyse(inputs_of(plan, run)).warnings


def test_jobs_that_left_out_different_images_are_a_warning(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path)
    run, plan = made.run, skipping(plan)
    one, other = [spec for spec in plan.jobs if run.job(spec.job_id).result.exists()][:2]
    record(run, one, "a", train=18)
    record(run, other, "b", train=20, test=1)
    train, *others = left_out(plan, run)
    assert "padchest: jobs left out different images of train that are not on disk (missing: skip), from 18 to 20 of them" in train
    assert [text.split(" that are")[0].rpartition(" ")[2] for text in others] == ["val", "test"]


def test_nothing_is_said_where_nothing_was_left_out_or_asked_for(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path)
    run = made.run
    spec = next(spec for spec in plan.jobs if run.job(spec.job_id).result.exists())
    record(run, spec, "a", train=3)
    assert left_out(plan, run) == ()
    record(run, spec, "a")
    assert left_out(skipping(plan), run) == ()
