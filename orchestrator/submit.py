"""From a plan to finished jobs: decide, record what is intended, let the backend run it, and look again.

Deciding and recording happen under the lock of the run root; starting happens after it is given up. A client that dies in between leaves
an intent whose owner is dead, and the next one takes over. Two clients may submit the same sweep at the same time: each job is recorded
by one of them, and the other waits for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

from jobs.paths import RunPaths, naming, write_atomically
from jobs.signals import listening
from jobs.spec import JobSpec, Json, State, pretty_json, spec_to_json
from orchestrator import intents, ledger
from orchestrator.backends import base
from orchestrator.backends.base import Backend, Halt, Notice, Notify, Queued, Session, Submission
from orchestrator.decide import Action, Cancel, Keep, Request, Why, decide, has_lost, submitted
from orchestrator.errors import IdentityError
from orchestrator.exit_codes import EXIT_DONE, EXIT_FAILED, EXIT_PERSON
from orchestrator.identity import refuse_mismatch
from orchestrator.ledger import JobStatus
from orchestrator.model import ClusterConfig, Plan
from orchestrator.plans import plan_text, read_plan
from orchestrator.sightings import Sighting

#: Seconds between two looks at jobs that another client runs.
FOLLOW_EVERY = 1.0
#: Seconds between two questions to a scheduler in the long run.
FOLLOW_SCHEDULER_EVERY = 20.0
#: Seconds that a worker takes at most to notice that its client was killed.
ORPHANS_DIE_WITHIN = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a submission would do, and the very text that would be submitted."""

    actions: tuple[Action, ...]
    states: Mapping[str, JobStatus]
    submission: Submission


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


def preview(plan: Plan, run: RunPaths, backend: Backend, request: Request | None = None, *, prune: bool = False) -> Preview:
    """Decide and render without recording anything. Raises BackendError for a job that this machine can never run."""
    request = _with_pruned(plan, run, request or Request(), prune=prune)
    known = _states(plan, run, backend, request)
    actions = decide(plan, known, request)
    return Preview(actions=actions, states=known, submission=backend.render(plan.sweep, _queued(plan, run, known, actions)))


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
    Raises BackendError, IdentityError or LedgerError before anything of this submission has started.
    """
    notify = notify or _silent
    halt = halt or Halt()
    request = _with_pruned(plan, run, request or Request(), prune=prune)
    asked, handed, cancelled = request, 0, []
    stays = wait or not backend.capabilities.detaches
    starts: Counter[str] = Counter()
    with _halting(halt):
        _let_orphans_die(plan, run, halt)
        _look_at_what_is_done(plan, run)
        while True:
            decided, recorded = _decide_and_record(plan, run, cluster, backend, machine, request)
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
            elif not wait or not _wait_for_others(plan, run, backend, decided.states, notify, halt):
                break
            if halt.wanted or not stays:
                break
    final = _states(plan, run, backend, Request())
    settled = replace(asked, resume=False, cancel=frozenset(), gave_up=request.gave_up, tried=request.tried)
    kept = {action.job_id: action.why for action in decide(plan, final, settled) if isinstance(action, Keep)}
    return Summary(
        sweep=plan.sweep,
        submitted=handed,
        states=final,
        kept={job: why for job, why in kept.items() if why is not Why.DONE},
        cancelled=tuple(cancelled),
        halted=halt.wanted,
    )


def cancel(run: RunPaths, cluster: ClusterConfig, jobs: Iterable[str]) -> tuple[str, ...]:
    """Cancel jobs that are queued or running, wherever their client is. Returns those that nobody could be asked to cancel.

    A queued job is cancelled at once: its next attempt is taken from everybody. A running one is asked by its client to save and stop.
    """
    wanted = list(dict.fromkeys(jobs))
    with intents.locked(run):
        backend = base.load(cluster)
        known = ledger.states(run, wanted, polled=_poll(run, backend))
        return _cancel(run, cluster, [known[job] for job in wanted if known[job].is_live])


# --- one round ---------------------------------------------------------------------------------------------------------------------------


def _decide_and_record(
    plan: Plan, run: RunPaths, cluster: ClusterConfig, backend: Backend, machine: Mapping[str, Json], request: Request
) -> tuple[Preview, tuple[intents.Intent, ...]]:
    """Decide under the lock; write the plan and, when there is something to start, the intents. Then write the job files.

    The scheduler is asked before: its answer may be old by then, which at worst leaves a job to the next round.
    """
    if backend.capabilities.detaches:
        backend.recover(run, [held.intent for held in intents.open_intents(run) if not held.live])
    polled = _poll(run, backend)
    with intents.locked(run):
        _tidy(run, polled)
        known = _fold(plan, run, polled, request)
        actions = decide(plan, known, request)
        queued = _queued(plan, run, known, actions)
        submission = backend.render(plan.sweep, queued)
        for job in queued:
            _is_described(run, job.spec)
        _write_if_new(run.sweep(plan.sweep).plan, plan_text(plan))
        _write_if_new(run.machine, pretty_json(dict(machine)))
        _cancel(run, cluster, [known[action.job_id] for action in actions if isinstance(action, Cancel)])
        decided = Preview(actions=actions, states=known, submission=submission)
        recorded = tuple(_intents(plan, backend, submission)) if queued else ()
        for intent in recorded:
            intents.record(run, intent)
    _write_job_files(run, (job.spec for job in queued))
    return decided, recorded


def _intents(plan: Plan, backend: Backend, submission: Submission) -> Iterator[intents.Intent]:
    """Make one intent for each call of the scheduler, or one for all where jobs run in this process."""
    attempts = {job.spec.job_id: job.attempt for job in submission.jobs}
    detaches = backend.capabilities.detaches
    if not submission.parts:
        yield intents.new_intent(backend=backend.name, sweep=plan.sweep, jobs=attempts, detaches=detaches)
    for part in submission.parts:
        jobs = {job: attempts[job] for job in part.jobs}
        yield intents.new_intent(
            backend=backend.name, sweep=plan.sweep, jobs=jobs, detaches=detaches, elements=part.elements, terms=part.terms
        )


def _run(backend: Backend, submission: Submission, session: Session) -> frozenset[str]:
    try:
        return backend.submit(submission, session)
    finally:
        if not backend.capabilities.detaches:
            intents.end(session.run, session.intent.sid)


def _poll(run: RunPaths, backend: Backend) -> Mapping[str, Sighting] | None:
    if not backend.capabilities.detaches:
        return None
    return backend.poll(run, [held.intent for held in intents.open_intents(run) if held.intent.native is not None])


def _states(plan: Plan, run: RunPaths, backend: Backend, request: Request) -> dict[str, JobStatus]:
    return _fold(plan, run, _poll(run, backend), request)


def _fold(plan: Plan, run: RunPaths, polled: Mapping[str, Sighting] | None, request: Request) -> dict[str, JobStatus]:
    ids = dict.fromkeys([*(job.job_id for job in plan.jobs), *sorted(request.cancel)])
    return ledger.states(run, ids, polled=polled)


def _queued(plan: Plan, run: RunPaths, known: Mapping[str, JobStatus], actions: Sequence[Action]) -> list[Queued]:
    specs = plan.by_id()
    places = {job: place for held in intents.open_intents(run) for job, place in held.intent.places().items()}
    live = {job: place for job, place in places.items() if job in known and known[job].is_live}
    proven = {(spec.phase, spec.stage) for spec in plan.jobs if known[spec.job_id].state is State.SUCCEEDED}
    queued: list[Queued] = []
    for action in submitted(actions):
        spec = specs[action.job_id]
        queued.append(
            Queued(
                spec=replace(spec, resources=action.resources),
                attempt=action.attempt,
                resources=action.resources,
                waits_for=tuple(dict.fromkeys(live[item.job] for item in spec.inputs if item.job in live)),
                proven=(spec.phase, spec.stage) in proven,
            )
        )
    return queued


def _look_at_what_is_done(plan: Plan, run: RunPaths) -> None:
    """See that what is done is what the plan says. Raises IdentityError; a description that cannot be read is written again."""
    known = ledger.states(run, [spec.job_id for spec in plan.jobs])
    done = [spec for spec in plan.jobs if known[spec.job_id].state is State.SUCCEEDED]
    _write_job_files(run, [spec for spec in done if not _is_described(run, spec)])


def _is_described(run: RunPaths, spec: JobSpec) -> bool:
    """Tell whether a job's description is there. Raises IdentityError when it is that of something else under the same id."""
    path = run.job(spec.job_id).job
    try:
        text = path.read_text(encoding="utf-8")
        if text != pretty_json(spec_to_json(spec)):
            stored = json.loads(text)
            refuse_mismatch(stored, spec)
            return stored["job_id"] == spec.job_id
    except IdentityError as error:
        raise IdentityError(f"{path}: {error}") from None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False
    return True


def _write_job_files(run: RunPaths, specs: Iterable[JobSpec]) -> None:
    """Write each `job.json`, whole but not synced: `plan.json` was, and holds the same."""
    for spec in specs:
        path = run.job(spec.job_id).job
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".job.json.{os.getpid()}.tmp")
        with naming(path):
            aside.write_text(pretty_json(spec_to_json(spec)), encoding="utf-8")
        aside.replace(path)


def _write_if_new(path: Path, text: str) -> None:
    content = text.encode()
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return
    write_atomically(path, content)


def _tidy(run: RunPaths, polled: Mapping[str, Sighting] | None) -> None:
    """Put away intents whose jobs have all ended: those of dead owners, and those of which a scheduler has nothing left."""
    for held in intents.open_intents(run):
        if held.intent.detaches:
            _tidy_detached(run, held.intent, polled)
            continue
        if held.live:
            continue
        known = ledger.states(run, held.intent.jobs, ignoring=held.intent.sid)
        if all(status.state is not State.UNKNOWN for status in known.values()):
            intents.end(run, held.intent.sid)


def _tidy_detached(run: RunPaths, intent: intents.Intent, polled: Mapping[str, Sighting] | None) -> None:
    """Put an intent away when the scheduler has ended all of it; what it ended without a word is ended in the files first."""
    if intent.native is None or polled is None:
        return
    seen = [polled.get(job) for job in intent.jobs]
    if any(one is None or one.is_live or one.state is State.UNKNOWN for one in seen):
        return
    for job, status in ledger.states(run, intent.jobs, polled=polled).items():
        if status.submission is None and status.owner and status.failure is not None:
            ledger.write_loss(run.job(job).attempt(status.attempt), status.message, status.failure)
    intents.end(run, intent.sid)


def _with_pruned(plan: Plan, run: RunPaths, request: Request, *, prune: bool) -> Request:
    """Add to the jobs to cancel those that the plan submitted before has, and neither this one nor another sweep's."""
    stored = run.sweep(plan.sweep).plan
    if not prune or not stored.exists():
        return request
    gone = read_plan(stored).by_id().keys() - plan.by_id().keys()
    for other in stored.parent.parent.glob("*/plan.json"):
        if gone and other != stored:
            gone -= read_plan(other).by_id().keys()
    return replace(request, cancel=request.cancel | gone)


def _cancel(run: RunPaths, cluster: ClusterConfig, live: Sequence[JobStatus]) -> tuple[str, ...]:
    by_submission: defaultdict[str | None, list[str]] = defaultdict(list)
    for status in live:
        buried = status.state is not State.RUNNING and ledger.write_tombstone(run, status.job_id, "cancelled before it started")
        # A scheduler is told of every one: what never starts still stands in its queue.
        if not buried or status.sighting is not None:
            by_submission[status.submission].append(status.job_id)
    for held in intents.open_intents(run) if by_submission else ():
        jobs = by_submission.pop(held.intent.sid, None)
        if jobs is not None:
            base.load(replace(cluster, backend=held.intent.backend)).cancel(run, held.intent, jobs)
    return tuple(job for jobs in by_submission.values() for job in jobs)


# --- staying -----------------------------------------------------------------------------------------------------------------------------


def _wait_for_others(plan: Plan, run: RunPaths, backend: Backend, known: Mapping[str, JobStatus], notify: Notify, halt: Halt) -> bool:
    """Follow jobs of the plan that others run until one of them ends. Returns False when there is none, or a person halts."""
    live = [job.job_id for job in plan.jobs if known[job.job_id].is_live]
    if not live:
        return False
    pause = FOLLOW_EVERY
    while not halt.wanted:
        begun = time.monotonic()
        found = ledger.states(run, live, polled=_poll(run, backend))
        ended = [status for status in found.values() if not status.is_live]
        for status in ended:
            notify(Notice(kind="ended", job_id=status.job_id, state=status.state, message=status.message))
        if ended:
            return True
        _sleep(max(pause, 5 * (time.monotonic() - begun)), halt)
        pause = min(2 * pause, FOLLOW_SCHEDULER_EVERY) if backend.capabilities.detaches else pause
    return False


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
def _halting(halt: Halt) -> Iterator[None]:
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
