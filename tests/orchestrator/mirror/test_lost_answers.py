"""A server that carries out what it is asked, and whose answer does not come: nothing is lost, and nothing stands twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from jobs.paths import RunPaths
from orchestrator import tracking
from orchestrator.errors import TrackingError
from orchestrator.mirror.answers import ANSWER_SECONDS, RETRIES, TRIES
from orchestrator.model import Plan
from tests.orchestrator.mirror.losing import LosingServer, losing_server
from tests.orchestrator.mirror.mirrored import client_of
from tests.orchestrator.mirror.played import Player, plan_of, trains
from tests.orchestrator.mirror.test_many_writers import SWEEP

#: All that a sync of a known experiment asks for that changes something.
CHANGES = (
    "PATCH mlflow/logged-models",
    "POST experiments/set-experiment-tag",
    "POST mlflow/logged-models",
    "POST runs/create",
    "POST runs/delete",
    "POST runs/delete-tag",
    "POST runs/log-batch",
    "POST runs/log-inputs",
    "POST runs/outputs",
    "POST runs/restore",
    "POST runs/update",
    "PUT artifacts",
)
#: What stands there twice when it is asked for twice, each with the other number of retries.
MADE_TWICE = tuple((change, 1 - CHANGES.index(change) % 2) for change in ("POST mlflow/logged-models", "POST runs/create"))


@dataclass(frozen=True, slots=True)
class Ground:
    """A server, and files at two times: a later sync has runs to make, to complete, to replace, to bring back and to put away."""

    server: LosingServer
    plan: Plan
    run: RunPaths
    kept: Path

    def sync(self) -> tracking.Synced:
        return tracking.sync(self.plan, self.run, uri=self.server.address)


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """What the later sync makes of it, and what it asks for."""

    content: Any
    asked: list[str]

    def number(self, request: str) -> int:
        return self.asked.index(request) + 1


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("lost")
    plan = plan_of(folder, SWEEP.format(name="lost", epochs=7).replace("repeats: [2]", "repeats: [5]"))
    run, jobs = RunPaths(folder / "run"), trains(plan)
    failed, relabelled, deleted, gone, _ = jobs
    player = Player(run=run, epochs=2)
    player.troubles.raises[failed.job_id], player.troubles.after[failed.job_id] = ValueError("no luck"), 1
    player.play(jobs[:4])
    with losing_server(folder / "server", template) as server:
        other = replace(relabelled, labels={**relabelled.labels, "draw": 77})
        early = replace(plan, jobs=tuple(other if job is relabelled else job for job in plan.jobs))
        experiment = tracking.sync(early, run, uri=server.address).experiment
        client = client_of(run, server.address)
        runs = client.search_runs([experiment])
        client.delete_run(next(one.info.run_id for one in runs if one.data.tags["job"] == deleted.job_id))
        client.set_experiment_tag(experiment, "orch.sweep", "another")
        (folder / "kept").mkdir()
        server.keep(folder / "kept")
        player.troubles.raises.clear()
        player.play(plan.jobs)
        late = replace(plan, jobs=tuple(job for job in plan.jobs if job is not gone))
        yield Ground(server, late, run, folder / "kept")


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")


@pytest.fixture
def server(ground: Ground) -> LosingServer:
    """Return the server as the later sync finds it."""
    ground.server.restore(ground.kept)
    ground.server.lose(0)
    return ground.server


@pytest.fixture(scope="module")
def undisturbed(ground: Ground) -> Undisturbed:
    ground.server.restore(ground.kept)
    ground.server.lose(0)
    synced = ground.sync()
    asked = ground.server.asked()
    assert (synced.created, synced.updated, synced.replaced, synced.removed) == (1, 2, 1, 1)
    assert {one for one in asked if not one.startswith("GET") and not one.endswith("/search")} == set(CHANGES)
    content = ground.server.content()
    assert all(said[-3] for name, said in content.items() if name != "experiments"), "the test compares no inputs"
    return Undisturbed(content, asked)


def problem(ground: Ground, undisturbed: Undisturbed, number: int) -> str:
    """Lose the answer of one request of the later sync, and say what is wrong with what it leaves."""
    ground.server.restore(ground.kept)
    ground.server.lose(number)
    what = undisturbed.asked[number - 1]
    try:
        ground.sync()
    except TrackingError as error:
        return f"{what}: {error}"
    finally:
        ground.server.lose(0)
    if ground.server.content() != undisturbed.content:
        return f"{what}: another store"
    again = ground.sync()
    nothing = (again.created, again.updated, again.replaced, again.removed, again.metrics) == (0, 0, 0, 0, 0)
    return "" if nothing else f"{what}: something was left to do: {again}"


@pytest.mark.parametrize(("change", "retries"), [*((change, number % 2) for number, change in enumerate(CHANGES)), *MADE_TWICE])
def test_an_answer_that_is_lost_once(
    ground: Ground, undisturbed: Undisturbed, change: str, retries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow asks again by itself as a rule; each second kind is asked without that, so that only what is here helps."""
    monkeypatch.setenv(RETRIES, str(retries))
    assert problem(ground, undisturbed, undisturbed.number(change)) == ""


@pytest.mark.slow
@pytest.mark.parametrize("retries", ["0", "2"])
def test_any_answer_that_is_lost_once(ground: Ground, undisturbed: Undisturbed, retries: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RETRIES, retries)
    found = [problem(ground, undisturbed, number) for number in range(1, len(undisturbed.asked) + 1)]
    assert [one for one in found if one] == []


@pytest.mark.parametrize("retries", ["0", "1"])
def test_an_experiment_is_made_and_brought_back_though_nobody_says_so(
    ground: Ground, server: LosingServer, retries: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RETRIES, retries)
    client = client_of(ground.run, server.address)
    for state in ("create", "restore"):
        server.lose(2)
        made = tracking.prepare(ground.run, "another", uri=server.address)
        assert server.asked()[1] == f"POST experiments/{state}"
        server.lose(0)
        found = client.get_experiment_by_name("another")
        assert found is not None
        assert (found.experiment_id, found.lifecycle_stage) == (made, "active")
        client.delete_experiment(made)


def test_a_server_that_answers_no_more_is_made_good_later(
    ground: Ground, undisturbed: Undisturbed, server: LosingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything after some request is carried out and not answered: the sync says so, and the next one leaves no trace of it."""
    monkeypatch.setenv(RETRIES, "1")
    first = undisturbed.number("POST runs/create")
    server.lose(first, 10_000)
    with pytest.raises(TrackingError, match=r"cannot be used \(API request to .* failed with exception"):
        ground.sync()
    # What it tries to find out is not answered either: it does not go on for long.
    assert len(server.asked()) < first + 2 * TRIES
    server.lose(0)
    ground.sync()
    assert server.content() == undisturbed.content


def test_a_run_that_is_made_long_after_its_request_is_put_away(
    ground: Ground, undisturbed: Undisturbed, server: LosingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request to make a run waits in a busy server for longer than its client does, which asks again, and is carried out at the end."""
    monkeypatch.setenv(RETRIES, "1")
    server.lose(undisturbed.number("POST runs/create"), hold=True)
    monkeypatch.setenv(ANSWER_SECONDS, "1")
    ground.sync()
    monkeypatch.undo()
    assert server.content() == undisturbed.content
    known = server.count_runs()
    server.release.set()
    while server.count_runs() == known:
        time.sleep(0.05)
    server.lose(0)
    assert ground.sync().removed == 1
    assert server.content() == undisturbed.content
