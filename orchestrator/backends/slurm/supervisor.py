"""What a Slurm allocation runs: the jobs of one element, each as a child process, and what Slurm says passed on to them.

submitit pickles this callable with nothing in it but the path of an intent, so that every element's pickle is the same; which element this
is, Slurm says. submitit ends the process as soon as `checkpoint` returns and asks for the requeue itself, so `checkpoint` waits for the
children to save.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from jobs.signals import EXIT_STOPPED
from orchestrator import intents
from orchestrator.backends.slurm import elsewhere
from orchestrator.backends.slurm.allocation import Allocation
from orchestrator.backends.slurm.follower import Follower
from orchestrator.backends.slurm.lane import Lane
from orchestrator.backends.slurm.usage import Budget, Meter

TICK = 0.1
#: Seconds between two looks at what others want of these jobs.
LOOK_EVERY = 5.0
#: Seconds that are left for Slurm itself when children were asked to save before a time limit; of a short lead, a third.
MARGIN = 15.0
ASK_AGAIN = 2.0


class Supervisor:
    """Run one element of a submission."""

    def __init__(self, intent_file: str) -> None:
        self._intent_file = intent_file
        self._stopping = False
        self._allocation: Allocation | None = None
        self._lanes: list[Lane] = []
        self._follower: Follower | None = None

    def __getstate__(self) -> dict[str, str]:
        return {"intent_file": self._intent_file}

    def __setstate__(self, state: Mapping[str, str]) -> None:
        self.__init__(state["intent_file"])

    def __call__(self) -> None:
        """Run every job of the element. Raises SystemExit when one of them has no result and did not lose, so that Slurm knows."""
        signal.signal(signal.SIGTERM, self._on_term)
        allocation = self._allocation = Allocation.of(Path(self._intent_file))
        if allocation is None:
            sys.stderr.write(f"{self._intent_file}: this submission was put away; nothing to do\n")
            return
        if elsewhere.hand_back(allocation):
            return
        self._lanes = [Lane(allocation, lane) for lane in allocation.element]
        follower = self._follower = Follower(allocation)
        with Meter(allocation) as meter:
            self._run(allocation, meter)
            follower.end()
        codes = [lane.code for lane in self._lanes]
        if any(codes):
            raise SystemExit(max(codes))

    def _run(self, allocation: Allocation, meter: Meter) -> None:
        looked, budget = time.monotonic(), Budget(allocation)
        while any(lane.is_open for lane in self._lanes):
            for lane in self._lanes:
                lane.step(may_start=not self._stopping)
            if allocation.is_first and time.monotonic() - looked > LOOK_EVERY:
                meter.note()
                self._look(allocation, budget)
                if self._follower is not None:
                    self._follower.look()
                looked = time.monotonic()
            time.sleep(TICK)

    def _look(self, allocation: Allocation, budget: Budget) -> None:
        """Obey who cancels jobs of this element, who has taken one over, and the budget."""
        cancelled = intents.cancel_requests(allocation.run, allocation.intent.sid)
        over = budget.look()
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

        submitit calls it inside its signal handler, on the main thread: whatever was interrupted does not go on, and only files are
        believed. Raises SystemExit when nothing is left that a requeue would run, or when it would not get any further.
        """
        from submitit.core.utils import DelayedSubmission

        del args, kwargs
        allocation = self._allocation
        if allocation is not None:
            self._wait_until_saved(allocation.lead - min(MARGIN, allocation.lead / 3))
            if self._follower is not None:
                self._follower.kill()
            for lane in self._lanes:
                # It would be ended with this process, or a little later, when the next start may already be running.
                lane.kill()
            if allocation.is_at_its_limit():
                for lane in self._lanes:
                    lane.end_without_progress()
            codes = [lane.code_if_over() for lane in self._lanes]
            if all(code is not None for code in codes):
                raise SystemExit(max(code or 0 for code in codes))
            if elsewhere.requeue(allocation):
                raise SystemExit(EXIT_STOPPED)
        return DelayedSubmission(Supervisor(self._intent_file))

    def _wait_until_saved(self, seconds: float) -> None:
        self._stop()
        asked = begun = time.monotonic()
        while any(lane.is_running for lane in self._lanes) and time.monotonic() - begun < seconds:
            if time.monotonic() - asked > ASK_AGAIN:
                self._stop()
                asked = time.monotonic()
            time.sleep(TICK)
