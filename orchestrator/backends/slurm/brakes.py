"""What keeps a job from starting though Slurm would: a sweep that was stopped, a budget that is used up.

RUN_ROOT/sweeps/<sweep>/STOP                     why the sweep was stopped, for people; nothing of it starts while it is there
RUN_ROOT/sweeps/<sweep>/failures/<digest>/<job>  jobs that failed with the same traceback
"""

from __future__ import annotations

import contextlib
import hashlib
import re

from jobs.events import read_events
from jobs.paths import AttemptPaths, RunPaths, write_atomically
from jobs.spec import SHORT_ID
from orchestrator.backends.slurm.usage import gpu_hours
from orchestrator.intents import Intent

_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+), in (?P<name>.*)$')


def reason_not_to_start(run: RunPaths, intent: Intent) -> str:
    """Return why no job of a submission may start now; empty when it may."""
    with contextlib.suppress(FileNotFoundError):
        return f"the sweep was stopped: {run.sweep(intent.sweep).stop.read_text(encoding='utf-8').strip()}"
    return over_budget(run, intent)


def over_budget(run: RunPaths, intent: Intent) -> str:
    """Say that a sweep's GPU-hours are used up; empty while they are not, and where there is no budget."""
    budget = intent.terms.get("gpu_hours")
    if budget is None:
        return ""
    used = gpu_hours(run, intent.sweep)
    if used < float(budget):
        return ""
    return f"{used:.2f} of {float(budget):g} GPU-hours are used; raise `limits: {{gpu_hours: ...}}` of the cluster config and submit again"


def count_failure(run: RunPaths, intent: Intent, job: str, attempt: AttemptPaths) -> None:
    """Note that a job failed; the last of so many that fail with the same traceback stops the sweep."""
    most = int(intent.terms.get("stop_after", 0))
    found = fingerprint(attempt)
    sweep = run.sweep(intent.sweep)
    if not most or not found:
        return
    folder = sweep.failures / found
    folder.mkdir(parents=True, exist_ok=True)
    (folder / job[:SHORT_ID]).touch()
    if len(list(folder.iterdir())) >= most and not sweep.stop.exists():
        event = read_events(attempt.events)[-1]
        text = f"{most} jobs failed at the same place, the last of them {job[:SHORT_ID]}: {event.get('message', '')}"
        write_atomically(sweep.stop, (text + "\n").encode())


def fingerprint(attempt: AttemptPaths) -> str:
    """Return a digest of where an attempt failed: frames and the exception's type, and no values; empty without a traceback."""
    try:
        lines = attempt.traceback.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ""
    frames = [f"{found['file']}:{found['name']}" for line in lines if (found := _FRAME.match(line))]
    last = next((line for line in reversed(lines) if line and not line.startswith(" ")), "")
    return hashlib.sha256("\n".join([*frames, last.partition(":")[0]]).encode()).hexdigest()[:16]
