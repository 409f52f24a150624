"""Pictures in the mirror: each sent once, those of an evaluation with the run that was scored, and the same when made from nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.paths import RunPaths
from jobs.pictures import keep_pictures
from jobs.spec import Stage
from orchestrator import tracking
from orchestrator.mirror.entries import TAG_LENGTH
from orchestrator.mirror.sent import PICTURES
from orchestrator.model import Plan
from tests.orchestrator.mirror.mirrored import export, rebuilt, runs_of
from tests.orchestrator.mirror.played import Player, trains


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of pictures in the order in which they are sent."""
    found: list[str] = []
    real = tracking._write_files

    def counted(folder: Path, files: Mapping[str, bytes]) -> None:
        found.extend(path for path in files if path.endswith(".png"))
        real(folder, files)

    monkeypatch.setattr(tracking, "_write_files", counted)
    return found


def test_each_picture_is_sent_once_as_epochs_pass(plan: Plan, run: RunPaths, sent: list[str], template: Path, tmp_path: Path) -> None:
    job = trains(plan, "pretrain")[0]
    Player(run=run).play([job])
    folder = run.job(job.job_id).pictures
    for epoch in (1, 2, 3):
        keep_pictures(folder, {"reconstruction": b"%d" % epoch}, epoch)
        synced = tracking.sync(plan, run)
        assert (synced.created, synced.updated, synced.replaced) == ((1, 0, 0) if epoch == 1 else (0, 1, 0))
    assert sent == [f"pictures/reconstruction-epoch-000{epoch}.png" for epoch in (1, 2, 3)]
    assert tracking.sync(plan, run) == replace(synced, updated=0, metrics=0) and len(sent) == 3
    found = export(run, "play")
    (one,) = found.values()
    assert one["artifacts"]["pictures/reconstruction-epoch-0002.png"] == b"2"
    assert rebuilt(run, plan, tmp_path / "again", template) == found


def test_those_of_an_evaluation_are_with_the_run_that_was_scored(plan: Plan, run: RunPaths, sent: list[str]) -> None:
    Player(run=run).play(plan.jobs)
    tracking.sync(plan, run)
    evaluate = next(job for job in plan.jobs if job.stage is Stage.EVALUATE)
    keep_pictures(run.job(evaluate.job_id).pictures, {"overlay": b"x"})
    synced = tracking.sync(plan, run)
    assert (synced.updated, synced.replaced) == (1, 0)
    assert sent == ["pictures/test/phantom/overlay.png"]
    holders = [name for name, one in export(run, "play").items() if sent[0] in one["artifacts"]]
    assert len(holders) == 1


def test_a_picture_that_is_another_one_is_sent_again(plan: Plan, run: RunPaths, sent: list[str], template: Path, tmp_path: Path) -> None:
    job = trains(plan, "pretrain")[0]
    Player(run=run).play([job])
    for epoch in (1, 2):
        keep_pictures(run.job(job.job_id).pictures, {"x": b"%d" % epoch}, epoch)
    tracking.sync(plan, run)
    keep_pictures(run.job(job.job_id).pictures, {"x": b"other"}, 1)
    tracking.sync(plan, run)
    assert len(sent) == 4
    assert export(run, "play") == rebuilt(run, plan, tmp_path / "again", template)


def test_any_number_of_pictures_fits_the_tag_that_remembers_them(plan: Plan, run: RunPaths) -> None:
    job = trains(plan, "pretrain")[0]
    Player(run=run).play([job])
    for epoch in range(1, 301):
        keep_pictures(run.job(job.job_id).pictures, {"x": b"%d" % epoch}, epoch)
    tracking.sync(plan, run)
    (one,) = runs_of(run, "play").values()
    assert max(len(value) for key, value in one.data.tags.items() if key.startswith("orch.")) < TAG_LENGTH
    assert one.data.tags[PICTURES].startswith("300 ")
