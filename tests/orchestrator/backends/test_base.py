"""Backends by name, what a machine has, and the text that a dry run prints."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.spec import Resources
from orchestrator.backends import base
from orchestrator.backends.base import Queued
from orchestrator.errors import BackendError
from orchestrator.model import ClusterConfig
from tests.orchestrator import client
from tests.orchestrator.standin import chain


@pytest.fixture
def cluster(tmp_path: Path) -> ClusterConfig:
    return client.cluster(tmp_path, "inline", cpus=4)


def queued(*resources: Resources) -> list[Queued]:
    specs = chain("a", seconds=1.0)
    return [Queued(spec=spec, attempt=n + 1, resources=asked) for n, (spec, asked) in enumerate(zip(specs, resources, strict=False))]


def test_backends_are_found_by_name(cluster: ClusterConfig) -> None:
    assert {"inline", "ray"} <= set(base.available())
    for name in base.available():
        backend = base.load(replace(cluster, backend=name))
        assert backend.name == name


@pytest.mark.parametrize("name", ["base", "slurmy", "../x", "ray.x", "", "board"])
def test_what_is_no_backend_is_refused_with_what_there_is(cluster: ClusterConfig, name: str) -> None:
    with pytest.raises(BackendError, match=r"cluster 'test': no backend .*inline \| ray"):
        base.load(replace(cluster, backend=name))


def test_loading_the_ray_backend_and_rendering_do_not_import_ray() -> None:
    code = (
        "import sys; from pathlib import Path; from orchestrator.backends import base; from tests.orchestrator import client, standin\n"
        "spec = standin.job('x')\n"
        "backend = base.load(client.cluster(Path('/nowhere'), 'ray'))\n"
        "backend.render('s', [base.Queued(spec=spec, attempt=1, resources=spec.resources)])\n"
        "assert not {'ray', 'torch', 'mlflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=client.ROOT)


def test_the_text_of_a_dry_run(cluster: ClusterConfig) -> None:
    jobs = queued(Resources(cpus=4), Resources(), Resources(cpus=2))
    short = [job.spec.short_id for job in jobs]
    expected = (
        "# s: 3 jobs one after the other in this process, each when its inputs are done\n"
        f"{short[0]} attempt 1  train     cpus=4  a/train\n"
        f"{short[1]} attempt 2  pick      cpus=1  a/pick\n"
        f"{short[2]} attempt 3  evaluate  cpus=2  a/evaluate\n"
    )
    rendered = base.load(cluster).render("s", jobs)
    assert rendered.text == expected
    assert rendered.jobs == tuple(jobs)
    ray = base.load(replace(cluster, backend="ray")).render("s", jobs[:1])
    assert ray.text.startswith("# s: 1 job as one Ray Tune experiment on this machine (4 cpus, 0 gpus), each when")


@pytest.mark.parametrize("backend", ["inline", "ray"])
@pytest.mark.parametrize(("asked", "what"), [(Resources(cpus=5), "cpus: 5"), (Resources(gpus=1), "gpus: 1")])
def test_what_the_machine_can_never_run_is_refused_with_what_to_type(
    cluster: ClusterConfig, backend: str, asked: Resources, what: str
) -> None:
    with pytest.raises(BackendError, match=f"phase 'toy' asks for {what}, and cluster 'test' has .* lower `resources"):
        base.load(replace(cluster, backend=backend)).render("s", queued(asked))


def test_the_config_says_what_there_is_and_else_the_machine_is_asked(cluster: ClusterConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (base.machine_cpus(cluster), base.machine_gpus(cluster)) == (4, 0)
    asking = replace(cluster, cpus=None, gpus=None)
    assert base.machine_cpus(asking) >= 1
    for visible, number in (("0,3", 2), ("", 0), ("-1", 0), ("GPU-1a2b", 1)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert base.machine_gpus(asking) == number
