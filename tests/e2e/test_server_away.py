"""An MLflow server that is away for a whole study: nothing fails, nothing waits for it, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

from jobs.spec import Stage
from tests.e2e.lab import Lab, assert_said, make_data
from tests.orchestrator.mirror.mirrored import export
from tests.orchestrator.mirror.servers import free_port, mlflow_server


def test_what_it_missed_is_there_after_one_sync(tmp_path: Path) -> None:
    port = free_port()
    address, file = f"http://127.0.0.1:{port}", f"sqlite:///{tmp_path}/undisturbed.db"
    lab = Lab(tmp_path / "lab", make_data(tmp_path), mlflow=address)
    said = lab.type("submit", lab.sweep, "--wait")
    assert_said(said, 0, "MLflow cannot be used; the jobs run without it", "6 succeeded", f"the MLflow store {address} cannot be used")
    before = lab.results()
    with mlflow_server(tmp_path / "server", f"sqlite:///{tmp_path}/server.db", workers=1, port=port):
        assert_said(lab.type("sync", "floor"), 0, "3 runs in MLflow, 3 new")
        assert_said(lab.type("sync", "floor"), 0, "3 runs in MLflow, 0 new, 0 brought up to date")
        found = export(lab.run, "floor", uri=address)
    # The same as a store that was there all the time, and nothing has run again.
    lab.configure(mlflow=file)
    assert_said(lab.type("sync", "floor"), 0, "3 runs in MLflow, 3 new")
    assert found == export(lab.run, "floor", uri=file)
    assert len(found) == len(lab.jobs(Stage.TRAIN)) + 1 == 3
    assert lab.results() == before
