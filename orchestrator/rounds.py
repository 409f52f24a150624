"""One round of a submission: ask, decide, and record what is intended, before anything of it starts.

Deciding and recording happen under the lock of the run root; asking a scheduler and starting do not.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from jobs.paths import RunPaths, naming, write_atomically
from jobs.spec import JobSpec, Json, State, pretty_json, spec_to_json
from orchestrator import failed_nodes, intents, ledger
from orchestrator.backends import base
from orchestrator.backends.base import Backend, Queued, Submission
from orchestrator.decide import Action, Cancel, Keep, Request, Why, decide, submitted
from orchestrator.errors import BackendError, IdentityError
from orchestrator.identity import refuse_mismatch
from orchestrator.ledger import JobStatus
from orchestrator.model import ClusterConfig, Plan
from orchestrator.plans import plan_text, read_plan
from orchestrator.sightings import Sighting


class Doubt(StrEnum):
    """Why it is too early to tell where jobs of a plan stand."""

    #: A client died a moment ago while it handed them to a scheduler, or one is about to.
    HANDING = "a client was at this a moment ago; waiting until it is sure what it has submitted"
    #: It may have ended them a moment ago, and its records are behind its queue.
    MISSING = "the scheduler does not know some of these jobs; it is asked again before they count as gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a submission would do, and the very text that would be submitted."""

    actions: tuple[Action, ...]
    states: Mapping[str, JobStatus]
    submission: Submission
    #: Why a look in a moment may know more; None when nothing is to be expected of one.
    doubt: Doubt | None = None


def decide_and_record(
    plan: Plan, run: RunPaths, cluster: ClusterConfig, backend: Backend, machine: Mapping[str, Json], request: Request
) -> tuple[Preview, tuple[intents.Intent, ...]]:
    """Decide under the lock; write the plan and, when there is something to start, the intents. Then write the job files.

    The scheduler is asked before: its answer may be old by then, which at worst leaves a job to the next round.
    """
    if backend.capabilities.detaches:
        _recover(run, backend)
    polled = poll(run, backend)
    with intents.locked(run):
        _tidy(run, polled)
        known = fold(plan, run, polled, request)
        actions = decide(plan, known, with_unplaced(run, backend, request))
        queued = queued_jobs(plan, run, known, actions)
        submission = backend.render(plan.sweep, queued)
        for job in queued:
            _is_described(run, job.spec)
        _write_if_new(run.sweep(plan.sweep).plan, plan_text(plan))
        _write_if_new(run.machine, pretty_json(dict(machine)))
        cancel_live(run, cluster, [known[action.job_id] for action in actions if isinstance(action, Cancel)])
        doubt = _doubt(plan, run, backend, actions, known)
        decided = Preview(actions=actions, states=known, submission=submission, doubt=doubt)
        recorded = tuple(_intents(plan, backend, submission)) if queued else ()
        for intent in recorded:
            intents.record(run, intent)
    _write_job_files(run, (job.spec for job in queued))
    return decided, recorded


def _recover(run: RunPaths, backend: Backend) -> None:
    """Let a backend find out what became of submissions without a number. A scheduler that is busy is asked again another time."""
    doubtful = [held for held in intents.open_intents(run) if held.intent.native is None and (held.orphaned or not held.live)]
    try:
        backend.recover(run, doubtful)
    except BackendError as error:
        if not error.transient:
            raise


def with_unplaced(run: RunPaths, backend: Backend, request: Request) -> Request:
    """Name the jobs that a scheduler cannot be told to wait for: those of clients that have no number for them, now or ever."""
    if not backend.capabilities.detaches:
        return request
    unplaced = frozenset(job for held in intents.open_intents(run) if held.intent.native is None for job in held.intent.jobs)
    return replace(request, unplaced=unplaced)


def _doubt(plan: Plan, run: RunPaths, backend: Backend, actions: Sequence[Action], known: Mapping[str, JobStatus]) -> Doubt | None:
    if not backend.capabilities.detaches:
        return None
    ours = plan.by_id().keys()
    coming = any(isinstance(action, Keep) and action.why is Why.COMING for action in actions)
    handing = [held for held in intents.open_intents(run) if held.intent.detaches and held.intent.native is None]
    # One that is not live was to be looked up before this round, and was not: it grew old since, or the scheduler was busy.
    if any(held.orphaned or coming or not held.live for held in handing if not ours.isdisjoint(held.intent.jobs)):
        return Doubt.HANDING
    unknown = [known[action.job_id].sighting for action in actions if isinstance(action, Keep) and action.why is Why.UNKNOWN]
    return Doubt.MISSING if any(seen is not None and seen.is_missing for seen in unknown) else None


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


def poll(run: RunPaths, backend: Backend) -> Mapping[str, Sighting] | None:
    """Ask a backend's scheduler where every submitted job stands; None where the files say it all, or it does not answer."""
    if not backend.capabilities.detaches:
        return None
    return backend.poll(run, [held.intent for held in intents.open_intents(run) if held.intent.native is not None])


def plan_states(plan: Plan, run: RunPaths, backend: Backend, request: Request) -> dict[str, JobStatus]:
    """Return where every job of a plan stands, and every job to cancel."""
    return fold(plan, run, poll(run, backend), request)


def fold(plan: Plan, run: RunPaths, polled: Mapping[str, Sighting] | None, request: Request) -> dict[str, JobStatus]:
    """Return where every job of a plan, and every job to cancel, stands by the files and a scheduler's answer."""
    ids = dict.fromkeys([*(job.job_id for job in plan.jobs), *sorted(request.cancel)])
    return ledger.states(run, ids, polled=polled)


def queued_jobs(plan: Plan, run: RunPaths, known: Mapping[str, JobStatus], actions: Sequence[Action]) -> list[Queued]:
    """Return what is to be submitted, each with what it asks for and where its inputs stand in a scheduler's queue."""
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
                planned=spec.resources if action.resources != spec.resources else None,
                waits_for=tuple(dict.fromkeys(live[item.job] for item in spec.inputs if item.job in live)),
                proven=(spec.phase, spec.stage) in proven,
                leaves_out=_failed_nodes(run, known[action.job_id]) if action.attempt > 1 else (),
            )
        )
    return queued


def _failed_nodes(run: RunPaths, status: JobStatus) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*failed_nodes.of_job(run.job(status.job_id)), *failed_nodes.seen(status)]))


def look_at_what_is_done(plan: Plan, run: RunPaths) -> None:
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
    native = str(intent.native["id"])
    seen = [polled.get(job) for job in intent.jobs]
    if any(one is None or not one.is_of(native) or one.is_live or one.state is State.UNKNOWN for one in seen):
        return
    for job, status in ledger.states(run, intent.jobs, polled=polled).items():
        if status.submission is None and status.owner and status.failure is not None:
            attempt = run.job(job).attempt(status.attempt)
            for names in failed_nodes.seen(status):
                failed_nodes.note(attempt, names)
            ledger.write_loss(attempt, status.message, status.failure)
    intents.end(run, intent.sid)


def with_pruned(plan: Plan, run: RunPaths, request: Request, *, prune: bool) -> Request:
    """Add to the jobs to cancel those that the plan submitted before has, and neither this one nor another sweep's."""
    stored = run.sweep(plan.sweep).plan
    if not prune or not stored.exists():
        return request
    gone = read_plan(stored).by_id().keys() - plan.by_id().keys()
    for other in stored.parent.parent.glob("*/plan.json"):
        if gone and other != stored:
            gone -= read_plan(other).by_id().keys()
    return replace(request, cancel=request.cancel | gone)


def cancel_live(run: RunPaths, cluster: ClusterConfig, live: Sequence[JobStatus]) -> tuple[str, ...]:
    """Cancel jobs that are queued or running; to be called under the lock. Returns those that nobody could be asked to cancel."""
    by_submission: defaultdict[str | None, list[str]] = defaultdict(list)
    for status in live:
        unknown = status.state is State.UNKNOWN
        idle = status.state is not State.RUNNING and not (unknown and status.owner)
        buried = idle and ledger.write_tombstone(run, status.job_id, "cancelled before it started")
        # A scheduler is told of every one: what never starts still stands in its queue.
        if not buried or unknown or status.sighting is not None:
            by_submission[status.submission].append(status.job_id)
    for held in intents.open_intents(run) if by_submission else ():
        jobs = by_submission.pop(held.intent.sid, None)
        if jobs is not None:
            base.load(replace(cluster, backend=held.intent.backend)).cancel(run, held.intent, jobs)
    return tuple(job for jobs in by_submission.values() for job in jobs)
