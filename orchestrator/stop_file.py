"""The file that stops a sweep: while it is there, nothing of the sweep starts, and `submit` hands nothing over.

RUN_ROOT/sweeps/<sweep>/STOP                     why the sweep was stopped, in one sentence
RUN_ROOT/sweeps/<sweep>/failures/<digest>/<job>  jobs that failed at the same place, which were the reason
"""

from __future__ import annotations

import shutil

from jobs.paths import RunPaths, write_atomically
from orchestrator.errors import BackendError


def reason(run: RunPaths, sweep: str) -> str:
    """Return why a sweep was stopped; empty when it was not."""
    try:
        return run.sweep(sweep).stop.read_text(encoding="utf-8").strip() or "somebody put a file there"
    except FileNotFoundError:
        return ""


def write(run: RunPaths, sweep: str, why: str) -> None:
    """Stop a sweep, unless it is stopped already."""
    if not run.sweep(sweep).stop.exists():
        write_atomically(run.sweep(sweep).stop, f"{why}\n".encode())


def clear(run: RunPaths, sweep: str) -> None:
    """Let a sweep go on, and forget what stopped it."""
    shutil.rmtree(run.sweep(sweep).failures, ignore_errors=True)
    run.sweep(sweep).stop.unlink(missing_ok=True)


def refuse(run: RunPaths, sweep: str) -> None:
    """Raise BackendError when a sweep was stopped."""
    why = reason(run, sweep)
    if why:
        raise BackendError(f"{run.sweep(sweep).stop}: the sweep was stopped: {why}; put it right, then type `orchestrate resume`")
