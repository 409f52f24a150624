"""What cannot be taken back in MLflow, and what belongs to people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mlflow.entities import ViewType

from jobs.paths import RunPaths
from orchestrator import tracking
from orchestrator.model import Plan
from tests.orchestrator.mirror.mirrored import client_of, export, rebuilt, runs_of
from tests.orchestrator.mirror.played import SWEEP, Player, plan_of, trains


def test_a_run_that_says_something_else_is_made_anew_and_keeps_what_people_wrote(
    plan: Plan, run: RunPaths, template: Path, tmp_path: Path
) -> None:
    player = Player(run=run)
    player.play(plan.jobs)
    tracking.sync(plan, run, code="one")
    before = runs_of(run, "play")
    job = trains(plan)[0]
    old = next(one for one in before.values() if one.data.tags["job"] == job.job_id)
    client_of(run).set_tag(old.info.run_id, "mlflow.note.content", "look at this")
    relabelled = replace(job, labels={**job.labels, "draw": 77})
    edited = replace(plan, jobs=tuple(relabelled if one is job else one for one in plan.jobs))
    synced = tracking.sync(edited, run, code="two")
    assert (synced.replaced, synced.created, synced.removed) == (1, 0, 0)
    new = next(one for one in runs_of(run, "play").values() if one.data.tags["job"] == job.job_id)
    assert new.info.run_id != old.info.run_id
    assert new.data.params["draw"] == "77"
    assert (new.data.tags["mlflow.note.content"], new.data.tags["git_sha"]) == ("look at this", "one")
    again = tracking.sync(edited, run)
    assert (again.created, again.updated, again.replaced, again.removed, again.metrics) == (0, 0, 0, 0, 0)
    client_of(run).delete_tag(new.info.run_id, "mlflow.note.content")
    assert export(run, "play") == rebuilt(run, edited, tmp_path / "again", template)


def test_runs_leave_and_come_back_with_their_jobs(plan: Plan, run: RunPaths) -> None:
    Player(run=run).play(plan.jobs)
    tracking.sync(plan, run)
    before = runs_of(run, "play")
    small = replace(plan, jobs=tuple(job for job in plan.jobs if job.labels.get("fraction") != 1.0))
    synced = tracking.sync(small, run)
    assert synced.removed == 3
    assert len(runs_of(run, "play")) == 8
    assert len(runs_of(run, "play", ViewType.ALL)) == 11
    assert tracking.sync(small, run).removed == 0
    back = tracking.sync(plan, run)
    assert (back.created, back.replaced) == (0, 0)
    assert {name: one.info.run_id for name, one in runs_of(run, "play").items()} == {name: one.info.run_id for name, one in before.items()}


def test_what_people_add_is_theirs(plan: Plan, run: RunPaths) -> None:
    Player(run=run).play(plan.jobs)
    experiment = tracking.sync(plan, run).experiment
    client = client_of(run)
    own = client.create_run(experiment, run_name="by hand", tags={"job": "none of yours"})
    theirs = next(iter(runs_of(run, "play").values())).info.run_id
    client.set_tag(theirs, "verdict", "good")
    tracking.sync(replace(plan, jobs=plan.jobs[:1]), run)
    tracking.sync(plan, run)
    assert client.get_run(own.info.run_id).info.lifecycle_stage == "active"
    assert client.get_run(theirs).data.tags["verdict"] == "good"


def test_a_run_that_somebody_deleted_comes_back(plan: Plan, run: RunPaths) -> None:
    Player(run=run).play(plan.jobs)
    tracking.sync(plan, run)
    before = export(run, "play")
    client_of(run).delete_run(next(iter(runs_of(run, "play").values())).info.run_id)
    assert tracking.sync(plan, run).updated == 1
    assert export(run, "play") == before


def test_a_run_that_somebody_renamed_is_known_by_its_tag(plan: Plan, run: RunPaths) -> None:
    Player(run=run).play(plan.jobs[:1])
    tracking.sync(plan, run)
    (before,) = runs_of(run, "play").values()
    client_of(run).update_run(before.info.run_id, name="mine")
    Player(run=run).play(plan.jobs[1:2])
    synced = tracking.sync(plan, run)
    after = runs_of(run, "play").values()
    assert (synced.runs, synced.created, synced.replaced) == (2, 1, 0)
    assert before.info.run_id in {one.info.run_id for one in after}
    assert len({one.data.tags["job"] for one in after}) == 2


def test_two_sweeps_have_a_run_each_of_a_job_that_they_share(run: RunPaths, tmp_path: Path) -> None:
    one = plan_of(tmp_path / "one")
    other = plan_of(tmp_path / "other", SWEEP.replace("sweep: play", "sweep: sequel"))
    Player(run=run).play(one.jobs)
    tracking.sync(one, run)
    tracking.sync(other, run)
    first, second = runs_of(run, "play"), runs_of(run, "sequel")
    assert {run.data.tags["job"] for run in first.values()} == {run.data.tags["job"] for run in second.values()}
    assert not {run.info.run_id for run in first.values()} & {run.info.run_id for run in second.values()}
