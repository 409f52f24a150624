"""From a plan to finished jobs: decide, record what is intended, let the backend run it, and look again.

Deciding and recording happen under the lock of the run root; starting happens after it is given up. A client that dies in between leaves
an intent whose owner is dead, and the next one takes over. Two clients may submit the same sweep at the same time: each job is recorded
by one of them, and the other waits for it.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import FrameType

from jobs.paths import RunPaths
from jobs.signals import listening
from jobs.spec import Json, State
from orchestrator import intents, ledger, stop_file
from orchestrator.backends import base
from orchestrator.backends.base import Backend, Halt, Notice, Notify, Session, Submission
from orchestrator.decide import Cancel, Keep, Request, Why, decide, has_lost
from orchestrator.exit_codes import EXIT_DONE, EXIT_FAILED, EXIT_PERSON
from orchestrator.ledger import JobStatus
from orchestrator.model import ClusterConfig, Plan
from orchestrator.rounds import (
    Doubt,
    Preview,
    cancel_live,
    decide_and_record,
    look_at_what_is_done,
    plan_states,
    poll,
    queued_jobs,
    with_pruned,
    with_unplaced,
)
from orchestrator.sightings import Sighting

#: Seconds between two looks at jobs that another client runs.
FOLLOW_EVERY = 1.0
#: Seconds between two questions to a scheduler in the long run.
FOLLOW_SCHEDULER_EVERY = 20.0
#: Seconds at most between two looks while it is too early to tell where jobs stand, and for how long it may be.
LOOK_EARLY_EVERY = 5.0
EARLY_FOR: Mapping[Doubt, float] = {Doubt.HANDING: 2.0 * intents.STALE_AFTER, Doubt.MISSING: 30.0}
#: Seconds that a worker takes at most to notice that its client was killed.
ORPHANS_DIE_WITHIN = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How a submission ended."""

    sweep: str
    #: How many attempts were handed to the backend.
    submitted: int
    states: Mapping[str, JobStatus]
    #: Why jobs that are not done were left, by job id.
    kept: Mapping[str, Why] = field(default_factory=dict)
    cancelled: tuple[str, ...] = ()
    #: A person stopped it.
    halted: bool = False

    @property
    def counts(self) -> Mapping[State, int]:
        """Return how many jobs stand where."""
        return Counter(status.state for status in self.states.values())

    @property
    def failed(self) -> tuple[JobStatus, ...]:
        """Return the jobs that failed; candidates that lost a pick are not among them."""
        return tuple(s for s in self.states.values() if s.state is State.FAILED and not has_lost(s))

    @property
    def unfinished(self) -> tuple[JobStatus, ...]:
        """Return the jobs that are neither done, nor lost, nor stopped by their search, nor still on their way."""
        return tuple(s for s in self.states.values() if not (s.state in (State.SUCCEEDED, State.STOPPED) or has_lost(s) or s.is_live))

    @property
    def exit_code(self) -> int:
        """Return 0 when everything is done or on its way, 2 when all that failed is for a person to put right, 1 for all else left."""
        if not self.unfinished and not self.halted:
            return EXIT_DONE
        return EXIT_PERSON if self.is_for_people else EXIT_FAILED

    @property
    def is_for_people(self) -> bool:
        """Tell whether nothing is left but jobs that failed with a sentence for people, and jobs that wait for those."""
        if self.halted or not self.failed or not all(status.for_people for status in self.failed):
            return False
        waits = (Why.BLOCKED, Why.NOT_ASKED, Why.CANCELLED)
        return all(status.state is State.FAILED or self.kept.get(status.job_id) in waits for status in self.unfinished)


def within_limits(request: Request | None, cluster: ClusterConfig, backend: Backend) -> Request:
    """Return a request that keeps to what a cluster lets a sweep have in its queue, where its jobs are in one."""
    request = request or Request()
    return replace(request, max_queued=cluster.limits.max_queued) if backend.capabilities.queues else request


def preview(plan: Plan, run: RunPaths, backend: Backend, request: Request | None = None, *, prune: bool = False) -> Preview:
    """Decide and render without recording anything. Raises BackendError for a job that this machine can never run."""
    request = with_pruned(plan, run, request or Request(), prune=prune)
    known = plan_states(plan, run, backend, request)
    actions = decide(plan, known, with_unplaced(run, backend, request))
    return Preview(actions=actions, states=known, submission=backend.render(plan.sweep, queued_jobs(plan, run, known, actions)))


def submit(
    plan: Plan,
    run: RunPaths,
    cluster: ClusterConfig,
    backend: Backend,
    *,
    machine: Mapping[str, Json],
    request: Request | None = None,
    prune: bool = False,
    wait: bool = True,
    notify: Notify | None = None,
    halt: Halt | None = None,
    runner: str = base.RUNNER,
) -> Summary:
    """Submit what a plan lacks and, on a backend that does not detach, stay until it has run.

    With `wait`, also stay for jobs of this plan that another client runs, and take over what it leaves. Ctrl-C and TERM ask running jobs
    to save and stop; a second Ctrl-C raises KeyboardInterrupt. `machine` is the content of `machine.json`.
    A sweep that its own failures have stopped is refused, and a person's `resume` lets it go on.
    Raises BackendError, IdentityError or LedgerError before anything of this submission has started.
    """
    notify = notify or _silent
    halt = halt or Halt()
    request = with_pruned(plan, run, within_limits(request, cluster, backend), prune=prune)
    if request.resume and request.by_person:
        stop_file.clear(run, plan.sweep)
    stop_file.refuse(run, plan.sweep)
    asked, handed, cancelled = request, 0, []
    stays = wait or not backend.capabilities.detaches
    starts: Counter[str] = Counter()
    early = _Early()
    with halting(halt):
        _let_orphans_die(plan, run, halt)
        look_at_what_is_done(plan, run)
        while True:
            request = replace(request, stopped=bool(stop_file.reason(run, plan.sweep)))
            decided, recorded = decide_and_record(plan, run, cluster, backend, machine, request)
            cancelled += [action.job_id for action in decided.actions if isinstance(action, Cancel)]
            notify(Notice(kind="round", message=_round_message(decided)))
            request = replace(request, cancel=frozenset())
            if recorded:
                handed += len(decided.submission.jobs)
                session = Session(run=run, intent=recorded[0], intents=recorded, notify=notify, halt=halt, runner=runner)
                gave_up = _run(backend, decided.submission, session)
                # What failed in this very command is not tried again by it, whatever was asked for at first.
                tried = request.tried.union(job.spec.job_id for job in decided.submission.jobs)
                starts.update(job.spec.job_id for job in decided.submission.jobs)
                gave_up |= {job for job, number in starts.items() if number >= base.DEATHS_ALLOWED}
                request = replace(request, resume=False, gave_up=request.gave_up | gave_up, tried=tried)
            elif early.pause(decided, notify, halt):
                continue
            elif not wait or not _wait_for_others(plan, run, backend, decided.states, notify, halt):
                break
            if halt.wanted or not (stays or decided.doubt):
                break
    settled = replace(asked, resume=False, cancel=frozenset(), gave_up=request.gave_up, tried=request.tried)
    states, kept = _left(plan, run, backend, settled)
    return Summary(sweep=plan.sweep, submitted=handed, states=states, kept=kept, cancelled=tuple(cancelled), halted=halt.wanted)


def _left(plan: Plan, run: RunPaths, backend: Backend, settled: Request) -> tuple[Mapping[str, JobStatus], Mapping[str, Why]]:
    """Return where all jobs of a plan stand at the end of a command, and why those that are not done were left."""
    final = plan_states(plan, run, backend, Request())
    stopped = bool(stop_file.reason(run, plan.sweep))
    actions = decide(plan, final, with_unplaced(run, backend, replace(settled, stopped=stopped)))
    return final, {action.job_id: action.why for action in actions if isinstance(action, Keep) and action.why is not Why.DONE}


def cancel(run: RunPaths, cluster: ClusterConfig, jobs: Iterable[str]) -> tuple[str, ...]:
    """Cancel jobs that are queued or running, wherever their client is. Returns those that nobody could be asked to cancel.

    A queued job is cancelled at once: its next attempt is taken from everybody. A running one is asked by its client to save and stop.
    Raises BackendError when the scheduler cannot be told; what it has then finds at its next look that it is not wanted.
    """
    wanted = list(dict.fromkeys(jobs))
    polled = poll(run, base.load(cluster))
    with intents.locked(run):
        known = ledger.states(run, wanted, polled=polled)
        return cancel_live(run, cluster, [known[job] for job in wanted if _may_be_live(known[job])])


def _may_be_live(status: JobStatus) -> bool:
    """Tell whether a job is queued or running, or somebody has it and does not answer."""
    return status.is_live or (status.state is State.UNKNOWN and status.submission is not None)


def sightings(run: RunPaths, cluster: ClusterConfig) -> Mapping[str, Sighting] | None:
    """Ask the cluster's scheduler where every submitted job stands; None where the files say it all, or it does not answer."""
    return poll(run, base.load(cluster))


def _run(backend: Backend, submission: Submission, session: Session) -> frozenset[str]:
    try:
        return backend.submit(submission, session)
    finally:
        if not backend.capabilities.detaches:
            intents.end(session.run, session.intent.sid)


@dataclass(slots=True)
class _Early:
    """Waiting until it is sure what a client has handed over, or what a scheduler has ended."""

    since: float | None = None

    def pause(self, decided: Preview, notify: Notify, halt: Halt) -> bool:
        """Wait a little when it is too early to tell. Returns False when it is not, or when it has taken too long."""
        if decided.doubt is None or halt.wanted:
            self.since = None
            return False
        if self.since is None:
            self.since = time.monotonic()
            notify(Notice(kind="note", message=decided.doubt))
        waited = time.monotonic() - self.since
        if waited > EARLY_FOR[decided.doubt]:
            return False
        # A client is soon done; a scheduler is not believed before it has said nothing for a while.
        pause = FOLLOW_EVERY + (waited / 10 if decided.doubt is Doubt.HANDING else waited)
        _sleep(min(pause, LOOK_EARLY_EVERY), halt)
        return True


# --- staying -----------------------------------------------------------------------------------------------------------------------------


def _wait_for_others(plan: Plan, run: RunPaths, backend: Backend, known: Mapping[str, JobStatus], notify: Notify, halt: Halt) -> bool:
    """Follow jobs of the plan that others run until one of them ends. Returns False when there is none, or a person halts."""
    live = [job.job_id for job in plan.jobs if _is_with_others(known[job.job_id])]
    if not live:
        return False
    pause = FOLLOW_EVERY
    while not halt.wanted:
        begun = time.monotonic()
        found = ledger.states(run, live, polled=poll(run, backend))
        ended = [status for status in found.values() if not _is_with_others(status)]
        for status in ended:
            notify(Notice(kind="ended", job_id=status.job_id, state=status.state, message=status.message))
        if ended:
            return True
        _sleep(max(pause, 5 * (time.monotonic() - begun)), halt)
        pause = min(2 * pause, FOLLOW_SCHEDULER_EVERY) if backend.capabilities.detaches else pause
    return False


def _is_with_others(status: JobStatus) -> bool:
    """Tell whether somebody answers for a job, also while the scheduler that has it gives no answer, or none that can be relied on."""
    return status.is_live or (status.state is State.UNKNOWN and status.submission is not None)


def _sleep(seconds: float, halt: Halt) -> None:
    until = time.monotonic() + seconds
    while not halt.wanted and time.monotonic() < until:
        time.sleep(min(0.2, seconds))


def _let_orphans_die(plan: Plan, run: RunPaths, halt: Halt) -> None:
    """Give workers whose client was killed the seconds they need to notice, so that their jobs go on in this round and not in the next."""
    until = time.monotonic() + ORPHANS_DIE_WITHIN
    running = [job.job_id for job in plan.jobs]
    while not halt.wanted and time.monotonic() < until:
        found = ledger.states(run, running)
        running = [job for job, status in found.items() if status.state is State.RUNNING and status.submission is None]
        if not running:
            return
        time.sleep(FOLLOW_EVERY / 5)


@contextlib.contextmanager
def halting(halt: Halt) -> Iterator[None]:
    """Let Ctrl-C, TERM and USR1 ask for a halt; a second Ctrl-C raises KeyboardInterrupt. Outside the main thread nothing is caught.

    USR2 is what the watch asks a job with. One that comes when its job in this process has just ended means nothing to anybody.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        del frame
        if halt.wanted and signum == signal.SIGINT:
            raise KeyboardInterrupt
        halt.want()

    halting = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {signum: signal.signal(signum, handle) for signum in halting}
    before[signal.SIGUSR2] = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        with listening(lambda signum: halt.want() if signum in halting else None):
            yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _round_message(decided: Preview) -> str:
    why = Counter(action.why for action in decided.actions if isinstance(action, Keep))
    parts = [f"{len(decided.submission.jobs)} to run", *(f"{number} {reason}" for reason, number in sorted(why.items()))]
    return ", ".join(parts)


def _silent(notice: Notice) -> None:
    del notice
