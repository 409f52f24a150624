"""Looking after a sweep on the real cluster: why jobs wait and fail, what is asked of Slurm and how often, what was used."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from jobs.spec import JobSpec, Resources, State
from orchestrator import output, scheduler, stop_file
from orchestrator.errors import BackendError
from orchestrator.explanation import explain_job
from orchestrator.model import ClusterConfig, Partition
from orchestrator.output import Follower
from orchestrator.overview import overview
from orchestrator.standing import Standings, standings, standings_json, waits_in_words
from orchestrator.watching import watch
from orchestrator.workspace import Workspace
from tests.orchestrator.standin import job, plan
from tests.slurm import client
from tests.slurm.cluster import Cluster

HELD = {"hold": "true"}
GPU = Resources(gpus=1, memory_mb=1024, time_minutes=10)


@pytest.fixture(autouse=True)
def _on_the_cluster(slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)


def here(cluster: ClusterConfig) -> Workspace:
    return Workspace(cluster=cluster)


class Counted:
    """Commands of Slurm, in whose place stands a script that notes the call and makes it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._log = folder / "calls"
        scripts = folder / "counted"
        scripts.mkdir()
        for name in ("squeue", "sacct", "sbatch", "scontrol", "sinfo"):
            script = scripts / name
            script.write_text(f'#!/bin/sh\necho {name} >> "{self._log}"\nexec {shutil.which(name)} "$@"\n', encoding="utf-8")
            script.chmod(0o755)
        monkeypatch.setenv("PATH", str(scripts), prepend=":")

    def since(self) -> Counter[str]:
        """Return the calls since the last look."""
        calls = Counter(self._log.read_text(encoding="utf-8").split()) if self._log.exists() else Counter()
        self._log.unlink(missing_ok=True)
        return calls


def state_of(found: Standings, spec: JobSpec) -> State:
    return next(row.state for one in found.sweeps for row in one.status.jobs if row.job_id == spec.job_id)


def test_status_asks_slurm_once_for_one_sweep_and_for_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = client.config(tmp_path, extra=HELD)
    for name in ("a", "b", "c"):
        client.hand_over(plan(*(job(f"{name}{n}") for n in range(4)), sweep=name), cluster, wait=False)
    counted = Counted(tmp_path, monkeypatch)
    found = standings(here(cluster))
    assert counted.since() == {"squeue": 1, "sacct": 1}
    assert [one.status.counts for one in found.sweeps] == [{State.SUBMITTED: 4}] * 3
    assert standings(here(cluster), "b").sweeps[0].status.counts == {State.SUBMITTED: 4}
    assert counted.since() == {"squeue": 1, "sacct": 1}
    told = standings_json(found)
    assert [(one["reason"], one["jobs"]) for sweep in told for one in sweep["waiting"]] == [("JobHeldUser", 4)] * 3
    assert all("scontrol release" in line for one in found.sweeps for line in waits_in_words(one))


def test_status_and_the_doctor_without_an_answer_say_so_and_status_shows_what_the_files_say(slurm: Cluster, tmp_path: Path) -> None:
    cluster = client.config(tmp_path, extra=HELD)
    done, waiting = job("done"), job("waiting")
    client.hand_over(plan(done, sweep="first"), client.config(tmp_path), wait=True)
    client.hand_over(plan(done, waiting), cluster, wait=False)
    slurm.stop_controller()
    try:
        found, wrong = standings(here(cluster), "toy"), problems(cluster)
    finally:
        slurm.start_controller()
    assert "does not answer" in found.silence
    assert set(wrong) == {"slurm"} and "Unable to contact slurm controller" in wrong["slurm"]
    assert (state_of(found, done), state_of(found, waiting)) == (State.SUCCEEDED, State.UNKNOWN)
    assert standings(here(cluster), "toy").silence == ""


def test_explain_says_why_a_job_waits_and_what_for(slurm: Cluster, tmp_path: Path) -> None:
    cluster = client.config(tmp_path)
    parent = job("parent", config={"seconds": 60.0})
    child = job("child", (parent,), phase="later")
    client.hand_over(plan(parent, child), cluster, wait=False)
    slurm.wait_until(lambda: state_of(standings(here(cluster)), parent) is State.RUNNING, what="for the parent to run")
    told = explain_job(here(cluster), child)
    assert told["waiting"]["reason"] == "Dependency"
    assert told["waits_for"] == [f"{parent.short_id} train parent (running)"]
    assert Path(told["code"]).is_dir()
    running = explain_job(here(cluster), parent)
    assert (running["waiting"], running["state"]) == (None, "RUNNING")
    assert " on n" in running["where"]


@pytest.mark.parametrize(("parallel", "reason", "run_at_once"), [(None, "Resources", 3), (2, "JobArrayTaskLimit", 2)])
def test_jobs_that_wait_are_told_by_the_real_reasons(
    slurm: Cluster, tmp_path: Path, parallel: int | None, reason: str, run_at_once: int
) -> None:
    whole = Resources(gpus=2, memory_mb=1024, time_minutes=5)
    cluster = client.config(tmp_path, parallel=parallel)
    client.hand_over(plan(*(job(f"g{n}", resources=whole, config={"seconds": 60.0}) for n in range(5))), cluster, wait=False)

    def counts() -> tuple[int, set[str]]:
        (one,) = standings(here(cluster)).sweeps
        return one.status.counts.get(State.RUNNING, 0), {wait.reason for wait in one.status.waits}

    slurm.wait_until(lambda: counts() == (run_at_once, {reason}), what=f"for {run_at_once} to run and the rest to wait")
    (one,) = standings(here(cluster)).sweeps
    (line,) = waits_in_words(one)
    assert line.startswith(f"{5 - run_at_once} jobs wait: ") and line.endswith(f"[{reason}]")


def test_explain_shows_the_classification_and_the_last_lines(tmp_path: Path) -> None:
    cluster = client.config(tmp_path)
    bad = job("bad", config={"fail": "ERROR"})
    client.hand_over(plan(bad), cluster, wait=True)
    told = explain_job(here(cluster), bad)
    assert (told["state"], told["failure"]) == ("FAILED", "ERROR")
    assert "as told" in told["why"]
    assert any("ValueError: as told" in line for line in told["last_lines"])


def test_a_job_that_left_nothing_is_explained_by_its_allocation(slurm: Cluster, tmp_path: Path) -> None:
    cluster = client.config(tmp_path, extra=HELD)
    spec = job("t")
    client.hand_over(plan(spec), cluster, wait=False)
    run = here(cluster).run
    stop_file.write(run, "toy", "enough is enough")
    (native,) = slurm.squeue()
    assert "enough is enough" in explain_job(here(cluster), spec)["waiting"]["brake"]
    slurm.run("scontrol", "release", native)
    slurm.wait_until(lambda: not slurm.squeue("--states=PENDING,RUNNING,COMPLETING"), what="for the allocation to end")
    slurm.wait_until(lambda: state_of(standings(here(cluster)), spec) is State.NEW, what="for it to be seen")
    told = explain_job(here(cluster), spec)
    assert "never started" in told["why"]
    assert any("not started: the sweep was stopped: enough is enough" in line for line in told["last_lines"])
    assert Path(told["log"]).name.endswith("_log.out")
    assert output.log_of(here(cluster), spec) == Path(told["log"])


def test_a_plan_says_when_it_would_start_in_a_handful_of_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = client.config(tmp_path)
    counted = Counted(tmp_path, monkeypatch)
    same = [job(f"s{n}", resources=GPU) for n in range(6)]
    view = overview(plan(*same, job("later", (same[0],), phase="later")), here(cluster))
    assert view.forecast is not None
    (start,) = view.forecast.starts
    assert (start.allocations, len(start.when), start.note) == (6, len("2026-03-01 14:00"), "")
    assert counted.since()["sbatch"] == 1
    many = [job(f"m{n}", resources=Resources(gpus=1, memory_mb=1024, time_minutes=5 + n)) for n in range(8)]
    view = overview(plan(*many), here(cluster))
    assert view.forecast is not None and len(view.forecast.starts) == counted.since()["sbatch"] == 5
    assert "3 other requests" in view.forecast.note


def test_a_plan_that_fits_nowhere_is_refused_and_one_without_sbatch_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = client.config(tmp_path)
    with pytest.raises(BackendError, match=r"no partition fits gpus: 4.*'normal' has 2 gpus a node"):
        overview(plan(job("huge", resources=Resources(gpus=4))), here(cluster))
    monkeypatch.setenv("PATH", str(tmp_path))
    view = overview(plan(job("fits", resources=GPU)), here(cluster))
    assert view.forecast is not None and "there is no `sbatch` here" in view.forecast.note


def test_what_was_used_and_lost_is_told_by_accounting(slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = client.config(tmp_path)
    good, bad = job("good", resources=GPU, config={"seconds": 6.0}), job("bad", resources=GPU, config={"fail": "ERROR", "seconds": 3.0})
    # Accounting counts whole seconds: what fails at once has used nothing.
    over = plan(good, bad)
    client.hand_over(over, cluster, wait=False)
    slurm.wait_until(lambda: state_of(standings(here(cluster)), good) is State.RUNNING, what="for it to run")
    (native,) = sorted(number for number, state in slurm.squeue("--states=RUNNING").items() if state == "RUNNING")[:1]
    slurm.requeue(native)
    slurm.wait_until(lambda: not slurm.squeue("--states=PENDING,RUNNING,COMPLETING"), what="for both to end", release=True)
    keeper = scheduler.of(cluster)
    assert keeper is not None

    def told() -> list[tuple[int, int]]:
        return [(row.allocations, row.runs) for row in keeper.efficiency(here(cluster).run, over).rows]

    slurm.wait_until(lambda: told() == [(2, 3)], what="for accounting to have all three runs")
    counted = Counted(tmp_path, monkeypatch)
    found = keeper.efficiency(here(cluster).run, over)
    assert counted.since() == {"sacct": 1}
    (row,) = found.rows
    assert row.lost_runs["FAILED"] == 1 and sum(row.lost_runs.values()) == 2
    assert 0 < row.lost_gpu_hours < row.gpu_hours == found.gpu_hours
    assert (row.memory_asked_mb, row.hours_asked) == (1024, pytest.approx(1 / 6))
    assert row.memory_used_mb is not None and 5 < row.memory_used_mb < 1024


def test_without_accounting_the_meters_of_the_jobs_are_what_is_known(tmp_path: Path) -> None:
    cluster = client.config(tmp_path, accounting=False)
    over = plan(job("t", resources=GPU, config={"seconds": 3.0}))
    client.hand_over(over, cluster, wait=True)
    found = standings(here(cluster), efficiency=True).sweeps[0].efficiency
    assert found is not None
    assert found.rows == () and "has no accounting" in found.note
    assert found.gpu_hours > 2 / 3600


def test_the_view_shows_a_running_job_with_its_curve(slurm: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = client.config(tmp_path)
    spec = job("t", config={"seconds": 30.0, "curve": [0.1 * n for n in range(100)], "monitor": {"metric": "val/score", "mode": "max"}})
    over = plan(spec)
    client.hand_over(over, cluster, wait=False)
    metrics = here(cluster).run.job(spec.job_id).attempt(1).metrics
    slurm.wait_until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) >= 3, what="for three epochs")
    watch([over], here(cluster), once=True)
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(spec.short_id)]
    assert row.split()[1:3] == ["train", "t"] and "val/score" in row and "▁" in row


def test_logs_go_on_after_a_requeue_and_end_with_the_job(slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "ASK_EVERY", 0.5)
    monkeypatch.setattr(output, "LOOK_EVERY", 0.2)
    cluster = client.config(tmp_path)
    spec = job("t", config={"seconds": 4.0})
    client.hand_over(plan(spec), cluster, wait=False)
    slurm.wait_until(lambda: state_of(standings(here(cluster)), spec) is State.RUNNING, what="for it to run")
    (native,) = slurm.squeue("--states=RUNNING")
    slurm.requeue(native)
    said: list[str] = []
    for _ in Follower(here(cluster), spec, say=said.append).text():
        pass
    assert "--- attempt 2" in said or here(cluster).run.job(spec.job_id).attempts()[-1].number == 2
    assert state_of(standings(here(cluster)), spec) is State.SUCCEEDED
    assert explain_job(here(cluster), spec)["attempt"] == 2, "how often it was started"


def problems(cluster: ClusterConfig, *, deep: bool = False) -> dict[str, str]:
    keeper = scheduler.of(cluster)
    assert keeper is not None
    return {check.what: check.text for check in keeper.examine(deep=deep) if not check.ok}


def test_the_doctor_finds_what_the_config_has_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    cluster = client.config(tmp_path)
    # A temporary folder is what no node of a real site would see.
    assert set(problems(cluster)) == {"run root"}
    claims = (
        Partition(name="normal", gpus=8, cpus=4, memory_mb=64_001),
        Partition(name="gone", cpus=1, memory_mb=1000),
    )
    wrong = replace(cluster, partitions=claims, account="nobody", slurm=replace(cluster.slurm, array_size=1001, qos="gold"))
    found = problems(wrong)
    assert "`gpus: 8` is more than the 2" in found["partition normal"] and "`memory: 64001M`" in found["partition normal"]
    assert "there are normal, preemptible, urgent" in found["partition gone"]
    assert "'nobody' is none of yours" in found["account"]
    assert "there is no 'gold'" in found["qos"]
    assert "write `slurm: {array_size: 1000}`" in found["array size"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no sbatch" in problems(cluster)["slurm"]


def test_the_doctor_sends_a_job_to_a_node(tmp_path: Path) -> None:
    cluster = client.config(tmp_path)
    found = problems(cluster, deep=True)
    # There is no GPU in this machine, and that is the only thing that the node lacks.
    assert found == {"node of normal": "PyTorch sees no GPU: look at the driver there, or at `slurm: {gres: ...}`"}
    assert list((cluster.run_root / "doctor").iterdir()) == []


def test_a_first_config_is_offered_what_the_site_has() -> None:
    site = scheduler.sites()["slurm"]
    assert [one.name for one in site.partitions] == ["normal", "preemptible", "urgent"]
    assert (site.partitions[0].gpus, site.partitions[0].cpus, site.partitions[0].memory_mb) == (2, 4, 64_000)
    assert (site.array_size, site.accounting) == (1000, True)
