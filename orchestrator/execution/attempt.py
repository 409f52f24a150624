"""Run one attempt in this process, and see to it that it leaves an end behind."""

from __future__ import annotations

import importlib
import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path

from jobs.checkpoints import is_disk_full
from jobs.events import process_identity
from jobs.paths import AttemptPaths, JobPaths
from jobs.spec import FailureKind
from orchestrator.ledger import has_ended, write_loss

EXIT_CRASHED = 3


def run_attempt(job_file: Path, attempt: int, runner: str) -> int:
    """Call a runner (`module:function`) on a job and return its exit code.

    A process that runs many jobs outlives each of them, so an attempt without an end would look as if it still ran: when the runner
    comes back, or raises, without having written one, the attempt is ended here as an error. Raises OSError on a full disk, where no end
    can be written: the attempt ends with the process.
    """
    message = "the runner came back without saying how the job ended"
    try:
        code = _resolve(runner)(job_file, attempt=attempt)
    except Exception as error:
        if is_disk_full(error):
            raise
        code = EXIT_CRASHED
        message = "".join(traceback.format_exception_only(error)).strip()
    paths = JobPaths(job_file.parent).attempt(attempt)
    if _is_ours(paths) and not has_ended(paths):
        write_loss(paths, message)
        code = EXIT_CRASHED
    return code


def end_lost(attempt: AttemptPaths) -> None:
    """End an attempt whose worker is gone, so that it is known to have ended on machines that cannot see its process."""
    if attempt.claim.exists() and not has_ended(attempt):
        write_loss(attempt, "its worker died without a word", FailureKind.LOST)


def _resolve(runner: str) -> Callable[..., int]:
    module, _, name = runner.partition(":")
    return getattr(importlib.import_module(module), name)


def _is_ours(attempt: AttemptPaths) -> bool:
    try:
        owner = json.loads(attempt.claim.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return owner.get("pid") == os.getpid() and owner == process_identity()
