"""A folder with data that passes for real, a cluster config, a sweep of seconds, and ways to type commands at it and to break it."""

from __future__ import annotations

import ctypes
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from jobs.paths import RunPaths
from jobs.spec import JobSpec, Stage
from orchestrator import cli
from orchestrator.plans import read_plan
from trainers.data.phantom.layout import write_chexpert
from trainers.data.phantom.layouts.chexpert import DATASET

ROOT = Path(__file__).resolve().parents[2]
LABELS = "labels: [pleural_effusion, cardiomegaly]"
#: Two draws of the floor on CheXpert's layout: 2 train, 2 pick and 2 evaluate jobs.
FLOOR = f"""sweep: floor
data: chexpert
phases:
  score:
    trainer: thumbnail
    config: {{px: 32, {LABELS}}}
    draws: {{count: [24], repeats: 2}}
    pick: {{metric: val/loss, mode: min}}
    evaluate: [{{data: same, split: test}}]
report: {{measure: auroc/pleural_effusion}}
"""
_PR_CAPBSET_DROP = 24
#: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: with them, permissions mean nothing to root.
_ABOVE_PERMISSIONS = (1, 2)


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Return both, errors last."""
        return self.out + self.err


def make_data(root: Path) -> Path:
    """Write a small set in CheXpert's layout that nothing tells from a real one."""
    made = write_chexpert(root / "made", patients_train=90, patients_valid=24, px=32)
    return (made.root / DATASET).rename(root / "chexpert")


class Lab:
    """One machine of one test."""

    def __init__(self, folder: Path, data: Path | None = None, **config: Any) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.data = folder / "chexpert"
        if data is not None:
            shutil.copytree(data, self.data)
        self.config = folder / "here.yaml"
        self.configure(**config)
        self.sweep = self.write("floor.yaml", FLOOR)

    def configure(self, **config: Any) -> None:
        """Write the cluster config anew, with these keys besides or instead of the usual ones."""
        usual = {
            "backend": "inline",
            "run_root": str(self.folder / "runs"),
            "made_root": str(self.folder / "made"),
            "data": {"chexpert": str(self.data)},
            "cpus": 2,
            "gpus": 0,
        }
        self.settings = {key: value for key, value in {**usual, **config}.items() if value is not None}
        # JSON is YAML.
        self.config.write_text(json.dumps(self.settings), encoding="utf-8")

    def write(self, name: str, text: str) -> Path:
        """Write a file of the lab."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    @property
    def run(self) -> RunPaths:
        return RunPaths(Path(self.settings["run_root"]))

    # --- typing --------------------------------------------------------------------------------------------------------------------------

    def type(self, *words: str | Path, cluster: bool = True) -> Said:
        """Run a command line in this process, from its entry point to its exit."""
        arguments = [str(word) for word in words] + (["--cluster", str(self.config)] if cluster else [])
        out, err = io.StringIO(), io.StringIO()
        with patch.object(sys, "argv", ["orchestrate", *arguments]), redirect_stdout(out), redirect_stderr(err):
            try:
                cli.main()
            except SystemExit as ended:
                code = ended.code
            else:
                code = 0
        return Said(0 if code is None else int(code), out.getvalue(), err.getvalue())

    def command(self, *words: str | Path) -> list[str]:
        return [sys.executable, "-m", "orchestrator", *map(str, words), "--cluster", str(self.config)]

    def spawn(self, *words: str | Path, env: Mapping[str, str] | None = None, humble: bool = False) -> Said:
        """Run a command line in a process of its own; a humble one has no right above the permissions of files."""
        done = subprocess.run(
            self.command(*words),
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
            timeout=300,
            env={**os.environ, **(env or {})},
            preexec_fn=bow if humble else None,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    # --- looking -------------------------------------------------------------------------------------------------------------------------

    def jobs(self, stage: Stage | None = None, sweep: str = "floor") -> list[JobSpec]:
        """Return the jobs that were submitted, those of one stage when it is named."""
        return [job for job in read_plan(self.run.sweep(sweep).plan).jobs if stage in (None, job.stage)]

    def results(self) -> dict[str, bytes]:
        """Return the bytes of every result by job id."""
        return {path.parent.name: path.read_bytes() for path in self.run.root.glob("jobs/*/*/result.json")}

    def attempts(self, stage: Stage, sweep: str = "floor") -> list[int]:
        """Return how many attempts each job of a stage had."""
        return [len(self.run.job(job.job_id).attempts()) for job in self.jobs(stage, sweep)]


def bow() -> None:
    """Give up, in a child of root, the right to pass over the permissions of files."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for right in _ABOVE_PERMISSIONS:
            if libc.prctl(_PR_CAPBSET_DROP, right, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "prctl(PR_CAPBSET_DROP)")


def assert_said(said: Said, code: int, *parts: str) -> None:
    """See that a command ended with a code and these words, and without a traceback."""
    assert said.code == code, said.text
    assert "Traceback" not in said.text, said.text
    for part in parts:
        assert part in said.text, said.text
