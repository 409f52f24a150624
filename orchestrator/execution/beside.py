"""One attempt in a thread of this process, so that its process can tell how it does while it runs.

No signal reaches a job beside the main thread: it is asked to stop by the word in its attempt (`jobs.stopping`).
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from jobs.paths import JobPaths
from jobs.stopping import ask_to_stop
from orchestrator.execution.attempt import run_attempt
from orchestrator.execution.curve import Curve, Reading

#: Seconds between two looks at what the job has written.
LOOK_EVERY = 0.05


class Beside:
    """An attempt that runs from the moment this is made."""

    def __init__(self, job_file: Path, attempt: int, runner: str, metric: str) -> None:
        job = JobPaths(job_file.parent)
        self._attempt = job.attempt(attempt)
        self._curve = Curve(job, metric)
        self._waiting: list[Reading] = []
        self._code: int | None = None
        self._error: BaseException | None = None
        self.told = 0
        # A daemon: when the worker has to go, it does not stay for its job.
        self._thread = threading.Thread(target=self._run, args=(job_file, attempt, runner), name=f"job-{attempt}", daemon=True)
        self._thread.start()

    def next(self) -> Reading | None:
        """Wait for the next epoch that has the metric, earlier attempts' first; None once the attempt has ended and all is told."""
        while not self._waiting:
            # Looked at first: what an attempt wrote before it ended is read after it ended.
            running = self._thread.is_alive()
            self._waiting = self._curve.news()
            if not self._waiting and not running:
                return None
            if not self._waiting:
                self._thread.join(LOOK_EVERY)
        self.told += 1
        return self._waiting.pop(0)

    def finish(self) -> int:
        """Wait for the end and return the exit code. Raises what the attempt raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._code is not None
        return self._code

    def stop(self) -> None:
        """Ask the attempt to save and stop, unless somebody did, and wait until it has."""
        if self._thread.is_alive():
            with contextlib.suppress(OSError):
                ask_to_stop(self._attempt)
        self._thread.join()

    def _run(self, job_file: Path, attempt: int, runner: str) -> None:
        try:
            self._code = run_attempt(job_file, attempt, runner)
        except BaseException as error:
            self._error = error
