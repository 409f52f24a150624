"""A pretraining that is watched and picked by what was seen, as jobs: what the result says, and what the pick takes."""

from __future__ import annotations

from pathlib import Path

from jobs.spec import Stage
from tests.jobs.study import MOCO, lay

SWEEP = f"""sweep: watched
data: tiny
phases:
  pretrain:
    trainer: moco_cxr
    config: {{{MOCO}, watch_every_epochs: 1, watch_images: 60, keep_best: 2}}
    tune: {{lr: [1e-3, 1e-2]}}
    pick: {{metric: val/knn/auroc_macro}}
"""


def test_a_pick_takes_the_best_epoch_of_the_best_run_by_validation_labels(tmp_path: Path) -> None:
    study = lay(tmp_path, SWEEP)
    study.run()
    seen: dict[str, dict[str, float]] = {}
    for job in study.jobs(Stage.TRAIN):
        result = study.result(job)
        assert set(result["data"][0]["splits"]) == {"train", "val"}
        watched = result["watched"]
        assert 0 < watched["val"] <= 30 and watched["train"] + watched["val"] <= 60
        assert watched["labels"] == ["pleural_effusion", "cardiomegaly", "edema"]
        # The best two and the last were kept, each with what was seen of it.
        kept = {entry["name"]: entry["metrics"]["val/knn/auroc_macro"] for entry in result["checkpoints"]}
        assert "epoch-0003" in kept and all("val/probe/auroc_macro" in entry["metrics"] for entry in result["checkpoints"])
        seen[job.job_id] = kept
    choice = study.result(study.job(Stage.PICK))["choice"]
    (chosen,) = choice["runs"].values()
    best = max(value for kept in seen.values() for value in kept.values())
    assert chosen["value"] == best == seen[chosen["job"]][chosen["checkpoints"][0]]
    assert set(choice["overrides"]) == {"lr"}
