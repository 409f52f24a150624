"""One attempt: claimed once, guarded, recorded, classified."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jobs import main
from jobs.events import append_event, read_events
from jobs.paths import JobPaths, RunPaths
from jobs.spec import EventKind, FailureKind, Input, JobSpec, Stage, pretty_json, spec_to_json
from jobs.stages import Node, Stopped
from trainers.errors import Collapsed, DataError, DiskFull, Diverged


def make_spec(job_id: str = "a" * 64, *, stage: Stage = Stage.TRAIN, inputs: tuple[Input, ...] = ()) -> JobSpec:
    return JobSpec(
        job_id=job_id, stage=stage, trainer="toy", trainer_version=1, loop_version=1, config={}, data={}, seed=0, inputs=inputs,
        sweep="toy", phase="p", trial="p",
    )  # fmt: skip


def write_job(root: Path, spec: JobSpec) -> Path:
    paths = RunPaths(root).job(spec.job_id)
    paths.folder.mkdir(parents=True, exist_ok=True)
    paths.job.write_text(pretty_json(spec_to_json(spec)), encoding="utf-8")
    return paths.job


@pytest.fixture
def staged(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Node], dict[str, Any]]], None]:
    def use(stage: Callable[[Node], dict[str, Any]]) -> None:
        monkeypatch.setattr(main, "run_stage", stage)

    return use


def test_a_job_leaves_a_result_and_its_events(tmp_path: Path, staged: Any) -> None:
    def stage(node: Node) -> dict[str, Any]:
        print("said by the stage")  # noqa: T201 (what a method prints must land in its own file)
        node.host.log(1, 0, {"train/loss": 0.5})
        return {"value": 3}

    staged(stage)
    file = write_job(tmp_path, make_spec())
    assert main.run(file) == main.EXIT_DONE
    paths = JobPaths(file.parent)
    assert json.loads(paths.result.read_text()) == {"value": 3}
    assert [event["kind"] for event in read_events(paths.attempt(1).events)] == ["STARTED", "SUCCEEDED"]
    assert "said by the stage" in paths.attempt(1).stdout.read_text()
    assert json.loads(paths.attempt(1).metrics.read_text())["metrics"] == {"train/loss": 0.5}


def test_a_job_with_a_result_runs_no_second_time(tmp_path: Path, staged: Any) -> None:
    calls: list[int] = []
    staged(lambda node: calls.append(1) or {"value": 1})
    file = write_job(tmp_path, make_spec())
    assert main.run(file) == main.EXIT_DONE
    assert main.run(file) == main.EXIT_DONE
    assert calls == [1]
    assert len(JobPaths(file.parent).attempts()) == 1


def test_a_second_start_of_the_same_attempt_is_a_duplicate(tmp_path: Path, staged: Any) -> None:
    staged(lambda node: (_ for _ in ()).throw(Stopped))
    file = write_job(tmp_path, make_spec())
    assert main.run(file, attempt=1) == main.EXIT_STOPPED
    assert main.run(file, attempt=1) == main.EXIT_DUPLICATE
    assert main.run(file, attempt=2) == main.EXIT_STOPPED


def test_an_attempt_is_claimed_by_exactly_one_of_many(tmp_path: Path) -> None:
    paths = JobPaths(tmp_path / "job")
    with ThreadPoolExecutor(16) as pool:
        claims = list(pool.map(lambda _: main.claim(paths, 1), range(64)))
    assert sum(claim is not None for claim in claims) == 1
    with ThreadPoolExecutor(16) as pool:
        free = [claim.number for claim in pool.map(lambda _: main.claim(paths, None), range(16)) if claim]
    assert sorted(free) == list(range(2, 18))


def test_a_job_whose_input_has_no_result_is_refused_and_claims_nothing(
    tmp_path: Path, staged: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    staged(lambda node: {})
    parent = make_spec("b" * 64)
    write_job(tmp_path, parent)
    file = write_job(tmp_path, make_spec(inputs=(Input(role="init", job=parent.job_id),)))
    assert main.run(file) == main.EXIT_REFUSED
    assert "its input bbbbbbbbbbbb (init) has no result" in capsys.readouterr().err
    assert JobPaths(file.parent).attempts() == []


@pytest.mark.parametrize(("failure", "goes_on"), [("DIVERGED", True), ("COLLAPSED", True), ("ERROR", False), ("BAD_DATA", False)])
def test_a_pick_goes_on_without_candidates_that_lost(tmp_path: Path, failure: str, goes_on: bool) -> None:
    candidate = make_spec("c" * 64)
    write_job(tmp_path, candidate)
    attempt = main.claim(RunPaths(tmp_path).job(candidate.job_id), 1)
    assert attempt is not None
    append_event(attempt.events, EventKind.FAILED, failure=failure)
    pick = make_spec("d" * 64, stage=Stage.PICK, inputs=(Input(role="0", job=candidate.job_id, take="result"),))
    assert (main.missing_inputs(pick, write_job(tmp_path, pick)) == "") is goes_on


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Diverged("the loss is nan"), FailureKind.DIVERGED),
        (Collapsed("it collapsed"), FailureKind.COLLAPSED),
        (DataError("a file is missing"), FailureKind.BAD_DATA),
        (DiskFull("no space"), FailureKind.DISK_FULL),
        (MemoryError(), FailureKind.HOST_OOM),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), FailureKind.CUDA_OOM),
        (ZeroDivisionError("division by zero"), FailureKind.ERROR),
    ],
)
def test_a_failure_is_classified_and_kept(tmp_path: Path, staged: Any, error: Exception, kind: FailureKind) -> None:
    def stage(node: Node) -> dict[str, Any]:
        raise error

    staged(stage)
    file = write_job(tmp_path, make_spec())
    assert main.run(file) == main.EXIT_FAILED
    attempt = JobPaths(file.parent).attempt(1)
    last = read_events(attempt.events)[-1]
    assert (last["kind"], last["failure"]) == ("FAILED", str(kind))
    assert type(error).__name__ in attempt.traceback.read_text()
    assert not JobPaths(file.parent).result.exists()


def test_what_a_job_changes_in_its_process_is_put_back(tmp_path: Path, staged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "before")

    def stage(node: Node) -> dict[str, Any]:
        os.environ["KEPT"] = "changed"
        os.environ["ADDED"] = "1"
        os.chdir(tmp_path)
        return {}

    staged(stage)
    folder = Path.cwd()
    assert main.run(write_job(tmp_path, make_spec())) == main.EXIT_DONE
    assert (os.environ["KEPT"], os.environ.get("ADDED"), Path.cwd()) == ("before", None, folder)


def test_the_command_says_how_to_use_it() -> None:
    done = subprocess.run([sys.executable, "-m", "jobs", "walk"], capture_output=True, text=True, check=False)
    assert done.returncode == main.EXIT_USAGE
    assert done.stderr.startswith("usage: python -m jobs")
