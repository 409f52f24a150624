"""What Slurm's answers mean, on answers that a real one gave. Its commands are programs of this test that say them again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.paths import RunPaths
from jobs.spec import FailureKind, State
from orchestrator import intents
from orchestrator.backends.slurm.launch import LOOK_AGAIN_AFTER
from orchestrator.backends.slurm.poll import STATES, indices, poll, sighting_of
from orchestrator.errors import BackendError
from orchestrator.intents import Intent
from orchestrator.sightings import Sighting

#: Some seconds after a node died: %i|%j|%T|%r|%N. The array 1 ran two at a time, 5 may not be requeued, 6 was, 7 used too much memory.
QUEUE = """\
4|NAME|CANCELLED|None|n2
3|NAME|CANCELLED|JobHeldUser|
1_2|NAME|COMPLETED|None|n1
1_0|NAME|COMPLETED|None|n1
1_1|NAME|COMPLETED|None|n1
1_3|NAME|RUNNING|None|n3
2_1|NAME|COMPLETED|None|n1
2_0|NAME|FAILED|NonZeroExitCode|n1
7|NAME|FAILED|NonZeroExitCode|n2
5|NAME|NODE_FAIL|NodeDown|n2
1_4|NAME|PENDING|BeginTime|
1_5|NAME|PENDING|JobArrayTaskLimit|
8|NAME|PENDING|DependencyNeverSatisfied|
6|NAME|PENDING|BeginTime|
"""
#: JobID,JobName,State,NodeList,ExitCode at the same moment.
RECORDS = """\
4|NAME|CANCELLED by 0|n2|0:0
5|NAME|NODE_FAIL|n2|0:0
6|NAME|REQUEUED|n2|0:0
7|NAME|FAILED|n2|9:0
1_0|NAME|COMPLETED|n1|0:0
1_1|NAME|COMPLETED|n1|0:0
1_2|NAME|COMPLETED|n1|0:0
1_3|NAME|COMPLETED|n1|0:0
1_4|NAME|NODE_FAIL|n2|0:0
2_0|NAME|FAILED|n1|1:0
2_1|NAME|COMPLETED|n1|0:0
"""
#: What remains of the queue when the controller has forgotten what ended.
FORGOTTEN = """\
1_4|NAME|PENDING|BeginTime|
1_5|NAME|PENDING|JobArrayTaskLimit|
8|NAME|PENDING|DependencyNeverSatisfied|
6|NAME|PENDING|BeginTime|
"""
SQUEUE_DOWN = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
SACCT_DOWN = (
    "sacct: error: slurm_persist_conn_open_without_init: failed to open persistent connection to host:127.0.0.1:30389: Connection refused\n"
    "sacct: error: Problem talking to the database: Connection refused"
)
NO_SACCT = "Slurm accounting storage is disabled"
LOG_OF_7 = """\
slurmstepd-n2: error: StepId=7.0 exceeded memory limit (539086848 > 419430400), being killed
slurmstepd-n2: error: Exceeded job memory limit
slurmstepd-n2: error: *** STEP 7.0 ON n2 CANCELLED AT 2026-11-21T08:23:52 ***
srun: error: n2: task 0: Killed
"""
#: squeue(1) and sacct(1) of 22.05, JOB STATE CODES, and what the newer page on them adds (flags included).
OF_THE_MANUAL = [
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "CONFIGURING",
    "COMPLETING",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PENDING",
    "PREEMPTED",
    "RUNNING",
    "RESV_DEL_HOLD",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "REQUEUED",
    "RESIZING",
    "REVOKED",
    "SIGNALING",
    "SPECIAL_EXIT",
    "STAGE_OUT",
    "STOPPED",
    "SUSPENDED",
    "TIMEOUT",
]
ADDED_LATER = ["EXPEDITING", "LAUNCH_FAILED", "POWER_UP_NODE", "RECONFIG_FAIL", "UPDATE_DB"]
NOW = 1_000_000.0


class Site:
    """A folder of programs that answer as Slurm's do, and the submissions that are asked for."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.run = folder / "bin", RunPaths(folder / "runs")
        self.bin.mkdir()
        self.intents: list[Intent] = []
        for name in ("squeue", "sacct"):
            self.says(name, "")

    def says(self, program: str, text: str, *, fails: bool = False) -> None:
        """Let a program print what was recorded, with the names of this test's submissions; or fail with it."""
        said = self.bin / f"{program}.txt"
        said.write_text(re.sub(r"(?m)^(\d+)(.*?)\|NAME\|", lambda row: f"{row[1]}{row[2]}|{name_of(int(row[1]))}|", text))
        script = self.bin / program
        ending = ">&2; exit 1" if fails else ""
        script.write_text(f'#!/bin/sh\necho "$0 $*" >> {self.bin}/calls\ncat {said} {ending}\n')
        script.chmod(0o755)

    def submitted(self, number: int, elements: int = 1) -> Intent:
        """Record a submission that the scheduler has under a number."""
        made = intents.new_intent(
            backend="slurm",
            sweep="toy",
            jobs={f"{number}-{index}": 1 for index in range(elements)},
            detaches=True,
            elements=tuple(((f"{number}-{index}",),) for index in range(elements)),
        )
        made = replace(made, sid=f"{number:012d}" + "0" * 20, native={"id": str(number), "array": elements > 1})
        intents.record(self.run, made)
        self.intents.append(made)
        return made

    def poll(self, *, accounting: bool = True, at: float = NOW) -> Mapping[str, Sighting]:
        """Ask, and see that it answers."""
        found = poll(self.run, self.intents, accounting=accounting, now=lambda: at)
        assert found is not None
        return found

    def calls(self) -> list[str]:
        return [Path(line.split()[0]).name for line in (self.bin / "calls").read_text().splitlines()]


def name_of(number: int) -> str:
    return f"orch-{number:012d}"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    found = Site(tmp_path)
    monkeypatch.setenv("PATH", f"{found.bin}{os.pathsep}{os.environ['PATH']}")
    return found


@pytest.fixture
def busy(site: Site) -> Site:
    """Everything that was recorded, submitted."""
    for number, elements in {1: 6, 2: 2, 3: 1, 4: 1, 5: 1, 6: 1, 7: 1, 8: 1}.items():
        site.submitted(number, elements)
    site.says("squeue", QUEUE)
    site.says("sacct", RECORDS)
    return site


def brief(found: Mapping[str, Sighting]) -> dict[str, tuple[State, str]]:
    return {job: (one.state, one.word) for job, one in sorted(found.items())}


# --- words -------------------------------------------------------------------------------------------------------------------------------


def test_every_state_of_the_manual_means_something_and_no_other_is_taken_for_an_end() -> None:
    assert set(STATES) == {*OF_THE_MANUAL, *ADDED_LATER}
    assert [word for word, (state, _) in STATES.items() if state is State.SUCCEEDED] == ["COMPLETED"]
    for word in ("", "completed", "COMPLETE", "FINISHED", "CANCELLED by 0", "NODE_FAIL*"):
        assert sighting_of(word).state is State.UNKNOWN


@pytest.mark.skipif(shutil.which("man") is None, reason="needs man: make system (Debian)")
@pytest.mark.parametrize("command", ["squeue", "sacct"])
def test_the_manual_that_is_installed_names_no_other_state(command: str) -> None:
    text = subprocess.run(["man", "-P", "cat", command], capture_output=True, text=True, check=False, env={**os.environ, "MANWIDTH": "100"})
    if text.returncode:
        pytest.skip(f"needs the manual page of {command}: make system (Debian)")
    codes = text.stdout.rpartition("JOB STATE CODES")[2]
    words = re.findall(r"(?m)^ +(?:[A-Z]{1,3}) +([A-Z][A-Z_]{5,})(?: |$)", codes)
    assert len(words) > 10
    assert set(words) <= set(STATES)


@pytest.mark.parametrize(
    ("number", "found"),
    [
        ("7", [""]),
        ("7_3", ["3"]),
        ("7_[0-2]", ["0", "1", "2"]),
        ("7_[1-2,5%4]", ["1", "2", "5"]),
        ("7_[0-6:3,9%1]", ["0", "3", "6", "9"]),
        # Cut short, as long lists are: what is not named is not known.
        ("7_[1,3,...]", ["1", "3"]),
        ("7.batch", []),
        ("", []),
    ],
)
def test_a_number_stands_for_elements(number: str, found: list[str]) -> None:
    assert indices(number) == found


# --- answers -----------------------------------------------------------------------------------------------------------------------------


def test_one_question_each_tells_where_everything_stands(busy: Site) -> None:
    assert brief(busy.poll()) == {
        "1-0": (State.SUCCEEDED, "COMPLETED"),
        "1-1": (State.SUCCEEDED, "COMPLETED"),
        "1-2": (State.SUCCEEDED, "COMPLETED"),
        # The records end runs that the controller has started again: it knows better what is live.
        "1-3": (State.RUNNING, "RUNNING"),
        "1-4": (State.SUBMITTED, "PENDING"),
        "1-5": (State.SUBMITTED, "PENDING"),
        "2-0": (State.FAILED, "FAILED"),
        "2-1": (State.SUCCEEDED, "COMPLETED"),
        "3-0": (State.CANCELLED, "CANCELLED"),
        "4-0": (State.CANCELLED, "CANCELLED"),
        "5-0": (State.FAILED, "NODE_FAIL"),
        "6-0": (State.SUBMITTED, "PENDING"),
        "7-0": (State.FAILED, "FAILED"),
        "8-0": (State.SUBMITTED, "PENDING"),
    }
    assert sorted(busy.calls()) == ["sacct", "squeue"]
    found = busy.poll()
    assert (found["5-0"].failure, found["5-0"].node) == (FailureKind.NODE_FAIL, "n2")
    assert (found["8-0"].reason, found["1-5"].native) == ("DependencyNeverSatisfied", "1_5")
    assert (found["2-0"].exit_code, found["7-0"].exit_code, found["1-3"].exit_code) == (1, 9, None)


def test_what_the_controller_has_forgotten_stands_in_the_records(busy: Site) -> None:
    first = brief(busy.poll())
    busy.says("squeue", FORGOTTEN)
    # 3 was never in the records: cancelled before it was eligible. 1_3 runs by nobody's word any more.
    busy.says("sacct", RECORDS.replace("1_3|NAME|COMPLETED", "1_3|NAME|RUNNING"))
    second = brief(busy.poll())
    assert {job: said for job, said in second.items() if said != first[job]} == {
        "1-3": (State.UNKNOWN, "NOT_FOUND"),
        "3-0": (State.UNKNOWN, "NOT_FOUND"),
    }


def test_an_empty_answer_is_not_believed_until_it_was_given_for_a_while(busy: Site) -> None:
    busy.says("squeue", "")
    busy.says("sacct", "")
    assert {one.state for one in busy.poll().values()} == {State.UNKNOWN}
    assert {one.state for one in busy.poll(at=NOW + LOOK_AGAIN_AFTER - 1).values()} == {State.UNKNOWN}
    # Seen again in between, it has to be missed from the beginning.
    busy.says("squeue", QUEUE)
    assert busy.poll(at=NOW + LOOK_AGAIN_AFTER)["8-0"].state is State.SUBMITTED
    busy.says("squeue", "")
    assert busy.poll(at=NOW + LOOK_AGAIN_AFTER)["8-0"].state is State.UNKNOWN
    gone = busy.poll(at=NOW + 2 * LOOK_AGAIN_AFTER)["8-0"]
    assert (gone.state, gone.word, gone.failure) == (State.FAILED, "NOT_FOUND", None)


def test_numbers_that_are_given_again_belong_to_whoever_bears_the_name(site: Site) -> None:
    site.submitted(4)
    # Slurm filters by name; what it lets through nonetheless is passed over.
    site.says("squeue", "4|somebody_elses|RUNNING|None|n1\n4_1|somebody_elses|COMPLETED|None|n1\n")
    site.says("sacct", RECORDS.replace("NAME", "somebody_elses"))
    assert brief(site.poll()) == {"4-0": (State.UNKNOWN, "NOT_FOUND")}
    assert all(f"--name={name_of(4)}" in line for line in (site.bin / "calls").read_text().splitlines())


def test_a_site_without_accounting_is_asked_for_its_queue_alone(busy: Site) -> None:
    quiet = brief(busy.poll(accounting=False))
    assert busy.calls() == ["squeue"]
    assert quiet["4-0"] == (State.CANCELLED, "CANCELLED")
    busy.says("sacct", NO_SACCT, fails=True)
    assert brief(busy.poll()) == quiet


def test_the_queue_is_believed_while_the_records_are_out_of_reach_and_nothing_counts_as_missing(busy: Site) -> None:
    busy.says("sacct", SACCT_DOWN, fails=True)
    busy.says("squeue", FORGOTTEN)
    for at in (NOW, NOW + 10 * LOOK_AGAIN_AFTER):
        found = busy.poll(at=at)
        assert found["6-0"].state is State.SUBMITTED
        assert found["2-1"].state is State.UNKNOWN
    busy.says("sacct", RECORDS)
    assert busy.poll(at=NOW + 10 * LOOK_AGAIN_AFTER)["3-0"].state is State.UNKNOWN


def test_without_the_controller_nothing_is_said(busy: Site) -> None:
    busy.says("squeue", SQUEUE_DOWN, fails=True)
    assert poll(busy.run, busy.intents, accounting=True) is None


def test_what_is_wrong_with_the_question_is_an_error(busy: Site) -> None:
    busy.says("squeue", "squeue: error: Invalid job format", fails=True)
    with pytest.raises(BackendError, match="Invalid job format"):
        busy.poll()


@pytest.mark.parametrize(
    ("log", "failure"),
    [
        (LOG_OF_7, FailureKind.HOST_OOM),
        (
            "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of its tasks were OOM Killed.\n",
            FailureKind.HOST_OOM,
        ),
        ("srun: error: n2: task 0: Out Of Memory\n", FailureKind.HOST_OOM),
        ("srun: error: n2: task 0: Killed\n", None),
        ("submitit INFO - the last one exceeded memory limit\n", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("accounting", [True, False])
def test_a_step_that_was_killed_for_memory_is_known_by_its_log(
    busy: Site, log: str | None, failure: FailureKind | None, accounting: bool
) -> None:
    if log is not None:
        file = intents.folder(busy.run, busy.intents[6].sid) / "7_0_log.out"
        file.parent.mkdir(parents=True)
        file.write_text(log)
    found = busy.poll(accounting=accounting)["7-0"]
    assert (found.state, found.failure) == (State.FAILED, failure)


def test_an_ordinary_failure_is_not_looked_up_in_a_log(busy: Site) -> None:
    file = intents.folder(busy.run, busy.intents[1].sid) / "2_0_0_log.out"
    file.parent.mkdir(parents=True)
    file.write_text(LOG_OF_7)
    assert busy.poll()["2-0"].failure is None
