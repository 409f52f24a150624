"""Data sets of a run: what was opened, with a digest that two runs share when they have learnt from the same images."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import mlflow.data
import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Run
from mlflow.exceptions import MlflowException

from jobs.paths import RunPaths
from jobs.spec import JobSpec
from orchestrator import tracking
from orchestrator.errors import TrackingError
from orchestrator.mirror import rows
from orchestrator.mirror.inputs import used_by
from orchestrator.mirror.outcomes import Outcome
from orchestrator.model import Plan
from tests.orchestrator.mirror.mirrored import client_of, export, runs_of
from tests.orchestrator.mirror.played import Player, trains


def inputs_by_context(one: Run) -> dict[str, Dataset]:
    return {next(tag.value for tag in each.tags if tag.key == "mlflow.data.context"): each.dataset for each in given_to(one)}


def given_to(one: Run) -> list[DatasetInput]:
    return one.inputs.dataset_inputs if one.inputs else []


def test_a_run_lists_what_it_has_opened(plan: Plan, run: RunPaths) -> None:
    Player(run=run).play(plan.jobs)
    tracking.sync(plan, run)
    runs = runs_of(run, "play")
    winner, loser = inputs_by_context(runs["finetune-none-0.1-d00"]), inputs_by_context(runs["finetune-pretrain-lr=0.0001-0.1-d00"])
    assert set(winner) == {"training", "validation", "test"}
    assert set(inputs_by_context(runs["pretrain-lr=0.001"])) == {"training", "validation"}
    assert {one.name for one in winner.values()} == {"phantom"}
    assert json.loads(str(winner["training"].profile)) == {"images": 20, "patients": 10}
    assert [one["name"] for one in json.loads(str(winner["test"].schema))["mlflow_colspec"]] == [
        "pleural_effusion",
        "edema",
        "cardiomegaly",
    ]
    # The same draw in two arms is the same data; another draw is not, and validation is the same for all.
    assert loser["training"].digest == winner["training"].digest
    other = inputs_by_context(runs["finetune-none-0.1-d01"])
    assert (other["training"].digest != winner["training"].digest, other["validation"].digest) == (True, winner["validation"].digest)


def test_a_source_says_what_the_digest_is_of_and_can_be_read_back(plan: Plan, run: RunPaths) -> None:
    job = trains(plan)[0]
    Player(run=run).play([one for one in plan.jobs if one.job_id == job.job_id or one.phase == "pretrain"])
    tracking.sync(plan, run)
    one = next(one for one in runs_of(run, "play").values() if one.data.tags["job"] == job.job_id)
    given = next(each for each in given_to(one) if each.dataset.digest == inputs_by_context(one)["training"].digest)
    tags = mlflow.data.get_source(given).to_dict()["tags"]
    source = job.data["sources"][0]
    assert {key: tags[key] for key in source} == dict(source)
    assert (tags["part"], tags["draw_sha256"][:16]) == ("train", one.data.tags["draw_sha256"])


def test_inputs_are_written_once_and_people_may_add_theirs(plan: Plan, run: RunPaths) -> None:
    Player(run=run).play(plan.jobs)
    tracking.sync(plan, run)
    one = runs_of(run, "play")["finetune-none-1.0-d00"]
    theirs = DatasetInput(Dataset("notes", "1", "code", "{}"), [InputTag("mlflow.data.context", "training")])
    client_of(run).log_inputs(one.info.run_id, [theirs])
    before = export(run, "play")
    # Another plan makes a sync look at every run again: the tag `plan` is another.
    loser = next(job for job in trains(plan) if job.labels.get("lr") == 1e-4)
    smaller = replace(plan, jobs=tuple(job for job in plan.jobs if job is not loser))
    again = tracking.sync(smaller, run)
    back = tracking.sync(plan, run)
    assert (again.replaced, back.replaced, back.created) == (0, 0, 0)
    assert tracking.sync(plan, run) == replace(back, updated=0)
    assert export(run, "play") == before
    assert len(before["finetune-none-1.0-d00"]["inputs"]) == 4


def test_a_run_whose_data_is_other_than_it_says_is_made_anew(plan: Plan, run: RunPaths) -> None:
    job = trains(plan, "pretrain")[0]
    Player(run=run).play([job])
    tracking.sync(plan, run)
    result = json.loads(run.job(job.job_id).result.read_text())
    result["data"][0]["splits"]["val"]["images"] = 39
    run.job(job.job_id).result.write_text(json.dumps(result))
    assert tracking.sync(plan, run).replaced == 1
    (one,) = runs_of(run, "play").values()
    assert json.loads(str(inputs_by_context(one)["validation"].profile))["images"] == 39


def test_what_an_evaluation_opens_is_told_apart(plan: Plan) -> None:
    job = trains(plan)[0]
    opened = {"card": "phantom", "splits": {"train": counts(8), "val": counts(4)}, "draw": {"sha256": "d" * 64}}
    result = {"labels": ["edema"], "data": [opened]}
    held_out = {"card": "phantom", "splits": {"held_out": counts(2), "val": counts(4)}, "draw": {"sha256": "d" * 64}}
    elsewhere = {"card": "shenzhen", "splits": {"test": counts(9), "val": counts(5)}, "draw": None}
    outcome = Outcome(evaluations=[scored(job, "held_out", held_out), scored(job, "test", elsewhere)])
    found, on = used_by(job, result, outcome)
    digests = {(one.name, one.context): one.digest for one in found}
    assert on == {f"{split}/{card}/auroc_macro": (card, digests[card, "test"]) for split, card in _SCORED}
    assert sorted((one.name, one.context, json.loads(one.profile)["images"]) for one in found) == [
        ("phantom", "test", 2),
        ("phantom", "training", 8),
        ("phantom", "validation", 4),
        ("shenzhen", "test", 9),
        # Its own validation split chose the thresholds; that of the training card was there before.
        ("shenzhen", "thresholds", 5),
    ]
    assert len({one.digest for one in found}) == 5
    assert used_by(job, None, Outcome()) == ((), {})


def test_a_digest_follows_the_files_the_draw_what_is_missing_and_the_labels(plan: Plan) -> None:
    job = trains(plan)[0]
    facts: dict[str, Any] = {"card": "phantom", "splits": {"train": counts(8)}, "draw": {"sha256": "d" * 64}}
    missing = {"train": {"images": 1, "of": 9, "sha256": "m" * 64}}
    source = {**job.data["sources"][0], "card_sha256": "0" * 64}
    found = [
        used_by(spec, {"labels": labels, "data": [opened]}, Outcome())[0][0].digest
        for spec, labels, opened in (
            (job, ["edema"], facts),
            (job, ["edema"], {**facts, "left_out": {"train": {"images": 0, "of": 8, "sha256": "e" * 64}}}),
            (job, ["edema"], {**facts, "draw": {"sha256": "c" * 64}}),
            (job, ["edema"], {**facts, "left_out": missing}),
            (job, ["edema", "mass"], facts),
            (replace(job, data={**job.data, "sources": [source]}), ["edema"], facts),
        )
    ]
    assert found[0] == found[1]
    assert len(set(found)) == 5


def test_a_source_that_is_too_long_is_cut_to_what_names_it(plan: Plan) -> None:
    job = trains(plan)[0]
    files = {f"labels_{number}.csv": "f" * 64 for number in range(1000)}
    long = replace(job, data={**job.data, "sources": [{**job.data["sources"][0], "files": files}]})
    facts = {"card": "phantom", "splits": {"train": counts(8)}, "draw": None}
    ((one,), _) = used_by(long, {"data": [facts]}, Outcome())
    tags = json.loads(one.source)["tags"]
    assert tags == {"card": "phantom", "card_sha256": job.data["sources"][0]["card_sha256"], "part": "train", "digest": one.digest}
    ((short,), _) = used_by(job, {"data": [facts]}, Outcome())
    assert short.digest != one.digest


def counts(images: int) -> dict[str, int]:
    return {"images": images, "patients": images}


_SCORED = (("held_out", "phantom"), ("test", "shenzhen"))


def scored(job: JobSpec, split: str, opened: dict[str, Any]) -> tuple[JobSpec, dict[str, Any]]:
    return replace(job, job_id=f"{split}-{opened['card']}"), {
        "split": split,
        "card": opened["card"],
        "labels": ["edema"],
        "data": [opened],
        "metrics": {f"{split}/{opened['card']}/auroc_macro": 0.5},
    }


def test_a_data_set_that_another_client_writes_meanwhile_is_no_fault(plan: Plan, run: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    job = trains(plan, "pretrain")[0]
    Player(run=run).play([job])
    real, refusals = MlflowClient.log_inputs, [2]

    def refused(client: MlflowClient, run_id: str, *, datasets: list[DatasetInput]) -> None:
        # As a server answers whose database already has a row that this client has just not seen.
        if refusals[0] > 0:
            refusals[0] -= 1
            raise MlflowException("UNIQUE constraint failed: datasets.experiment_id, datasets.name, datasets.digest")
        real(client, run_id, datasets=datasets)

    monkeypatch.setattr(MlflowClient, "log_inputs", refused)
    # As at a server: requests, and no rows.
    monkeypatch.setattr(rows, "are_known", lambda database: False)
    tracking.sync(plan, run)
    (one,) = runs_of(run, "play").values()
    assert (set(inputs_by_context(one)), refusals) == ({"training", "validation"}, [0])
    # What goes on being refused is told.
    another = trains(plan, "pretrain")[1]
    Player(run=run).play([another])
    refusals[0] = 100
    with pytest.raises(TrackingError, match="UNIQUE constraint"):
        tracking.sync(plan, run)
    assert refusals == [97]
