"""What a Slurm allocation runs: the jobs of one element, each as a child process, and what Slurm says passed on to them.

submitit pickles this callable with nothing in it but the path of an intent, so that every element's pickle is the same; which element this
is, Slurm says. submitit ends the process as soon as `checkpoint` returns and asks for the requeue itself, so `checkpoint` waits for the
children to save.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from jobs.events import read_events
from jobs.main import EXIT_DONE, EXIT_DUPLICATE, EXIT_REFUSED
from jobs.paths import RunPaths
from jobs.signals import EXIT_STOPPED
from jobs.spec import FailureKind
from orchestrator import intents
from orchestrator.backends.slurm import brakes
from orchestrator.backends.slurm.memory import kills_for_memory
from orchestrator.backends.slurm.usage import Meter
from orchestrator.intents import Intent
from orchestrator.ledger import write_loss, write_tombstone

TICK = 0.1
#: Seconds between two looks at what others want of these jobs.
LOOK_EVERY = 5.0
#: Seconds that are left for Slurm itself when children were asked to save before a time limit.
MARGIN = 15.0
ASK_AGAIN = 2.0
#: How often a job may die without a word in one allocation before the allocation gives up on it.
DEATHS_ALLOWED = 3
_LOST = frozenset({str(FailureKind.DIVERGED), str(FailureKind.COLLAPSED)})


class Supervisor:
    """Run one element of a submission."""

    def __init__(self, intent_file: str) -> None:
        self._intent_file = intent_file
        self._stopping = False
        self._lanes: list[Lane] = []
        self._lead = 0.0

    def __getstate__(self) -> dict[str, str]:
        return {"intent_file": self._intent_file}

    def __setstate__(self, state: Mapping[str, str]) -> None:
        self.__init__(state["intent_file"])

    def __call__(self) -> None:
        """Run every job of the element. Raises SystemExit when one of them has no result and did not lose, so that Slurm knows."""
        signal.signal(signal.SIGTERM, self._on_term)
        allocation = Allocation.of(Path(self._intent_file))
        if allocation is None:
            sys.stderr.write(f"{self._intent_file}: this submission was put away; nothing to do\n")
            return
        self._lead = float(allocation.intent.terms.get("signal_lead", 0.0))
        self._lanes = [Lane(allocation, lane) for lane in allocation.element]
        with Meter(allocation.run, allocation.intent, allocation.index, allocation.restart) as meter:
            self._run(allocation, meter)
        codes = [lane.code for lane in self._lanes]
        if any(codes):
            raise SystemExit(max(codes))

    def _run(self, allocation: Allocation, meter: Meter) -> None:
        looked = time.monotonic()
        while any(lane.is_open for lane in self._lanes):
            for lane in self._lanes:
                lane.step(may_start=not self._stopping)
            if time.monotonic() - looked > LOOK_EVERY:
                self._look(allocation, meter)
                looked = time.monotonic()
            time.sleep(TICK)

    def _look(self, allocation: Allocation, meter: Meter) -> None:
        """Obey who cancels jobs of this element, who has taken one over, and the budget."""
        cancelled = intents.cancel_requests(allocation.run, allocation.intent.sid)
        meter.note()
        over = brakes.over_budget(allocation.run, allocation.intent)
        for lane in self._lanes:
            lane.heed(cancelled, over)

    def _on_term(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        self._stop()

    def _stop(self) -> None:
        self._stopping = True
        for lane in self._lanes:
            lane.ask()

    def checkpoint(self, *args: Any, **kwargs: Any) -> Any:
        """Ask the children to save, wait for them as long as there is time, and return what runs after the requeue.

        submitit calls it inside its signal handler, on the main thread.
        """
        from submitit.core.utils import DelayedSubmission

        del args, kwargs
        self._stop()
        asked = begun = time.monotonic()
        while any(lane.is_running for lane in self._lanes) and time.monotonic() - begun < max(self._lead - MARGIN, MARGIN):
            if time.monotonic() - asked > ASK_AGAIN:
                self._stop()
                asked = time.monotonic()
            time.sleep(TICK)
        return DelayedSubmission(Supervisor(self._intent_file))


class Allocation:
    """One start of one element: what it runs, and as which of how many processes."""

    def __init__(self, run: RunPaths, intent: Intent, environment: Mapping[str, str]) -> None:
        self.run = run
        self.intent = intent
        self.index = int(environment.get("SLURM_ARRAY_TASK_ID", "0"))
        self.restart = int(environment.get("SLURM_RESTART_COUNT", "0"))
        self.rank = int(environment.get("SLURM_PROCID", "0"))
        self.world = int(environment.get("SLURM_NTASKS", "1"))
        self.local_rank = int(environment.get("SLURM_LOCALID", "0"))
        self.native = environment.get("SLURM_JOB_ID", "0")

    @classmethod
    def of(cls, intent_file: Path) -> Allocation | None:
        """Read the intent; None when it was put away."""
        run = RunPaths(intent_file.parents[1])
        intent = intents.read(run, intent_file.stem)
        return None if intent is None else cls(run, intent, os.environ)

    @property
    def element(self) -> tuple[tuple[str, ...], ...]:
        """Return the lanes of this element."""
        return self.intent.elements[self.index]

    def command(self, job: str, attempt: int) -> list[str]:
        """Return the command that runs one attempt of a job in this process of the allocation."""
        words = [sys.executable, "-m", "jobs", "run", str(self.run.job(job).job), "--attempt", str(attempt)]
        if self.world > 1:
            meeting = f"{self.native}-{self.restart}-{job[:12]}"
            words += ["--rank", str(self.rank), "--world", str(self.world), "--local-rank", str(self.local_rank), "--meeting", meeting]
        return words


class Lane:
    """Jobs of an element that run one after the other."""

    def __init__(self, allocation: Allocation, jobs: tuple[str, ...]) -> None:
        self._allocation = allocation
        self._left = list(jobs)
        self._job = ""
        self._attempt = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._deaths = 0
        self._kills = 0
        self._cancelled: frozenset[str] = frozenset()
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
        elif self._left and (not may_start or self._braked):
            self._close(EXIT_STOPPED)
        elif self._left:
            self._start(self._left[0])

    def ask(self) -> None:
        """Ask the child to save and stop."""
        child = self._child
        if child is not None and child.poll() is None:
            child.send_signal(signal.SIGUSR2)

    def heed(self, cancelled: frozenset[str], over_budget: str) -> None:
        """Stop what is cancelled or over the budget; kill what somebody else has taken over."""
        self._cancelled = cancelled
        if over_budget and not self._braked:
            sys.stderr.write(over_budget + "\n")
            self._braked = True
        if not self.is_running:
            return
        if self._job in cancelled or self._braked:
            self.ask()
        elif self._is_superseded():
            sys.stderr.write(f"{self._job[:12]}: attempt {self._attempt} was taken over elsewhere; ended here\n")
            assert self._child is not None
            self._child.kill()

    # --- starting ------------------------------------------------------------------------------------------------------------------------

    def _start(self, job: str) -> None:
        allocation = self._allocation
        run, paths = allocation.run, allocation.run.job(job)
        if job in self._cancelled:
            write_tombstone(run, job, "cancelled before it started")
            self._close(EXIT_REFUSED)
            return
        reason = "" if allocation.rank else brakes.reason_not_to_start(run, allocation.intent)
        if reason:
            sys.stderr.write(f"{job[:12]}: not started: {reason}\n")
            self._close(EXIT_REFUSED)
            return
        self._job, self._attempt = job, self._number(job)
        self._kills = kills_for_memory()
        paths.folder.mkdir(parents=True, exist_ok=True)
        self._child = subprocess.Popen(allocation.command(job, self._attempt), stdin=subprocess.DEVNULL)

    def _number(self, job: str) -> int:
        """Return the number of the attempt: the one that was recorded for a first start, the next free one for each later one."""
        if self._allocation.restart == 0 and self._deaths == 0:
            return self._allocation.intent.jobs[job]
        last = max((one.number for one in self._allocation.run.job(job).attempts() if one.claim.exists()), default=0)
        return max(last + 1, self._allocation.intent.jobs[job])

    def _is_superseded(self) -> bool:
        attempts = self._allocation.run.job(self._job).attempts()
        return any(one.number > self._attempt and one.claim.exists() for one in attempts)

    # --- ending --------------------------------------------------------------------------------------------------------------------------

    def _ended(self, code: int) -> None:
        job = self._job
        if code == EXIT_DONE:
            self._next()
        elif code == EXIT_STOPPED or (code < 0 and -code in (signal.SIGTERM, signal.SIGUSR2)):
            if job in self._cancelled and not self._allocation.rank:
                write_tombstone(self._allocation.run, job, "cancelled by a person")
            self._close(EXIT_STOPPED)
        elif code < 0 and not self._allocation.rank:
            self._died(-code)
        elif code == EXIT_DUPLICATE:
            sys.stderr.write(f"{job[:12]}: attempt {self._attempt} has been started before\n")
            self._close(code)
        else:
            self._failed(max(code, 1))

    def _died(self, signum: int) -> None:
        """End an attempt whose process was killed, and try the job again unless memory was the reason."""
        attempt = self._allocation.run.job(self._job).attempt(self._attempt)
        name = signal.Signals(signum).name if signum in signal.Signals._value2member_map_ else f"signal {signum}"
        memory = kills_for_memory() > self._kills
        if attempt.claim.exists() and not self._is_superseded():
            failure = FailureKind.HOST_OOM if memory else FailureKind.LOST
            write_loss(attempt, f"its process was ended by {name}" + (" for want of memory" if memory else ""), failure)
        self._deaths += 1
        if memory or self._deaths >= DEATHS_ALLOWED or self._is_superseded():
            self._close(EXIT_STOPPED)

    def _failed(self, code: int) -> None:
        run = self._allocation.run
        attempt = run.job(self._job).attempt(self._attempt)
        last = read_events(attempt.events)[-1:]
        failure = str(last[0].get("failure", "")) if last else ""
        if failure in _LOST:
            # It lost, which is an outcome: whoever waits for it may go on without it.
            self._left.clear()
            return
        if failure in (FailureKind.ERROR, FailureKind.BAD_DATA) and not self._allocation.rank:
            brakes.count_failure(run, self._allocation.intent, self._job, attempt)
        self._close(code)

    def _next(self) -> None:
        self._left.remove(self._job)
        self._deaths = 0

    def _close(self, code: int) -> None:
        self._left.clear()
        self.code = code
