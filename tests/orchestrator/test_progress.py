"""How far a job is, from files that are being written, torn, repeated and long."""

from __future__ import annotations

import json
import os
from pathlib import Path

from jobs.events import append_event
from jobs.paths import JobPaths
from jobs.spec import EventKind, JobSpec, Json
from orchestrator.progress import Progress, progress_of, read_tail, sparkline
from tests.orchestrator.standin import job

SPEC = job("t", config={"monitor": {"metric": "val/auroc", "mode": "max"}})


def write(paths: JobPaths, attempt: int, *lines: dict[str, Json], torn: str = "") -> None:
    file = paths.attempt(attempt).metrics
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + torn, encoding="utf-8")


def line(step: int, epoch: int, **metrics: float | None) -> dict[str, Json]:
    return {"step": step, "epoch": epoch, "metrics": {name.replace("__", "/"): value for name, value in metrics.items()}}


def read(folder: Path, spec: JobSpec = SPEC) -> Progress:
    return progress_of(spec, JobPaths(folder))


def test_a_job_that_wrote_nothing_is_nowhere(tmp_path: Path) -> None:
    assert read(tmp_path) == Progress()


def test_the_loss_is_shown_until_the_pick_s_metric_is_there(tmp_path: Path) -> None:
    write(JobPaths(tmp_path), 1, line(1, 0, train__loss=2.0, lr=0.1), line(2, 0, train__loss=1.5, lr=0.1))
    assert read(tmp_path) == Progress(step=2, epoch=0, metric="train/loss", values=(2.0, 1.5))
    write(JobPaths(tmp_path), 1, line(1, 0, train__loss=2.0), line(2, 1, train__loss=1.5, val__auroc=0.7))
    assert read(tmp_path) == Progress(step=2, epoch=1, metric="val/auroc", values=(0.7,))


def test_what_a_later_attempt_repeats_counts_once_and_as_it_was_repeated(tmp_path: Path) -> None:
    paths = JobPaths(tmp_path)
    write(paths, 1, line(10, 1, val__auroc=0.5), line(20, 2, val__auroc=0.6))
    write(paths, 2, line(20, 2, val__auroc=0.65), line(30, 3, val__auroc=None))
    assert read(tmp_path) == Progress(step=30, epoch=3, metric="val/auroc", values=(0.5, 0.65))


def test_the_pace_and_what_is_left_are_of_the_running_attempt_s_saves(tmp_path: Path) -> None:
    spec, paths = job("t", config={"epochs": 10, "batch_size": 16}), JobPaths(tmp_path)
    write(paths, 1, line(1, 0, train__loss=1.0), line(10, 0, train__loss=0.9))
    attempt = paths.attempt(1)
    append_event(attempt.events, EventKind.STARTED, time=1000.0)
    os.utime(attempt.metrics, (1005.0, 1005.0))
    # Ten steps in five seconds, and no epoch yet that would tell how many there are.
    assert (read(tmp_path, spec).images_per_second, read(tmp_path, spec).seconds_left) == (32.0, None)
    epochs = [entry for n in (1, 2, 3) for entry in (line(10 * n, n, epoch__loss=0.5), line(10 * n + 5, n, train__loss=0.4))]
    write(paths, 1, line(1, 0, train__loss=1.0), *epochs)
    for epoch, moment in enumerate((1010.0, 1014.0, 1016.0)):
        append_event(attempt.events, EventKind.CHECKPOINTED, step=10 * (epoch + 1), epoch=epoch, time=moment)
    found = read(tmp_path, spec)
    # The last epoch took two seconds; 35 steps of 100 are done.
    assert (found.images_per_second, found.seconds_left, found.epochs) == (80.0, 13.0, 10)


def test_torn_and_foreign_lines_are_passed_over(tmp_path: Path) -> None:
    paths = JobPaths(tmp_path)
    write(paths, 1, line(1, 0, train__loss=1.0), torn='{"step": 2, "metr')
    with paths.attempt(1).metrics.open("a", encoding="utf-8") as file:
        file.write('\n[]\n"x"\n{"step": "3", "metrics": {}}\n')
    assert read(tmp_path).step == 1


def test_only_the_end_of_a_long_file_is_read(tmp_path: Path) -> None:
    paths = JobPaths(tmp_path)
    write(paths, 1, *(line(step, step, train__loss=float(step)) for step in range(20_000)))
    found = read(tmp_path)
    assert found.step == 19_999
    assert 0 < len(found.values) < 2_000
    assert sum(1 for _ in read_tail(paths.attempt(1).metrics)) == len(found.values)


def test_a_row_of_bars_goes_from_the_lowest_to_the_highest_of_the_last_values() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([5.0, 5.0]) == "▄▄"
    assert sparkline([]) == ""
    assert sparkline([0.0] * 5 + [1.0, 2.0], width=2) == "▁█"
