"""A masked pretraining as jobs: what its result says, its pictures, and its encoder in a classifier that is scored and reported."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from jobs.spec import Stage
from orchestrator.errors import SweepError
from orchestrator.report import record
from orchestrator.running import write_report
from tests.jobs.study import lay

MASKED = "arch: slim_swin, px: 32, window: null, mask_patch: 8, batch_size: 8, lr: 1e-3, lr_images: 0, collapse_guard: false"
SWEEP = f"""sweep: masked
data: tiny
phases:
  pretrain:
    trainer: simmim
    config: {{{MASKED}, epochs: 2, keep_best: 2, pictures_every_epochs: 1}}
    tune: {{mask_ratio: [0.5, 0.6]}}
    pick: {{metric: val/reconstruction, mode: min}}
  on:
    trainer: simmim
    after: pretrain
    config: {{{MASKED}, epochs: 1, pictures_every_epochs: 1}}
  target:
    trainer: classification
    config: {{arch: slim_swin, px: 32, channels: 1, epochs: 1, batch_size: 8, lr: 1e-3}}
    compare: {{after: [on, none]}}
    pick: {{metric: val/auroc_macro}}
    evaluate: [{{data: same, split: test}}]
report: {{baseline: {{after: none}}, verdict: false}}
"""


def test_pretraining_goes_on_and_into_a_classifier_with_its_pictures_in_the_report(tmp_path: Path) -> None:
    study = lay(tmp_path, SWEEP)
    study.run()
    for job in study.jobs(Stage.TRAIN, phase="pretrain"):
        result = study.result(job)
        assert result["masking"]["squares"] == 16 and result["masking"]["masked"] in (8, 10)
        assert {one["name"] for one in result["checkpoints"]} == {"epoch-0001", "epoch-0002"}
        assert [(one["name"], one["epoch"]) for one in result["pictures"]] == [("reconstruction", 1), ("reconstruction", 2)]
        for one in result["pictures"]:
            content = (study.paths(job).pictures / one["file"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == one["sha256"] and len(content) == one["bytes"]
            assert one["caption"].startswith("validation images, what the network saw of them")
        assert "captions" not in result
    (chosen,) = study.result(study.job(Stage.PICK, phase="pretrain"))["choice"]["runs"].values()
    kept = [kept for job in study.jobs(Stage.TRAIN, phase="pretrain") for kept in study.result(job)["checkpoints"]]
    assert chosen["value"] == min(one["metrics"]["val/reconstruction"] for one in kept)

    folder, _ = write_report(study.plan, study.workspace)
    report = record.read(folder / "report.json")
    # The classifier that rests on it has the pictures of both pretrainings that are in it: the second, and the first as it was picked.
    assert [(one.phase, one.epoch, one.stage) for one in report.pictures] == [("pretrain", 2, "train"), ("on", 1, "train")]
    assert report.pictures[0].job == chosen["job"]
    assert all(len(one.arms) == 1 and "after=on" in one.arms[0] for one in report.pictures)
    assert (folder / "report.html").read_text(encoding="utf-8").count("data:image/png;base64,") == 2
    assert json.loads((folder / "report.json").read_text())["pictures"][0]["file"] == report.pictures[0].file


def test_a_pick_without_validation_images_is_refused_when_planned(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="validate_images"):
        lay(tmp_path, SWEEP.replace("keep_best: 2", "keep_best: 2, validate_images: 0"))
