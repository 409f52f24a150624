"""The cluster that the other tests of this folder rely on does what a site's Slurm does."""

from __future__ import annotations

from tests.slurm.cluster import Cluster

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY")


def test_a_job_runs_and_accounting_knows_it(slurm: Cluster) -> None:
    job = slurm.submit("--gres=gpu:1", "--wrap=echo here $CUDA_VISIBLE_DEVICES")
    slurm.wait_until(lambda: slurm.state(job) in ENDED, what="for the job to end")
    assert slurm.state(job) == "COMPLETED"
    assert (slurm.layout.folder / f"slurm-{job}.out").read_text() == "here 0\n"
    slurm.wait_until(lambda: [row["State"] for row in slurm.sacct("--allocations", "--jobs", job)] == ["COMPLETED"], what="for sacct")
