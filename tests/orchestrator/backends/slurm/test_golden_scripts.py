"""What each shipped kind of site is asked: the scripts of one small study, as they were when they were last looked at.

After a change that is meant to change scripts: `python tests/orchestrator/backends/slurm/test_golden_scripts.py` writes them again.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from jobs.paths import RunPaths
from orchestrator.backends import base
from orchestrator.backends.base import Queued
from orchestrator.clusters import load_cluster
from orchestrator.errors import BackendError
from orchestrator.expand import expand
from orchestrator.loading import load_sweep
from orchestrator.model import Plan
from orchestrator.submit import submit
from tests.golden.trainers import CATALOG
from tests.orchestrator.planning import FakeResolver
from tests.orchestrator.standin import job

ROOT = Path(__file__).parents[4]
GOLDEN = ROOT / "tests" / "golden" / "scripts"
#: Every shipped config of a Slurm site.
SITES = sorted(path.stem for path in (ROOT / "cluster_configs").glob("slurm*.yaml"))
SCRATCH = "/scratch/me"


def study() -> Plan:
    return expand(load_sweep(GOLDEN / "study.yaml", catalog=CATALOG), CATALOG, FakeResolver())


def rendered(site: str) -> str:
    """Return the scripts of the study for a site, without what differs from machine to machine."""
    cluster, plan = load_cluster(site), study()
    jobs = [Queued(spec=one, attempt=1, resources=one.resources) for one in plan.jobs]
    text = base.load(cluster).render(plan.sweep, jobs).text
    text = re.sub(r"/code/[0-9a-f]{16}\b", "/code/DIGEST", text)
    return text.replace(sys.executable, "PYTHON").replace(str(Path.cwd()), "HERE")


@pytest.fixture(autouse=True)
def _somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH", SCRATCH)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("site", SITES)
def test_the_scripts_of_a_site(site: str) -> None:
    assert rendered(site) == (GOLDEN / f"{site}.txt").read_text(encoding="utf-8")


def test_there_is_a_listing_for_every_site_and_no_other() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.txt")) == SITES
    assert len(SITES) >= 5


def lines(site: str, start: str) -> set[str]:
    return {line for line in rendered(site).splitlines() if line.startswith(start)}


def test_each_kind_of_site_is_asked_in_its_own_way() -> None:
    assert lines("slurm", "#SBATCH --g") == {"#SBATCH --gpus-per-node=1", "#SBATCH --gpus-per-node=2"}
    assert not lines("slurm", "#SBATCH --partition")
    assert lines("slurm_gpu_types", "#SBATCH --g") == {"#SBATCH --gres=gpu:a100:1", "#SBATCH --gres=gpu:a100:2"}
    assert lines("slurm_gpu_types", "#SBATCH --constraint") == {"#SBATCH --constraint=nvlink"}
    assert lines("slurm_accounts", "#SBATCH --account") == {"#SBATCH --account=lung_imaging"}
    assert lines("slurm_accounts", "#SBATCH --partition") == {"#SBATCH --partition=long", "#SBATCH --partition=short"}
    assert lines("slurm_no_accounting", "#SBATCH --exclude") == {"#SBATCH --exclude=node3"}
    words = {word for line in lines("slurm_container", "srun ") for word in line.split()}
    assert {"apptainer", f"{SCRATCH}/images/cxr.sif", "/opt/cxr/bin/python"} <= words and "PYTHON" not in words


def test_work_without_gpus_goes_where_the_site_says() -> None:
    cluster = load_cluster("slurm_accounts")
    picks = [one for one in study().jobs if one.stage == "pick"]
    jobs = [Queued(spec=one, attempt=1, resources=one.resources) for one in picks[:1]]
    text = base.load(cluster).render("study", jobs).text
    assert "#SBATCH --partition=serial\n#SBATCH --qos=serial\n" in text
    assert not re.search("(?m)^#SBATCH --g", text)


def test_no_more_than_the_site_allows_runs_at_once_and_else_all() -> None:
    wide = [Queued(spec=one, attempt=1, resources=one.resources) for one in (job(str(number)) for number in range(300))]

    def asked(site: str) -> list[str]:
        return re.findall(r"(?m)^#SBATCH --array=(.*)$", base.load(load_cluster(site)).render("wide", wide).text)

    assert asked("slurm_gpu_types") == ["0-298%32"]
    assert asked("slurm") == ["0-298%299"]


@pytest.mark.parametrize("site", SITES)
def test_a_machine_where_the_site_is_not_says_so(site: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    cluster = load_cluster(site)
    with pytest.raises(BackendError, match=r"there is no `(sbatch|srun)` here; type this on a login node of the cluster, or choose"):
        submit(study(), RunPaths(cluster.run_root), cluster, base.load(cluster), machine={}, wait=False)
    assert not list(cluster.run_root.glob("submissions/*.json"))


if __name__ == "__main__":
    os.environ["SCRATCH"] = SCRATCH
    for each in SITES:
        (GOLDEN / f"{each}.txt").write_text(rendered(each), encoding="utf-8")
