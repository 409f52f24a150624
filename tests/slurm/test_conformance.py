"""One study on every backend: the same job ids, the same files, the same bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.e2e.conftest import Site, short_quickstart
from tests.slurm.cluster import Cluster

#: What one attempt left of itself: times, hosts, process numbers.
OF_ATTEMPTS = "attempts"


def files(site: Site) -> dict[str, str]:
    """Return the sha256 of every file of every job, by its path under the run root."""
    jobs = site.root(sample=True) / "jobs"
    return {
        path.relative_to(jobs).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(jobs.rglob("*"))
        if path.is_file() and OF_ATTEMPTS not in path.relative_to(jobs).parts
    }


def site_of(folder: Path, backend: str, made: Path) -> Site:
    """Make a cluster config with a run root of its own."""
    folder.mkdir()
    lines = [f"backend: {backend}", f"run_root: {folder}/runs", f"made_root: {made}", "cpus: 2", "gpus: 0"]
    if backend == "slurm":
        lines += ["partitions:", "  normal: {gpus: 2, cpus: 4, memory: 16G}", "slurm: {canary: 6}"]
    (folder / "here.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Site(folder=folder, backend=backend)


def test_a_study_is_the_same_bytes_on_every_backend(tmp_path: Path, slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)
    sites = [site_of(tmp_path / backend, backend, tmp_path / "made") for backend in ("inline", "ray", "slurm")]
    sweep = str(short_quickstart(tmp_path))
    for one in sites:
        done = one.run("submit", sweep, "--sample", "--wait")
        assert done.returncode == 0, done.stdout + done.stderr
    inline, *others = sites
    expected = files(inline)
    assert {path.split("/")[-1] for path in expected} >= {"job.json", "result.json", "choice.json", "predictions.parquet"}
    for one in others:
        assert files(one) == expected, one.backend
        assert one.report("short", sample=True) == inline.report("short", sample=True)
