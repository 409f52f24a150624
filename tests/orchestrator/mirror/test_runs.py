"""What a run of the mirror carries, and how much of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from jobs.paths import RunPaths
from jobs.spec import Stage, pretty_json, spec_to_json
from orchestrator import tracking
from orchestrator.mirror.names import Names
from orchestrator.model import Plan
from orchestrator.report.design import Design
from tests.orchestrator.mirror.mirrored import client_of, runs_of
from tests.orchestrator.mirror.played import Player, trains, write_line


def test_runs_carry_what_people_group_by(plan: Plan, run: RunPaths) -> None:
    Player(run=run).play(plan.jobs)
    synced = tracking.sync(plan, run, code="1.0+gabc")
    runs = runs_of(run, "play")
    assert (synced.runs, synced.created) == (11, 11)
    assert sorted(runs) == [
        "finetune-none-0.1-d00",
        "finetune-none-0.1-d01",
        "finetune-none-1.0-d00",
        *(f"finetune-pretrain-lr={lr}-{draw}" for lr in ("0.0001", "0.001") for draw in ("0.1-d00", "0.1-d01", "1.0-d00")),
        "pretrain-lr=0.0001",
        "pretrain-lr=0.001",
    ]
    one = runs["finetune-pretrain-lr=0.001-0.1-d01"]
    job = next(job for job in trains(plan) if job.labels.get("lr") == 0.001 and job.labels["draw"] == 1)
    expected = {"after": "pretrain", "label_fraction": "0.1", "draw": "1", "arch": "slim", "init": "random", "pretrain.lr": "0.001"}
    expected |= {"n_labeled": "20", "n_labeled_patients": "10", "trainer": "classification", "data": "phantom", "freeze": "backbone"}
    expected |= {"training_seed": str(job.seed), "seed": str(job.seed), "phase": "finetune"}
    assert {key: one.data.params.get(key) for key in expected} == expected
    assert float(one.data.params["label_fraction"]) == 0.1
    tags = {"sweep": "play", "phase": "finetune", "job": job.job_id, "attempt": "1", "git_sha": "1.0+gabc", "made_data": "true"}
    tags |= {"cell": "finetune/after=pretrain|fraction=0.1", "orch.kind": "trial"}
    assert {key: one.data.tags.get(key) for key in tags} == tags
    assert one.data.tags["plan"]
    assert one.info.status == "FINISHED"
    assert "n_images" in runs["pretrain-lr=0.001"].data.params
    assert "n_labeled" not in runs["pretrain-lr=0.001"].data.params


def test_the_winner_carries_its_pick_and_its_test_metrics_and_losers_do_not(plan: Plan, run: RunPaths) -> None:
    Player(run=run).play(plan.jobs)
    tracking.sync(plan, run)
    runs = runs_of(run, "play")
    evaluated = {json.loads(run.job(job.job_id).result.read_text())["train_job"] for job in plan.jobs if job.stage is Stage.EVALUATE}
    for one in runs.values():
        job = one.data.tags["job"]
        if one.data.tags["phase"] != "finetune":
            continue
        assert one.data.tags["picked"] == str(job in evaluated).lower()
        assert ("test/phantom/auroc_macro" in one.data.metrics) == (job in evaluated)
        assert ("picked/auroc_macro" in one.data.metrics) == (job in evaluated)
    assert len(evaluated) == 6


def test_metrics_are_those_of_the_files(plan: Plan, run: RunPaths) -> None:
    player = Player(run=run)
    player.play(plan.jobs)
    tracking.sync(plan, run)
    job = trains(plan)[0]
    one = next(one for one in runs_of(run, "play").values() if one.data.tags["job"] == job.job_id)
    lines = [json.loads(line) for line in run.job(job.job_id).attempt(1).metrics.read_text().splitlines()]
    written = {(key, line["step"]): value for line in lines for key, value in line["metrics"].items()}
    client = client_of(run)
    sent = {
        (key, point.step): point.value
        for key in one.data.metrics
        if key.startswith(("train/", "val/"))
        for point in client.get_metric_history(one.info.run_id, key)
    }
    assert sent == written
    assert [point.step for point in client.get_metric_history(one.info.run_id, "train/loss")] == [5, 10, 15, 20, 25, 30]
    assert {item.path for item in client.list_artifacts(one.info.run_id)} == {"job.json", "result.json", "tables"}
    config = json.loads(Path(client.download_artifacts(one.info.run_id, "job.json")).read_text())
    assert config == json.loads(pretty_json(spec_to_json(job)))


def test_the_cell_is_the_reports_arm_and_size(plan: Plan) -> None:
    design, names = Design.of(plan), Names.of(plan)
    places = [design.place(job) for job in plan.jobs if job.stage is Stage.EVALUATE]
    assert {names.cell(job) for job in trains(plan)} == {f"{place.arm}|{place.size}" for place in places}
    assert names.cell(trains(plan, "pretrain")[0]) == "pretrain"


def test_a_label_of_the_pretraining_does_not_hide_what_the_run_was_trained_with(plan: Plan, run: RunPaths) -> None:
    Player(run=run).play(plan.jobs)
    tracking.sync(plan, run)
    runs = runs_of(run, "play")
    after = runs["finetune-pretrain-lr=0.001-1.0-d00"].data.params
    alone = runs["finetune-none-1.0-d00"].data.params
    assert (after["pretrain.lr"], after["lr"]) == ("0.001", "0.0003")
    assert ("pretrain.lr" in alone, alone["lr"]) == (False, "0.0003")
    assert runs["pretrain-lr=0.001"].data.params["lr"] == "0.001"


def test_many_findings_and_many_steps_keep_within_the_limits(plan: Plan, run: RunPaths) -> None:
    findings = tuple(f"finding_{index}" for index in range(150))
    player = Player(run=run, epochs=2, findings=findings)
    jobs = [job for job in plan.jobs if job.labels.get("after") == "none" and job.labels.get("fraction") == 1.0]
    player.play(jobs)
    for step in range(2000):
        write_line(run, jobs[0], 1, {"train/loss": 1.0, "train/a@b": 2.0, "train/none": None}, step=1000 + step)
    synced = tracking.sync(plan, run)
    (one,) = runs_of(run, "play").values()
    keys = set(one.data.metrics)
    assert len(keys) <= 100
    assert {"train/loss", "val/auroc_macro", "val/loss", "test/phantom/auroc_macro", "picked/auroc_macro"} <= keys
    assert not any("finding" in key for key in keys)
    assert synced.metrics > 4000
    history = client_of(run).get_metric_history(one.info.run_id, "train/loss")
    assert len(history) == 2004
    assert len({point.step for point in history}) == 2004
    client = client_of(run)
    table = json.loads(Path(client.download_artifacts(one.info.run_id, "tables/test.json")).read_text())
    assert table["columns"] == ["card", "split", "measure", "value"]
    assert len(table["data"]) == 152
    assert tracking.sync(plan, run).metrics == 0


def test_values_that_are_no_numbers_are_left_out(plan: Plan, run: RunPaths) -> None:
    job = trains(plan, "pretrain")[0]
    Player(run=run).play([job])
    file = run.job(job.job_id).attempt(1).metrics
    with file.open("a") as lines:
        lines.write('{"step": 99, "epoch": 9, "metrics": {"train/loss": NaN, "train/lr": Infinity, "val/loss": null}}\n')
    tracking.sync(plan, run)
    (one,) = runs_of(run, "play").values()
    client = client_of(run)
    steps = {point.step for key in one.data.metrics for point in client.get_metric_history(one.info.run_id, key)}
    assert max(steps) == 30


def test_a_long_param_and_an_odd_label_raise_nothing(plan: Plan, run: RunPaths) -> None:
    job = trains(plan, "pretrain")[0]
    odd = replace(job, labels={**job.labels, "a [very] odd @ name": "x" * 20_000, "empty": "", "nothing": None})
    Player(run=run).play([odd])
    edited = replace(plan, jobs=tuple(odd if one is job else one for one in plan.jobs))
    tracking.sync(edited, run)
    (one,) = runs_of(run, "play").values()
    (key,) = [key for key in one.data.params if key.startswith("a _very_ odd")]
    assert one.data.params[key] == "x" * 500
    assert "empty" not in one.data.params
    assert tracking.sync(edited, run).updated == 0
