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
import time
import traceback
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from jobs.checkpoints import CheckpointStore, is_disk_full, no_space
from jobs.events import append_event, process_identity, read_events
from jobs.host import FileHost
from jobs.paths import AttemptPaths, JobPaths, run_of, write_atomically
from jobs.records import read_job
from jobs.signals import EXIT_STOPPED, watch_signals
from jobs.spec import LOSING_FAILURES, EventKind, FailureKind, JobSpec, Json, Stage, pretty_json
from jobs.stages import Node, Stopped, run_stage
from jobs.stopping import ending, lost_search
from trainers.errors import Error

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
#: Somebody else has claimed this attempt; nothing was done.
EXIT_DUPLICATE = 4
#: An input has not succeeded, or the description of the job cannot be read; nothing was claimed.
EXIT_REFUSED = 5

#: What a CUDA allocation failure says; to a scheduler it is only a failed job.
_CUDA_OOM = "CUDA out of memory"
#: Loggers whose lines stand in a job's output: which keys of a start were loaded, which resume file was passed over.
_LOGGED = ("jobs", "trainers")


def run(job_file: Path, *, attempt: int | None = None) -> int:
    """Run the job of a `job.json` and return an exit code (`EXIT_DONE`, `EXIT_FAILED`, `EXIT_STOPPED`, ...).

    `attempt` is the number that a submission recorded; without one the next free number is taken. A job that already has a result is
    done, whoever asks.
    """
    paths = JobPaths(job_file.resolve().parent)
    if paths.result.exists():
        return EXIT_DONE
    try:
        spec = read_job(job_file)
    except (Error, FileNotFoundError) as error:
        sys.stderr.write(f"not started: {error}\n")
        return EXIT_REFUSED
    missing = missing_inputs(spec, job_file)
    if missing:
        sys.stderr.write(f"{spec.short_id} {spec.trial}: not started, {missing}\n")
        return EXIT_REFUSED
    claimed = claim(paths, attempt)
    if claimed is None:
        sys.stderr.write(f"{spec.short_id} {spec.trial}: attempt {attempt} was claimed before, nothing to do\n")
        return EXIT_DUPLICATE
    with _as_found(), claimed.stdout.open("a", encoding="utf-8", buffering=1) as output, _written_to(output):
        return _run_claimed(spec, paths, claimed, job_file)


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


def _run_claimed(spec: JobSpec, paths: JobPaths, attempt: AttemptPaths, job_file: Path) -> int:
    _write_environment(attempt, spec)
    append_event(attempt.events, EventKind.STARTED, **process_identity())
    started = time.monotonic()
    store = CheckpointStore(paths.checkpoints)
    try:
        with watch_signals() as flag:
            host = FileHost(attempt, store, flag.is_set)
            try:
                result = run_stage(Node(spec=spec, paths=paths, run=run_of(job_file), host=host, store=store))
            finally:
                host.close()
        write_atomically(paths.result, pretty_json(result).encode())
    except Stopped:
        append_event(attempt.events, EventKind.STOPPED, seconds=round(time.monotonic() - started, 3), **ending(attempt))
        return EXIT_STOPPED
    except KeyboardInterrupt:
        append_event(attempt.events, EventKind.STOPPED, seconds=round(time.monotonic() - started, 3), resumable=True)
        raise
    except Exception as error:
        _record_failure(attempt, error, time.monotonic() - started)
        return EXIT_FAILED
    append_event(attempt.events, EventKind.SUCCEEDED, seconds=round(time.monotonic() - started, 3))
    # Only now: a kill before the result is written costs what came after the last save, and not the whole training.
    with contextlib.suppress(OSError):
        store.drop_states()
    return EXIT_DONE


def failure_of(error: BaseException) -> FailureKind:
    """Classify an exception by its type and message."""
    if isinstance(error, Error):
        return FailureKind(error.failure)
    if isinstance(error, MemoryError):
        return FailureKind.HOST_OOM
    if is_disk_full(error):
        return FailureKind.DISK_FULL
    if _CUDA_OOM in str(error):
        return FailureKind.CUDA_OOM
    return FailureKind.ERROR


def _record_failure(attempt: AttemptPaths, error: Exception, seconds: float) -> None:
    text = "".join(traceback.format_exception(error))
    failure, for_people = failure_of(error), isinstance(error, Error)
    message = str(error) if for_people else f"{type(error).__name__}: {error}"
    if failure is FailureKind.DISK_FULL and not for_people:
        for_people, message = True, no_space(attempt.folder, error)
    # What follows is for reading; on a full disk only the event matters, and has to be tried.
    with contextlib.suppress(OSError):
        attempt.traceback.write_text(text, encoding="utf-8")
    with contextlib.suppress(OSError):
        sys.stderr.write(text)
    append_event(attempt.events, EventKind.FAILED, failure=str(failure), message=message, for_people=for_people, seconds=round(seconds, 3))


def _write_environment(attempt: AttemptPaths, spec: JobSpec) -> None:
    """Record where this attempt runs; none of it is part of the result."""
    environment: dict[str, Json] = {
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "command": sys.argv[:1],
        "threads": spec.resources.cpus,
        "slurm": {
            name: value for name, value in os.environ.items() if name in ("SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT")
        },
    }
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
