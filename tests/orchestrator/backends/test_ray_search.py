"""Searches: contests on schedulers of Ray Tune, and a real Ray Tune whose losers stop, whose driver dies, and who goes on."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.events import append_event, read_events
from jobs.main import claim
from jobs.paths import RunPaths
from jobs.spec import EventKind, JobSpec, Json, Stage, State
from jobs.stopping import ending
from orchestrator.backends import base, ray_own
from orchestrator.backends.base import Notice
from orchestrator.backends.ray_search import Referee
from orchestrator.execution.curve import Reading
from orchestrator.searches import contests_of
from tests.orchestrator import client
from tests.orchestrator.client import press_ctrl_c, start, wait_until
from tests.orchestrator.standin import ASHA, SCORE, bodies, chain, plan, search

PATIENCE = 150.0
MEDIAN = {**ASHA, "scheduler": "median"}


@pytest.fixture(autouse=True, scope="module")
def _ray_is_imported_as_the_backend_does() -> None:
    """Ray reads its secret when it is first imported, and a Ray of ours that starts later in this process needs ours."""
    with ray_own._environment(1, ray_own._token()):
        importlib.import_module("ray")


def last_event(run: RunPaths, spec: JobSpec) -> dict[str, Json]:
    attempts = run.job(spec.job_id).attempts()
    events = read_events(attempts[-1].events) if attempts else []
    return events[-1] if events else {}


def is_done(run: RunPaths, spec: JobSpec) -> bool:
    return run.job(spec.job_id).result.exists()


def is_lost(run: RunPaths, spec: JobSpec) -> bool:
    return last_event(run, spec).get("search") == ASHA


def played(run: RunPaths, spec: JobSpec, curve: list[float], kind: EventKind, **fields: Json) -> None:
    """Write an attempt that logged a curve and ended."""
    attempt = claim(run.job(spec.job_id), None)
    assert attempt is not None
    lines = [{"step": epoch, "epoch": epoch, "metrics": {SCORE: value}} for epoch, value in enumerate(curve, start=1)]
    attempt.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    append_event(attempt.events, kind, **fields)


# --- contests, without a Ray that runs


class Match:
    """A contest over the files of a run root, judged by hand."""

    def __init__(self, root: Path, jobs: tuple[JobSpec, ...], *, running: Iterable[JobSpec] | None = None) -> None:
        self.run = RunPaths(root)
        self.trains = [job for job in jobs if job.stage is Stage.TRAIN]
        self.notices: list[Notice] = []
        here = [job.job_id for job in (self.trains if running is None else running)]
        self.referee = Referee(contests_of(jobs), self.run, self.notices.append, running=here)
        for job in self.trains:
            if job.job_id in here:
                claim(self.run.job(job.job_id), None)

    def loses(self, n: int, epoch: int, value: float) -> bool:
        return self.referee.loses(self.trains[n].job_id, 1, Reading(epoch=epoch, value=value))


def test_asha_stops_what_is_behind_at_a_rung_and_tells_its_attempt(tmp_path: Path) -> None:
    match = Match(tmp_path, search("a", [[0.0] * 16] * 4))
    assert [match.loses(0, epoch, 0.9) for epoch in (1, 2, 3, 4)] == [False] * 4
    assert match.loses(1, 1, 0.2)
    assert not match.loses(2, 1, 0.95), "better than all before"
    assert match.loses(2, 4, 0.5), "and behind at the next rung"
    told = [ending(match.run.job(job.job_id).attempt(1)) for job in match.trains]
    assert told[0] == {"resumable": True}
    assert told[1] == {"search": ASHA, "message": "asha on val/score: 0.2 at epoch 1 of 16 was losing"}
    assert told[2]["message"] == "asha on val/score: 0.5 at epoch 4 of 16 was losing"


def test_what_lost_stays_lost_when_its_worker_died_before_it_could_stop(tmp_path: Path) -> None:
    match = Match(tmp_path, search("a", [[0.0] * 16] * 3))
    match.loses(0, 1, 0.9)
    assert match.loses(1, 1, 0.2)
    assert match.loses(1, 1, 0.2)
    assert match.loses(1, 2, 0.99)


def test_a_job_at_its_last_epoch_has_nothing_left_to_save(tmp_path: Path) -> None:
    match = Match(tmp_path, search("a", [[0.0] * 4] * 3))
    assert not any(match.loses(0, epoch, 0.9) for epoch in (1, 4))
    assert not match.loses(1, 4, 0.1)


def test_the_last_one_standing_is_never_stopped(tmp_path: Path) -> None:
    jobs = search("a", [[0.0] * 16] * 3)
    played(RunPaths(tmp_path), jobs[0], [0.9] * 3, EventKind.FAILED, failure="ERROR")
    match = Match(tmp_path, jobs, running=jobs[1:3])
    assert match.loses(1, 1, 0.2)
    assert not any(match.loses(2, epoch, 0.1) for epoch in range(1, 17)), "worse than both, and nobody else is left to pick"


def test_a_job_that_is_resumed_may_lose_before_its_new_attempt_is_claimed(tmp_path: Path) -> None:
    """What it logged before it was interrupted is judged at once, while the worker is still starting it."""
    match = Match(tmp_path, search("a", [[0.0] * 16] * 2))
    match.loses(0, 1, 0.9)
    assert match.referee.loses(match.trains[1].job_id, 7, Reading(epoch=1, value=0.1))
    attempt = claim(match.run.job(match.trains[1].job_id), 7)
    assert attempt is not None
    assert ending(attempt)["search"] == ASHA


def test_minimising_stops_the_larger(tmp_path: Path) -> None:
    match = Match(tmp_path, search("a", [[0.0] * 16] * 3, rule={**ASHA, "mode": "min"}))
    match.loses(0, 1, 0.2)
    assert match.loses(1, 1, 0.9)
    assert not match.loses(2, 1, 0.1)


def test_grace_is_given_to_all(tmp_path: Path) -> None:
    match = Match(tmp_path, search("a", [[0.0] * 16] * 2, rule={**ASHA, "grace": 3}))
    for epoch in (1, 2, 3):
        match.loses(0, epoch, 0.9)
    assert [match.loses(1, epoch, 0.1) for epoch in (1, 2, 3)] == [False, False, True]


def test_median_stops_what_is_worse_than_the_others_usually_were(tmp_path: Path) -> None:
    match = Match(tmp_path, search("a", [[0.0] * 8] * 6, rule=MEDIAN))
    for n, value in enumerate((0.5, 0.6, 0.7)):
        assert not any(match.loses(n, epoch, value) for epoch in range(1, 9)), "with fewer than three others nobody is judged"
    assert match.loses(3, 1, 0.1)
    assert not match.loses(4, 1, 0.65)
    assert match.loses(5, 1, 0.2)


@pytest.mark.parametrize("rule", [ASHA, MEDIAN])
def test_a_search_that_was_interrupted_goes_on_with_what_it_knew(tmp_path: Path, rule: dict[str, Json]) -> None:
    """Jobs that finished, were stopped or failed before are judged against, and none of them is judged again."""
    jobs = search("a", [[0.0] * 8] * 5, rule=rule)
    run = RunPaths(tmp_path)
    ends = (EventKind.SUCCEEDED, {}), (EventKind.STOPPED, {"search": rule}), (EventKind.FAILED, {"failure": "ERROR"})
    for job, value, (kind, fields) in zip(jobs, (0.9, 0.5, 0.7), ends, strict=False):
        played(run, job, [value] * 8, kind, **fields)
    match = Match(tmp_path, jobs, running=jobs[3:5])
    assert match.loses(3, 1, 0.1)
    assert not match.loses(4, 1, 0.95)


def test_a_metric_that_nobody_logs_is_said_once(tmp_path: Path) -> None:
    match = Match(tmp_path, search("a", [[0.0]] * 2))
    for job in match.trains:
        match.referee.unheard(job.job_id)
    (notice,) = match.notices
    assert notice.message.endswith("of phase 'toy' logged no val/score: its search stops nothing")


# --- a real Ray Tune


def test_losers_stop_and_the_pick_chooses_among_the_others(tmp_path: Path) -> None:
    """Two searches and a chain in one experiment; each search stops its own losers, and the same command again runs nothing."""
    # The good ones are alike at every rung, so that neither loses, and quick; the bad ones are slow.
    low = [[0.1 * n] * 60 for n in (1, 2, 3)]
    first = search("a", [[0.9] * 8, [*[0.9] * 7, 0.95], *low], seconds=(0.8, 0.8, 60, 60, 60))
    # All below the first search's losers: nobody is stopped for what another search reaches.
    second = search("b", [[0.05] * 8, [0.01] * 60], seconds=(0.8, 60))
    over = plan(*first, *second, *chain("c", seconds=0.2))
    notices: list[Notice] = []
    summary = client.run_here(over, tmp_path, "ray", notify=notices.append)
    run = RunPaths(tmp_path)
    names = over.by_id()
    stopped = {names[job].trial for job, status in summary.states.items() if status.state is State.STOPPED}
    assert stopped == {"a/train2", "a/train3", "a/train4", "b/train1"}
    assert {status.state for job, status in summary.states.items() if names[job].trial not in stopped} == {State.SUCCEEDED}
    assert (summary.exit_code, summary.unfinished) == (0, ())
    for spec in over.jobs:
        event, paths = last_event(run, spec), run.job(spec.job_id)
        if spec.trial in stopped:
            assert (event["kind"], event["search"], "resumable" in event) == ("STOPPED", ASHA, False)
            assert not paths.result.exists()
            assert int((paths.folder / "progress").read_text()) < 6000, "it did not run to its end"
        assert len(bodies(paths.folder)) == (0 if spec.stage is Stage.PICK and "candidates" in spec.config else 1)
    picked = json.loads(run.job(first[5].job_id).result.read_text())
    assert (picked["choice"]["candidate"], picked["choice"]["runs"][""]["job"]) == (1, first[1].job_id)
    assert [item["status"] for item in picked["candidates"]] == ["ok", "ok", "STOPPED", "STOPPED", "STOPPED"]
    losers = {job.job_id for job in first[2:5]}
    assert [notice.state for notice in notices if notice.kind == "ended" and notice.job_id in losers] == [State.STOPPED] * 3

    assert client.run_here(over, tmp_path, "ray").submitted == 0
    assert client.run_here(over, tmp_path, "inline").submitted == 0


def test_a_search_that_a_person_stops_and_then_a_kill_is_finished_by_the_same_command(tmp_path: Path) -> None:
    """Ctrl-C leaves jobs to be gone on with, a search does not; and the third command knows what the first two had seen."""
    seconds = 9.0
    over = client.searched(seconds)
    run = RunPaths(tmp_path)
    trains = [spec for spec in over.jobs if spec.stage is Stage.TRAIN]

    def is_under_way(spec: JobSpec) -> bool:
        progress = run.job(spec.job_id).folder / "progress"
        return progress.exists() and int(progress.read_text()) > 5

    first = start(tmp_path, "ray", name="search", seconds=seconds)
    wait_until(lambda: is_under_way(trains[1]), "the better job to be under way", PATIENCE)
    press_ctrl_c(first)
    out, errors = first.communicate(timeout=PATIENCE)
    assert (first.returncode, errors, json.loads(out.splitlines()[-1])["halted"]) == (1, "", True)
    assert last_event(run, trains[1])["resumable"] is True, "a person's word is not that of a search"
    assert not run.job(trains[1].job_id).result.exists()

    second = start(tmp_path, "ray", name="search", seconds=seconds)
    wait_until(lambda: any(is_lost(run, spec) for spec in trains), "a loser to be stopped", PATIENCE)
    second.kill()
    second.communicate()
    before = {spec.job_id: len(bodies(run.job(spec.job_id).folder)) for spec in trains if is_lost(run, spec) or is_done(run, spec)}
    assert before

    third = start(tmp_path, "ray", name="search", seconds=seconds)
    out, errors = third.communicate(timeout=PATIENCE)
    assert (third.returncode, errors) == (0, "")
    assert json.loads(out.splitlines()[-1])["counts"] == {"SUCCEEDED": 4, "STOPPED": 3}
    assert [is_lost(run, spec) for spec in trains] == [False, False, True, True, True]
    for spec in trains:
        ran = bodies(run.job(spec.job_id).folder)
        assert len(ran) == before.get(spec.job_id, len(ran)), "what had ended is not run again"
        assert len({number for number, _ in ran}) == len(ran), f"{spec.trial}: an attempt ran twice"
    picked = json.loads(run.job(over.jobs[5].job_id).result.read_text())
    assert picked["choice"]["candidate"] == 1
    assert client.run_here(over, tmp_path, "ray").submitted == 0


def test_a_backend_that_cannot_stop_runs_every_sample_in_full(tmp_path: Path) -> None:
    over = plan(*search("a", [[0.8] * 3, [0.1] * 3, [0.2] * 3]))
    assert not base.load(client.cluster(tmp_path, "inline")).capabilities.searches
    summary = client.run_here(over, tmp_path, "inline")
    assert {status.state for status in summary.states.values()} == {State.SUCCEEDED}


def test_what_a_search_stopped_goes_on_when_the_sweep_searches_no_more(tmp_path: Path) -> None:
    """The same train job in full: it goes on from its checkpoint, and the pick, which is another without the rule, counts it."""
    curves = [[0.3] * 4, [0.9] * 4]
    run = RunPaths(tmp_path)
    searched = search("a", curves)
    played(run, searched[1], [0.9], EventKind.STOPPED, search=ASHA, message="was losing")
    summary = client.run_here(plan(*searched), tmp_path, "inline")
    assert summary.states[searched[1].job_id].state is State.STOPPED
    assert summary.states[searched[1].job_id].message == "was losing"
    assert json.loads(run.job(searched[2].job_id).result.read_text())["choice"]["candidate"] == 0

    full = search("a", curves, rule=None)
    assert [job.job_id for job in full[:2]] == [job.job_id for job in searched[:2]]
    summary = client.run_here(plan(*full), tmp_path, "inline")
    assert {status.state for status in summary.states.values()} == {State.SUCCEEDED}
    assert json.loads(run.job(full[2].job_id).result.read_text())["choice"]["candidate"] == 1
    # And with the search again, what has its result by now stays as it is.
    assert client.run_here(replace(plan(*searched), sweep="again"), tmp_path, "inline").submitted == 0
