"""The live view, driven through tmux on a terminal of 80 columns and 24 lines as a person would over ssh."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.events import append_event, process_identity
from jobs.spec import EventKind, FailureKind, Stage, State
from orchestrator.job_filter import fits, rank
from orchestrator.ledger import states
from orchestrator.model import ClusterConfig
from orchestrator.plans import write_plan
from orchestrator.progress import sparkline
from orchestrator.status import JobRow
from orchestrator.workspace import Workspace
from tests.e2e.lab import Lab, make_data
from tests.orchestrator.standin import job, plan

ROOT = Path(__file__).parents[2]
MANY = 10_000
PATIENCE = 120.0


class Terminal:
    """One tmux session on a socket of its own."""

    def __init__(self, socket: Path) -> None:
        self._tmux = ["tmux", "-S", str(socket), "-f", "/dev/null"]

    def start(self, *command: str) -> None:
        # What it was is on the screen when it has ended, so that its end can be seen.
        line = f"cd {shlex.quote(str(ROOT))} && {shlex.join(command)}; echo ended with $?; sleep 1000"
        self._run("new-session", "-d", "-x", "80", "-y", "24", "sh", "-c", line)

    def type(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def screen(self) -> str:
        return self._run("capture-pane", "-p")

    def wait_for(self, *texts: str, gone: str = "") -> str:
        """Return the screen when all texts are on it."""
        return self.until(lambda screen: all(text in screen for text in texts) and (not gone or gone not in screen))

    def until(self, condition: Callable[[str], bool]) -> str:
        end = time.monotonic() + PATIENCE
        while not condition(screen := self.screen()):
            assert time.monotonic() < end, screen
            time.sleep(0.05)
        return screen

    def end(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True)

    def _run(self, *words: str) -> str:
        return subprocess.run([*self._tmux, *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    found = Terminal(tmp_path / "tmux")
    yield found
    found.end()


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay out 10,000 jobs, of which 8 run in this process and 30 have failed in two ways; return the cluster config."""
    root = tmp_path_factory.mktemp("crowd")
    here = Workspace(cluster=ClusterConfig(name="here", backend="inline", run_root=root, made_root=root))
    config = {"monitor": {"metric": "val/auroc", "mode": "max"}, "epochs": 20, "batch_size": 32}
    jobs = tuple(job(f"draw{n}/lr={10.0 ** -(n % 3 + 2)}", config=config) for n in range(MANY))
    write_plan(here.run.sweep("toy").plan, plan(*jobs))
    for n in range(38):
        attempt = here.run.job(jobs[n * 200].job_id).attempt(1)
        attempt.folder.mkdir(parents=True)
        attempt.claim.write_text(json.dumps(process_identity()), encoding="utf-8")
        append_event(attempt.events, EventKind.STARTED, **process_identity() | {"time": time.time() - 600})
        if n >= 8:
            message = "ValueError: no such label" if n < 28 else "the disk is full"
            append_event(attempt.events, EventKind.FAILED, failure=str(FailureKind.ERROR), message=message, for_people=True)
            attempt.stdout.write_text("".join(f"line {at} of the log\n" for at in range(40)), encoding="utf-8")
            continue
        lines = [{"step": 10 * at, "epoch": at, "metrics": {"val/auroc": 0.6 + 0.02 * at}} for at in range(1, 10)]
        attempt.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    config_file = root / "here.yaml"
    config_file.write_text(f"backend: inline\nrun_root: {root}\n", encoding="utf-8")
    return config_file


def watch(terminal: Terminal, config: Path, sweep: str) -> None:
    terminal.start(sys.executable, "-m", "orchestrator", "watch", sweep, "--cluster", str(config))


@pytest.mark.needs("tmux")
def test_ten_thousand_jobs_are_looked_through_by_keys(crowd: Path, terminal: Terminal) -> None:
    watch(terminal, crowd, "toy")
    screen = terminal.wait_for("[jobs]", "10,000")
    assert "toy: 0 of 10,000 done; 30 failed, 9,962 new, 8 running" in screen
    curve = sparkline([0.6 + 0.02 * at for at in range(1, 10)])
    running = [line for line in screen.splitlines() if " running " in line and " train " in line]
    assert len(running) == 8 and all(f"9/20 {curve} 0.78" in line and "left" in line for line in running)
    assert all(len(line) <= 80 for line in screen.splitlines())
    assert screen.splitlines()[-1].startswith("/ filter")

    terminal.type("End")
    assert "draw9999/lr=0.01" in terminal.until(lambda screen: "draw9999" in screen)
    terminal.type("/")
    terminal.type("draw1234/")
    screen = terminal.wait_for("[jobs]   failures    waiting   1  draw1234/")
    assert "draw1234/lr=0.001" in screen
    terminal.type("Escape")
    terminal.wait_for("10,000", gone="1  draw1234/")

    terminal.type("2")
    screen = terminal.wait_for("[failures]")
    assert "20 failed    ValueError: no such label" in screen and "10 failed    the disk is full" in screen
    terminal.type("Down")
    terminal.type("Enter")
    screen = terminal.wait_for("10  of one failure")
    assert screen.count("the disk is full") == 10 and "ValueError" not in screen
    terminal.type("Enter")
    terminal.wait_for("state: failed, attempt 1", "of sweep 'toy'")
    terminal.type("End")
    terminal.wait_for("line 39 of the log")
    terminal.type("Escape")
    terminal.wait_for("10  of one failure")
    terminal.type("c")
    terminal.wait_for("nothing here to cancel")
    terminal.type("q")
    terminal.wait_for("ended with 0")


@pytest.mark.needs("tmux")
def test_a_job_is_cancelled_and_failed_jobs_are_retried_after_a_question(tmp_path: Path, terminal: Terminal) -> None:
    lab = Lab(tmp_path / "lab", make_data(tmp_path))
    hidden = (lab.data / "train").rename(lab.folder / "hidden")
    assert lab.type("submit", lab.sweep).code != 0
    hidden.rename(lab.data / "train")
    failed = [row.job_id for row in lab.jobs(Stage.TRAIN)]
    assert {status.state for status in states(lab.run, failed).values()} == {State.FAILED}

    watch(terminal, lab.config, "floor")
    terminal.wait_for("nothing is queued or running")
    terminal.type("R")
    terminal.wait_for("retry 2 jobs?")
    terminal.type("n")
    terminal.wait_for("/ filter", gone="retry 2 jobs?")
    assert {status.state for status in states(lab.run, failed).values()} == {State.FAILED}
    terminal.type("R")
    terminal.wait_for("retry 2 jobs?")
    terminal.type("y")
    terminal.wait_for("resumes 2 jobs of 'floor'")
    terminal.until(lambda _: {status.state for status in states(lab.run, failed).values()} == {State.SUCCEEDED})
    terminal.wait_for("2 succeeded")
    terminal.type("q")
    terminal.wait_for("ended with 0")


def row(**changes: object) -> JobRow:
    usual = {"job_id": "3fa9c1" + "0" * 58, "phase": "finetune", "stage": Stage.TRAIN, "trial": "finetune/lr=0.001", "state": State.FAILED}
    rest = {"attempt": 1, "failure": "BAD_DATA", "message": "No such file", "seconds": None, "epoch": None}
    return JobRow(**{**usual, **rest, **changes})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("words", "does"),
    [
        ("", True),
        ("state:failed", True),
        ("STATE:fail lr=0.001", True),
        ("state:run", False),
        ("phase:finetune stage:train failure:bad", True),
        ("job:3fa9", True),
        ("job:fa9", False),
        ("no such", True),
        ("lr=0.01", False),
        ("lr:3", False),
    ],
)
def test_words_of_a_filter_must_all_be_true(words: str, does: bool) -> None:
    assert fits(row(), words) is does


def test_what_runs_comes_first_and_what_is_done_last() -> None:
    ordered = sorted((row(state=state) for state in State), key=rank)
    assert (ordered[0].state, ordered[1].state, ordered[-1].state) == (State.RUNNING, State.FAILED, State.SUCCEEDED)
