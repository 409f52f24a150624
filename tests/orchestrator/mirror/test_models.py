"""The chosen checkpoint of a winner as a model of MLflow: one a pick, without a copy of its weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModel

from jobs.paths import RunPaths
from orchestrator import tracking
from orchestrator.mirror import rows
from orchestrator.mirror.models import model_of
from orchestrator.mirror.outcomes import Outcome
from orchestrator.model import Plan
from tests.orchestrator.mirror.mirrored import client_of, export, rebuilt, runs_of
from tests.orchestrator.mirror.played import Player, trains
from tests.orchestrator.mirror.test_tracking import Unplugged, cut_after


def models_in(run: RunPaths) -> dict[str, LoggedModel]:
    """Return every model that the page lists, by its name."""
    client = client_of(run)
    found = client.get_experiment_by_name("play")
    assert found is not None
    models = client.search_logged_models([found.experiment_id])
    named = {one.name: one for one in models}
    assert len(named) == len(models), "a model stands there twice"
    return named


def test_a_winner_has_the_model_that_its_pick_chose(plan: Plan, run: RunPaths, template: Path, tmp_path: Path) -> None:
    Player(run=run).play(plan.jobs)
    tracking.sync(plan, run)
    runs, models = runs_of(run, "play"), models_in(run)
    winners = {name.replace(".", "_"): one for name, one in runs.items() if one.data.tags.get("picked") == "true"}
    assert len(winners) == 6
    assert set(models) == set(winners)
    for name, one in models.items():
        winner = winners[name]
        assert (str(one.status), one.source_run_id, one.model_type) == ("READY", winner.info.run_id, "classification")
        assert [each.model_id for each in (winner.outputs.model_outputs if winner.outputs else ())] == [one.model_id]
        # The file is there, and it is no copy.
        assert (run.root / one.tags["file"]).read_bytes() == b"weights"
        assert one.tags["file"] == f"jobs/{one.tags['job'][:2]}/{one.tags['job']}/checkpoints/{winner.data.tags['checkpoint']}.safetensors"
        # What each value was measured on: the page lists it as the model's data sets.
        used = {each.dataset.digest for each in (winner.inputs.dataset_inputs if winner.inputs else ())}
        on = {each.key: (each.dataset_name, each.dataset_digest) for each in one.metrics or ()}
        assert on["test/phantom/auroc_macro"][0] == "phantom" and {digest for _, digest in on.values()} <= used
        assert on["picked/epoch"][0] == "phantom" and on["picked/epoch"] != on["test/phantom/auroc_macro"]
        params, finals = one.params or {}, {each.key: each.value for each in one.metrics or ()}
        assert params == {key: winner.data.params[key] for key in params}
        assert {"label_fraction", "draw", "n_labeled", "after"} <= set(params)
        assert finals == {key: value for key, value in winner.data.metrics.items() if key.startswith(("test/", "picked/"))}
        assert "test/phantom/auroc_macro" in finals
    before = export(run, "play")
    assert tracking.sync(plan, run).updated == 0
    assert export(run, "play") == before == rebuilt(run, plan, tmp_path / "again", template)


def test_a_sync_that_is_cut_short_leaves_no_model_twice(
    plan: Plan, run: RunPaths, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Player(run=run).play(plan.jobs)
    requests = ("log_inputs", "create_logged_model", "log_outputs", "finalize_logged_model")
    for holder, name in [*((MlflowClient, one) for one in requests), (rows, "write")]:
        with monkeypatch.context() as patched:
            # Requests are what a file gets whose tables are others; what they leave half done is completed by rows.
            patched.setattr(rows, "are_known", lambda database, holder=holder: holder is rows)
            patched.setattr(holder, name, cut_after(getattr(holder, name), 0))
            with pytest.raises(Unplugged):
                tracking.sync(plan, run)
    tracking.sync(plan, run)
    assert len(models_in(run)) == 6
    assert {len(one.outputs.model_outputs) for one in runs_of(run, "play").values() if one.outputs and one.outputs.model_outputs} == {1}
    assert export(run, "play") == rebuilt(run, plan, tmp_path / "again", template)


def test_models_leave_and_come_back_with_their_runs(plan: Plan, run: RunPaths) -> None:
    Player(run=run).play(plan.jobs)
    tracking.sync(plan, run)
    before = export(run, "play")
    client, mine = client_of(run), runs_of(run, "play")["finetune-none-1.0-d00"].info
    own = client.create_logged_model(mine.experiment_id, "by hand", mine.run_id)
    small = replace(plan, jobs=tuple(job for job in plan.jobs if job.labels.get("fraction") != 1.0))
    tracking.sync(small, run)
    assert sorted(models_in(run)) == ["by hand", *sorted(name for name in before_names(before) if "1_0" not in name)]
    tracking.sync(plan, run)
    client.delete_logged_model(own.model_id)
    assert export(run, "play") == before


def test_another_choice_is_another_model(plan: Plan, run: RunPaths) -> None:
    Player(run=run).play(plan.jobs)
    tracking.sync(plan, run)
    pick = next(job for job in plan.jobs if job.stage == "pick" and job.labels.get("after") == "none")
    result = json.loads(run.job(pick.job_id).result.read_text())
    (chosen,) = result["choice"]["runs"].values()
    others = [f"epoch-000{epoch}" for epoch in (1, 2, 3) if f"epoch-000{epoch}" not in chosen["checkpoints"]]
    kept = {one["name"] for one in json.loads(run.job(chosen["job"]).result.read_text())["checkpoints"]}
    chosen["checkpoints"] = [next((name for name in others if name in kept), others[0])]
    run.job(pick.job_id).result.write_text(json.dumps(result))
    synced = tracking.sync(plan, run)
    assert (synced.updated, synced.replaced) == (1, 0)
    (one,) = [found for found in models_in(run).values() if found.tags["job"] == chosen["job"]]
    assert one.tags["checkpoint"] == chosen["checkpoints"][0]
    assert {each.key for each in one.metrics or ()} >= {"test/phantom/auroc_macro", "picked/epoch"}


def test_several_checkpoints_that_are_scored_together_are_one_model(plan: Plan) -> None:
    job, run = trains(plan)[0], RunPaths(Path("runs"))
    kept: list[dict[str, Any]] = [
        {"name": name, "step": step, "files": {"safetensors": {"file": f"{name}.safetensors", "sha256": name * 4, "bytes": 1}}}
        for name, step in (("a", 10), ("b", 20), ("c", 30))
    ]
    outcome = Outcome(picked=True, checkpoints=("a",), by_label={"edema": ("b",), "mass": ("a",)})
    found = model_of(job, run, {"checkpoints": kept}, outcome, name="x/0.1", params={}, scored={})
    assert found is not None
    folder = f"jobs/{job.job_id[:2]}/{job.job_id}/checkpoints"
    assert (found.name, found.step, found.tags["file"]) == ("x_0_1", 20, f"{folder}/a.safetensors; {folder}/b.safetensors")
    assert found.tags["sha256"] == "aaaa; bbbb"
    assert model_of(job, run, None, outcome, name="x", params={}, scored={}) is None
    assert model_of(job, run, {"checkpoints": kept}, Outcome(picked=False), name="x", params={}, scored={}) is None
    gone = model_of(job, run, {"checkpoints": []}, outcome, name="x", params={}, scored={})
    assert gone is not None
    assert ("file" in gone.tags, gone.tags["mlflow.note.content"]) == (False, "Its weights are not kept any more.")


def before_names(exported: dict[str, Any]) -> list[str]:
    return [model[0] for one in exported.values() for model in one["models"]]
