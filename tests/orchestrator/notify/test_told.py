"""What is told, of which sweep, and that it is told once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.paths import RunPaths
from jobs.spec import FailureKind, State
from orchestrator.clusters import load_cluster
from orchestrator.errors import ClusterError
from orchestrator.ledger import JobStatus, states
from orchestrator.model import ClusterConfig, Plan
from orchestrator.notify.settings import Notify
from orchestrator.notify.teller import Teller
from orchestrator.notify.told import ending, tell_end, tell_failure
from tests.orchestrator.notify.sinks import Kept, web
from tests.orchestrator.standin import job, plan

PLAN = plan(job("one"), job("two"), job("three"), sweep="play")


@pytest.fixture
def kept() -> Iterator[Kept]:
    with web() as found:
        yield found


@pytest.fixture
def cluster(tmp_path: Path, kept: Kept) -> ClusterConfig:
    hook = tmp_path / "hook"
    hook.write_text(f"{kept.address}/x")
    return ClusterConfig(
        name="site", backend="inline", run_root=tmp_path / "run", made_root=tmp_path / "made", notify=Notify(webhook_file=hook)
    )


def known(plan: Plan, **failed: str) -> dict[str, JobStatus]:
    """Return states in which all is done but what failed."""
    found: dict[str, JobStatus] = {}
    for one in plan.jobs:
        message = failed.get(one.trial)
        state = State.SUCCEEDED if message is None else State.FAILED
        kind = None if message is None else FailureKind.CUDA_OOM
        found[one.job_id] = JobStatus(
            job_id=one.job_id, state=state, attempt=1, started=1000.0, ended=1090.0, failure=kind, message=message or ""
        )
    return found


def texts(kept: Kept) -> list[Any]:
    return [body["text"] for _, body in kept.posts]


def test_the_end_is_one_line(cluster: ClusterConfig, kept: Kept) -> None:
    assert tell_end(RunPaths(cluster.run_root), cluster, PLAN, known(PLAN, two="no memory")) == []
    (line,) = texts(kept)
    assert line.startswith("play: 2 of 3 done, 1 failed, in 1 min 30 s on site (")
    assert "; 1 failed, such as " in line
    assert "two: no memory" in line
    assert "\n" not in line


def test_the_same_end_is_told_once_and_another_again(cluster: ClusterConfig, kept: Kept) -> None:
    """A client that waits, one that watches and a last job may all come to it."""
    run = RunPaths(cluster.run_root)
    for _ in range(3):
        tell_end(run, cluster, PLAN, known(PLAN, two="no memory"))
    assert len(kept.posts) == 1
    tell_end(run, cluster, PLAN, known(PLAN))
    assert [line.startswith("play: 3 of 3 done, in") for line in texts(kept)] == [False, True]


def test_who_could_not_tell_leaves_it_to_the_next(cluster: ClusterConfig, kept: Kept) -> None:
    run = RunPaths(cluster.run_root)
    away = replace(cluster, notify=Notify(webhook_env="NOT_ON_THIS_NODE"))
    assert len(tell_end(run, away, PLAN, known(PLAN))) == 1
    assert tell_end(run, cluster, PLAN, known(PLAN)) == []
    assert len(kept.posts) == 1


def test_only_what_is_asked_for_is_told(cluster: ClusterConfig, kept: Kept) -> None:
    assert cluster.notify is not None
    run, asked = RunPaths(cluster.run_root), replace(cluster, notify=replace(cluster.notify, on=("budget",)))
    found = known(PLAN, two="no memory")
    tell_failure(run, asked, PLAN, found[PLAN.jobs[1].job_id])
    tell_end(run, asked, PLAN, found, over_budget="12 of 12 GPU-hours are used")
    assert texts(kept) == ["play: 12 of 12 GPU-hours are used"]
    tell_end(run, replace(cluster, notify=None), PLAN, known(PLAN))
    assert len(kept.posts) == 1


def test_a_client_tells_of_the_first_failure_and_of_the_end(cluster: ClusterConfig, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    found, said = known(PLAN, one="boom", two="boom"), list[str]()
    monkeypatch.setattr("orchestrator.notify.teller.states", lambda run, jobs: {job: found[job] for job in jobs})
    teller = Teller(PLAN, RunPaths(cluster.run_root), cluster, said.append)
    for spec in PLAN.jobs[:2]:
        teller.failed(spec.job_id)
    teller.ended(found)
    assert texts(kept) == ["play: one failed on site: CUDA_OOM, boom", ending(PLAN, found, cluster)]
    assert said == []


def test_what_is_not_told_is_a_line_and_no_more(cluster: ClusterConfig, kept: Kept) -> None:
    kept.code, said = 500, list[str]()
    teller = Teller(PLAN, RunPaths(cluster.run_root), cluster, said.append)
    teller.ended(states(RunPaths(cluster.run_root), [spec.job_id for spec in PLAN.jobs]))
    assert said == ["nobody was told: webhook: 127.0.0.1 answers 500; look at the address and at `webhook_as`"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{nodes: true}", "nobody is named; write `webhook_env`, `webhook_file` or `email`"),
        ("{webhook_env: HOOK, webhook_file: a}", "the webhook's address is in `webhook_env` already; keep one of the two"),
        ("{webhook_env: 'https://x'}", "the address itself is a secret"),
        ("{email: [me]}", "an address such as me@lab.org"),
        ("{email: [me@lab.org], smtp: 'a b'}", "a machine and a port, such as mail.lab.org:25"),
        ("{email: [me@lab.org], on: [start]}", "end"),
        ("{webhok_env: HOOK}", "webhook_env"),
    ],
)
def test_what_a_config_may_not_say(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(f"backend: inline\nrun_root: runs\nnotify: {text}\n")
    with pytest.raises(ClusterError, match=r"site\.yaml:3") as caught:
        load_cluster(file)
    assert message in str(caught.value)


def test_a_config_says_whom_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRETS", str(tmp_path))
    file = tmp_path / "site.yaml"
    file.write_text("backend: slurm\nrun_root: runs\nnotify: {webhook_file: $SECRETS/hook, email: [me@lab.org], on: [end], nodes: true}\n")
    assert load_cluster(file).notify == Notify(webhook_file=tmp_path / "hook", email=("me@lab.org",), on=("end",), nodes=True)
    file.write_text("backend: slurm\nrun_root: runs\n")
    assert load_cluster(file).notify is None
