"""What people type wrong, and machines that are not what a sweep asks for: one sentence, the right exit code, no traceback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.spec import Stage
from orchestrator.workspace import Workspace
from tests.e2e.conftest import wait_for
from tests.e2e.lab import FLOOR, ROOT, Lab, assert_said, make_data


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("real"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, real: Path) -> Lab:
    """A lab where nothing ever ran."""
    return Lab(tmp_path_factory.mktemp("lab"), real)


@pytest.fixture
def lab(tmp_path: Path, real: Path) -> Lab:
    return Lab(tmp_path / "lab", real)


# --- files that are no sweeps, and words that are no commands ----------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["plan", "submit", "resume", "report", "status"])
def test_what_is_no_sweep_file_is_named(bare: Lab, command: str) -> None:
    (bare.folder / "folder.yaml").mkdir(exist_ok=True)
    bare.write("empty.yaml", "")
    (bare.folder / "binary.yaml").write_bytes(bytes(range(256)) * 8)
    for name, sentence in {
        "missing.yaml": "missing.yaml: there is no such file",
        "folder.yaml": "folder.yaml: cannot be read (Is a directory)",
        "empty.yaml": "empty.yaml:1:1: the file is empty",
        "binary.yaml": "binary.yaml:2:118: not UTF-8 text; save the file as UTF-8",
    }.items():
        said = bare.type(command, bare.folder / name)
        assert_said(said, 2, sentence)
        assert said.out == ""


@pytest.mark.parametrize("name", ["../floor", "/etc/passwd", "..", "", "a b", "floor/../floor", "Floor", "x\ny"])
def test_a_name_that_cannot_be_a_sweep_s_is_refused_and_leads_nowhere(bare: Lab, name: str) -> None:
    for command in ("status", "report", "sync"):
        said = bare.type(command, name)
        if name or command == "report":
            assert_said(said, 2, f"'{name}' is neither a sweep file (*.yaml) nor a name of lower-case letters, digits, '_' and '-'")
    assert bare.type("cancel", name).code == 2


def test_a_sweep_that_never_ran_says_what_to_type(bare: Lab) -> None:
    for command in ("report", "status", "sync"):
        assert_said(bare.type(command, "floor"), 2, f"sweep 'floor' was never submitted to {bare.run.root}; type `orchestrate submit floor")
        assert_said(bare.type(command, bare.sweep), 2, f"was never submitted to {bare.run.root}; type `orchestrate submit {bare.sweep}`")
    assert_said(bare.type("status"), 0, "nothing was submitted to")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["plam", "x.yaml"], "No such command 'plam'"),
        (["plan"], "Missing argument 'SWEEP'"),
        (["plan", "x.yaml", "--bogus"], "No such option: --bogus"),
        (["plan", "x.yaml", "y.yaml"], "unexpected extra argument"),
        (["resume", "x.yaml", "--failure", "TIRED"], "'TIRED' is not one of 'PREEMPTED'"),
        (["ui", "--port", "many"], "valid integer"),
        (["data", "verfy"], "No such command 'verfy'"),
    ],
)
def test_a_mistyped_command_line_is_exit_code_2(bare: Lab, words: list[str], sentence: str) -> None:
    said = bare.type(*words, cluster=False)
    assert_said(said, 2)
    assert sentence.lower() in said.err.lower()
    assert said.out == ""


def test_a_cluster_config_that_is_not_there_says_which_are(bare: Lab) -> None:
    for command in (["plan", bare.sweep], ["status"], ["doctor"]):
        assert_said(bare.type(*command, "-c", "lokal", cluster=False), 2, "no cluster config 'lokal'; did you mean 'local'?")
        assert_said(bare.type(*command, "-c", "nowhere/x.yaml", cluster=False), 2, "nowhere/x.yaml: there is no such file")


@pytest.mark.parametrize("command", ["logs", "explain", "cancel"])
def test_a_job_that_is_none_is_named(bare: Lab, command: str) -> None:
    assert_said(bare.type(command, "abc"), 2, "'abc' is too short to name a job: give at least 6 characters of its id")
    assert_said(bare.type(command, "abcdef"), 2, f"no job starts with 'abcdef' in {bare.run.root}; `orchestrate status` lists them")


def test_a_prefix_that_fits_several_jobs_lists_them(bare: Lab) -> None:
    with pytest.MonkeyPatch.context() as patch:
        plan = Workspace.open(str(bare.config)).plan(bare.sweep)
        patch.setattr(Workspace, "stored_plans", lambda self: [plan])
        patch.setattr("orchestrator.workspace.PREFIX_LENGTH", 0)
        said = bare.type("explain", "")
    assert_said(said, 2, "'' fits 6 jobs: ", "give more of the id")


# --- machines ----------------------------------------------------------------------------------------------------------------------------


def _asking(lab: Lab, resources: str) -> Path:
    return lab.write("floor.yaml", FLOOR.replace("    pick:", f"    resources: {resources}\n    pick:"))


@pytest.mark.parametrize(
    ("resources", "sentence"),
    [
        ("{gpus: 1}", "asks for gpus: 1, and cluster 'here' has 0; lower `resources: {gpus: ...}` of the phase, or set `gpus: 1`"),
        ("{cpus: 64}", "asks for cpus: 64, and cluster 'here' has 2; lower `resources: {cpus: ...}` of the phase, or set `cpus: 64`"),
    ],
)
def test_more_than_the_machine_has_is_refused_before_anything_starts(lab: Lab, resources: str, sentence: str) -> None:
    sweep = _asking(lab, resources)
    assert_said(lab.type("submit", sweep), 2, f"floor: phase 'score' {sentence}")
    assert not (lab.run.root / "jobs").exists()


def test_a_gpu_that_only_the_config_has_fails_the_job_with_a_sentence(lab: Lab) -> None:
    lab.configure(gpus=1)
    said = lab.spawn("submit", _asking(lab, "{gpus: 1}"), env={"CUDA_VISIBLE_DEVICES": ""})
    assert_said(said, 2, "the job asks for 1 GPU(s) and torch sees none on this machine: write `gpus: 0`", "2 failed, 4 new")


def test_a_search_runs_in_full_where_nothing_can_be_stopped(lab: Lab) -> None:
    space = "{penalty: {sample: log_uniform, from: 0.1, to: 10}}"
    search = f"    search: {{scheduler: asha, metric: val/loss, mode: min, samples: 3, space: {space}}}\n"
    text = FLOOR.replace("    pick:", search + "    pick:")
    sweep = lab.write("search.yaml", text.replace("sweep: floor", "sweep: search"))
    assert_said(lab.type("plan", sweep), 0)
    assert_said(lab.type("submit", sweep), 0, "score: backend 'inline' stops nothing, so every sample of its search runs in full")


def test_a_backend_that_is_none_says_which_there_are(lab: Lab) -> None:
    lab.configure(backend="kubernetes")
    assert_said(lab.type("submit", lab.sweep), 2, "backend: expects one of ray, slurm, inline, ray_on_slurm, got 'kubernetes'")


# --- methods from outside ----------------------------------------------------------------------------------------------------------------

CONFIG = """from dataclasses import dataclass

NAME = "brightness"
VERSION = 1

@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    sign: float = 1.0
    px: int = 32
"""
TRAIN = """import numpy as np
import torch
from trainers.api import Scores

class Brightness:
    def __init__(self, setup):
        self.setup, self.store = setup, setup.data.images(setup.config.px)
        self.module = torch.nn.Linear(1, len(setup.labels), bias=False)

    def solve(self):
        self.setup.data.rows("train")
        with torch.no_grad():
            self.module.weight.fill_(self.setup.config.sign)
        return {}

    def validate(self):
        rows = self.setup.data.find("val")
        return None if rows is None else self.predict(rows)

    def predict(self, rows):
        means = np.array([[self.store.image(int(p)).mean() / 255.0] for p in rows.position], np.float32)
        with torch.no_grad():
            return Scores(rows=rows, logits=self.module(torch.from_numpy(means)).numpy(), labels=self.setup.labels)

def build(setup):
    return Brightness(setup)
"""


def _outside(lab: Lab, config: str = CONFIG, train: str = TRAIN) -> Path:
    package = lab.folder / "methods" / "brightness"
    package.mkdir(parents=True, exist_ok=True)
    for name, text in {"__init__.py": "", "config.py": config, "train.py": train}.items():
        (package / name).write_text(text, encoding="utf-8")
    lab.configure(trainer_paths=[str(package.parent)])
    text = FLOOR.replace("trainer: thumbnail", "trainer: brightness").replace(
        "config: {px: 32, labels: [pleural_effusion, cardiomegaly]}", ""
    )
    return lab.write("floor.yaml", text)


def test_a_default_that_changed_is_shown_by_plan_and_makes_new_jobs(lab: Lab) -> None:
    sweep = _outside(lab)
    assert_said(lab.spawn("submit", sweep), 0, "6 succeeded")
    before = lab.results()
    _outside(lab, CONFIG.replace("sign: float = 1.0", "sign: float = -1.0"))
    said = lab.spawn("plan", sweep)
    assert_said(said, 0, "~ 6 changed", "(train): config.sign: 1.0 -> -1.0")
    assert_said(lab.spawn("submit", sweep), 0, "6 jobs run", "6 succeeded")
    after = lab.results()
    assert {job: after[job] for job in before} == before
    assert len(after) == 12, "the old results stay, for whoever goes back"
    _outside(lab)
    assert_said(lab.spawn("submit", sweep), 0, "nothing left to run; 6 succeeded")


def test_a_method_that_raises_is_exit_code_1_and_its_traceback_is_in_the_log(lab: Lab) -> None:
    sweep = _outside(lab, train=TRAIN.replace("        return {}\n", '        raise ValueError("not my day")\n'))
    said = lab.spawn("submit", sweep)
    assert_said(said, 1, "ValueError: not my day (the code raised an error: read the log, change what is wrong, then `resume`)")
    assert 'raise ValueError("not my day")' in lab.spawn("logs", lab.jobs(Stage.TRAIN)[0].short_id).out


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (CONFIG + "def broken(:\n", "cannot be read: SyntaxError: invalid syntax"),
        (CONFIG.replace("VERSION = 1\n", ""), "cannot be read: AttributeError: module 'brightness.config' has no attribute 'VERSION'"),
        ("import nothing_of_that_name\n" + CONFIG, "cannot be read: ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        (
            CONFIG.replace('"brightness"', '"thumbnail"'),
            "trainer 'thumbnail' is declared by both brightness and trainers.thumbnail: rename one",
        ),
    ],
    ids=["syntax", "no version", "import", "a name twice"],
)
def test_a_method_that_cannot_be_read_is_named_with_its_line(lab: Lab, config: str, sentence: str) -> None:
    sweep = _outside(lab, config=config)
    said = lab.spawn("plan", sweep)
    assert_said(said, 2, sentence)
    assert "config.py" in said.err or "rename one" in said.err


# --- Ctrl-C ------------------------------------------------------------------------------------------------------------------------------


def test_ctrl_c_ends_a_submission_in_order_and_the_same_command_goes_on(lab: Lab) -> None:
    lab.write("floor.yaml", FLOOR.replace("repeats: 2", "repeats: 40"))
    log = lab.folder / "log"
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(lab.command("submit", lab.sweep), stdout=file, stderr=file, text=True, cwd=ROOT, start_new_session=True)
    assert wait_for(lambda: len(lab.results()) >= 2, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 1
    said = log.read_text(encoding="utf-8")
    assert "Traceback" not in said
    assert f"stopped; the same command goes on: orchestrate submit {lab.sweep} --cluster {lab.config}" in said
    kept = lab.results()
    assert 2 <= len(kept) < 120
    lab.write("floor.yaml", FLOOR)
    assert_said(lab.spawn("submit", lab.sweep), 0, "6 succeeded")
    assert {job: lab.results()[job] for job in kept} == kept


def test_ctrl_c_anywhere_else_is_a_sentence_too(bare: Lab, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    def interrupted(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    monkeypatch.setattr(Workspace, "plan", interrupted)
    # A shell that starts tests in the background has them ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    assert_said(bare.type("submit", bare.sweep), 1, "stopped by Ctrl-C; what was done is kept, and the same command goes on")


# --- Python ------------------------------------------------------------------------------------------------------------------------------


def _old_python(folder: Path) -> Path:
    """Write a Python that says of itself that it is 3.9."""
    old = folder / "python3.9"
    pretend = "import sys; sys.version_info = (3, 9, 2, 'final', 0); exec(sys.argv.pop(1))"
    old.write_text(f'#!/bin/sh\n[ "$1" = -c ] || exit 9\nexec {sys.executable} -c "{pretend}" "$2"\n', encoding="utf-8")
    old.chmod(0o755)
    return old


def test_make_setup_with_an_old_python_says_what_to_type(tmp_path: Path) -> None:
    command = ["make", "setup", f"PYTHON={_old_python(tmp_path)}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Python 3.11 or newer is needed, this is 3.9: make setup PYTHON=python3.11" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_orchestrate_under_an_old_python_says_what_to_type(tmp_path: Path) -> None:
    code = "import runpy; runpy.run_module('orchestrator', run_name='__main__')"
    done = subprocess.run([str(_old_python(tmp_path)), "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"Python 3\.11 or newer is needed, this is 3\.9: type `make setup`\n", done.stderr)
