"""The word to stop, as a file in the folder of an attempt: whoever may write there can ask a job to save and stop, and say why.

The first word stands. A person's leaves the job to be gone on with; a search's says that the job lost, and that it is over. A job that
runs beside the main thread of its process hears no signal, and hears this.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping

from jobs.events import read_events
from jobs.paths import AttemptPaths, JobPaths
from jobs.spec import EventKind, Json

#: Seconds between two looks at the file.
LOOK_EVERY = 0.2
_SEARCH, _MESSAGE = "search", "message"


class Word:
    """Looks now and then whether an attempt was asked to stop."""

    def __init__(self, attempt: AttemptPaths) -> None:
        self._attempt = attempt
        self._looked = 0.0
        self._heard = False

    def is_there(self) -> bool:
        """Tell whether the attempt was asked to stop; at most `LOOK_EVERY` seconds late."""
        now = time.monotonic()
        if not self._heard and now - self._looked >= LOOK_EVERY:
            self._looked = now
            self._heard = self._attempt.stop.exists()
        return self._heard


def ask_to_stop(attempt: AttemptPaths) -> bool:
    """Ask an attempt to save and stop, to be gone on with later. Returns False when it was asked before. Raises OSError."""
    return _say(attempt, {})


def tell_lost(attempt: AttemptPaths, search: Mapping[str, Json], message: str) -> bool:
    """Tell an attempt that a search (its rule, as a pick holds it) stops it for good. Returns False when it was asked before.

    Raises OSError.
    """
    return _say(attempt, {_SEARCH: dict(search), _MESSAGE: message})


def ending(attempt: AttemptPaths) -> dict[str, Json]:
    """Return what the event of a stopped attempt says besides its time: that it can be gone on with, or which search it lost."""
    try:
        word = json.loads(attempt.stop.read_text(encoding="utf-8"))
        return {_SEARCH: word[_SEARCH], _MESSAGE: word[_MESSAGE]}
    except (OSError, ValueError, KeyError, TypeError):
        return {"resumable": True}


def lost_search(paths: JobPaths) -> Mapping[str, Json] | None:
    """Return the rule of the search that stopped a job's last attempt for good; None when none did."""
    attempts = paths.attempts()
    events = read_events(attempts[-1].events) if attempts else []
    last = events[-1] if events else {}
    return last.get(_SEARCH) if last.get("kind") == EventKind.STOPPED else None


def _say(attempt: AttemptPaths, word: Mapping[str, Json]) -> bool:
    """Link a complete file into place, so that it is never seen half written; also before anybody has claimed the attempt."""
    attempt.folder.mkdir(parents=True, exist_ok=True)
    aside = attempt.folder / f".stop.{uuid.uuid4().hex}"
    try:
        aside.write_text(json.dumps(word, sort_keys=True) + "\n", encoding="utf-8")
        os.link(aside, attempt.stop)
    except FileExistsError:
        return False
    finally:
        aside.unlink(missing_ok=True)
    return True
