"""What one job hands to the next: backbones, choices, and refusals of what does not fit."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from jobs import main
from jobs.catalog import find_trainers
from jobs.checkpoints import CheckpointStore
from jobs.spec import Input, JobSpec, Stage, job_id
from tests.jobs.study import MOCO, Study, again, said
from trainers.errors import Error


def backbone_of(file: Path) -> dict[str, torch.Tensor]:
    return {name: value for name, value in load_file(file).items() if name.startswith("backbone.")}


def test_a_backbone_is_handed_on_whole_and_a_frozen_one_stays_as_it_was(study: Study) -> None:
    handed: dict[str, torch.Tensor] = {}
    for job in study.jobs(Stage.TRAIN, phase="finetune", after="pretrain", freeze="backbone") + study.jobs(Stage.TRAIN, phase="linear"):
        (parent,) = job.inputs
        (theirs,) = (one for one in study.jobs(Stage.TRAIN) if one.job_id == parent.job)
        assert (parent.take, theirs.phase) == ("last", "pretrain")
        handed = backbone_of(study.store(theirs).file("epoch-0003", "safetensors"))
        for kept in study.store(job).kept():
            mine = backbone_of(study.store(job).file(kept["name"], "safetensors"))
            assert mine.keys() == handed.keys()
            assert all(torch.equal(mine[name], value) for name, value in handed.items())
        # What became of every key of the file stands in the job's output.
        assert f"(cxr-orchestrator): {len(handed)} loaded, 4 dropped (4 head), 0 left as built" in said(study.paths(job))
    moved = study.jobs(Stage.TRAIN, phase="finetune", after="pretrain", freeze="nothing")[0]
    last = backbone_of(study.store(moved).file("epoch-0003", "safetensors"))
    assert not any(torch.equal(last[name], value) for name, value in handed.items() if name.endswith("weight"))


def renamed(spec: JobSpec, **config: Any) -> JobSpec:
    """Return a job like another but for its config, and so under an id of its own."""
    changed = replace(spec, config={**spec.config, **config})
    return replace(changed, job_id=job_id(changed.identity()))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"arch": "resnet18"}, "config.arch: the moco_cxr parent has slim, this job resnet18: set arch: slim"),
        ({"channels": 3}, "config.channels: the moco_cxr parent has 1, this job 3: set channels: 1"),
    ],
)
def test_another_architecture_than_the_parents_is_refused(study: Study, config: dict[str, Any], sentence: str) -> None:
    job = renamed(study.jobs(Stage.TRAIN, phase="finetune", after="pretrain")[0], **config)
    assert main.run(study.add(job)) == main.EXIT_FAILED
    event = study.last_event(job)
    assert (event["failure"], event["for_people"], event["message"]) == ("ERROR", True, sentence)


def test_what_a_sweep_allows_stands_in_the_result_and_not_in_the_id(study: Study) -> None:
    job = renamed(study.jobs(Stage.EVALUATE)[0], score_per="image")
    allowed = replace(job, contamination=("'a' is scored on 'b' (test), and 'c' trains on 'd': so it is",))
    assert job_id(allowed.identity()) == job.job_id
    assert main.run(study.add(allowed)) == 0
    assert json.loads(study.paths(allowed).result.read_text())["contamination"] == list(allowed.contamination)
    assert "contamination" not in json.loads(study.paths(study.jobs(Stage.EVALUATE)[0]).result.read_text())


def test_weights_of_a_parent_that_were_changed_are_refused(study: Study, tmp_path: Path) -> None:
    other = again(study, tmp_path)
    parent = other.jobs(Stage.TRAIN, phase="pretrain")[0]
    other.run([parent])
    file = other.store(parent).file("epoch-0003", "safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    job = next(job for job in other.jobs(Stage.TRAIN) if job.inputs == (Input(role="init", job=parent.job_id, take="last"),))
    assert main.run(other.paths(job).job) == main.EXIT_FAILED
    assert "is not what was written: its sha256 differs" in other.last_event(job)["message"]


TUNED_SWEEP = f"""sweep: given
data: tiny
phases:
  pretrain:
    trainer: moco_cxr
    config: {{{MOCO}}}
    tune: {{temperature: [0.1, 0.2]}}
  finetune:
    trainer: classification
    after: pretrain
    config: {{arch: slim, px: 32, epochs: 2, batch_size: 8, freeze: backbone, solver: sgd}}
    tune: {{lr: [1e-4, 1e-2]}}
    draws: {{count: [20], repeats: 3, seed: 1}}
    pick: {{metric: val/auroc_macro, scope: cell, on: {{draw: [0]}}}}
    evaluate: [{{data: same, split: test}}]
"""


def test_jobs_outside_the_grid_take_the_winners_values_and_parents(study: Study, tmp_path: Path) -> None:
    given = again(study, tmp_path, TUNED_SWEEP)
    given.run()
    grid = next(job for job in given.jobs(Stage.PICK) if len(job.config["candidates"]) == 4)
    choice = given.result(grid)["choice"]
    best = max(given.result(grid)["candidates"], key=lambda candidate: candidate["value"])
    assert given.result(grid)["candidates"].index(best) == choice["candidate"]
    tuned = [job for job in given.jobs(Stage.TRAIN, phase="finetune") if any(item.role == "tuned" for item in job.inputs)]
    assert {job.labels["draw"] for job in tuned} == {1, 2}
    assert set(choice["overrides"]) == {"lr"} and set(choice["inputs"]) == {"init"}
    (winner,) = choice["runs"].values()
    handed = backbone_of(CheckpointStore(given.workspace.run.job(choice["inputs"]["init"]).checkpoints).file("epoch-0003", "safetensors"))
    for job in tuned:
        assert "lr" not in job.config and job.config["tuned_keys"] == ["lr"]
        config = given.result(job)["config"]
        # In everything that determines weights, the winner's config; the draw alone is another.
        assert config == json.loads(given.workspace.run.job(winner["job"]).result.read_text())["config"]
        mine = backbone_of(given.store(job).file("epoch-0002", "safetensors"))
        assert mine.keys() == handed.keys() and all(torch.equal(mine[name], value) for name, value in handed.items())
    assert len(given.jobs(Stage.EVALUATE)) == 3
    draws = {given.result(job)["data"][0]["draw"]["sha256"] for job in given.jobs(Stage.TRAIN, phase="finetune")}
    assert len(draws) == 3
    # A pick that decided something else than a job waits for is refused by name.
    stale = renamed(tuned[0], tuned_keys=["lr", "epochs"])
    assert main.run(given.add(stale)) == main.EXIT_FAILED
    assert "decided ['lr'], and this job waits for ['epochs', 'lr']; plan again" in given.last_event(stale)["message"]


def test_a_trainer_folder_whose_name_stands_for_other_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python would hand over what it imported first, or its own, and the job would run that."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("one", "other"):
        (tmp_path / name / "same_name").mkdir(parents=True)
        (tmp_path / name / "same_name" / "config.py").write_text(f'NAME = "{name}"\nVERSION = 1\nConfig = dict\n')
    assert find_trainers([tmp_path / "one"])["one"].package == "same_name"
    with pytest.raises(Error, match=r"the name 'same_name' stands for .*one/same_name here, which would run in its place; rename"):
        find_trainers([tmp_path / "other"])
    (tmp_path / "third" / "random").mkdir(parents=True)
    (tmp_path / "third" / "random" / "config.py").write_text("")
    with pytest.raises(Error, match=r"the name 'random' stands for .*rename the folder"):
        find_trainers([tmp_path / "third"])
