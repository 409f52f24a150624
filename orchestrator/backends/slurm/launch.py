"""Hand parts of a submission to sbatch through submitit, and find those again whose client died in between.

The order is what makes it safe: the intent is on disk before sbatch is called; sbatch is given the intent's name; the native id is written
after it. A client that dies in between leaves an intent without an id, which is looked up by its name and adopted.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jobs.events import is_alive
from jobs.paths import RunPaths, write_atomically
from jobs.spec import Json, pretty_json
from orchestrator import intents
from orchestrator.backends.base import Part
from orchestrator.backends.slurm import commands
from orchestrator.backends.slurm.scripts import executor
from orchestrator.backends.slurm.supervisor import Supervisor
from orchestrator.errors import BackendError
from orchestrator.intents import Intent
from orchestrator.model import ClusterConfig

#: Seconds between two looks before a submission counts as never made: accounting is behind the queue.
LOOK_AGAIN_AFTER = 10.0
#: Seconds by which the clocks of this machine and of the accounting may differ.
CLOCKS_DIFFER = 3600.0
_WHOLE = "*"


def send(run: RunPaths, intent: Intent, part: Part, natives: Sequence[str], cluster: ClusterConfig, code: Path) -> Intent:
    """Submit one part and write down what the scheduler calls it.

    An answer that never came is looked up. Raises BackendError; the intent is then ended, unless the submission may have been made.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        made = executor(run, intent.sid, cluster, part, natives, code)
        jobs = made.submit_array([_supervisor(run, intent)] * len(part.elements))
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        said = str(error)
        native = _after_silence(intent, cluster) if commands.is_busy(said) else None
        if native is not None:
            return adopt(run, intent, native)
        if not commands.is_busy(said):
            intents.end(run, intent.sid)
        raise commands.refusal(["sbatch"], said) from None
    return intents.record_native(run, intent, _native(str(jobs[0].job_id).split("_")[0], intent))


def _supervisor(run: RunPaths, intent: Intent) -> Supervisor:
    return Supervisor(str(intents.record_file(run, intent.sid).absolute()))


def _native(number: str, intent: Intent) -> dict[str, Json]:
    return {"id": number, "array": len(intent.elements) > 1}


def _after_silence(intent: Intent, cluster: ClusterConfig) -> str | None:
    """Look a submission up whose answer did not come, twice."""
    for pause in (0.0, LOOK_AGAIN_AFTER):
        time.sleep(pause)
        try:
            found = look_up([intent], cluster)
        except BackendError:
            continue
        if found:
            return found[intent.sid]
    return None


# --- adoption ----------------------------------------------------------------------------------------------------------------------------


def recover(run: RunPaths, found: Sequence[Intent], cluster: ClusterConfig) -> None:
    """Adopt each submission that the scheduler knows by its name; end one that it does not know when asked twice.

    Returns after at most the time between two looks. Raises BackendError when the scheduler does not answer.
    """
    waiting = _adopt_known(run, [intent for intent in found if intent.native is None and not _may_still_come(intent)], cluster)
    if not waiting:
        return
    since = [_missing_since(run, intent.sid) for intent in waiting]
    time.sleep(max(0.0, LOOK_AGAIN_AFTER - (time.time() - max(since))))
    for intent in _adopt_known(run, waiting, cluster):
        intents.end(run, intent.sid)


def _adopt_known(run: RunPaths, found: Sequence[Intent], cluster: ClusterConfig) -> list[Intent]:
    """Adopt what the scheduler knows, and return the rest."""
    natives = look_up(found, cluster)
    for intent in found:
        if intent.sid in natives:
            adopt(run, intent, natives[intent.sid])
    return [intent for intent in found if intent.sid not in natives]


def look_up(found: Sequence[Intent], cluster: ClusterConfig) -> dict[str, str]:
    """Return the scheduler's ids of submissions, found by their names in the queue and the records, by sid."""
    if not found:
        return {}
    names = {intent.name: intent.sid for intent in found}
    listed = f"--name={','.join(names)}"
    natives: dict[str, str] = {}
    told = commands.run("squeue", "--noheader", "--states=all", listed, "--format=%F|%j")
    if cluster.slurm.accounting:
        start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(min(intent.created for intent in found) - CLOCKS_DIFFER))
        told += commands.run("sacct", "-X", "-n", "-P", listed, f"--starttime={start}", "--format=JobID,JobName")
    for line in told.splitlines():
        number, _, name = line.partition("|")
        if name in names:
            natives.setdefault(names[name], number.split("_")[0])
    return natives


def adopt(run: RunPaths, intent: Intent, native: str) -> Intent:
    """Take over a submission that was made: write the pickles that its client did not come to name, then its id."""
    from submitit.core.utils import DelayedSubmission

    folder = intents.folder(run, intent.sid)
    folder.mkdir(parents=True, exist_ok=True)
    delayed = DelayedSubmission(_supervisor(run, intent))
    delayed.set_timeout(1, 1_000_000)
    count = len(intent.elements)
    for index in range(count):
        target = folder / (f"{native}_{index}_submitted.pkl" if count > 1 else f"{native}_submitted.pkl")
        if not target.exists():
            aside = folder / f".{target.name}.{os.getpid()}"
            delayed.dump(aside)
            aside.rename(target)
    return intents.record_native(run, intent, _native(native, intent))


def _may_still_come(intent: Intent) -> bool:
    """Tell whether an sbatch that a dead client started still runs on this host."""
    if is_alive(dict(intent.owner)) is None:
        return False
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if command.startswith("sbatch ") and intent.sid in command:
                return True
    return False


def _missing_since(run: RunPaths, sid: str) -> float:
    """Return when a whole submission was first not found, and write it down when that is now."""
    return note_missing(run, sid, [_WHOLE])[_WHOLE]


def note_missing(run: RunPaths, sid: str, missing: Sequence[str], *, now: Callable[[], float] = time.time) -> dict[str, float]:
    """Write down which elements the scheduler does not know, and return since when for each (seconds since the epoch)."""
    file = intents.missing_file(run, sid)
    try:
        before: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        before = {}
    since = {key: float(before.get(key, now())) for key in missing}
    if since != before:
        if since:
            write_atomically(file, pretty_json(since).encode())
        else:
            file.unlink(missing_ok=True)
    return since
