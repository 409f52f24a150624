"""Studies from Python say and do what the commands do."""

from __future__ import annotations

import json

import pandas
import pytest

from jobs.spec import State
from orchestrator.api import Sweep
from orchestrator.errors import Error, ReportError, SweepError
from tests.e2e.lab import Lab, make_data


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("api")
    return Lab(folder / "lab", make_data(folder), mlflow=f"sqlite:///{folder}/mlflow.db")


def test_a_study_is_planned_run_and_read(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    sweep = Sweep.load(lab.sweep, cluster=str(lab.config))
    assert [job.job_id for job in sweep.plan().jobs] == [job["job"] for job in json.loads(lab.type("plan", lab.sweep, "--json").out)["new"]]
    before = sweep.results()
    assert len(before) == 2 and before["n_labeled"].isna().all() and set(sweep.jobs()["state"]) == {"NEW"}
    with pytest.raises(ReportError):
        sweep.report()

    capfd.readouterr()
    summary = sweep.submit(quiet=True)
    assert summary.exit_code == 0 and summary.submitted == 6 and summary.counts == {State.SUCCEEDED: 6}
    assert capfd.readouterr().out == ""

    results = sweep.results()
    assert list(results["phase"]) == ["score", "score"] and set(results["draw"]) == {0, 1} and set(results["card"]) == {"chexpert"}
    assert (results["n_labeled_patients"] == 24).all()
    for row in results.to_dict("records"):
        written = json.loads((lab.run.job(next(job.job_id for job in sweep.plan().jobs if job.short_id == row["job"])).result).read_text())
        assert row["auroc/pleural_effusion"] == written["metrics"]["test/chexpert/auroc/pleural_effusion"]
        assert written["train_job"].startswith(row["train_job"])
    assert isinstance(results.groupby("arm")["auroc_macro"].mean(), pandas.Series)

    assert sweep.status().done == sweep.status().total == 6 and set(sweep.jobs()["state"]) == {"SUCCEEDED"}
    assert sweep.report().is_file()
    assert (sweep.sync().created, sweep.sync().updated) == (0, 0)
    assert sweep.submit(quiet=True).submitted == 0


def test_what_is_wrong_in_a_file_is_told_when_it_is_loaded(lab: Lab) -> None:
    wrong = lab.write("wrong.yaml", lab.sweep.read_text().replace("trainer: thumbnail", "trainer: thumbnial"))
    with pytest.raises(SweepError, match=r"wrong.yaml:5:14: .*did you mean 'thumbnail'"):
        Sweep.load(wrong, cluster=str(lab.config))


def test_the_cluster_is_that_of_the_environment_where_none_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATE_CLUSTER", str(lab.config))
    assert Sweep.load(lab.sweep).workspace.cluster.run_root == lab.run.root


def test_more_jobs_than_a_person_means_are_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.api.MANY_JOBS", 5)
    with pytest.raises(Error, match=r"submit\(many=True\)"):
        Sweep.load(lab.sweep, cluster=str(lab.config)).submit()
