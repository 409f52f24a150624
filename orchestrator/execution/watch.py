"""The thread beside a submission that runs: signs of life, and the word to save and stop passed on to jobs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from types import TracebackType

from jobs.events import is_alive
from jobs.stopping import ask_to_stop
from orchestrator import intents
from orchestrator.backends.base import Session

TICK = 0.2
#: Seconds after which a job that was asked to stop is asked again: the first word may have come before it could hear.
ASK_AGAIN = 2.0


class Watch:
    """Keep a submission's heart beating; ask its running jobs to save and stop when somebody cancels them or halts the session.

    A job is asked by SIGUSR2 to the process that claimed it, and by a word in its attempt, for one that hears no signals because it runs
    beside the main thread. It saves at its next step and ends as interrupted.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._running: dict[str, int] = {}
        self._asked: dict[str, float] = {}
        self._cancelled: frozenset[str] = frozenset()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"watch-{session.intent.sid[:6]}", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def cancelled(self) -> frozenset[str]:
        """Return the jobs that somebody wants cancelled."""
        return self._cancelled

    def started(self, job: str, attempt: int) -> None:
        """Note that a job is being run."""
        self._asked.pop(job, None)
        self._running[job] = attempt

    def ended(self, job: str) -> None:
        """Note that a job came back."""
        self._running.pop(job, None)

    def _keep(self) -> None:
        beaten = time.monotonic()
        while not self._over.wait(TICK):
            with contextlib.suppress(OSError, ValueError):
                self._cancelled = intents.cancel_requests(self._session.run, self._session.intent.sid)
                if self._session.halt.wanted:
                    intents.halt_file(self._session.run, self._session.intent.sid).touch()
                if time.monotonic() - beaten > intents.BEAT_EVERY:
                    intents.beat(self._session.run, self._session.intent.sid)
                    beaten = time.monotonic()
            for job, attempt in list(self._running.items()):
                if self._session.halt.wanted or job in self._cancelled:
                    self._ask(job, attempt)

    def _ask(self, job: str, attempt: int) -> None:
        now = time.monotonic()
        if now - self._asked.get(job, -ASK_AGAIN) < ASK_AGAIN:
            return
        paths = self._session.run.job(job).attempt(attempt)
        with contextlib.suppress(OSError, ValueError):
            owner = json.loads(paths.claim.read_text(encoding="utf-8"))
            alive = is_alive(owner)
            if alive is None and self._running.get(job) == attempt:
                # On another machine: no signal reaches it from here.
                self._asked[job] = now
                ask_to_stop(paths)
            elif alive and self._running.get(job) == attempt:
                os.kill(owner["pid"], signal.SIGUSR2)
                self._asked[job] = now
                ask_to_stop(paths)
