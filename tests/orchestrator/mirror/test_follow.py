"""A sync that goes on: until nothing is left to wait for, through times without a store, and for a Slurm allocation on its node."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.paths import RunPaths
from jobs.spec import State
from orchestrator import tracking
from orchestrator.backends.slurm import follower
from orchestrator.clusters import load_cluster
from orchestrator.errors import ClusterError, TrackingError
from orchestrator.ledger import JobStatus, states
from orchestrator.mirror.follow import follow
from orchestrator.model import ClusterConfig, Plan, SlurmSite
from orchestrator.plans import write_plan
from tests.orchestrator.mirror.mirrored import export, rebuilt, runs_of
from tests.orchestrator.mirror.played import Player


def looking(plan: Plan, run: RunPaths, player: Player, rounds: int) -> Iterator[Mapping[str, JobStatus]]:
    """Yield where jobs stand while the sweep is played in so many rounds; the first job counts as running until the last."""
    size = -(-len(plan.jobs) // rounds)
    for number in range(rounds):
        player.play(plan.jobs[number * size : (number + 1) * size])
        found = states(run, [job.job_id for job in plan.jobs])
        first = plan.jobs[0].job_id
        yield found | ({first: replace(found[first], state=State.RUNNING)} if number < rounds - 1 else {})


def test_it_follows_to_the_end(plan: Plan, run: RunPaths, template: Path, tmp_path: Path) -> None:
    rounds, said = looking(plan, run, Player(run=run), 4), list[str]()
    code = follow([plan], run, uri="", say=said.append, look=lambda: next(rounds), every=0.0, halt=threading.Event())
    assert (code, next(rounds, None)) == (0, None)
    assert " new, " in said[0]
    assert len(said) == 4
    assert export(run, "play") == rebuilt(run, plan, tmp_path / "again", template)


def test_a_store_that_is_away_for_a_while_misses_nothing(
    plan: Plan, run: RunPaths, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds, said, calls, sync = looking(plan, run, Player(run=run), 5), list[str](), [0], tracking.sync

    def away(*given: object, **named: object) -> object:
        calls[0] += 1
        if calls[0] in (2, 3):
            raise TrackingError("the server is away")
        return sync(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(tracking, "sync", away)
    assert follow([plan], run, uri="", say=said.append, look=lambda: next(rounds), every=0.0, halt=threading.Event()) == 0
    assert said.count("the server is away") == 1
    assert export(run, "play") == rebuilt(run, plan, tmp_path / "again", template)


def test_a_store_that_stays_away_is_told_by_the_exit_code(plan: Plan, run: RunPaths) -> None:
    said: list[str] = []
    code = follow([plan], run, uri="http://127.0.0.1:9", say=said.append, look=dict, every=0.0, halt=threading.Event())
    assert code == 1
    assert said[0].startswith("the MLflow store http://127.0.0.1:9 cannot be used")


def test_nodes_are_told_of_a_server_only_where_they_reach_it(tmp_path: Path) -> None:
    run = RunPaths(tmp_path / "run")
    file = run.root / "followers" / "play" / "cluster.pickle"
    site = ClusterConfig(name="site", backend="slurm", run_root=run.root, made_root=tmp_path, mlflow="http://mlflow:5000")
    follower.offer(run, "play", site)
    assert not file.exists()
    follower.offer(run, "play", replace(site, slurm=SlurmSite(sync=True)))
    assert pickle.loads(file.read_bytes()).mlflow == "http://mlflow:5000"
    assert file.parent.stat().st_mode & 0o077 == 0
    follower.offer(run, "play", site)
    assert not file.exists()


@pytest.mark.parametrize("store", ["", "mlflow: 'sqlite:////a/b.db'\n", "mlflow: postgresql://db/x\n"])
def test_a_config_that_would_have_nodes_write_into_a_database_is_refused(tmp_path: Path, store: str) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(f"backend: slurm\nrun_root: runs\n{store}slurm: {{sync: true}}\n")
    with pytest.raises(ClusterError, match="nodes send to a server only; name one"):
        load_cluster(file)
    file.write_text("backend: slurm\nrun_root: runs\nmlflow: http://there:5000\nslurm: {sync: true}\n")
    assert load_cluster(file).slurm.sync


_ALLOCATION = """
import sys, time
from types import SimpleNamespace
from pathlib import Path
from jobs.paths import RunPaths
from orchestrator.backends.slurm import follower
follower.is_server = lambda store: True
follower.TRY_EVERY = 0.1
follower.LAST_SYNC = 600.0
run = RunPaths(Path(sys.argv[1]))
mine = follower.Follower(SimpleNamespace(run=run, intent=SimpleNamespace(sweep="play"), is_first=True))
mine.look()
print(mine._child is not None, flush=True)
sys.stdin.read()
mine.end()
"""


def test_of_many_allocations_one_sends_and_another_takes_over(plan: Plan, run: RunPaths, template: Path, tmp_path: Path) -> None:
    """Two processes stand for two allocations; what they send to is a file here, which a config would refuse."""
    player, half = Player(run=run), len(plan.jobs) // 2
    player.play(plan.jobs[:half])
    write_plan(run.sweep("play").plan, plan)
    file = run.root / "followers" / "play" / "cluster.pickle"
    file.parent.mkdir(parents=True)
    file.write_bytes(pickle.dumps(ClusterConfig(name="site", backend="slurm", run_root=run.root, made_root=tmp_path)))

    def allocation() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", _ALLOCATION, str(run.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(tracking.__file__).parents[1],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    first = allocation()
    assert first.stdout is not None
    assert first.stdout.readline() == "True\n"
    second = allocation()
    assert second.stdout is not None
    assert second.stdout.readline() == "False\n"
    while not (run.mlflow / "mlflow.db").exists() or len(runs_of_or_none(run)) < 2:
        time.sleep(0.2)
    player.play(plan.jobs[half:])
    # The one that sends ends first: it sends what is there. The other finds the lock free when it ends, and sends what came since.
    for process in (first, second):
        process.communicate()
        assert process.returncode == 0
    assert export(run, "play") == rebuilt(run, plan, tmp_path / "again", template)


def runs_of_or_none(run: RunPaths) -> Mapping[str, object]:
    try:
        return runs_of(run, "play")
    except AssertionError:
        return {}
