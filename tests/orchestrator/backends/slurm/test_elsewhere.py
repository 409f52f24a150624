"""Nodes that failed under a job: who notes them, what sbatch is then asked for, and what a start on such a node does."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from jobs.events import append_event
from jobs.main import claim
from jobs.paths import AttemptPaths, RunPaths
from jobs.spec import EventKind, FailureKind, Resources, State
from orchestrator import failed_nodes, intents
from orchestrator.backends.base import Queued
from orchestrator.backends.ray_on_slurm import RayOnSlurm
from orchestrator.backends.slurm import commands, elsewhere, launch
from orchestrator.backends.slurm.allocation import Allocation
from orchestrator.backends.slurm.backend import Slurm
from orchestrator.decide import decide
from orchestrator.errors import BackendError
from orchestrator.ledger import states
from orchestrator.model import ClusterConfig, Partition, SlurmSite
from orchestrator.rounds import _tidy, queued_jobs
from orchestrator.sightings import Sighting
from tests.orchestrator.standin import chain, job, plan

JOB = "ab" + "0" * 62
PARTITION = Partition(name="gpu", gpus=4, cpus=32, memory_mb=256_000)


def site(folder: Path, *exclude: str) -> ClusterConfig:
    return ClusterConfig(
        name="site", backend="slurm", run_root=folder, made_root=folder, partitions=(PARTITION,), slurm=SlurmSite(canary=0, exclude=exclude)
    )


def cut_short(run: RunPaths, name: str, nodes: str = "") -> AttemptPaths:
    """Leave an attempt without an end, which ran on these nodes."""
    attempt = claim(run.job(name), None)
    assert attempt is not None
    append_event(attempt.events, EventKind.STARTED)
    attempt.env.write_text(json.dumps({"slurm": {"SLURM_JOB_NODELIST": nodes} if nodes else {}}))
    return attempt


# --- what is known of them ---------------------------------------------------------------------------------------------------------------


def test_nodes_are_told_once_each_and_what_is_no_name_is_not_told(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    for names in ("n1", "gpu[07-08],m3", "n1", "n2; rm -rf /", ""):
        failed_nodes.note(cut_short(run, JOB), names)
    assert failed_nodes.of_job(run.job(JOB)) == ("n1", "gpu[07-08],m3")
    assert failed_nodes.of_job(run.job("cd" + JOB[2:])) == ()


@pytest.mark.parametrize(
    ("word", "failure", "told"),
    [
        ("NODE_FAIL", FailureKind.NODE_FAIL, ("n7",)),
        ("BOOT_FAIL", FailureKind.NODE_FAIL, ("n7",)),
        # Its node is as good as any other.
        ("PREEMPTED", FailureKind.PREEMPTED, ()),
        ("OUT_OF_MEMORY", FailureKind.HOST_OOM, ()),
        ("FAILED", None, ()),
    ],
)
def test_a_node_that_the_scheduler_says_has_failed_is_left_out_of_what_comes_next(
    tmp_path: Path, word: str, failure: FailureKind | None, told: tuple[str, ...]
) -> None:
    """Both before and after a round has put the submission away."""
    run = RunPaths(tmp_path)
    over = plan(job("t", resources=Resources(cpus=1, memory_mb=500)))
    (spec,) = over.jobs
    cut_short(run, spec.job_id)
    intent = intents.new_intent(backend="slurm", sweep="toy", jobs={spec.job_id: 1}, detaches=True, elements=(((spec.job_id,),),))
    intents.record(run, replace(intent, native={"id": "7", "array": False}))
    polled = {spec.job_id: Sighting(state=State.FAILED, failure=failure, word=word, node="n7", native="7")}
    known = states(run, [spec.job_id], polled=polled)
    assert failed_nodes.seen(known[spec.job_id]) == told
    _tidy(run, polled)
    assert not intents.open_intents(run)
    assert failed_nodes.of_job(run.job(spec.job_id)) == told
    known = states(run, [spec.job_id])
    for one in queued_jobs(over, run, known, decide(over, known)):
        assert one.leaves_out == told


# --- what sbatch is asked for ------------------------------------------------------------------------------------------------------------


def excluded(text: str) -> list[str]:
    return re.findall(r"(?m)^#SBATCH --exclude=(.*)$", text)


def test_only_what_lost_a_node_leaves_it_out_and_beside_what_the_site_leaves_out(tmp_path: Path) -> None:
    specs = [*chain("a"), *chain("b"), *chain("c")]
    jobs = [Queued(spec=one, attempt=1, resources=one.resources) for one in specs]
    assert excluded(Slurm(site(tmp_path)).render("toy", jobs).text) == []
    # A unit leaves out what failed under any of its jobs.
    jobs[0], jobs[1] = replace(jobs[0], leaves_out=("n7",)), replace(jobs[1], leaves_out=("n3", "n7"))
    made = Slurm(site(tmp_path, "n1", "n3")).render("toy", jobs)
    assert sorted(excluded(made.text)) == ["n1,n3", "n1,n3,n7"]
    by_size = {len(part.elements): part for part in made.parts}
    assert by_size[1].elements == ((tuple(one.spec.job_id for one in jobs[:3]),),)
    assert by_size[1].terms["leaves_out"] == ["n3", "n7"] and by_size[2].terms["leaves_out"] == []
    assert "--exclude=n1,n3,n7" in by_size[1].terms["asked"]


def test_a_ray_cluster_leaves_out_what_failed_under_any_of_its_jobs(tmp_path: Path) -> None:
    jobs = [Queued(spec=job(name), attempt=2, resources=Resources(cpus=1), leaves_out=(node,)) for name, node in (("a", "n2"), ("b", "n1"))]
    cluster = replace(site(tmp_path, "n9"), backend="ray_on_slurm")
    assert excluded(RayOnSlurm(cluster).render("toy", jobs).text) == ["n9,n1,n2"]


class Submitit:
    """An executor whose sbatch refuses a job that leaves out a node."""

    def __init__(self, said: str) -> None:
        self.asked: list[str | None] = []
        self._said = said
        self._exclude: str | None = "n1,n7"

    def update_parameters(self, *, exclude: str | None) -> None:
        self._exclude = exclude

    def submit_array(self, elements: Sequence[object]) -> list[object]:
        from submitit.core.utils import FailedJobError

        self.asked.append(self._exclude)
        if self._exclude == "n1,n7":
            raise FailedJobError(self._said)
        return [type("Job", (), {"job_id": "12_0"})()]


@pytest.mark.parametrize(
    ("said", "leaves_out", "asked"),
    [
        ("sbatch: error: Requested node configuration is not available", ("n7",), ["n1,n7", "n1"]),
        # The site's own list is nobody's to shorten.
        ("sbatch: error: Requested node configuration is not available", (), ["n1,n7"]),
        # It may have been submitted.
        ("sbatch: error: Socket timed out on send/recv operation", ("n7",), ["n1,n7"]),
    ],
)
def test_where_nothing_else_could_take_it_a_node_that_failed_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, leaves_out: tuple[str, ...], asked: list[str]
) -> None:
    from submitit.core.utils import FailedJobError

    cluster, run, made = site(tmp_path, "n1"), RunPaths(tmp_path), Submitit(said)
    monkeypatch.setattr(launch, "executor", lambda *_: made)
    (part,) = Slurm(cluster).arrange("toy", [Queued(spec=job("a"), attempt=2, resources=Resources(), leaves_out=leaves_out)])
    intent = intents.new_intent(backend="slurm", sweep="toy", jobs=dict.fromkeys(part.jobs, 2), detaches=True, elements=part.elements)
    if len(asked) == 2:
        assert launch._to_sbatch(run, intent, part, (), cluster, tmp_path) == "12"
    else:
        with pytest.raises(FailedJobError):
            launch._to_sbatch(run, intent, part, (), cluster, tmp_path)
    assert made.asked == asked


# --- what a start on such a node does ----------------------------------------------------------------------------------------------------


class Slurmctld:
    """Stands where Slurm's commands would be called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, nodes: str = "", *, spare: bool = True) -> None:
        self.asked: list[tuple[str, ...]] = []
        self._nodes, self._spare = nodes, spare
        monkeypatch.setattr(commands, "call", self)

    def __call__(self, *command: str) -> subprocess.CompletedProcess[str]:
        self.asked.append(command)
        said, code = "", 0
        if "node" in command:
            said = self._nodes
        elif "hostnames" in command:
            said = "\n".join(f"n{number}" for number in range(1, 3)) if command[-1] == "n[1-2]" else "\n".join(command[-1].split(","))
        elif command[0] == "sbatch":
            code = 0 if self._spare else 1
        return subprocess.CompletedProcess(command, code, said, "")

    @property
    def told(self) -> list[str]:
        """Return which elements it was asked to requeue, and without which nodes."""
        return [" without ".join(command[3:]) for command in self.asked if command[:3] == ("sh", "-c", elsewhere._REQUEUE)]


def line(name: str, state: str, since: float = 0.0) -> str:
    when = datetime.fromtimestamp(since).isoformat(timespec="seconds")
    return f"NodeName={name} Arch=x86_64 OS=Linux State={state} Weight=1 BootTime=2026-01-01T00:00:00 SlurmdStartTime={when} Owner=N/A"


def allocation(run: RunPaths, nodes: str, *, restart: int = 1, rank: int = 0, exclude: str = "") -> Allocation:
    asked = ["--partition=gpu", *([f"--exclude={exclude}"] if exclude else [])]
    intent = intents.new_intent(
        backend="slurm", sweep="toy", jobs={JOB: 1}, detaches=True, elements=(((JOB,),), ((JOB[::-1],),)), terms={"asked": asked}
    )
    intent = replace(intent, native={"id": "40", "array": True})
    intents.folder(run, intent.sid).mkdir(parents=True)
    place = {"SLURM_JOB_ID": "41", "SLURM_ARRAY_TASK_ID": "0", "SLURM_RESTART_COUNT": str(restart), "SLURM_PROCID": str(rank)}
    return Allocation(run, intent, place | {"SLURM_JOB_NODELIST": nodes})


LATER = 4e9


@pytest.mark.parametrize(
    ("told", "failed"),
    [
        (line("n1", "DOWN"), ("n1",)),
        (line("n1", "IDLE+DRAIN+NOT_RESPONDING"), ("n1",)),
        (line("n1", "MIXED*"), ("n1",)),
        # It was down, and is back.
        (line("n1", "IDLE", LATER), ("n1",)),
        # Its job was ended in another way.
        (line("n1", "IDLE"), ()),
        (line("n1", "IDLE+CLOUD+POWERED_DOWN"), ()),
        (line("n1", "DRAINED"), ()),
        ("slurm_load_node error: Invalid node name specified", ()),
    ],
)
def test_a_start_after_a_requeue_notes_whether_the_node_of_the_one_before_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, failed: tuple[str, ...]
) -> None:
    run, slurm = RunPaths(tmp_path), Slurmctld(monkeypatch, told)
    cut_short(run, JOB, "n1")
    assert not elsewhere.hand_back(allocation(run, "n2"))
    assert failed_nodes.of_job(run.job(JOB)) == failed
    assert slurm.told == []
    # What a later requeue of its own makes of it.
    assert elsewhere.requeue(allocation(run, "n2")) is bool(failed)
    assert slurm.told == (["40_0 without n1"] if failed else [])


def test_of_several_nodes_those_that_failed_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunPaths(tmp_path)
    Slurmctld(monkeypatch, f"{line('n1', 'IDLE')}\n{line('n2', 'DOWN')}\n")
    cut_short(run, JOB, "n[1-2]")
    assert not elsewhere.hand_back(allocation(run, "n3"))
    assert failed_nodes.of_job(run.job(JOB)) == ("n2",)


def test_a_start_on_a_node_that_failed_is_handed_back_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, slurm = RunPaths(tmp_path), Slurmctld(monkeypatch, line("n1", "IDLE", LATER))
    cut_short(run, JOB, "n1")
    held = allocation(run, "n1", exclude="n8,n9")
    assert elsewhere.hand_back(held)
    assert slurm.told == ["40_0 without n8,n9,n1"]
    tested = next(command for command in slurm.asked if command[0] == "sbatch")
    assert tested == ("sbatch", "--test-only", "--partition=gpu", "--exclude=n8,n9,n1", "--wrap=true")
    # Should Slurm choose it all the same, the job runs there, and does not wait for ever.
    assert not elsewhere.hand_back(held)
    assert len(slurm.told) == 1


@pytest.mark.parametrize(
    "how",
    [
        {"restart": 0},
        {"rank": 1},
        {"nodes": "n2"},
        {"exclude": "n1"},
    ],
)
def test_other_starts_go_on_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, object]) -> None:
    run, slurm = RunPaths(tmp_path), Slurmctld(monkeypatch, line("n1", "IDLE", LATER))
    cut_short(run, JOB, "n1")
    assert not elsewhere.hand_back(allocation(run, **{"nodes": "n1", **how}))  # type: ignore[arg-type]
    assert slurm.told == []


def test_a_node_that_alone_could_take_it_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, slurm = RunPaths(tmp_path), Slurmctld(monkeypatch, line("n1", "IDLE", LATER), spare=False)
    cut_short(run, JOB, "n1")
    assert not elsewhere.hand_back(allocation(run, "n1"))
    assert slurm.told == []


def test_what_is_done_or_came_to_an_end_says_nothing_of_its_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, slurm = RunPaths(tmp_path), Slurmctld(monkeypatch, line("n1", "DOWN"))
    attempt = cut_short(run, JOB, "n1")
    append_event(attempt.events, EventKind.STOPPED, resumable=True)
    assert not elsewhere.hand_back(allocation(run, "n1"))
    assert slurm.asked == []


@pytest.mark.parametrize("silent", [BackendError("there is no `scontrol` here"), BackendError("it did not answer", transient=True)])
def test_a_slurm_that_does_not_answer_keeps_nothing_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: BackendError, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunPaths(tmp_path)
    cut_short(run, JOB, "n1")

    def call(*_: str) -> subprocess.CompletedProcess[str]:
        raise silent

    monkeypatch.setattr(commands, "call", call)
    held = allocation(run, "n1")
    assert not elsewhere.hand_back(held)
    assert str(silent) in capsys.readouterr().err
    failed_nodes.note(run.job(JOB).attempt(1), "n1")
    assert not elsewhere.requeue(held)
