"""A Slurm without records that forgets what has ended: it runs the child of a failed parent, which our guard refuses, and loses jobs.

`test_cluster` shows the child that runs with plain sbatch.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from jobs.main import EXIT_FAILED, EXIT_REFUSED
from jobs.paths import RunPaths
from jobs.spec import State
from orchestrator import intents
from orchestrator.backends.slurm import backend
from orchestrator.decide import Why
from orchestrator.sightings import NOT_FOUND, Sighting
from tests.orchestrator.standin import bodies, job, plan
from tests.slurm import client, crash_client
from tests.slurm.cluster import Cluster, Settings, running_cluster
from tests.slurm.crash_points import place_of, recorded, said
from tests.slurm.endings import body, ends
from tests.slurm.nursery import Errand, Nursery

pytestmark = pytest.mark.needs("slurm")

SITE = {"accounting": False}
ALIVE = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING")


@pytest.fixture(scope="module")
def forgetful() -> Iterator[Cluster]:
    """A site without accounting, which forgets ended jobs at once."""
    settings = Settings(accounting=False, min_job_age=2)
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, running_cluster(Path(folder), settings) as cluster:
        yield cluster


def test_the_child_of_a_failed_and_forgotten_parent_is_refused_and_not_submitted_again(
    forgetful: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in forgetful.env.items():
        monkeypatch.setenv(name, value)
    for name in ("here", "counted"):
        crash_client.share_code(tmp_path / name, tmp_path / "code")
    here = tmp_path / "here"
    over, cluster = crash_client.failing(), crash_client.config(here, **SITE)
    parent, child = over.jobs
    run = RunPaths(cluster.run_root)
    with Nursery(forgetful.env) as nursery:
        # The client is held between the sbatch of the parent and that of the child until Slurm has forgotten the parent.
        counted = Errand(folder=str(tmp_path / "counted"), name="first", plan="failing", record=True, site=SITE)
        at = place_of(recorded(nursery, counted), "run sbatch", 2)
        held = nursery.start(Errand(folder=str(here), name="first", plan="failing", at=at, signum=signal.SIGSTOP, site=SITE))
        held.wait_until_stopped()
        [native] = [str(one.intent.native["id"]) for one in intents.open_intents(run) if one.intent.native is not None]
        forgetful.wait_until(lambda: not forgetful.state(native), what="for the parent to be forgotten", timeout=90)
        os.kill(held.pid, signal.SIGCONT)
        assert held.wait() == EXIT_FAILED, said(here, "first")
    sent = next(one.intent for one in intents.open_intents(run) if child.job_id in one.intent.jobs)
    assert sent.native is not None
    log = intents.folder(run, sent.sid) / f"{sent.native['id']}_0_log.out"
    refused = f"its input {parent.job_id[:12]} (init) has no result"
    script = intents.folder(run, sent.sid) / f"{sent.native['id']}_submission.sh"
    assert f"--dependency=afterok:{native}" in script.read_text(), "Slurm was told to wait for a success"
    forgetful.wait_until(lambda: forgetful.state(str(sent.native and sent.native["id"])) not in ALIVE, what="for the child to end")
    assert f"{refused}\n" in log.read_text(), "Slurm started it all the same, and our own guard is what stopped it"
    assert forgetful.job(str(sent.native["id"]))["ExitCode"] == f"{EXIT_REFUSED}:0"
    assert run.job(child.job_id).attempts() == []
    assert bodies(run.job(child.job_id).folder) == []
    again = client.hand_over(over, cluster, wait=True)
    assert again.submitted == 0
    assert {job.trial: again.states[job.job_id].state for job in over.jobs} == {"parent": State.FAILED, "child": State.NEW}
    assert again.kept == {parent.job_id: Why.FAILED, child.job_id: Why.BLOCKED}


def test_a_job_that_left_the_queue_without_a_word_is_looked_for_twice_and_goes_on_at_the_next_call(
    forgetful: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in forgetful.env.items():
        monkeypatch.setenv(name, value)
    cluster = client.config(tmp_path, **SITE)
    over = plan(job("a", config={"seconds": 2, "slow": [1]}))
    client.hand_over(over, cluster, wait=False)
    forgetful.wait_until(body(cluster, over.jobs[0]), what="for the first start")
    (native,) = forgetful.squeue()
    forgetful.run("scancel", "--signal=KILL", f"{native}.0")
    forgetful.wait_until(lambda: not forgetful.state(native), what="for it to be forgotten", timeout=90)
    ask, looks = backend.poll, list[State]()

    def listening(*given: Any, **named: Any) -> Mapping[str, Sighting] | None:
        answer = ask(*given, **named)
        looks.extend(one.state for one in (answer or {}).values() if one.word == NOT_FOUND)
        return answer

    monkeypatch.setattr(backend, "poll", listening)
    done = client.hand_over(over, cluster, wait=True)
    assert (done.submitted, done.counts) == (1, {State.SUCCEEDED: 1})
    assert ends(cluster, over.jobs[0]) == ["LOST", "SUCCEEDED"]
    assert looks[0] is State.UNKNOWN and State.FAILED in looks, "looked for again before it counts as gone"
