"""One lane of an element: jobs that run one after the other, each as a child process.

A job without a result takes those along that need it, and no other: two evaluations of one choice stand in one lane.

What a lane still has to do is read from the files of its jobs, so that a start after a requeue goes on where the last one was, runs
nothing that failed or was cancelled a second time, and can be asked inside a signal handler.
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from collections.abc import Sequence, Set
from dataclasses import dataclass

from jobs.events import read_events
from jobs.fencing import is_superseded
from jobs.main import EXIT_DONE, EXIT_DUPLICATE, EXIT_FAILED, EXIT_REFUSED
from jobs.paths import AttemptPaths, JobPaths
from jobs.records import read_job
from jobs.signals import EXIT_STOPPED
from jobs.spec import LOSING_FAILURES, SHORT_ID, EventKind, FailureKind
from orchestrator import intents, policy
from orchestrator.backends.slurm import brakes
from orchestrator.backends.slurm.allocation import Allocation
from orchestrator.backends.slurm.memory import kills_for_memory
from orchestrator.errors import Error
from orchestrator.ledger import failure_kind, write_loss, write_tombstone

#: How often a job may die without a word in one allocation before the allocation gives up on it.
DEATHS_ALLOWED = 3
_LIBRARY = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_NOTHING_SAVED = "the time limit was reached before anything new was saved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a job that is not to be started again by the submission that has it."""

    #: The exit code that Slurm is to see.
    code: int
    #: Whether the job after it in its lane may start.
    goes_on: bool = False


def verdict(paths: JobPaths, first: int) -> Verdict | None:
    """Judge a job by its files; None when it is to be started. `first` is the first attempt that the submission may start."""
    if paths.result.exists():
        return Verdict(code=EXIT_DONE, goes_on=True)
    claimed = [attempt for attempt in paths.attempts() if attempt.number >= first and attempt.claim.exists()]
    events = read_events(claimed[-1].events) if claimed else []
    last = events[-1] if events else {}
    if last.get("kind") == EventKind.CANCELLED:
        return Verdict(code=EXIT_REFUSED)
    if last.get("kind") != EventKind.FAILED:
        return None
    kind = failure_kind(last.get("failure"))
    if kind in LOSING_FAILURES:
        # It lost, which is an outcome: whoever waits for it may go on without it.
        return Verdict(code=EXIT_DONE)
    return None if policy.continues(kind) else Verdict(code=EXIT_FAILED)


def last_saved(paths: JobPaths) -> tuple[int, int]:
    """Return step and epoch of the newest resume file that a job's attempts told of; (-1, -1) when there is none."""
    for attempt in reversed(paths.attempts()):
        for event in reversed(read_events(attempt.events)):
            if event.get("kind") == EventKind.CHECKPOINTED:
                return int(event["step"]), int(event["epoch"])
    return -1, -1


def _die_with_parent() -> None:
    """Let the kernel end this process with its parent: Slurm may lose sight of what a supervisor that was killed leaves behind."""
    _LIBRARY.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


class Lane:
    """Jobs of an element that run one after the other."""

    def __init__(self, allocation: Allocation, jobs: Sequence[str]) -> None:
        self._allocation = allocation
        self._jobs = tuple(jobs)
        self._left = list(jobs)
        self._job = ""
        self._attempt = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._deaths = 0
        self._kills = 0
        self._saved = (-1, -1)
        self._finished = False
        self._braked = False
        self.code = EXIT_DONE

    @property
    def is_running(self) -> bool:
        """Tell whether a child of it runs."""
        return self._child is not None and self._child.poll() is None

    @property
    def is_open(self) -> bool:
        """Tell whether it runs something or has something left to run."""
        return self._child is not None or bool(self._left)

    def step(self, *, may_start: bool) -> None:
        """Take note of a child that has ended, or start the next job."""
        if self._child is not None:
            code = self._child.poll()
            if code is not None:
                self._child = None
                self._ended(code)
        elif self._left:
            self._begin(self._left[0], may_start=may_start and not self._braked)

    def ask(self) -> None:
        """Ask the child to save and stop."""
        child = self._child
        if child is not None and child.poll() is None:
            child.send_signal(signal.SIGUSR2)

    def heed(self, cancelled: frozenset[str], over_budget: str) -> None:
        """Stop what is cancelled or over the budget; kill what somebody else has taken over."""
        if over_budget and not self._braked:
            sys.stderr.write(over_budget + "\n")
            self._braked = True
        if not self.is_running:
            return
        if self._job in cancelled or self._braked:
            self.ask()
        elif is_superseded(self._paths):
            sys.stderr.write(f"{self._job[:SHORT_ID]}: attempt {self._attempt} was taken over elsewhere; ended here\n")
            self.kill()

    def kill(self) -> None:
        """End the child at once: what it has not saved by now is lost."""
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait()

    def code_if_over(self) -> int | None:
        """Return the lane's exit code when nothing of it would run after a requeue; None when something would."""
        left, code = list(self._jobs), EXIT_DONE
        while left:
            job = left[0]
            found = verdict(self._allocation.run.job(job), self._allocation.intent.jobs[job])
            if found is None:
                return None
            code = max(code, found.code)
            left = left[1:] if found.goes_on else self._without(job, left)
        return code

    def end_without_progress(self) -> None:
        """Fail the open job for want of time when this start has brought nothing: the next would not get any further."""
        if self._finished or not self._job or not self._allocation.is_first or not self._paths.claim.exists():
            return
        paths = self._allocation.run.job(self._job)
        if verdict(paths, self._attempt) is None and last_saved(paths) <= self._saved and not is_superseded(self._paths):
            write_loss(self._paths, _NOTHING_SAVED, FailureKind.TIMEOUT)

    @property
    def _paths(self) -> AttemptPaths:
        return self._allocation.run.job(self._job).attempt(self._attempt)

    # --- starting ------------------------------------------------------------------------------------------------------------------------

    def _begin(self, job: str, *, may_start: bool) -> None:
        allocation = self._allocation
        found = verdict(allocation.run.job(job), allocation.intent.jobs[job])
        if found is not None and found.goes_on:
            self._next(job)
        elif found is not None:
            allocation.dismiss(job, found.code)
            self._give_up(job, found.code)
        elif not may_start:
            self._leave(job, EXIT_STOPPED)
        elif job in intents.cancel_requests(allocation.run, allocation.intent.sid):
            if allocation.is_first:
                write_tombstone(allocation.run, job, "cancelled before it started")
            allocation.dismiss(job, EXIT_REFUSED)
            self._give_up(job, EXIT_REFUSED)
        elif reason := brakes.reason_not_to_start(allocation.run, allocation.intent):
            sys.stderr.write(f"{job[:SHORT_ID]}: not started: {reason}\n")
            self._leave(job, EXIT_REFUSED)
        else:
            self._start(job)

    def _leave(self, job: str, code: int) -> None:
        """Close the lane before a job, and keep nobody waiting for it."""
        self._allocation.dismiss(job, code)
        self._close(code)

    def _start(self, job: str) -> None:
        allocation, paths = self._allocation, self._allocation.run.job(job)
        self._job, self._attempt = job, self._number(job)
        self._saved, self._kills = last_saved(paths), kills_for_memory()
        paths.folder.mkdir(parents=True, exist_ok=True)
        self._child = subprocess.Popen(allocation.command(job, self._attempt), stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent)

    def _number(self, job: str) -> int:
        """Return the number of the attempt: the one that was recorded for a first start, the next free one for each later one."""
        recorded = self._allocation.intent.jobs[job]
        if self._allocation.restart == 0 and self._deaths == 0:
            return recorded
        last = max((one.number for one in self._allocation.run.job(job).attempts() if one.claim.exists()), default=0)
        return max(last + 1, recorded)

    # --- ending --------------------------------------------------------------------------------------------------------------------------

    def _ended(self, code: int) -> None:
        allocation, job = self._allocation, self._job
        if code == EXIT_DONE:
            self._finished = True
            self._next(job)
        elif code == EXIT_STOPPED or (code < 0 and -code in (signal.SIGTERM, signal.SIGUSR2)):
            if job not in intents.cancel_requests(allocation.run, allocation.intent.sid):
                self._close(EXIT_STOPPED)
                return
            if allocation.is_first:
                write_tombstone(allocation.run, job, "cancelled by a person")
            self._give_up(job, EXIT_STOPPED)
        elif is_superseded(self._paths):
            self._close(EXIT_STOPPED)
        elif code < 0 and allocation.is_first:
            self._died(-code)
        elif code == EXIT_DUPLICATE:
            sys.stderr.write(f"{job[:SHORT_ID]}: attempt {self._attempt} has been started before\n")
            self._close(code)
        else:
            self._failed(max(code, 1))

    def _died(self, signum: int) -> None:
        """End an attempt whose process was killed, and try the job again unless memory was the reason, or others ran it too."""
        name = signal.Signals(signum).name if signum in signal.Signals._value2member_map_ else f"signal {signum}"
        memory = kills_for_memory() > self._kills
        if self._paths.claim.exists():
            why = f"its process was ended by {name}" + (" for want of memory" if memory else "")
            write_loss(self._paths, why, FailureKind.HOST_OOM if memory else FailureKind.LOST)
        self._deaths += 1
        if memory:
            self._give_up(self._job, EXIT_FAILED)
        elif self._deaths >= DEATHS_ALLOWED or self._allocation.world > 1:
            self._give_up(self._job, EXIT_STOPPED)

    def _failed(self, code: int) -> None:
        """Let Slurm know of a failure, unless it is one that loses, and count it."""
        allocation, attempt = self._allocation, self._paths
        found = verdict(allocation.run.job(self._job), self._attempt)
        if found is not None and found.code == EXIT_DONE:
            self._give_up(self._job, EXIT_DONE)
            return
        if allocation.is_first:
            brakes.count_failure(allocation.run, allocation.intent, self._job, attempt)
        self._give_up(self._job, code)

    def _next(self, job: str) -> None:
        self._left.remove(job)
        self._deaths = 0

    def _give_up(self, job: str, code: int) -> None:
        """Leave a job without a result, and what needs it; the rest of the lane goes on."""
        self._left = self._without(job, self._left)
        self._deaths = 0
        self.code = max(self.code, code)

    def _without(self, job: str, listed: Sequence[str]) -> list[str]:
        """Return those of a list, parents before children, that need a job neither themselves nor through others."""
        gone = {job}
        for one in listed:
            if one not in gone and self._needs_one_of(one, gone):
                gone.add(one)
        return [one for one in listed if one not in gone]

    def _needs_one_of(self, job: str, gone: Set[str]) -> bool:
        """Tell whether a job has one of these as its input; one whose description cannot be read may have any."""
        try:
            spec = read_job(self._allocation.run.job(job).job)
        except (Error, OSError):
            return True
        return any(item.job in gone for item in spec.inputs)

    def _close(self, code: int) -> None:
        self._left.clear()
        self.code = max(self.code, code)
