"""The seam with real trainers: whole jobs over real files, and what each of them may see."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from jobs import main
from jobs.paths import JobPaths
from jobs.spec import Stage
from tests.jobs.study import Study, again, ended, run_alone, run_together, said, start, wait_for_beat
from trainers.data import access as gate

# --- the same bytes wherever a job runs -------------------------------------------------------------------------------------------------


def test_a_job_leaves_the_same_bytes_alone_and_after_others_in_one_process(study: Study, tmp_path: Path) -> None:
    other = again(study, tmp_path)
    # Parents first, and otherwise as far from the order of the plan as can be.
    place = {job.job_id: (list(Stage).index(job.stage), job.phase != "pretrain", -index) for index, job in enumerate(other.plan.jobs)}
    jobs = sorted(other.plan.jobs, key=lambda job: place[job.job_id])
    assert run_together([other.paths(job).job for job in jobs]) == main.EXIT_DONE
    for job in study.plan.jobs:
        expected = study.outcome(job)
        assert expected["result.json"]
        assert other.outcome(job) == expected, job.trial
        assert other.metrics(job) == study.metrics(job), job.trial


def test_an_evaluation_that_is_killed_leaves_the_same_bytes_when_run_again(study: Study, tmp_path: Path) -> None:
    job = study.job(Stage.EVALUATE, phase="ensemble")
    before, paths = study.outcome(job), study.paths(job)
    for path in (paths.result, paths.choice, paths.predictions):
        path.unlink()
    for count, there in ((1, {"choice.json"}), (2, {"choice.json", "predictions.parquet"})):
        beats = tmp_path / f"beats{count}"
        process = start(paths.job, beats=beats, pace=0.5)
        wait_for_beat(beats, process, count)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        assert ended(process) == -signal.SIGKILL
        assert study.outcome(job) == {name: before[name] for name in there}
    assert run_alone(paths.job) == main.EXIT_DONE
    assert study.outcome(job) == before


def test_a_result_that_cannot_be_written_costs_no_training(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = again(study, tmp_path)
    job = other.job(Stage.TRAIN, phase="ensemble")
    paths = other.paths(job)

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(main, "write_atomically", full)
        assert main.run(paths.job) == main.EXIT_FAILED
    assert other.last_event(job)["failure"] == "DISK_FULL"
    assert main.run(paths.job) == main.EXIT_DONE
    # Of the whole training, the last validation alone was done again.
    assert list(other.metrics_by_attempt(job)[-1]) == [max(study.metrics(job))]
    assert other.outcome(job) == study.outcome(job)
    assert not list(paths.checkpoints.glob("state-*"))


# --- what a stage may see -----------------------------------------------------------------------------------------------------------------


def test_training_opens_train_and_val_and_only_evaluation_opens_test(study: Study) -> None:
    opened = {job.job_id: set(study.result(job)["data"][0]["splits"]) for job in study.plan.jobs if job.stage is not Stage.PICK}
    for job in study.jobs(Stage.TRAIN):
        assert opened[job.job_id] == ({"train"} if job.phase == "pretrain" else {"train", "val"})
    for job in study.jobs(Stage.EVALUATE):
        assert opened[job.job_id] == {"val", "test"}
    # Losers of a pick are never evaluated: what evaluations name as theirs are winners.
    picked = [study.result(job)["choice"]["runs"] for job in study.jobs(Stage.PICK)]
    winners = {run["job"] for runs in picked for run in runs.values()}
    evaluated = [study.result(job)["train_job"] for job in study.jobs(Stage.EVALUATE)]
    assert sorted(evaluated) == sorted(winners)
    assert len(winners) < len([job for job in study.jobs(Stage.TRAIN) if job.phase != "pretrain"])


def test_the_choice_is_on_disk_before_a_test_row_or_image_is_handed_out(
    study: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = study.job(Stage.EVALUATE, phase="floor")
    paths, before = study.paths(job), study.outcome(job)
    for name in ("result.json", "choice.json", "predictions.parquet"):
        (paths.folder / name).unlink()
    seen: list[tuple[str, bool]] = []
    find, image = gate.Access.find, gate._Guarded.image

    def found(self: gate.Access, split: str) -> gate.Rows | None:
        rows = find(self, split)
        seen.append((split, paths.choice.exists()))
        return rows

    def looked(self: gate._Guarded, position: int) -> np.ndarray:
        of = [split for split, rows in self._gate.access.opened.items() if position in rows.position]
        assert len(of) == 1
        seen.append((f"image of {of[0]}", paths.choice.exists()))
        return image(self, position)

    monkeypatch.setattr(gate.Access, "find", found)
    monkeypatch.setattr(gate._Guarded, "image", looked)
    assert main.run(paths.job) == main.EXIT_DONE, said(paths)
    assert {split for split, _ in seen} == {"val", "test", "image of val", "image of test"}
    assert {there for split, there in seen if "test" in split} == {True}
    assert {there for split, there in seen if "val" in split} == {False}
    assert study.outcome(job) == before
    assert paths.choice.stat().st_mtime_ns < paths.predictions.stat().st_mtime_ns < paths.result.stat().st_mtime_ns


PROBE_CONFIG = '''"""Looks where it may not."""
from dataclasses import dataclass

NAME = "probe"
VERSION = 1

@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    px: int = 32
    look: str = "nowhere"
'''
PROBE_TRAIN = '''"""Looks where it may not, and scores every image the same."""
import numpy as np
import torch
from trainers.api import Scores

class Probe:
    def __init__(self, setup):
        self.setup, self.look = setup, setup.config.look
        self.module = torch.nn.Linear(1, len(setup.labels))

    def solve(self):
        rows = self.setup.data.rows("train")
        if self.look == "test rows while training":
            self.setup.data.rows("test")
        if self.look == "another image while training":
            store = self.setup.data.images(32)
            store.image(next(p for p in range(10_000) if p not in set(rows.position.tolist())))
        return {"train/images": float(len(rows))}

    def validate(self):
        return self.predict(self.setup.data.rows("val"))

    def predict(self, rows):
        if self.setup.predict_only and self.look == "test rows before the choice":
            self.setup.data.rows("test")
        if self.setup.predict_only and self.look == "train rows in evaluation":
            self.setup.data.rows("train")
        logits = np.zeros((len(rows), len(self.setup.labels)), np.float32)
        if self.look != "bad scores in evaluation" or self.setup.predict_only:
            logits[-1, 0] = BAD
        return Scores(rows=rows, logits=logits, labels=self.setup.labels)

BAD = 0.0

def build(setup):
    return Probe(setup)
'''
PROBE_SWEEP = """sweep: probes
data: tiny
phases:
  probe:
    trainer: probe
    compare:
      look: [nowhere, test rows while training, another image while training, test rows before the choice, train rows in evaluation]
    pick: {metric: val/auroc_macro}
    evaluate: [{data: same, split: test}]
"""


def test_a_method_that_looks_where_it_may_not_is_stopped(study: Study, tmp_path: Path) -> None:
    probes = again(study, tmp_path, PROBE_SWEEP, methods={"probe": (PROBE_CONFIG, PROBE_TRAIN)})
    shut = {
        "nowhere": (None, ""),
        "test rows while training": (Stage.TRAIN, "split 'test' of card 'tiny' is shut here"),
        "another image while training": (Stage.TRAIN, "belongs to no split that this stage has opened"),
        "test rows before the choice": (Stage.EVALUATE, "split 'test' of card 'tiny' is shut here"),
        "train rows in evaluation": (Stage.EVALUATE, "split 'train' of card 'tiny' is shut here"),
    }
    for look, (stage, sentence) in shut.items():
        for job in (probes.job(one, look=look) for one in Stage):
            code = main.run(probes.paths(job).job)
            if job.stage is not stage:
                assert code == main.EXIT_DONE, (look, said(probes.paths(job)))
                continue
            event = probes.last_event(job)
            assert (code, event["failure"], event["for_people"]) == (main.EXIT_FAILED, "BAD_DATA", True)
            assert sentence in event["message"]
            assert {path.name for path in probes.paths(job).folder.iterdir()} <= {"job.json", "attempts", "checkpoints"}
            break


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_scores_that_are_not_finite_are_refused(study: Study, tmp_path: Path, value: str) -> None:
    # A value that no YAML holds, so that it is the method's own.
    train = PROBE_TRAIN.replace("BAD = 0.0", f"BAD = float('{value}')")
    sweep = PROBE_SWEEP.replace("test rows while training, another image while training, ", "").replace(
        "test rows before the choice, train rows in evaluation", "bad scores in evaluation"
    )
    probes = again(study, tmp_path, sweep, methods={f"probe_{value}": (PROBE_CONFIG, train)})
    diverged = probes.job(Stage.TRAIN, look="nowhere")
    assert main.run(probes.paths(diverged).job) == main.EXIT_FAILED
    event = probes.last_event(diverged)
    assert event["failure"] == "DIVERGED"
    assert "validation: 1 of" in event["message"] and "not finite (pleural_effusion)" in event["message"]
    for job in (probes.job(stage, look="bad scores in evaluation") for stage in (Stage.TRAIN, Stage.PICK)):
        assert main.run(probes.paths(job).job) == main.EXIT_DONE
    evaluated = probes.job(Stage.EVALUATE, look="bad scores in evaluation")
    paths = probes.paths(evaluated)
    assert main.run(paths.job) == main.EXIT_FAILED
    assert "split 'val' of card 'tiny': 1 of" in probes.last_event(evaluated)["message"]
    assert not (paths.choice.exists() or paths.predictions.exists() or paths.result.exists())


def test_a_job_whose_input_did_not_succeed_is_refused(study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = again(study, tmp_path)
    for job in other.plan.jobs:
        if job.inputs:
            assert main.run(other.paths(job).job) == main.EXIT_REFUSED
            assert "not started, its input" in capsys.readouterr().err
            assert other.paths(job).attempts() == []


def test_the_next_attempt_follows_the_highest_number(tmp_path: Path) -> None:
    paths = JobPaths(tmp_path)
    for number in (1, 3):
        assert main.claim(paths, number) is not None
    claimed = main.claim(paths, None)
    assert claimed is not None and claimed.number == 4
