"""Hand parts of a submission to sbatch through submitit, and find those again whose client died in between.

The order is what makes it safe: the intent is on disk before sbatch is called; sbatch is given the intent's name; the native id is written
after it. A client that dies in between leaves an intent without an id, which is looked up by its name and adopted. An intent is put away
only where its submission is not found, and whatever of it starts later finds no intent and does nothing.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any

from jobs.paths import RunPaths, write_atomically
from jobs.spec import pretty_json
from orchestrator import intents
from orchestrator.backends.base import Part
from orchestrator.backends.slurm import commands
from orchestrator.backends.slurm.ray_nodes import RayNodes
from orchestrator.backends.slurm.scripts import executor
from orchestrator.backends.slurm.supervisor import Supervisor
from orchestrator.errors import BackendError
from orchestrator.intents import Held, Intent
from orchestrator.model import ClusterConfig

#: Seconds between two looks before a submission counts as never made: accounting is behind the queue.
LOOK_AGAIN_AFTER = 10.0
#: Seconds by which the clocks of this machine and of the accounting may differ.
CLOCKS_DIFFER = 3600.0
_WHOLE = "*"


def send(run: RunPaths, intent: Intent, part: Part, natives: Sequence[str], cluster: ClusterConfig, code: Path) -> Intent | None:
    """Submit one part and write down what the scheduler calls it; None when another client has taken its jobs over meanwhile.

    An answer that never came, or that says no number, is looked up. Raises BackendError; the intent is then put away, unless the
    submission may have been made.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    if intents.read(run, intent.sid) is None:
        return None
    try:
        commands.require("sbatch", "srun")
    except BackendError:
        intents.give_up(run, [intent.sid])
        raise
    try:
        number = _to_sbatch(run, intent, part, natives, cluster, code)
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        said = str(error)
        in_doubt = commands.is_busy(said) or not isinstance(error, FailedJobError)
        native = _after_silence(intent, cluster) if in_doubt else None
        if native is not None:
            return adopt(run, intent, native)
        refusal = commands.refusal(["sbatch"], said)
        if not commands.is_busy(said):
            intents.give_up(run, [intent.sid])
            raise refusal from None
        raise BackendError(
            f"{refusal}; it may have been submitted all the same: submit again, which finds out first", transient=True
        ) from None
    return _note(run, intent, number)


def _to_sbatch(run: RunPaths, intent: Intent, part: Part, natives: Sequence[str], cluster: ClusterConfig, code: Path) -> str:
    """Call sbatch and return the number; where a part's nodes that failed are all that could take it, it may start there again."""
    from submitit.core.utils import FailedJobError

    made = executor(run, intent.sid, cluster, part, natives, code)
    elements = [_supervisor(run, intent)] * len(part.elements)
    with commands.without_job():
        try:
            jobs = made.submit_array(elements)
        except FailedJobError as error:
            if commands.is_busy(str(error)) or not part.terms.get("leaves_out"):
                raise
            made.update_parameters(exclude=",".join(cluster.slurm.exclude) or None)
            jobs = made.submit_array(elements)
    return str(jobs[0].job_id).split("_")[0]


def _note(run: RunPaths, intent: Intent, number: str) -> Intent | None:
    """Write down what the scheduler calls a submission; take it back from the scheduler when its jobs are another client's by now."""
    with intents.locked(run):
        known = intents.record_native(run, intent, {"id": number, "array": len(intent.elements) > 1})
    if known is None:
        with suppress(BackendError):
            commands.run("scancel", number)
    return known


def _supervisor(run: RunPaths, intent: Intent) -> Supervisor | RayNodes:
    file = str(intents.record_file(run, intent.sid).absolute())
    return RayNodes(file) if "node_cpus" in intent.terms else Supervisor(file)


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


def recover(run: RunPaths, found: Sequence[Held], cluster: ClusterConfig) -> None:
    """Adopt each submission that the scheduler knows by its name; put away one that is old and that it does not know when asked twice.

    One whose client is gone for certain is adopted at once, because its elements may wait for their pickles; only to be put away does it
    take time. Returns after at most the time between two looks, and that in which an sbatch of a dead client ends.
    Raises BackendError when the scheduler does not answer.
    """
    missing = _adopt_known(run, [held.intent for held in found if held.orphaned or not held.live], cluster)
    live = {held.intent.sid for held in found if held.live}
    waiting = [intent for intent in missing if intent.sid not in live and not _still_comes(intent)]
    if not waiting:
        return
    since = [_missing_since(run, intent.sid) for intent in waiting]
    time.sleep(min(LOOK_AGAIN_AFTER, max(0.0, LOOK_AGAIN_AFTER - (time.time() - max(since)))))
    intents.give_up(run, [intent.sid for intent in _adopt_known(run, waiting, cluster)])


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


def adopt(run: RunPaths, intent: Intent, native: str) -> Intent | None:
    """Take over a submission that was made: write the pickles that its client did not come to name, then its id.

    Returns None when another client has put it away meanwhile: then it is taken out of the queue.
    """
    from submitit.core.utils import DelayedSubmission

    folder = intents.folder(run, intent.sid)
    folder.mkdir(parents=True, exist_ok=True)
    delayed = DelayedSubmission(_supervisor(run, intent))
    delayed.set_timeout(1, 1_000_000)
    count = len(intent.elements)
    for index in range(count):
        target = folder / (f"{native}_{index}_submitted.pkl" if count > 1 else f"{native}_submitted.pkl")
        if not target.exists():
            aside = folder / f".{target.name}.{uuid.uuid4().hex}"
            delayed.dump(aside)
            aside.rename(target)
    return _note(run, intent, native)


def _still_comes(intent: Intent) -> bool:
    """Wait for an sbatch that a dead client left running on this host; tell whether it runs on when patience is over."""
    until = time.monotonic() + commands.PATIENCE
    while _is_on_its_way(intent):
        if time.monotonic() > until:
            return True
        time.sleep(0.5)
    return False


def _is_on_its_way(intent: Intent) -> bool:
    """Tell whether an sbatch of a submission runs on this host; it may be a script of the site around the real one."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if any(PurePath(word).name == "sbatch" for word in words) and any(intent.sid in word for word in words):
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
