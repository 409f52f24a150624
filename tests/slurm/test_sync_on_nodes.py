"""Nodes that send to a real MLflow server while a real study runs on a real Slurm; nobody waits, and nobody else sends anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.spec import Stage
from tests.e2e.lab import Lab, make_data
from tests.orchestrator.mirror.mirrored import runs_of
from tests.orchestrator.mirror.servers import mlflow_server
from tests.slurm.client import ROOT
from tests.slurm.cluster import Cluster


def test_a_study_is_in_mlflow_when_its_last_job_has_ended(tmp_path: Path, slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)
    lab = Lab(tmp_path / "lab", make_data(tmp_path))
    with mlflow_server(tmp_path / "server", f"sqlite:///{tmp_path}/server.db", workers=1) as address:
        lab.configure(
            backend="slurm",
            mlflow=address,
            slurm={"sync": True, "canary": 0},
            partitions={"normal": {"gpus": 2, "cpus": 4, "memory": "16G"}},
            setup=[f"export PYTHONPATH={ROOT}"],
            cpus=None,
            gpus=None,
        )
        said = lab.spawn("submit", lab.sweep)
        assert said.code == 0, said.text
        slurm.wait_until(lambda: not slurm.squeue(), timeout=400, what="for the study to end")
        # Whoever asks next finds nothing that is not there.
        asked = json.loads(lab.spawn("sync", "floor", "--json").out)
        assert asked == {"floor": {"runs": 2, "created": 0, "updated": 0}}
        runs = runs_of(lab.run, "floor", uri=address)
    trains = [job.job_id for job in lab.jobs(Stage.TRAIN)]
    assert len(lab.results()) == len(lab.jobs()) == 6
    assert sorted(one.data.tags["job"] for one in runs.values()) == sorted(trains)
    assert {one.info.status for one in runs.values()} == {"FINISHED"}
    assert all("test/chexpert/auroc/pleural_effusion" in one.data.metrics for one in runs.values())
