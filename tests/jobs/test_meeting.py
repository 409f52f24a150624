"""How the processes of a job meet: found by their key, told by the first, missed by name."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs import main
from jobs import meeting as meeting_module
from jobs import seat as seat_module
from jobs.__main__ import main as command
from jobs.addresses import LOOPBACK, OVERRIDE, addresses, use_interface_of
from jobs.company import Company, Dismissed, Fallen, processes_of, threads_of
from jobs.events import read_events
from jobs.host import Stopped
from jobs.meeting import Meeting
from jobs.paths import JobPaths, write_atomically
from jobs.seat import Seat, sit_down
from jobs.signals import EXIT_STOPPED
from jobs.spec import FailureKind, Input, JobSpec, Resources, Stage, pretty_json, spec_to_json
from jobs.stages import Node
from tests.jobs.study import ended, start_command
from trainers.errors import Error, GroupBroken

PAIR = Resources(nodes=2)


def member(rank: int, world: int = 2, key: str = "7-0", patience: float = 20.0) -> Company:
    return Company(rank=rank, world=world, local_rank=0, key=key, patience=patience)


def write_job(root: Path, *, stage: Stage = Stage.TRAIN, inputs: tuple[Input, ...] = (), resources: Resources = PAIR) -> Path:
    spec = JobSpec(
        job_id="a" * 64, stage=stage, trainer="toy", trainer_version=1, loop_version=1, config={}, data={}, seed=0, inputs=inputs,
        sweep="toy", phase="p", trial="p", resources=resources,
    )  # fmt: skip
    file = root / "jobs" / "aa" / ("a" * 64) / "job.json"
    file.parent.mkdir(parents=True)
    file.write_text(pretty_json(spec_to_json(spec)), encoding="utf-8")
    return file


def never() -> bool:
    return False


# --- who meets whom ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def nobody_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep those who sit here, all in this one process, from ending it."""
    for module in (meeting_module, seat_module):
        monkeypatch.setattr(module, "after_grace", lambda end: threading.Timer(0, end))


@pytest.fixture
def gather(tmp_path: Path, nobody_is_ended: None) -> Iterator[Callable[[int], tuple[Meeting, list[Seat]]]]:
    """Hold a meeting of so many processes, all of them in this one."""
    held: list[Meeting] = []
    taken: list[Seat] = []

    def hold(world: int) -> tuple[Meeting, list[Seat]]:
        paths = JobPaths(tmp_path)
        attempt = paths.attempt(1)
        attempt.folder.mkdir(parents=True)
        meeting = Meeting(member(0, world), paths.meeting("7-0"), attempt, 1)
        meeting.open(lambda error: None)
        held.append(meeting)
        seats = [sit_down(member(rank, world), paths, never) for rank in range(1, world)]
        taken.extend(seats)
        return meeting, seats

    yield hold
    for meeting in held:
        meeting.close(0)
    # A seat hears of the end in a thread of its own. One that does not leave would then end this process, as soon as that is allowed again.
    for seat in taken:
        seat.leave(0)


def announce(meeting: Meeting, port: int | None, should_stop: Callable[[], bool] = never) -> None:
    meeting.facts(should_stop)["announce"](port)


def test_all_hear_the_port_and_how_it_ended_and_no_file_stays(gather: Any, tmp_path: Path) -> None:
    meeting, seats = gather(4)
    announce(meeting, 4321)
    assert [seat.facts(never)["find"]() for seat in seats] == [4321] * 3
    assert [(seat.facts(never)["rank"], seat.facts(never)["count"], seat.attempt.number) for seat in seats] == [
        (r, 4, 1) for r in (1, 2, 3)
    ]
    meeting.close(EXIT_STOPPED)
    assert [seat.leave(1) for seat in seats] == [EXIT_STOPPED] * 3
    assert not (tmp_path / "meetings").exists()


def test_who_is_not_needed_is_sent_home(gather: Any) -> None:
    meeting, (seat,) = gather(2)
    announce(meeting, None)
    with pytest.raises(Dismissed) as home:
        seat.facts(never)["find"]()
    assert (home.value.code, seat.leave(1)) == (0, 0)


def test_who_comes_late_hears_that_it_is_over(tmp_path: Path) -> None:
    paths = JobPaths(tmp_path)
    paths.attempt(1).folder.mkdir(parents=True)
    meeting = Meeting(member(0, 3), paths.meeting("7-0"), paths.attempt(1), 1)
    meeting.open(lambda error: None)
    announce(meeting, None)
    with pytest.raises(Dismissed) as home:
        sit_down(member(1, 3), paths, never)
    assert home.value.code == 0
    meeting.close(main.EXIT_FAILED)
    with pytest.raises(Dismissed) as home:
        sit_down(member(2, 3), paths, never)
    assert home.value.code == main.EXIT_FAILED


def test_the_cause_is_the_first_word_of_who_did_not_merely_lose_the_others(gather: Any) -> None:
    meeting, seats = gather(4)
    announce(meeting, 1)
    lost, own = GroupBroken("somebody is gone"), ValueError("mine")
    seats[0].tell(FailureKind.ERROR, "lost the others", broken=True)
    seats[2]._line.close()
    cause = meeting.cause(lost)
    assert isinstance(cause, Fallen) and cause.failure is FailureKind.LOST
    assert str(cause).startswith(f"process 3 of 4 (pid {os.getpid()} on {os.uname().nodename}) ended without a word")
    seats[1].tell(FailureKind.CUDA_OOM, "no memory", for_people=True)
    assert meeting.cause(lost) is cause
    # What this process failed of itself followed from nobody.
    assert meeting.cause(own) is own


def test_a_word_says_what_happened_and_where_to_read_more(gather: Any) -> None:
    meeting, seats = gather(2)
    announce(meeting, 1)
    seats[0].tell(FailureKind.ERROR, "ZeroDivisionError: by nothing")
    cause = meeting.cause(GroupBroken(""))
    assert isinstance(cause, Fallen) and not cause.for_people
    assert str(cause).endswith("): ZeroDivisionError: by nothing; see " + str(seats[0].attempt.traceback_of(1)))


def test_nobody_begins_when_one_was_asked_to_stop_or_fell(gather: Any, tmp_path: Path) -> None:
    meeting, seats = gather(3)
    with pytest.raises(Stopped):
        announce(meeting, 1, lambda: True)
    with pytest.raises(Stopped):
        seats[0].facts(lambda: True)["find"]()
    seats[0].tell(FailureKind.ERROR, "asked to stop", stopped=True)
    heard = threading.Event()
    while not heard.wait(0.01):
        if meeting._first_fallen() is not None:
            heard.set()
    with pytest.raises(Stopped):
        announce(meeting, 1)


def test_a_stranger_is_not_taken_for_a_process_of_the_job(gather: Any, tmp_path: Path) -> None:
    gather(2)
    place = json.loads((tmp_path / "meetings" / "7-0.json").read_text())
    for hello in (b'{"hello": 1, "token": "guessed"}\n', b"GET / HTTP/1.1\n\n", b'["hello"]\n', b""):
        with socket.create_connection((LOOPBACK, place["port"]), timeout=20) as stranger:
            stranger.sendall(hello)
            stranger.shutdown(socket.SHUT_WR)
            assert stranger.recv(100) == b""


# --- through the command ----------------------------------------------------------------------------------------------------------------


def run(file: Path, company: Company, **how: Any) -> int:
    return main.run(file, company=company, **how)


def test_what_the_first_refuses_all_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = write_job(tmp_path / "missing", inputs=(Input(role="init", job="b" * 64),))
    assert [run(missing, member(rank)) for rank in (0, 1)] == [main.EXIT_REFUSED] * 2
    assert capsys.readouterr().err.count("has no result") == 1
    other = write_job(tmp_path / "other")
    assert [run(other, member(rank, world=3)) for rank in (0, 1, 2)] == [main.EXIT_REFUSED] * 3
    assert "it asks for 2 processes (2 nodes, 0 GPUs each), and --world is 3" in capsys.readouterr().err
    assert not (JobPaths(other.parent)).attempts()
    taken = write_job(tmp_path / "taken")
    assert main.claim(JobPaths(taken.parent), 1) is not None
    assert [run(taken, member(rank), attempt=1) for rank in (0, 1)] == [main.EXIT_DUPLICATE] * 2


def test_other_stages_and_done_jobs_need_the_first_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(main, "run_stage", lambda node: seen.append(node.company) or {"value": 1})
    pick = write_job(tmp_path / "pick", stage=Stage.PICK)
    assert [run(pick, member(rank)) for rank in (1, 0, 1)] == [main.EXIT_DONE] * 3
    assert seen == [None]
    assert {path.name for path in pick.parent.iterdir()} == {"job.json", "result.json", "attempts"}
    # And of a done job nobody is awaited.
    assert [run(pick, member(rank, key="7-1")) for rank in (1, 0)] == [main.EXIT_DONE] * 2


def test_who_does_not_come_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stage(node: Node) -> dict[str, Any]:
        assert isinstance(node.company, Meeting)
        announce(node.company, 1234)
        return {}

    monkeypatch.setattr(main, "run_stage", stage)
    file = write_job(tmp_path, resources=replace(PAIR, nodes=3))
    assert run(file, member(0, world=3, patience=0.3)) == main.EXIT_FAILED
    event = read_events(JobPaths(file.parent).attempt(1).events)[-1]
    assert event["message"].startswith("2 of 3 processes did not come within 0.3 s (rank 1, 2): ")
    assert OVERRIDE in event["message"]
    # Who comes now has nothing to do.
    assert run(file, member(1, world=3)) == main.EXIT_FAILED


def test_a_first_process_that_is_not_there_is_not_awaited_for_ever(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_job(tmp_path)
    assert run(file, member(1, patience=0.3)) == main.EXIT_FAILED
    assert "process 1 of 2: the first process wrote no " in capsys.readouterr().err
    # What an earlier start left has another key; of this very start, one that was killed leaves a port at which nobody is.
    with socket.create_server((LOOPBACK, 0)) as nobody:
        port = nobody.getsockname()[1]
    place = {"attempt": 1, "addresses": [LOOPBACK], "port": port, "token": "x"}
    for key, said in (("6-0", "wrote no "), ("7-0", f"is not reached at {LOOPBACK}, port {port}")):
        write_atomically(JobPaths(file.parent).meeting(key), pretty_json(place).encode())
        assert run(file, member(1, patience=0.3)) == main.EXIT_FAILED
        assert said in capsys.readouterr().err


def test_who_waits_can_be_asked_to_stop(tmp_path: Path) -> None:
    file = write_job(tmp_path)
    started = start_command(["run", str(file), "--rank", "1", "--world", "2", "--local-rank", "0", "--meeting", "7-0"])
    assert started.pid is not None
    while not _catches(Path(f"/proc/{started.pid}/status").read_text(), signal.SIGTERM):
        assert started.is_alive()
        time.sleep(0.01)
    os.kill(started.pid, signal.SIGTERM)
    assert ended(started) == EXIT_STOPPED


def _catches(status: str, signum: int) -> bool:
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signum - 1) & 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rank", "1"], "go together"),
        (["--rank", "2", "--world", "2", "--local-rank", "0", "--meeting", "k"], "--rank 2 is none of --world 2"),
        (["--rank", "0", "--world", "2", "--local-rank", "-1", "--meeting", "k"], "--local-rank -1 is below 0"),
        (["--rank", "0", "--world", "2", "--local-rank", "0", "--meeting", "../k"], "is no name of a file"),
    ],
)
def test_a_command_that_cannot_be_says_why(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        command(["run", "job.json", *words])
    assert left.value.code == main.EXIT_USAGE
    assert said in capsys.readouterr().err


# --- what a process has -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resources", "processes", "threads"),
    [
        (Resources(cpus=4), 1, 4),
        (Resources(gpus=1, cpus=6), 1, 6),
        (Resources(gpus=4, cpus=10), 4, 2),
        (Resources(nodes=2, gpus=4, cpus=2), 8, 1),
        (Resources(nodes=3, cpus=5), 3, 5),
    ],
)
def test_processes_and_their_threads_follow_from_the_resources(resources: Resources, processes: int, threads: int) -> None:
    assert (processes_of(resources), threads_of(resources)) == (processes, threads)


def test_addresses_are_those_that_other_machines_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OVERRIDE, raising=False)
    assert addresses(1) == [LOOPBACK]
    several = addresses(2)
    assert several[-2:] == [socket.gethostname(), LOOPBACK]
    for address in several[:-2]:
        assert not address.startswith("127.")
        # One of this machine's own: only such a one can be listened at.
        socket.create_server((address, 0)).close()
    monkeypatch.setenv(OVERRIDE, "node7.cluster")
    assert addresses(2) == addresses(1) == ["node7.cluster"]


def test_gloo_listens_at_the_interface_of_the_address_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    use_interface_of("198.51.100.1")
    assert "GLOO_SOCKET_IFNAME" not in os.environ
    use_interface_of("localhost")
    assert os.environ["GLOO_SOCKET_IFNAME"] == "lo"
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    use_interface_of(LOOPBACK)
    assert os.environ["GLOO_SOCKET_IFNAME"] == "ib0"


def test_without_a_first_process_a_seat_ends_as_a_failure(gather: Any) -> None:
    meeting, (seat,) = gather(2)
    for line in meeting._lines.values():
        line.close()
    with pytest.raises(GroupBroken, match="the first process of this job ended without a word"):
        seat.facts(never)["find"]()
    assert seat.leave(main.EXIT_FAILED) == main.EXIT_FAILED
    assert issubclass(GroupBroken, Error)
