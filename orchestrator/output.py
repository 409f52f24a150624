"""What a job prints: the files that hold it, and their text as it grows, across attempts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from jobs.paths import AttemptPaths
from jobs.spec import JobSpec, State
from orchestrator import intents, scheduler
from orchestrator.errors import Error
from orchestrator.intents import Intent
from orchestrator.ledger import JobStatus, state_of
from orchestrator.scheduler import Answer
from orchestrator.workspace import Workspace

#: Seconds between two looks at a file that grows, at where its job stands, and between two questions to a scheduler.
READ_EVERY = 0.5
LOOK_EVERY = 2.0
ASK_EVERY = 15.0


def log_of(workspace: Workspace, spec: JobSpec) -> Path:
    """Return the output of a job's last attempt, else of the allocation that could not start it. Raises Error when there is neither."""
    started = [attempt for attempt in workspace.run.job(spec.job_id).attempts() if attempt.stdout.exists()]
    files = [started[-1].stdout] if started else element_logs(workspace, spec)
    if not files:
        raise Error(f"{spec.short_id} {spec.trial} was never started; `orchestrate explain {spec.short_id}` says what it waits for")
    return files[-1]


def submission_of(workspace: Workspace, job: str) -> Intent | None:
    """Return the last submission that a job was part of; None when it never was."""
    held = [one.intent for one in intents.open_intents(workspace.run) if job in one.intent.jobs]
    ended = [] if held else [one for one in intents.ended_intents(workspace.run) if job in one.jobs]
    return next(iter([*reversed(held), *reversed(ended)]), None)


def element_logs(workspace: Workspace, spec: JobSpec) -> list[Path]:
    """Return what the allocation of a job printed itself, where a scheduler started one."""
    keeper, intent = scheduler.of(workspace.cluster), submission_of(workspace, spec.job_id)
    return keeper.outputs(workspace.run, intent, spec.job_id) if keeper is not None and intent is not None else []


def tail_of(file: Path, count: int) -> list[str]:
    """Return the last lines of a file that may be long."""
    with file.open("rb") as opened:
        opened.seek(0, 2)
        opened.seek(max(0, opened.tell() - 400 * count))
        return opened.read().decode(errors="replace").splitlines()[-count:]


class Follower:
    """The text of a job as it is written, attempt after attempt, until nobody runs the job any more."""

    def __init__(self, workspace: Workspace, spec: JobSpec, say: Callable[[str], None]) -> None:
        self._workspace = workspace
        self._spec = spec
        self._say = say
        self._asked = self._looked = -ASK_EVERY
        self._answer = Answer()
        self._status: JobStatus | None = None

    def text(self) -> Iterator[str]:
        """Yield what is there and then what is added. Ends when the job has ended, or at once for one that nobody will start."""
        number, waited = 0, False
        while True:
            over = self._is_over()
            attempt = self._next_attempt(number)
            if attempt is None:
                if over:
                    return
                if not waited:
                    self._say(f"{self._spec.short_id} has not started yet; `orchestrate explain {self._spec.short_id}` says why")
                waited = True
                time.sleep(READ_EVERY)
                continue
            if number:
                self._say(f"--- attempt {attempt.number}")
            number = attempt.number
            yield from self._of_attempt(attempt.stdout, number)

    def _of_attempt(self, file: Path, number: int) -> Iterator[str]:
        """Yield the text of one attempt until the job is over or has gone on in a later one."""
        with file.open(encoding="utf-8", errors="replace") as opened:
            while True:
                # Looked at first: what was written before the end is read after it.
                over = self._is_over() or self._next_attempt(number) is not None
                piece = opened.read()
                if piece:
                    yield piece
                elif over:
                    return
                else:
                    time.sleep(READ_EVERY)

    def _next_attempt(self, number: int) -> AttemptPaths | None:
        """Return the first attempt after one (0: the last of all) that has written something; None while there is none."""
        there = [one for one in self._workspace.run.job(self._spec.job_id).attempts() if one.number > number and one.stdout.exists()]
        return (there[0] if number else there[-1]) if there else None

    def _is_over(self) -> bool:
        """Tell whether nobody runs the job or will start it; a scheduler is asked now and then, and one that is silent is waited for."""
        now = time.monotonic()
        if now - self._looked >= LOOK_EVERY or self._status is None:
            if now - self._asked >= ASK_EVERY:
                self._answer = scheduler.ask(self._workspace.run, self._workspace.cluster)
                self._asked = time.monotonic()
            self._status = state_of(self._workspace.run, self._spec.job_id, polled=self._answer.sightings)
            self._looked = time.monotonic()
        return self._status.state not in (State.SUBMITTED, State.RUNNING, State.UNKNOWN)
