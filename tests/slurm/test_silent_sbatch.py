"""An sbatch that does not say what it did: it is found out, and nothing is submitted twice or lost.

The controller is really frozen, or an `sbatch` earlier in PATH does what a broken network does: it calls the real one and loses the answer,
or never gets through.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.paths import RunPaths
from orchestrator import intents
from tests.slurm import crash_client
from tests.slurm.cluster import SEARCH, Cluster
from tests.slurm.crash_points import SHORTER, place_of, problem_of, recorded, said, submissions
from tests.slurm.nursery import Errand, Nursery

TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"


@pytest.fixture(scope="module")
def nursery(slurm: Cluster) -> Iterator[Nursery]:
    with Nursery(slurm.env) as nursery:
        yield nursery


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    crash_client.share_code(tmp_path / "here", tmp_path / "code")
    return tmp_path / "here"


def network(folder: Path, slurm: Cluster, fault: str, *, call: int) -> dict[str, str]:
    """Return an environment in which the sbatch of one call has a fault: shell lines that see the real one as $REAL."""
    real = shutil.which("sbatch", path=SEARCH)
    programs = folder / "bin"
    programs.mkdir()
    script = programs / "sbatch"
    others = f'if [ "$(wc -l < {folder}/calls)" != {call} ]; then exec $REAL "$@"; fi'
    script.write_text(f"#!/bin/sh\nREAL={real}\necho x >> {folder}/calls\n{others}\n{fault}\n")
    script.chmod(0o755)
    return {"PATH": f"{programs}:{slurm.env['PATH']}"}


def in_slurm(slurm: Cluster, folder: Path) -> list[str]:
    """Return the numbers of everything that a run root has ever had in the queue."""
    names = [f"orch-{one['sid'][:12]}" for one in submissions(folder)]
    told = slurm.run("squeue", "--noheader", "--states=all", f"--name={','.join(names)}", "--format=%F").stdout.split()
    told += [row["JobID"].split("_")[0] for row in slurm.sacct(f"--name={','.join(names)}")]
    return sorted(set(told))


def assert_each_submitted_once(slurm: Cluster, folder: Path) -> None:
    """See that Slurm has had nothing but what is written down, and no job in two submissions."""
    made = [one for one in submissions(folder) if one["native"] is not None]
    assert sorted(one["native"]["id"] for one in made) == in_slurm(slurm, folder)
    jobs = [item["job"] for one in made for item in one["jobs"]]
    assert len(jobs) == len(set(jobs))


def follow(nursery: Nursery, folder: Path, **how: object) -> int:
    given = {"folder": str(folder), "name": "last", "plan": "study", "wait": True, "shorter": SHORTER, **how}
    return nursery.run(Errand(**given))  # type: ignore[arg-type]


@pytest.mark.parametrize("call", [1, 3])
def test_an_answer_that_was_lost_is_looked_up_and_the_submission_adopted(nursery: Nursery, folder: Path, slurm: Cluster, call: int) -> None:
    env = network(folder, slurm, f'$REAL "$@" > /dev/null; echo "{TIMED_OUT}" >&2; exit 1', call=call)
    assert follow(nursery, folder, env=env) == 0, said(folder, "last")
    assert problem_of(folder, None) == ""
    assert_each_submitted_once(slurm, folder)


def test_an_answer_without_a_number_is_looked_up_too(nursery: Nursery, folder: Path, slurm: Cluster) -> None:
    env = network(folder, slurm, '$REAL "$@" > /dev/null; echo "Thank you for choosing our cluster"', call=2)
    assert follow(nursery, folder, env=env) == 0, said(folder, "last")
    assert problem_of(folder, None) == ""
    assert_each_submitted_once(slurm, folder)


@pytest.mark.parametrize("call", [1, 3])
def test_what_never_got_through_is_submitted_again_by_the_next_client(nursery: Nursery, folder: Path, slurm: Cluster, call: int) -> None:
    env = network(folder, slurm, f'echo "{TIMED_OUT}" >&2; exit 1', call=call)
    assert follow(nursery, folder, env=env, name="first") == crash_client.RAISED
    assert "it may have been submitted all the same: submit again" in said(folder, "first")
    open_ = intents.open_intents(RunPaths(crash_client.config(folder).run_root))
    assert [held.intent.native is None for held in open_] == [False] * (call - 1) + [True], "what comes after it was put away at once"
    assert follow(nursery, folder, env=env) == 0, said(folder, "last")
    assert problem_of(folder, None) == ""
    assert_each_submitted_once(slurm, folder)


def test_an_sbatch_that_outlives_its_client_is_waited_for(nursery: Nursery, folder: Path, slurm: Cluster, tmp_path: Path) -> None:
    """It is on its way when its client dies, and gets through long after; what it submits is adopted and not submitted beside it."""
    crash_client.share_code(tmp_path / "counted", tmp_path / "code")
    passed = recorded(nursery, Errand(folder=str(tmp_path / "counted"), name="first", plan="study", record=True))
    env = network(folder, slurm, 'sleep 8; exec $REAL "$@"', call=2)
    dying = Errand(folder=str(folder), name="first", plan="study", at=place_of(passed, "sbatch has started", 2), env=env)
    assert nursery.run(dying) == -signal.SIGKILL
    assert follow(nursery, folder) == 0, said(folder, "last")
    assert problem_of(folder, None) == ""
    assert_each_submitted_once(slurm, folder)


def test_a_frozen_controller_that_submits_when_it_goes_on(nursery: Nursery, folder: Path, slurm: Cluster) -> None:
    with slurm.frozen_controller():
        client = nursery.start(Errand(folder=str(folder), name="last", plan="study", wait=True, shorter=SHORTER))
        wait_for_silence(slurm, folder)
    assert client.wait() == 0, said(folder, "last")
    assert problem_of(folder, None) == ""
    assert_each_submitted_once(slurm, folder)


def wait_for_silence(slurm: Cluster, folder: Path) -> None:
    """Wait until the first sbatch of a run root has been started, and has given up."""

    def on_its_way() -> bool:
        return any(str(folder).encode() in words and words.startswith(b"sbatch") for words in map(_words, Path("/proc").glob("[0-9]*")))

    slurm.wait_until(on_its_way, what="for an sbatch")
    slurm.wait_until(lambda: not on_its_way(), what="for it to give up", timeout=120)


def _words(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


# --- what starts before its client has named its pickle ----------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", ["row", "study"])
def test_elements_that_wait_for_their_pickles_get_them_from_whoever_adopts_them(
    nursery: Nursery, folder: Path, slurm: Cluster, tmp_path: Path, plan: str
) -> None:
    dead_before_naming(nursery, folder, tmp_path, plan)
    first = in_slurm(slurm, folder)
    slurm.wait_until(lambda: waiting_for_pickles(folder) == (3 if plan == "row" else 1), what="for elements that wait for their pickles")
    assert follow(nursery, folder, plan=plan, site={"canary": 0} if plan == "row" else None) == 0, said(folder, "last")
    assert problem_of(folder, None, plan) == ""
    assert len(first) == 1
    if plan == "row":
        assert in_slurm(slurm, folder) == first, "adopted, and nothing else was submitted"


def test_elements_that_ended_while_they_waited_never_started_and_are_submitted_again(
    nursery: Nursery, folder: Path, slurm: Cluster, tmp_path: Path
) -> None:
    dead_before_naming(nursery, folder, tmp_path, "row")
    [first] = in_slurm(slurm, folder)
    slurm.wait_until(lambda: waiting_for_pickles(folder) == 3, what="for elements that wait for their pickles")
    slurm.run("scancel", f"{first}_1")
    slurm.wait_until(lambda: f"{first}_1" not in slurm.squeue(), what="for one of them to be gone")
    assert follow(nursery, folder, plan="row", site={"canary": 0}) == 0, said(folder, "last")
    assert problem_of(folder, None, "row") == ""
    assert len(in_slurm(slurm, folder)) == 2


def dead_before_naming(nursery: Nursery, folder: Path, tmp_path: Path, plan: str) -> None:
    """Let a client die when its first sbatch has ended: nothing has its name yet that an element reads."""
    site = {"canary": 0} if plan == "row" else None
    crash_client.share_code(tmp_path / "counted", tmp_path / "code")
    passed = recorded(nursery, Errand(folder=str(tmp_path / "counted"), name="first", plan=plan, record=True, site=site))
    dying = Errand(folder=str(folder), name="first", plan=plan, at=place_of(passed, "sbatch has ended", 1), site=site)
    assert nursery.run(dying) == -signal.SIGKILL


def waiting_for_pickles(folder: Path) -> int:
    """Return how many elements have started and found no pickle."""
    logs = RunPaths(crash_client.config(folder).run_root).submissions.glob("*/*_log.out")
    return sum("Loading pickle" in log.read_text() for log in logs)
