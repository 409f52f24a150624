"""The cluster that the other tests of this folder rely on does what a site's Slurm does."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, ClusterFailed, Settings, running_cluster

pytestmark = pytest.mark.needs("slurm")

UNFINISHED = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING")


@pytest.fixture(scope="module")
def bare() -> Iterator[Cluster]:
    """A site without accounting, which forgets finished jobs at once and is quick to lose patience; it runs beside `slurm`."""
    settings = Settings(accounting=False, min_job_age=2, message_timeout=5)
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, running_cluster(Path(folder), settings) as cluster:
        yield cluster


def finish(cluster: Cluster, job: str) -> str:
    """Wait for a job's end and return the state that the controller gives it."""
    return cluster.wait_until(lambda: (state := cluster.state(job)) not in UNFINISHED and state, what=f"for {job} to end")


def output(cluster: Cluster, job: str) -> str:
    return (cluster.layout.folder / f"slurm-{job}.out").read_text()


def run_marker(cluster: Cluster, name: str) -> tuple[Path, str]:
    """Return a file and the shell line that adds to it where each run of a job runs and its process."""
    runs = cluster.layout.folder / name
    return runs, f"echo ${{SLURM_RESTART_COUNT:-0}} $SLURMD_NODENAME $$ >> {runs}; exec sleep 300"


def lines(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def test_a_job_runs_and_accounting_knows_it(slurm: Cluster) -> None:
    job = slurm.submit("--wrap=echo from $SLURMD_NODENAME")
    assert finish(slurm, job) == "COMPLETED"
    assert output(slurm, job).split()[1] in slurm.nodes
    [row] = slurm.wait_until(lambda: [row for row in slurm.sacct("--jobs", job) if row["State"] == "COMPLETED"], what="for sacct")
    assert (row["JobID"], row["ExitCode"]) == (job, "0:0")


def test_six_gpus_run_six_elements_at_once(slurm: Cluster) -> None:
    folder = slurm.layout.folder / "barrier"
    folder.mkdir()
    # No element ends before all six have started, so each must have a GPU of its own.
    script = f"touch {folder}/$SLURMD_NODENAME-$CUDA_VISIBLE_DEVICES; until [ $(ls {folder} | wc -l) = 6 ]; do sleep 0.2; done"
    job = slurm.submit("--array=0-5", "--gres=gpu:1", "--output=/dev/null", f"--wrap={script}")
    slurm.wait_until(lambda: not slurm.squeue(f"--jobs={job}"), what="for six elements to run at once")
    assert sorted(os.listdir(folder)) == [f"{node}-{gpu}" for node in slurm.nodes for gpu in (0, 1)]


def test_a_requeued_job_keeps_its_id_and_runs_again_at_once_when_released(slurm: Cluster) -> None:
    runs, script = run_marker(slurm, "requeued")
    job = slurm.submit(f"--wrap={script}")
    slurm.wait_until(lambda: len(lines(runs)) == 1, what="for the first run")
    slurm.requeue(job)
    slurm.wait_until(lambda: len(lines(runs)) == 2, what="for the second run")
    assert [run[0] for run in lines(runs)] == ["0", "1"]


def test_an_array_element_is_requeued_alone(slurm: Cluster) -> None:
    runs, script = run_marker(slurm, "element-$SLURM_ARRAY_TASK_ID")
    job = slurm.submit("--array=0-1", f"--wrap={script}")
    elements = [runs.with_name(f"element-{index}") for index in (0, 1)]
    slurm.wait_until(lambda: all(lines(element) for element in elements), what="for both elements to run")
    slurm.requeue(f"{job}_1")
    slurm.wait_until(lambda: len(lines(elements[1])) == 2, what="for element 1 to run again")
    assert len(lines(elements[0])) == 1


def test_preemption_requeues_the_lower_partition(slurm: Cluster) -> None:
    runs, script = run_marker(slurm, "preempted")
    job = slurm.submit("--partition=preemptible", f"--wrap={script}")
    slurm.wait_until(lambda: lines(runs), what="for the first run")
    slurm.preempt(lines(runs)[0][1])
    slurm.wait_until(lambda: len(lines(runs)) == 2, release=True, what="for the second run")
    both = ["PREEMPTED", "RUNNING"]
    slurm.wait_until(
        lambda: [row["State"] for row in slurm.sacct("--duplicates", "--jobs", job)] == both, what="for both runs in accounting"
    )


def test_a_dead_node_loses_its_processes_and_its_job_runs_elsewhere(slurm: Cluster) -> None:
    runs, script = run_marker(slurm, "died")
    job = slurm.submit(f"--wrap={script}")
    slurm.wait_until(lambda: lines(runs), what="for the first run")
    _, node, process = lines(runs)[0]
    slurm.kill_node(node)
    assert not Path(f"/proc/{process}").exists()
    assert slurm.node_states()[node] == "down"
    slurm.wait_until(lambda: len(lines(runs)) == 2, release=True, what="for the second run")
    assert lines(runs)[1][0] == "1"
    assert lines(runs)[1][1] == slurm.job(job)["NodeList"] != node
    slurm.revive_node(node)
    assert slurm.node_states()[node] == "idle"


def test_a_node_cut_off_goes_on_with_a_job_that_also_runs_elsewhere(slurm: Cluster) -> None:
    runs, script = run_marker(slurm, "cut_off")
    slurm.submit(f"--wrap={script}")
    slurm.wait_until(lambda: lines(runs), what="for the first run")
    _, node, process = lines(runs)[0]
    slurm.kill_node(node, spare_tasks=True)
    slurm.wait_until(lambda: len(lines(runs)) == 2, release=True, what="for the second run")
    assert Path(f"/proc/{process}").exists()
    slurm.clear()
    assert not Path(f"/proc/{process}").exists()
    assert set(slurm.node_states().values()) == {"idle"}


def test_too_much_memory_is_killed_and_named_in_the_output_alone(slurm: Cluster) -> None:
    greedy = "python3 -c 'import time; held = bytearray(400 << 20); time.sleep(60)'"
    job = slurm.submit("--mem=100M", f"--wrap=srun {greedy}; echo srun returned $?")
    assert finish(slurm, job) == "COMPLETED"
    assert "exceeded memory limit" in output(slurm, job)
    assert output(slurm, job).endswith("srun returned 137\n")


@pytest.mark.parametrize("kill", [True, False])
def test_aftercorr_releases_each_element_and_only_the_child_of_a_failure_never_runs(slurm: Cluster, kill: bool) -> None:
    parent = slurm.submit("--array=0-2", "--output=/dev/null", "--wrap=test $SLURM_ARRAY_TASK_ID != 1")
    ran = slurm.layout.folder / f"ran-{kill}"
    ran.mkdir()
    options = ("--kill-on-invalid-dep=yes",) if kill else ()
    child = slurm.submit(
        "--array=0-2", f"--dependency=aftercorr:{parent}", *options, "--output=/dev/null", f"--wrap=touch {ran}/$SLURM_ARRAY_TASK_ID"
    )
    slurm.wait_until(lambda: sorted(os.listdir(ran)) == ["0", "2"], what="for the children of what succeeded")
    slurm.wait_until(lambda: not {f"{child}_0", f"{child}_2"} & slurm.squeue().keys(), what="for them to end")
    if kill:
        slurm.wait_until(lambda: not slurm.squeue(), what="for the third child to be cancelled")
    else:
        slurm.wait_until(lambda: slurm.job(f"{child}_1").get("Reason") == "DependencyNeverSatisfied", what="for the reason")
        assert slurm.squeue() == {f"{child}_1": "PENDING"}
    assert sorted(os.listdir(ran)) == ["0", "2"]


def test_the_child_of_a_failed_parent_runs_once_the_parent_is_forgotten(bare: Cluster) -> None:
    parent = bare.submit("--output=/dev/null", "--wrap=false")
    early = bare.submit(f"--dependency=afterok:{parent}", "--kill-on-invalid-dep=yes", "--wrap=echo ran")
    bare.wait_until(lambda: not bare.state(parent) and not bare.state(early), what="for both to be forgotten")
    assert not (bare.layout.folder / f"slurm-{early}.out").exists()
    late = bare.submit(f"--dependency=afterok:{parent}", "--kill-on-invalid-dep=yes", "--wrap=echo ran")
    bare.wait_until(lambda: (bare.layout.folder / f"slurm-{late}.out").exists() and output(bare, late) == "ran\n", what="for the child")


def test_a_site_without_accounting_refuses_sacct(bare: Cluster) -> None:
    assert "Slurm accounting storage is disabled" in bare.run("sacct", check=False).stderr
    assert set(bare.services) == {"munged", "slurmctld", *bare.nodes}


def test_a_frozen_controller_times_out_and_submits_all_the_same(bare: Cluster) -> None:
    with bare.frozen_controller(), pytest.raises(ClusterFailed, match="Socket timed out"):
        bare.submit("--job-name=twice", "--wrap=sleep 300")
    bare.wait_until(lambda: "RUNNING" in bare.squeue("--name=twice").values(), what="for the job that was said to have failed")
    bare.clear()


def test_a_controller_that_is_gone_says_so_and_keeps_the_queue(bare: Cluster) -> None:
    job = bare.submit("--hold", "--wrap=true")
    bare.stop_controller()
    assert "Unable to contact slurm controller" in bare.run("squeue", check=False).stderr
    bare.start_controller()
    assert bare.squeue() == {job: "PENDING"}
    bare.clear()


def test_clearing_ends_what_ignores_a_signal_and_repairs_the_nodes(slurm: Cluster) -> None:
    started = slurm.layout.folder / "stubborn"
    job = slurm.submit(f"--wrap=trap '' TERM; touch {started}; while :; do sleep 1; done")
    slurm.submit("--hold", "--wrap=true")
    slurm.wait_until(started.exists, what="for the job to run")
    idle = next(name for name in slurm.nodes if name != slurm.job(job)["NodeList"])
    slurm.kill_node(idle)
    slurm.clear()
    assert slurm.squeue() == {}
    assert set(slurm.node_states().values()) == {"idle"}
