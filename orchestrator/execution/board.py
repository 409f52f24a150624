"""Which jobs of a submission may start now: the order of work of every backend that runs jobs itself."""

from __future__ import annotations

import heapq
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from jobs.spec import SHORT_ID, Stage, State
from orchestrator.backends.base import DEATHS_ALLOWED, Notice, Notify, Queued, Session, Submission
from orchestrator.decide import passes_over
from orchestrator.execution.watch import Watch
from orchestrator.ledger import JobStatus, states, write_tombstone

#: Reads where jobs really stand (`orchestrator.ledger.states`, without this submission's own intent).
Look: TypeAlias = Callable[[Iterable[str]], Mapping[str, JobStatus]]
#: What a job occupies while it runs: (cpus, gpus).
Shape: TypeAlias = tuple[int, int]

#: Seconds between two looks at jobs that somebody else runs.
LOOK_EVERY = 0.5


def shape_of(job: Queued) -> Shape | None:
    """Return what a job occupies while it runs; None for a pick, which reads numbers for a moment and fits in anywhere."""
    return None if job.spec.stage is Stage.PICK else (job.resources.cpus, job.resources.gpus)


class Board:
    """The jobs of one submission between waiting and settled. The ledger stays the truth: every outcome is read from it.

    A job is ready when its inputs have succeeded. One that came back without an end is ready again, as its next attempt, until it has
    died `DEATHS_ALLOWED` times. A job that fails takes everything downstream of it off the board, a candidate that lost does not.
    """

    def __init__(
        self,
        jobs: Sequence[Queued],
        look: Look,
        notify: Notify,
        *,
        cancelled: Callable[[], frozenset[str]],
        bury: Callable[[str], bool],
    ) -> None:
        self._jobs = {job.spec.job_id: job for job in jobs}
        self._order = {job: place for place, job in enumerate(self._jobs)}
        self._look = look
        self._notify = notify
        self._cancelled = cancelled
        self._bury = bury
        self._children: defaultdict[str, list[str]] = defaultdict(list)
        self._unmet: dict[str, set[str]] = {}
        self._ready: defaultdict[Shape | None, list[tuple[int, str]]] = defaultdict(list)
        self._running: set[str] = set()
        #: Jobs of this submission that another process runs, or whose process is just dying.
        self._unsettled: set[str] = set()
        #: Inputs outside this submission that are not done.
        self._awaited: set[str] = set()
        self._deaths: Counter[str] = Counter()
        self._looked = 0.0
        self._abandoned = False
        self.gave_up: set[str] = set()
        self._place(jobs)

    def _place(self, jobs: Sequence[Queued]) -> None:
        outside = {item.job for job in jobs for item in job.spec.inputs} - self._jobs.keys()
        for job in jobs:
            self._unmet[job.spec.job_id] = {item.job for item in job.spec.inputs}
            for upstream in self._unmet[job.spec.job_id]:
                self._children[upstream].append(job.spec.job_id)
        self._awaited = set(outside)
        self._take_in(self._look(outside))
        for job, unmet in list(self._unmet.items()):
            if not unmet:
                self._make_ready(job)

    @property
    def finished(self) -> bool:
        """Tell whether nothing of this submission runs, may start, or is waited for."""
        return not (self._unmet or self._running or self._unsettled or any(self._ready.values()))

    @property
    def running(self) -> frozenset[str]:
        """Return the jobs that were taken and have not come back."""
        return frozenset(self._running)

    def take(self, prefer: Shape | None = None) -> Queued | None:
        """Hand out the next ready job, one that fits the preferred shape if there is one, else in plan order; None while none is ready."""
        self._look_around()
        while True:
            heap = self._first(prefer)
            if heap is None:
                return None
            _, job = heapq.heappop(heap)
            if job in self._cancelled():
                self._bury(job)
                self._settle(self._look([job])[job])
                continue
            self._running.add(job)
            return self._jobs[job]

    def _first(self, prefer: Shape | None) -> list[tuple[int, str]] | None:
        fitting = [self._ready[shape] for shape in (prefer, None) if self._ready.get(shape)] if prefer is not None else []
        return min(fitting or [heap for heap in self._ready.values() if heap], default=None)

    def give_back(self, job: str) -> None:
        """Read how a job that was taken has ended, and release or drop what is downstream of it."""
        self._running.discard(job)
        self._settle(self._look([job])[job])

    def abandon(self) -> None:
        """Drop everything that was not taken: a person wants to stop."""
        self._abandoned = True
        self._unmet.clear()
        self._ready.clear()
        self._unsettled.clear()
        self._awaited.clear()

    # --- what an outcome leads to --------------------------------------------------------------------------------------------------------

    def _settle(self, status: JobStatus) -> None:
        job = status.job_id
        self._unsettled.discard(job)
        if status.is_live and not self._abandoned:
            self._unsettled.add(job)
            return
        if status.state in (State.INTERRUPTED, State.NEW):
            if job in self._cancelled() and self._bury(job):
                status = self._look([job])[job]
            elif self._again(status):
                return
        self._notify(Notice(kind="ended", job_id=job, state=status.state, message=status.message))
        self._release(status)

    def _again(self, status: JobStatus) -> bool:
        """Put a job that died back on the board, unless it died too often or nothing may start any more."""
        job = status.job_id
        if self._abandoned:
            return False
        self._deaths[job] += 1
        if self._deaths[job] >= DEATHS_ALLOWED:
            self.gave_up.add(job)
            return False
        self._jobs[job] = replace(self._jobs[job], attempt=status.next_attempt)
        trial = self._jobs[job].spec.trial
        message = f"{job[:SHORT_ID]} {trial}: {status.message or 'it never started'}; attempt {status.next_attempt} follows"
        self._notify(Notice(kind="again", job_id=job, state=status.state, message=message))
        self._make_ready(job)
        return True

    def _release(self, status: JobStatus) -> None:
        """Let the children of a job go on, or take them off the board."""
        for child in self._children.get(status.job_id, ()):
            if child not in self._unmet:
                continue
            if status.state is State.SUCCEEDED or passes_over(self._jobs[child].spec, status):
                self._unmet[child].discard(status.job_id)
                if not self._unmet[child]:
                    self._make_ready(child)
            else:
                self._drop(child)

    def _drop(self, job: str) -> None:
        stack = [job]
        while stack:
            dropped = stack.pop()
            if self._unmet.pop(dropped, None) is not None:
                stack += self._children.get(dropped, ())

    def _make_ready(self, job: str) -> None:
        self._unmet.pop(job, None)
        heapq.heappush(self._ready[shape_of(self._jobs[job])], (self._order[job], job))

    # --- what others do ------------------------------------------------------------------------------------------------------------------

    def _look_around(self) -> None:
        """Look, now and then, at inputs that others make and at jobs that others run."""
        if not (self._awaited or self._unsettled) or time.monotonic() - self._looked < LOOK_EVERY:
            return
        found = self._look(self._awaited | self._unsettled)
        self._looked = time.monotonic()
        for job in list(self._unsettled):
            self._settle(found[job])
        self._take_in({job: found[job] for job in self._awaited})

    def _take_in(self, found: Mapping[str, JobStatus]) -> None:
        """Release what waited for an input outside this submission; drop it when nobody will bring that input."""
        for job, status in found.items():
            if not status.is_live:
                self._awaited.discard(job)
                self._release(status)


def board_of(submission: Submission, session: Session, watch: Watch) -> Board:
    """Put the jobs of a submission on a board that reads the ledger without the submission itself."""
    run, sid = session.run, session.intent.sid

    def look(jobs: Iterable[str]) -> Mapping[str, JobStatus]:
        return states(run, jobs, ignoring=sid)

    def bury(job: str) -> bool:
        return write_tombstone(run, job, "cancelled by a person")

    return Board(submission.jobs, look, session.notify, cancelled=watch.cancelled, bury=bury)
