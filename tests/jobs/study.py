"""Small real studies for tests: made data, jobs expanded from a sweep and laid out as files, and processes that run them."""

from __future__ import annotations

import csv
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from unittest import mock

from jobs import main
from jobs.checkpoints import CheckpointStore
from jobs.paths import JobPaths
from jobs.spec import JobSpec, Stage, pretty_json, spec_to_json
from orchestrator.datasets import make_data
from orchestrator.model import Plan
from orchestrator.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
#: Children of one server that has imported what a first step imports: a process each, without seconds of imports each.
SERVER = multiprocessing.get_context("forkserver")
_PRELOADED = [
    "tests.jobs.study",
    "tests.trainers.toy",
    "torch._dynamo",
    "trainers.evaluation",
    "trainers.moco_cxr.train",
    "trainers.classification.train",
    "trainers.thumbnail.train",
    "trainers.data.readers.chexpert",
    "pandas",
]

CARD = """name: tiny
title: A few made patients
reader: chexpert
labels: {pleural_effusion: Pleural Effusion, cardiomegaly: Cardiomegaly, edema: Edema}
primary: pleural_effusion
groups: {pair: [pleural_effusion, cardiomegaly]}
score_per: study
views: max_logit
splits: {official: {train/: train, valid/: test}, patients_by_hash: {val: 0.3}, salt: tiny}
label_files: [train.csv, valid.csv]
made:
  generator: phantom
  always: true
  parameters: {patients_train: 44, patients_valid: 16, px: 32, views: [frontal, lateral], lateral_share: 0.5, max_studies: 2, strength: 2.0}
"""

#: A pretraining of seconds.
MOCO = """arch: slim, px: 32, epochs: 3, batch_size: 8, queue_size: 32, optimizer: adamw, momentum: 0.99, schedule: cosine,
             augment: cxr_plus, collapse_guard: false"""
#: Every kind of job and hand-over: tuned parents, frozen and moving, an ensemble, a solver, a floor.
WHOLE = f"""sweep: seam
data: tiny
phases:
  pretrain:
    trainer: moco_cxr
    config: {{{MOCO}, precision: bf16}}
    tune: {{lr: [1e-3, 1e-2]}}
  finetune:
    trainer: classification
    config: {{arch: slim, px: 32, epochs: 3, batch_size: 8, solver: sgd, keep_best: 2, lr: 3e-3}}
    compare: {{after: [pretrain, none], freeze: [backbone, nothing]}}
    exclude: [{{after: none, freeze: backbone}}]
    draws: {{count: [24], seed: 1}}
    pick: {{metric: val/auroc_macro}}
    evaluate: [{{data: same, split: test}}]
  ensemble:
    trainer: classification
    config: {{arch: slim, px: 32, epochs: 3, batch_size: 8, keep_best: -1, lr: 3e-3}}
    pick: {{metric: val/auroc_macro, checkpoints: all}}
    evaluate: [{{data: same, split: test}}]
  linear:
    trainer: classification
    after: pretrain
    config: {{arch: slim, px: 32, freeze: backbone}}
    pick: {{metric: val/auroc/edema}}
    evaluate: [{{data: same, split: test, score_per: patient, views: mean_prob}}]
  floor:
    trainer: thumbnail
    config: {{px: 32}}
    pick: {{metric: val/auroc_macro}}
    evaluate: [{{data: same, split: test, score_per: image}}]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A planned sweep whose job files, machine file and data are on disk."""

    folder: Path
    plan: Plan
    workspace: Workspace

    def paths(self, spec: JobSpec) -> JobPaths:
        return self.workspace.run.job(spec.job_id)

    def jobs(self, stage: Stage | None = None, **labels: Any) -> list[JobSpec]:
        """Return the jobs of a stage that carry these labels; `phase` is one of them."""
        found = [job for job in self.plan.jobs if stage in (None, job.stage)]
        return [job for job in found if all({**job.labels, "phase": job.phase}.get(name) == value for name, value in labels.items())]

    def job(self, stage: Stage | None = None, **labels: Any) -> JobSpec:
        (found,) = self.jobs(stage, **labels)
        return found

    def result(self, spec: JobSpec) -> dict[str, Any]:
        return json.loads(self.paths(spec).result.read_text(encoding="utf-8"))

    def last_event(self, spec: JobSpec) -> dict[str, Any]:
        return self.events(spec)[-1]

    def events(self, spec: JobSpec) -> list[dict[str, Any]]:
        """Return the events of the last attempt."""
        return [json.loads(line) for line in self.paths(spec).attempts()[-1].events.read_text(encoding="utf-8").splitlines()]

    def store(self, spec: JobSpec) -> CheckpointStore:
        return CheckpointStore(self.paths(spec).checkpoints)

    def outcome(self, spec: JobSpec) -> dict[str, bytes]:
        """Return the bytes of all that a job leaves for others: result, choice, predictions, and every kept file."""
        paths = self.paths(spec)
        named = [path for path in (paths.result, paths.choice, paths.predictions) if path.exists()]
        kept = sorted(path for path in paths.checkpoints.glob("*") if not path.name.startswith("state-"))
        return {path.name: path.read_bytes() for path in [*named, *kept]}

    def metrics(self, spec: JobSpec) -> dict[tuple[int, int], dict[str, str]]:
        """Return what all attempts logged, exact, by (step, epoch), the last attempt to say it counting; a torn line is none."""
        return {place: values for lines in self.metrics_by_attempt(spec) for place, values in lines.items()}

    def metrics_by_attempt(self, spec: JobSpec) -> list[dict[tuple[int, int], dict[str, str]]]:
        found: list[dict[tuple[int, int], dict[str, str]]] = []
        for attempt in self.paths(spec).attempts():
            text = attempt.metrics.read_text(encoding="utf-8") if attempt.metrics.exists() else ""
            lines = [json.loads(line) for line in text.split("\n")[:-1]]
            found.append({(line["step"], line["epoch"]): {k: _exact(v) for k, v in line["metrics"].items()} for line in lines})
        return found

    def run(self, jobs: Iterable[JobSpec] | None = None) -> None:
        """Run jobs, or all, in this process and see that each is done."""
        for job in self.plan.jobs if jobs is None else jobs:
            assert main.run(self.paths(job).job) == main.EXIT_DONE, said(self.paths(job))

    def add(self, spec: JobSpec) -> Path:
        """Write one more job file, and return it."""
        path = self.paths(spec).job
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pretty_json(spec_to_json(spec)), encoding="utf-8")
        return path


def _exact(value: float | None) -> str:
    return "null" if value is None else float(value).hex()


def said(paths: JobPaths) -> str:
    """Return what the last attempt of a job printed."""
    return paths.attempts()[-1].stdout.read_text(encoding="utf-8") if paths.attempts() else "it has no attempt"


def lay(folder: Path, sweep: str, *, made: Path | None = None, methods: Mapping[str, tuple[str, str]] | None = None) -> Study:
    """Write card, cluster config and sweep, expand, make the data, and write every job file and the machine file, as a client does.

    `made` shares made data between studies; `methods` are (config.py, train.py) by package name, found by `trainer_paths`.
    """
    for name, text in {"cards/tiny.yaml": CARD, "sweep.yaml": sweep}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    for name, (config, train) in (methods or {}).items():
        (folder / "methods" / name).mkdir(parents=True, exist_ok=True)
        for file, text in {"__init__.py": "", "config.py": config, "train.py": train}.items():
            (folder / "methods" / name / file).write_text(text, encoding="utf-8")
    lines = ["backend: inline", f"run_root: {folder}/runs", f"made_root: {made or folder / 'made'}", f"card_paths: [{folder}/cards]"]
    (folder / "here.yaml").write_text("\n".join([*lines, f"trainer_paths: [{folder}/methods]" if methods else ""]), encoding="utf-8")
    workspace = Workspace.open(str(folder / "here.yaml"))
    study = Study(folder=folder, plan=workspace.plan(folder / "sweep.yaml"), workspace=workspace)
    list(make_data(study.plan, workspace))
    for job in study.plan.jobs:
        study.add(job)
    workspace.run.machine.write_text(pretty_json(workspace.machine()), encoding="utf-8")
    return study


def again(study: Study, folder: Path, sweep: str = WHOLE, **more: Any) -> Study:
    """Lay out a study anew, on the same data."""
    return lay(folder, sweep, made=study.workspace.cluster.made_root, **more)


# --- processes ----------------------------------------------------------------------------------------------------------------------------


def start(job_file: Path, *, attempt: int | None = None, beats: Path | None = None, pace: float = 0.0) -> ForkServerProcess:
    """Start a job in a process of its own. It tells a beat in a file at each step, log, keep and write, and then waits `pace` seconds."""
    return _started(_attempt, job_file, attempt, beats, pace)


def start_command(arguments: Sequence[str], *, before: Callable[[], None] | None = None, **environment: str) -> ForkServerProcess:
    """Start what `python -m jobs` does with arguments, as the whole of a process, after a function that prepares it."""
    return _started(_command, list(arguments), before, environment)


def _started(target: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    # Said here and not when this is imported: the server is one for all tests, and the last word before it starts counts.
    SERVER.set_forkserver_preload(_PRELOADED)
    process = SERVER.Process(target=target, args=arguments)
    # The server takes its import path from here when the first child starts it (Python 3.11 ignores the one it is handed).
    with mock.patch.dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1"):
        process.start()
    return process


def ended(process: ForkServerProcess) -> int:
    """Wait for a process and return its exit code."""
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def run_alone(job_file: Path) -> int:
    """Run a job in a process of its own and return its exit code."""
    return ended(start(job_file))


def run_together(job_files: Sequence[Path]) -> int:
    """Run jobs one after the other in one new process and return the first exit code that is not 0, or 0."""
    return ended(_started(_all_of, list(job_files)))


def wait_for_beat(beats: Path, process: ForkServerProcess, count: int) -> None:
    """Return when a process has told `count` beats."""
    deadline = time.monotonic() + 120
    while not beats.exists() or len(beats.read_bytes()) < count:
        assert process.is_alive(), f"ended with {process.exitcode} before beat {count}"
        assert time.monotonic() < deadline
        time.sleep(0.001)


def _all_of(job_files: list[Path]) -> None:
    sys.exit(next((code for code in map(main.run, job_files) if code), 0))


def _attempt(job_file: Path, attempt: int | None, beats: Path | None, pace: float) -> None:
    """Be the whole of a process."""
    if beats is not None:
        _tell(beats, pace)
    sys.exit(main.run(job_file, attempt=attempt))


def _command(arguments: list[str], before: Callable[[], None] | None, environment: Mapping[str, str]) -> None:
    from jobs.__main__ import main as command

    os.environ.update(environment)
    if before is not None:
        before()
    sys.exit(command(arguments))


def _tell(beats: Path, pace: float) -> None:
    """Tell a beat, and wait, after whatever a killer may aim at; what the job computes is untouched."""
    from jobs import stages
    from jobs.host import FileHost
    from trainers import evaluation

    file = beats.open("ab", buffering=0)
    for owner, name in (
        (FileHost, "should_stop"),
        (FileHost, "log"),
        (FileHost, "keep"),
        (FileHost, "save_state"),
        (stages, "write_atomically"),
        (evaluation, "write_table"),
    ):
        setattr(owner, name, _with_beat(getattr(owner, name), file, pace))


def _with_beat(plain: Any, file: Any, pace: float) -> Any:
    def told(*args: Any, **kwargs: Any) -> Any:
        found = plain(*args, **kwargs)
        file.write(b".")
        time.sleep(pace)
        return found

    return told


# --- the labels, read by other means than the project's ---------------------------------------------------------------------------------


def label_rows(study: Study, split: str) -> list[dict[str, str]]:
    """Return the rows of `train.csv` or `valid.csv` of the made data, with the parts of the path."""
    (file,) = (study.workspace.cluster.made_root).glob(f"tiny-*/CheXpert-v1.0-small/{split}.csv")
    with file.open(encoding="utf-8") as text:
        rows = list(csv.DictReader(text))
    for row in rows:
        *_, row["patient"], row["study"], row["file"] = row["Path"].split("/")
    return rows


COLUMNS = {"pleural_effusion": "Pleural Effusion", "cardiomegaly": "Cardiomegaly", "edema": "Edema"}


def truth_of(rows: Sequence[Mapping[str, str]], label: str) -> float:
    """Return the truth of a unit's images by the card's policy: positive, then uncertain (left out), then negative; blank is negative."""
    values = {row[COLUMNS[label]] for row in rows}
    if "1.0" in values:
        return 1.0
    return math.nan if "-1.0" in values else 0.0
