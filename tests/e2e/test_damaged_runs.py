"""Files of a run root that are not what was written: each is passed over, written again, or named in one sentence; nothing is lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobs.spec import JobSpec, Stage
from tests.e2e.lab import Lab, assert_said, make_data

GARBAGE = b"\x00\xff{not json\n\x80"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab whose sweep has run."""
    lab = Lab(tmp_path_factory.mktemp("lab"), make_data(tmp_path_factory.mktemp("real")))
    assert_said(lab.type("submit", lab.sweep), 0, "6 succeeded")
    return lab


@contextmanager
def damaged(file: Path, content: bytes | None = GARBAGE) -> Iterator[bytes]:
    """Give a file another content, and its own back afterwards."""
    good = file.read_bytes()
    file.write_bytes(content if content is not None else b"")
    try:
        yield good
    finally:
        if file.parent.exists():
            file.write_bytes(good)


def job_of(lab: Lab, stage: Stage) -> JobSpec:
    return lab.jobs(stage)[0]


# --- what is passed over, or written again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["events.jsonl", "metrics.jsonl", "claim", "env.json", "stdout"], ids=["events", "metrics", "claim", "environment", "output"]
)
def test_a_damaged_file_of_an_attempt_changes_nothing_of_a_job_that_is_done(ran: Lab, name: str) -> None:
    before = ran.results()
    with damaged(ran.run.job(job_of(ran, Stage.TRAIN).job_id).attempt(1).folder / name) as good:
        del good
        assert_said(ran.type("status", "floor"), 0, "6 of 6 done")
        assert_said(ran.type("explain", job_of(ran, Stage.TRAIN).job_id), 0, "state: succeeded")
        assert_said(ran.type("logs", job_of(ran, Stage.TRAIN).short_id), 0)
        assert_said(ran.type("submit", ran.sweep), 0, "nothing left to run; 6 succeeded")
    assert ran.results() == before


def test_an_attempt_whose_records_are_lost_goes_on(ran: Lab) -> None:
    """Nobody knows how it ended: that is an interruption, as after a kill."""
    paths = ran.run.job(job_of(ran, Stage.EVALUATE).job_id)
    good = paths.result.read_bytes()
    with damaged(paths.attempt(1).claim), damaged(paths.attempt(1).events):
        paths.result.unlink()
        assert_said(ran.type("status", "floor"), 0, "5 of 6 done", "its process is gone and left no reason")
        assert_said(ran.type("submit", ran.sweep), 0, "1 job run", "6 succeeded")
    assert paths.result.read_bytes() == good


@pytest.mark.parametrize("content", [GARBAGE, b"", b"[1, 2]", b'{"job_id": 3}'], ids=["bytes", "empty", "a list", "keys missing"])
def test_a_damaged_description_of_a_done_job_is_written_again(ran: Lab, content: bytes) -> None:
    file = ran.run.job(job_of(ran, Stage.TRAIN).job_id).job
    with damaged(file, content) as good:
        assert_said(ran.type("submit", ran.sweep), 0, "nothing left to run")
        assert file.read_bytes() == good


@pytest.mark.parametrize(
    "find",
    [lambda run: run.machine, lambda run: run.cache / "digests.json", lambda run: next((run.cache / "images").glob("*/000000"))],
    ids=["machine", "digests", "decoded images"],
)
def test_what_can_be_made_again_is(ran: Lab, find: Callable[..., Path]) -> None:
    file = find(ran.run)
    paths = ran.run.job(job_of(ran, Stage.EVALUATE).job_id)
    good = paths.result.read_bytes()
    with damaged(file):
        paths.result.unlink()
        assert_said(ran.type("submit", ran.sweep), 0, "1 job run", "6 succeeded")
    assert paths.result.read_bytes() == good


# --- what is named -----------------------------------------------------------------------------------------------------------------------


def test_a_damaged_plan_is_named_and_written_again_by_submit(ran: Lab) -> None:
    file = ran.run.sweep("floor").plan
    with damaged(file) as good:
        for command in (["status", "floor"], ["status"], ["report", "floor"], ["explain", "abcdef"], ["sync"], ["gc"]):
            assert_said(ran.type(*command), 2, f"{file}: not a plan (", "move it away and submit the sweep again")
        assert_said(ran.type("submit", ran.sweep), 0, "nothing left to run")
        assert file.read_bytes() == good


def test_a_description_of_something_else_under_the_same_id_is_refused_with_the_difference(ran: Lab) -> None:
    spec = job_of(ran, Stage.TRAIN)
    file = ran.run.job(spec.job_id).job
    other = json.loads(file.read_text(encoding="utf-8"))
    other["config"]["side"] = 4
    with damaged(file, json.dumps(other).encode()):
        said = ran.type("submit", ran.sweep)
        assert_said(said, 2, f"{file}: job {spec.short_id} ({spec.trial}) is stored with another meaning: config.side: 4 -> 8. ")
        assert_said(
            said, 2, "Either raise VERSION of the trainer 'thumbnail', so that its jobs get new ids, or pin the old value in the sweep"
        )


@pytest.mark.parametrize("content", [GARBAGE, b'{"job_id": "cut sh', b"7"], ids=["bytes", "cut short", "a number"])
def test_a_damaged_result_is_named_and_made_again_once_it_is_deleted(ran: Lab, content: bytes) -> None:
    before = ran.results()
    file = ran.run.job(job_of(ran, Stage.EVALUATE).job_id).result
    with damaged(file, content):
        for command in (["report", "floor"], ["submit", ran.sweep], ["sync", "floor"]):
            assert_said(ran.type(*command), 2, f"{file}: damaged (", "delete this file and type `orchestrate resume SWEEP`")
        file.unlink()
        assert_said(ran.type("resume", ran.sweep), 0, "1 job run", "6 succeeded")
        assert ran.results() == before


def test_a_damaged_result_stops_what_reads_it_with_the_same_sentence(ran: Lab) -> None:
    before = ran.results()
    evaluate, pick = job_of(ran, Stage.EVALUATE), job_of(ran, Stage.PICK)
    ran.run.job(evaluate.job_id).result.unlink()
    with damaged(ran.run.job(pick.job_id).result):
        said = ran.type("submit", ran.sweep)
        assert_said(said, 2, f"{ran.run.job(pick.job_id).result}: damaged (", "delete this file and type `orchestrate resume SWEEP`")
        ran.run.job(pick.job_id).result.unlink()
        assert_said(ran.type("resume", ran.sweep), 0, "2 jobs run", "6 succeeded")
        assert ran.results() == before


def test_damaged_weights_are_named_and_trained_again_once_they_are_deleted(ran: Lab) -> None:
    before = ran.results()
    train, evaluate = job_of(ran, Stage.TRAIN), job_of(ran, Stage.EVALUATE)
    folder = ran.run.job(train.job_id).folder
    weights = next(folder.glob("checkpoints/*.safetensors"))
    ran.run.job(evaluate.job_id).result.unlink()
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    said = ran.type("submit", ran.sweep)
    assert_said(said, 2, f"{weights} is not what was written: its sha256 differs", f"delete {folder}")
    shutil.rmtree(folder)
    assert_said(ran.type("resume", ran.sweep), 0, "2 jobs run", "6 succeeded")
    assert ran.results() == before


def test_a_damaged_record_of_a_submission_is_named(ran: Lab) -> None:
    file = ran.run.submissions / "0123.json"
    file.write_bytes(GARBAGE)
    try:
        for command in (["submit", ran.sweep], ["status", "floor"]):
            assert_said(ran.type(*command), 2, f"{file}: not the record of a submission (", "move it away and submit again")
    finally:
        file.unlink()
    assert_said(ran.type("submit", ran.sweep), 0)


def test_a_damaged_mlflow_database_stops_no_sweep(ran: Lab) -> None:
    """It is a mirror: the jobs run, the report is written, and the sentence says how to have it back."""
    file = ran.run.mlflow / "mlflow.db"
    paths = ran.run.job(job_of(ran, Stage.EVALUATE).job_id)
    paths.result.unlink()
    with damaged(file, b"no database at all, whatever its name says" * 100):
        said = ran.spawn("submit", ran.sweep)
        assert_said(said, 0, "MLflow cannot be used; the jobs run without it", "1 job run", "6 succeeded", "report: ")
        assert_said(said, 0, "file is not a database", "t is only a mirror: ", "move it away and type `orchestrate sync`")
        assert_said(ran.spawn("sync"), 2, "t is only a mirror: ")
        file.unlink()
        assert_said(ran.spawn("sync"), 0, "floor: 3 runs in MLflow, 3 new")
        good = file.read_bytes()
    file.write_bytes(good)
