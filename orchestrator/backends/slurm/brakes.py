"""What keeps a job from starting though Slurm would: a sweep that was stopped, a budget that is used up."""

from __future__ import annotations

import hashlib
import re

from jobs.events import read_events
from jobs.paths import AttemptPaths, RunPaths
from jobs.spec import SHORT_ID, EventKind, FailureKind
from orchestrator import stop_file
from orchestrator.backends.slurm.usage import gpu_hours, used_up
from orchestrator.intents import Intent
from orchestrator.ledger import failure_kind

#: Failures that come again until somebody changes code or data.
_TO_BE_MENDED = frozenset({FailureKind.ERROR, FailureKind.BAD_DATA})
_FRAME = re.compile(r'^  File "(?P<file>.*)", line \d+, in (?P<name>.*)$')


def reason_not_to_start(run: RunPaths, intent: Intent) -> str:
    """Return why no job of a submission may start now; empty when it may."""
    why = stop_file.reason(run, intent.sweep)
    return f"the sweep was stopped: {why}" if why else over_budget(run, intent)


def over_budget(run: RunPaths, intent: Intent) -> str:
    """Say that a sweep's GPU-hours are used up; empty while they are not, and where there is no budget."""
    budget = intent.terms.get("gpu_hours")
    return "" if budget is None else used_up(gpu_hours(run, intent.sweep), float(budget))


def count_failure(run: RunPaths, intent: Intent, job: str, attempt: AttemptPaths) -> None:
    """Note that a job failed; the one that all others wait for stops the sweep, and the last of so many that fail with one traceback."""
    events = read_events(attempt.events)
    last = events[-1] if events else {}
    if last.get("kind") != EventKind.FAILED:
        return
    said = " ".join(str(last.get("message", "")).split())
    if intent.terms.get("canary"):
        stop_file.write(run, intent.sweep, f"the first job, {job[:SHORT_ID]}, failed with '{said}'")
        return
    most, found = int(intent.terms.get("stop_after", 0)), fingerprint(attempt)
    if not most or not found or failure_kind(last.get("failure")) not in _TO_BE_MENDED:
        return
    folder = run.sweep(intent.sweep).failures / found
    folder.mkdir(parents=True, exist_ok=True)
    (folder / job[:SHORT_ID]).touch()
    if len(list(folder.iterdir())) >= most:
        stop_file.write(run, intent.sweep, f"{most} jobs failed at the same place, the last of them {job[:SHORT_ID]} with '{said}'")


def fingerprint(attempt: AttemptPaths) -> str:
    """Return a digest of where an attempt failed: frames and the exception's type, and no values; empty without a traceback."""
    try:
        lines = attempt.traceback.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ""
    found = [(number, frame) for number, line in enumerate(lines) if (frame := _FRAME.match(line))]
    # Below the last frame stands its line of code, and then what was raised; a message may go on over lines of any kind.
    below = lines[found[-1][0] + 1 :] if found else lines
    raised = next((line for line in below if line and not line.startswith(" ")), "")
    frames = [f"{frame['file']}:{frame['name']}" for _, frame in found]
    return hashlib.sha256("\n".join([*frames, raised.partition(":")[0]]).encode()).hexdigest()[:16]
