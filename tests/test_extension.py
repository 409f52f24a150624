"""A method, a data set card and a sweep from outside the tree: planned, run and evaluated with no line of the project changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

CONFIG = '''"""Score by mean brightness."""
from dataclasses import dataclass

NAME = "brightness"
VERSION = 3

@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    sign: float = 1.0
    px: int = 32
'''

TRAIN = '''"""Score an image by its mean grey level, with a sign that nothing has to learn."""
import numpy as np
import torch
from trainers.api import Scores

class Brightness:
    def __init__(self, setup):
        self.setup = setup
        self.store = setup.data.images(setup.config.px)
        self.module = torch.nn.Linear(1, len(setup.labels), bias=False)

    def solve(self):
        self.setup.data.rows("train")
        with torch.no_grad():
            self.module.weight.fill_(self.setup.config.sign)
        return {"train/sign": self.setup.config.sign}

    def validate(self):
        rows = self.setup.data.find("val")
        return None if rows is None else self.predict(rows)

    def predict(self, rows):
        means = np.array([[self.store.image(int(p)).mean() / 255.0] for p in rows.position], np.float32)
        with torch.no_grad():
            logits = self.module(torch.from_numpy(means)).numpy()
        return Scores(rows=rows, logits=logits, labels=self.setup.labels)

def build(setup):
    return Brightness(setup)
'''

CARD = """name: toy
title: Made radiographs under another name
reader: chexpert
labels: {pleural_effusion: Pleural Effusion, cardiomegaly: Cardiomegaly}
primary: pleural_effusion
score_per: study
splits: {official: {train/: train, valid/: test}, patients_by_hash: {val: 0.3}, salt: toy}
label_files: [train.csv, valid.csv]
made: {generator: phantom, always: true, parameters: {patients_train: 60, patients_valid: 40, px: 32}}
"""

SWEEP = """sweep: outside
data: toy
phases:
  score:
    trainer: brightness
    compare: {sign: [1.0, -1.0]}
    draws: {count: [16], repeats: 2}
    pick: {metric: val/auroc_macro}
    evaluate: [{data: same, split: test}]
report: {measure: auroc_macro, baseline: {sign: 1.0}}
"""


def orchestrate(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator", *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(cwd)},
    )


def lay(folder: Path) -> None:
    (folder / "methods" / "brightness").mkdir(parents=True)
    (folder / "methods" / "brightness" / "__init__.py").write_text("", encoding="utf-8")
    (folder / "methods" / "brightness" / "config.py").write_text(CONFIG, encoding="utf-8")
    (folder / "methods" / "brightness" / "train.py").write_text(TRAIN, encoding="utf-8")
    (folder / "cards").mkdir()
    (folder / "cards" / "toy.yaml").write_text(CARD, encoding="utf-8")
    (folder / "outside.yaml").write_text(SWEEP, encoding="utf-8")
    (folder / "here.yaml").write_text(
        f"backend: inline\nrun_root: {folder}/runs\nmade_root: {folder}/made\n"
        f"trainer_paths: [{folder}/methods]\ncard_paths: [{folder}/cards]\n",
        encoding="utf-8",
    )


def test_a_method_a_card_and_a_sweep_from_outside(tmp_path: Path) -> None:
    lay(tmp_path)
    done = orchestrate("submit", "outside.yaml", "--cluster", str(tmp_path / "here.yaml"), "--wait", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    status = json.loads(orchestrate("status", "outside", "--cluster", str(tmp_path / "here.yaml"), "--json", cwd=tmp_path).stdout)[0]
    assert status["counts"] == {"SUCCEEDED": 12}
    results = [json.loads(path.read_text()) for path in tmp_path.glob("runs/jobs/*/*/result.json")]
    by_stage = {stage: [one for one in results if one["stage"] == stage] for stage in ("train", "evaluate")}
    assert {one["config"]["sign"] for one in by_stage["train"]} == {1.0, -1.0}
    areas = sorted(one["metrics"]["test/toy/auroc/cardiomegaly"] for one in by_stage["evaluate"])
    # Opposite signs rank the same images the other way round: the two areas mirror each other.
    assert abs(areas[0] + areas[-1] - 1.0) < 1e-9
    report = json.loads((tmp_path / "runs/sweeps/outside/report/report.json").read_text())
    assert report["sweep"] == "outside"


def test_the_same_folder_found_by_an_entry_point(tmp_path: Path) -> None:
    """An installed distribution adds a method by the entry-point group alone."""
    lay(tmp_path)
    info = tmp_path / "methods" / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[cxr_orchestrator.trainers]\nbrightness = brightness\n", encoding="utf-8")
    code = "from jobs.catalog import find_trainers; print(find_trainers()['brightness'].version)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={"PYTHONPATH": f"{ROOT}:{tmp_path / 'methods'}"}
    )
    assert done.stdout.strip() == "3", done.stderr
