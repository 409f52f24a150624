"""Run one job: claim the attempt, guard the inputs, set up, call the stage, write the outcome.

The same function runs a job as a command on a node, in a reused Ray actor and inline. What it leaves behind is the same bytes in each.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import random
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TextIO

from jobs.catalog import installed_with
from jobs.checkpoints import CheckpointStore, is_disk_full, no_space
from jobs.company import Company, Dismissed, Fallen, leave_word, processes_of, threads_of
from jobs.events import append_event, process_identity, read_events
from jobs.fencing import is_superseded
from jobs.host import FileHost, SilentHost
from jobs.meeting import Meeting
from jobs.paths import AttemptPaths, JobPaths, run_of, write_atomically
from jobs.records import read_job
from jobs.seat import Seat, sit_down
from jobs.signals import EXIT_STOPPED, watch_signals
from jobs.spec import LOSING_FAILURES, EventKind, FailureKind, JobSpec, Json, Stage, pretty_json
from jobs.stages import Node, Stopped, run_stage
from jobs.stopping import ending, lost_search
from trainers.errors import Error, GroupBroken

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
#: Somebody else has claimed this attempt; nothing was done.
EXIT_DUPLICATE = 4
#: An input has not succeeded, or the description of the job cannot be read; nothing was claimed.
EXIT_REFUSED = 5

#: What a CUDA allocation failure says; to a scheduler it is only a failed job.
_CUDA_OOM = "CUDA out of memory"
#: What Slurm says of the allocation that an attempt runs in.
_OF_SLURM = ("SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT", "SLURM_JOB_NODELIST")
#: Loggers whose lines stand in a job's output: which keys of a start were loaded, which resume file was passed over.
_LOGGED = ("jobs", "trainers")


def run(job_file: Path, *, attempt: int | None = None, company: Company | None = None) -> int:
    """Run the job of a `job.json` and return an exit code (`EXIT_DONE`, `EXIT_FAILED`, `EXIT_STOPPED`, ...).

    `attempt` is the number that a submission recorded; without one the next free number is taken. A job that already has a result is
    done, whoever asks. `company` says which of the processes of a train job this one is: all of them return the exit code of the first.
    Other stages run in the first alone, and the others are done at once. A process of a company that has lost the others, and hangs in
    what only they could end, is ended (`os._exit`): such a process runs nothing else.
    """
    paths = JobPaths(job_file.resolve().parent)
    if paths.result.exists():
        return EXIT_DONE
    try:
        spec = read_job(job_file)
    except (Error, FileNotFoundError) as error:
        sys.stderr.write(f"not started: {error}\n")
        return EXIT_REFUSED
    if company is not None and company.rank > 0:
        return _follow(spec, paths, job_file, company) if spec.stage is Stage.TRAIN else EXIT_DONE
    if company is not None and (company.world == 1 or spec.stage is not Stage.TRAIN):
        company = None
    code, why, claimed = _claimed(spec, paths, job_file, attempt, company)
    if claimed is None:
        sys.stderr.write(f"{spec.short_id} {spec.trial}: {why}\n")
        if company is not None:
            leave_word(paths.meeting(company.key), code)
        return code
    with _as_found(), claimed.stdout.open("a", encoding="utf-8", buffering=1) as output, _written_to(output):
        if company is None:
            return _run_claimed(spec, paths, claimed, job_file)
        meeting = Meeting(company, paths.meeting(company.key), claimed, spec.resources.nodes)
        code = EXIT_FAILED
        try:
            code = _run_claimed(spec, paths, claimed, job_file, meeting)
            return code
        finally:
            meeting.close(code)


def _claimed(
    spec: JobSpec, paths: JobPaths, job_file: Path, attempt: int | None, company: Company | None
) -> tuple[int, str, AttemptPaths | None]:
    """Claim the attempt, or return with which exit code and why not."""
    asked = processes_of(spec.resources)
    if company is not None and company.world != asked:
        nodes, gpus = spec.resources.nodes, spec.resources.gpus
        why = f"not started, it asks for {asked} processes ({nodes} nodes, {gpus} GPUs each), and --world is {company.world}"
        return EXIT_REFUSED, why, None
    missing = missing_inputs(spec, job_file)
    if missing:
        return EXIT_REFUSED, f"not started, {missing}", None
    claimed = claim(paths, attempt)
    if claimed is None:
        return EXIT_DUPLICATE, f"attempt {attempt} was claimed before, nothing to do", None
    return EXIT_DONE, "", claimed


def claim(paths: JobPaths, number: int | None) -> AttemptPaths | None:
    """Claim an attempt for this process, or return None when it is somebody else's.

    The claim is made by linking a complete file into place, so that it is never seen half written, and exactly one process gets it.
    """
    while True:
        # Numbers may have gaps: one that was intended and never started leaves no folder.
        wanted = number if number is not None else max((one.number for one in paths.attempts()), default=0) + 1
        attempt = paths.attempt(wanted)
        attempt.folder.mkdir(parents=True, exist_ok=True)
        aside = attempt.folder / f".claim.{uuid.uuid4().hex}"
        aside.write_text(json.dumps(process_identity(), sort_keys=True) + "\n", encoding="utf-8")
        try:
            os.link(aside, attempt.claim)
        except FileExistsError:
            if number is not None:
                return None
            continue
        finally:
            aside.unlink()
        return attempt


def missing_inputs(spec: JobSpec, job_file: Path) -> str:
    """Say which input keeps a job from starting; empty when none does. A pick goes on without candidates that lost, also its search."""
    run_paths = run_of(job_file)
    for item in spec.inputs:
        upstream = run_paths.job(item.job)
        if upstream.result.exists():
            continue
        if spec.stage is Stage.PICK and (has_lost(upstream) or _was_searched_out(upstream, spec)):
            continue
        return f"its input {item.job[:12]} ({item.role}) has no result"
    return ""


def has_lost(paths: JobPaths) -> bool:
    """Tell whether a job's last attempt ended in a failure that makes it a losing candidate."""
    attempts = paths.attempts()
    if not attempts:
        return False
    events = read_events(attempts[-1].events)
    return bool(events) and events[-1].get("failure") in {str(kind) for kind in LOSING_FAILURES}


def _was_searched_out(upstream: JobPaths, pick: JobSpec) -> bool:
    """Tell whether a candidate was stopped by the very search that a pick chooses from; another's rule means nothing to it."""
    search = lost_search(upstream)
    return search is not None and search == pick.config.get("search")


def _run_claimed(spec: JobSpec, paths: JobPaths, attempt: AttemptPaths, job_file: Path, meeting: Meeting | None = None) -> int:
    _write_environment(attempt, spec, meeting)
    append_event(attempt.events, EventKind.STARTED, **process_identity())
    end = _End(attempt)
    store = CheckpointStore(paths.checkpoints)
    try:
        with watch_signals() as flag:
            host = FileHost(attempt, store, flag.is_set)
            if meeting is not None:
                meeting.open(partial(end.forced, host))
            try:
                result = run_stage(Node(spec=spec, paths=paths, run=run_of(job_file), host=host, store=store, company=meeting))
            finally:
                host.close()
        if is_superseded(attempt):
            raise Stopped
        write_atomically(paths.result, pretty_json(result).encode())
    except Stopped:
        return end.stopped(**ending(attempt))
    except KeyboardInterrupt:
        end.stopped(resumable=True)
        raise
    except Exception as error:
        return end.failed(error if meeting is None else _caused(error, meeting))
    code = end.succeeded()
    # Only now: a kill before the result is written costs what came after the last save, and not the whole training.
    with contextlib.suppress(OSError):
        store.drop_states()
    return code


class _End:
    """The one end of an attempt, written by whoever comes to it first: the main thread, or the one that ends it by force."""

    def __init__(self, attempt: AttemptPaths) -> None:
        self._attempt = attempt
        self._started = time.monotonic()
        self._free = threading.Lock()

    def succeeded(self) -> int:
        """Record that the job has its result."""
        self._append(EventKind.SUCCEEDED)
        return EXIT_DONE

    def stopped(self, **fields: Json) -> int:
        """Record that the job was asked to stop, and saved."""
        self._append(EventKind.STOPPED, **fields)
        return EXIT_STOPPED

    def forced(self, host: FileHost, error: Exception) -> int | None:
        """Record why the job failed once what is being saved is saved, and return the exit code; None when its end is written."""
        with host.writing:
            return None if self._free.locked() else self.failed(error)

    def failed(self, error: Exception) -> int:
        """Record why the job failed."""
        if isinstance(error, Fallen) and error.stopped:
            return self.stopped(resumable=True)
        self._append(EventKind.FAILED, **_failure(self._attempt, error))
        return EXIT_FAILED

    def _append(self, kind: EventKind, **fields: Json) -> None:
        if self._free.acquire(blocking=False):
            append_event(self._attempt.events, kind, seconds=round(time.monotonic() - self._started, 3), **fields)


def _caused(error: Exception, meeting: Meeting) -> Exception:
    """Return the failure that this one only followed from, and keep both tracebacks."""
    cause = meeting.cause(error)
    if cause is not error:
        cause.__cause__ = error
    return cause


def _follow(spec: JobSpec, paths: JobPaths, job_file: Path, company: Company) -> int:
    """Be one of the other processes of a train job, which write nothing but what they print, and why they failed."""
    with _as_found(), watch_signals() as flag:
        try:
            seat = sit_down(company, paths, flag.is_set)
        except Dismissed as word:
            return word.code
        except Stopped:
            return EXIT_STOPPED
        except Error as error:
            sys.stderr.write(f"{spec.short_id} {spec.trial}: {error}\n")
            return EXIT_FAILED
        node = Node(
            spec=spec,
            paths=paths,
            run=run_of(job_file),
            host=SilentHost(flag.is_set),
            store=CheckpointStore(paths.checkpoints),
            company=seat,
        )
        with seat.attempt.stdout_of(company.rank).open("a", encoding="utf-8", buffering=1) as output, _written_to(output):
            return seat.leave(_take_part(node, seat))


def _take_part(node: Node, seat: Seat) -> int:
    """Run the stage, and return the exit code in case that the first process has no time to name its own."""
    try:
        run_stage(node)
    except Dismissed as word:
        return word.code
    except Stopped:
        seat.tell_stopped()
        return EXIT_STOPPED
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        broken = isinstance(error, GroupBroken)
        if not broken:
            with contextlib.suppress(OSError):
                seat.attempt.traceback_of(seat.company.rank).write_text(text, encoding="utf-8")
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
        for_people = isinstance(error, Error)
        message = str(error) if for_people else f"{type(error).__name__}: {error}"
        seat.tell(failure_of(error), message, for_people=for_people, broken=broken)
        return EXIT_FAILED
    return EXIT_DONE


def failure_of(error: BaseException) -> FailureKind:
    """Classify an exception by its type and message."""
    if isinstance(error, Fallen):
        return error.failure
    if isinstance(error, Error):
        return FailureKind(error.failure)
    if isinstance(error, MemoryError):
        return FailureKind.HOST_OOM
    if is_disk_full(error):
        return FailureKind.DISK_FULL
    if _CUDA_OOM in str(error):
        return FailureKind.CUDA_OOM
    return FailureKind.ERROR


def _failure(attempt: AttemptPaths, error: Exception) -> dict[str, Json]:
    """Return what the event of a failure says of it, and keep the traceback."""
    text = "".join(traceback.format_exception(error))
    failure, for_people = failure_of(error), error.for_people if isinstance(error, Fallen) else isinstance(error, Error)
    message = str(error) if isinstance(error, (Error, Fallen)) else f"{type(error).__name__}: {error}"
    if failure is FailureKind.DISK_FULL and not isinstance(error, (Error, Fallen)):
        for_people, message = True, no_space(attempt.folder, error)
    # What follows is for reading; on a full disk only the event matters, and has to be tried.
    with contextlib.suppress(OSError):
        attempt.traceback.write_text(text, encoding="utf-8")
    with contextlib.suppress(OSError):
        sys.stderr.write(text)
    return {"failure": str(failure), "message": message, "for_people": for_people}


def _write_environment(attempt: AttemptPaths, spec: JobSpec, meeting: Meeting | None) -> None:
    """Record where this attempt runs; none of it is part of the result."""
    environment: dict[str, Json] = {
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "command": sys.argv[:1],
        "threads": spec.resources.cpus if meeting is None else threads_of(spec.resources),
        "slurm": {name: os.environ[name] for name in _OF_SLURM if name in os.environ},
    }
    package = installed_with(spec.trainer)
    if package:
        environment["trainer_package"] = package
    if meeting is not None:
        environment["processes"] = {"count": meeting.company.world, "nodes": spec.resources.nodes, "meeting": meeting.company.key}
    attempt.env.write_text(pretty_json(environment), encoding="utf-8")


@contextlib.contextmanager
def _as_found() -> Iterator[None]:
    """Put environment, folder and Python's own random state back, so that the next job in this process starts as this one did."""
    environment, folder, state = dict(os.environ), Path.cwd(), random.getstate()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        random.setstate(state)


@contextlib.contextmanager
def _written_to(output: TextIO) -> Iterator[None]:
    """Send what the job prints, and what its code logs, to its own file."""
    handler = logging.StreamHandler(output)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in _LOGGED]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
