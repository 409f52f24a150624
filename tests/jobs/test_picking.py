"""The choice on validation: the checkpoint inside a run, the winner between tune points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.events import append_event
from jobs.main import claim
from jobs.paths import RunPaths, write_atomically
from jobs.picking import pick
from jobs.spec import EventKind, JobSpec, Stage, pretty_json
from trainers.errors import Error

METRIC = "val/auroc_macro"


def trained(run: RunPaths, job: str, values: list[float | None]) -> None:
    """Write the result of a train job that kept one checkpoint an epoch."""
    kept = [
        {"name": f"epoch-{epoch:04d}", "epoch": epoch, "step": 10 * epoch, "files": {}, "metrics": {} if value is None else {METRIC: value}}
        for epoch, value in enumerate(values, start=1)
    ]
    write_atomically(run.job(job).result, pretty_json({"checkpoints": kept}).encode())


def lost(run: RunPaths, job: str, failure: str) -> None:
    attempt = claim(run.job(job), None)
    assert attempt is not None
    append_event(attempt.events, EventKind.FAILED, failure=failure)


def picking(run: RunPaths, candidates: list[dict[str, Any]], **rule: Any) -> dict[str, Any]:
    config = {"metric": METRIC, "mode": "max", "rule": "best", "checkpoints": "best", "top": 1, **rule, "candidates": candidates}
    spec = JobSpec(
        job_id="f" * 64, stage=Stage.PICK, trainer="toy", trainer_version=1, loop_version=0, config=config, data={}, seed=0,
        sweep="toy", phase="p", trial="p",
    )  # fmt: skip
    return pick(spec, run)


def one(job: str, **more: Any) -> dict[str, Any]:
    return {"runs": {"": job}, "overrides": {}, "inputs": {}, **more}


def test_the_best_checkpoint_of_the_best_candidate_wins(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    trained(run, "a", [0.6, 0.7, 0.65])
    trained(run, "b", [0.5, 0.8, 0.9])
    found = picking(run, [one("a", overrides={"lr": 1e-4}), one("b", overrides={"lr": 1e-3}, inputs={"init": "p"})])
    assert found["choice"] == {
        "candidate": 1,
        "overrides": {"lr": 1e-3},
        "inputs": {"init": "p"},
        "runs": {"": {"job": "b", "checkpoints": ["epoch-0003"], "epoch": 3, "value": 0.9}},
    }


def test_ties_go_to_the_earlier_checkpoint_and_the_lower_index(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    trained(run, "a", [0.8, 0.8])
    trained(run, "b", [0.8])
    choice = picking(run, [one("a"), one("b")])["choice"]
    assert (choice["candidate"], choice["runs"][""]["checkpoints"]) == (0, ["epoch-0001"])


def test_minimising_picks_the_smallest(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    trained(run, "a", [0.6, 0.2, 0.3])
    assert picking(run, [one("a")], mode="min")["choice"]["runs"][""]["epoch"] == 2


def test_a_candidate_that_its_search_stopped_cannot_be_picked_however_good_it_was(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    rule = {"scheduler": "asha", "metric": METRIC, "mode": "max", "grace": 1}
    stopped = claim(run.job("a"), None)
    assert stopped is not None
    append_event(stopped.events, EventKind.STOPPED, search=rule, message="was losing")
    trained(run, "b", [0.55])
    found = picking(run, [one("a"), one("b")], search=rule)
    assert found["choice"]["candidate"] == 1
    assert [item["status"] for item in found["candidates"]] == ["STOPPED", "ok"]
    with pytest.raises(Error, match="every candidate of p lost: STOPPED"):
        picking(run, [one("a")], search=rule)


def test_a_candidate_that_diverged_loses_and_does_not_block(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    lost(run, "a", "DIVERGED")
    trained(run, "b", [0.55])
    found = picking(run, [one("a"), one("b")])
    assert found["choice"]["candidate"] == 1
    assert [item["status"] for item in found["candidates"]] == ["DIVERGED", "ok"]


def test_when_every_candidate_lost_it_says_so(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    lost(run, "a", "DIVERGED")
    lost(run, "b", "COLLAPSED")
    with pytest.raises(Error, match="every candidate of p lost: DIVERGED, COLLAPSED; widen or move the tune axis"):
        picking(run, [one("a"), one("b")])


def test_a_cell_is_chosen_by_the_mean_over_its_runs(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    for job, value in (("a0", 0.9), ("a1", 0.5), ("b0", 0.75), ("b1", 0.74)):
        trained(run, job, [value])
    cells = [{"runs": {f"draw={r}": f"{c}{r}" for r in (0, 1)}, "overrides": {}, "inputs": {}} for c in "ab"]
    found = picking(run, cells, scope="cell")
    assert found["choice"]["candidate"] == 1
    assert set(found["choice"]["runs"]) == {"draw=0", "draw=1"}


def test_the_last_checkpoint_needs_no_metric(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    trained(run, "a", [None, None])
    assert picking(run, [one("a")], rule="last", metric=None)["choice"]["runs"][""]["checkpoints"] == ["epoch-0002"]


def test_all_kept_checkpoints_or_the_top_of_them(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    trained(run, "a", [0.6, 0.9, 0.7])
    every = picking(run, [one("a")], checkpoints="all")["choice"]["runs"][""]["checkpoints"]
    assert every == ["epoch-0002", "epoch-0003", "epoch-0001"]
    assert picking(run, [one("a")], checkpoints="all", top=2)["choice"]["runs"][""]["checkpoints"] == every[:2]


def test_an_unknown_metric_is_an_error_that_lists_the_known_ones(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    trained(run, "a", [0.6])
    with pytest.raises(Error, match="'val/dice' is no metric of job a; its validation metrics are: val/auroc_macro"):
        picking(run, [one("a")], metric="val/dice")
