"""What a server's answers tell, and what it means when one is missing: whether something was done is then found out, not guessed.

A request whose answer is lost, or comes too late, may have been carried out; MLflow's client sends it again by itself. So each thing that a
sync does is one that may be done twice, save making a run: a run made twice stands twice, and is put away by whoever looks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

from orchestrator.errors import TrackingError

#: How often a thing is done before a refusal is believed.
TRIES = 5
#: Seconds until a machine that does not say that it is there counts as away; one that is there may take longer to answer.
CONNECT_SECONDS = 10.0
RETRIES, ANSWER_SECONDS = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
#: Fewer retries than MLflow's 7, which take minutes at a server that is down, and MLflow's own time for an answer. What is set stands.
PATIENCE = {RETRIES: "2", ANSWER_SECONDS: "120"}
_Done = TypeVar("_Done")


def done_or_found_out(act: Callable[[], _Done], look: Callable[[], object], doubts: tuple[type[Exception], ...]) -> _Done:
    """Do something; when that fails, look at what there is and do what is left of it.

    `act` must go by what `look` has found. What `look` raises ends it: nothing answers any more.
    """
    for _ in range(TRIES - 1):
        try:
            return act()
        except doubts:
            look()
    return act()


def reach(server: str) -> None:
    """Return when an HTTP server answers anything.

    Raises OSError when it is away, sooner than MLflow, which waits as long for a connection as for an answer; TrackingError when what the
    environment says of that is no number.
    """
    retries, patience = _whole_number(RETRIES), _whole_number(ANSWER_SECONDS, least=1)
    for number in range(retries):
        if not _why_away(server, patience):
            return
        time.sleep(min(2.0**number, CONNECT_SECONDS))
    if away := _why_away(server, patience):
        raise OSError(away)


def _why_away(server: str, patience: int) -> str:
    """Ask a server whether it is there; return what went wrong, empty when it answered or when that is for MLflow to say."""
    import requests
    from urllib3.exceptions import NewConnectionError

    connect = min(CONNECT_SECONDS, patience)
    try:
        requests.get(f"{server.rstrip('/')}/health", timeout=(connect, patience), stream=True).close()
    except requests.exceptions.ConnectTimeout:
        return f"no connection within {connect:.0f} s"
    except requests.exceptions.ReadTimeout:
        raise OSError(f"no answer within {patience} s; set {ANSWER_SECONDS} to wait longer") from None
    except requests.exceptions.RequestException as error:
        cause = getattr(error.args[0] if error.args else None, "reason", None)
        # Of certificates, proxies and addresses MLflow has its own settings, and its own words.
        return str(cause).partition(": ")[2] if isinstance(cause, NewConnectionError) else ""
    return ""


def _whole_number(name: str, *, least: int = 0) -> int:
    said = os.environ[name]
    if not (said.isascii() and said.isdigit() and int(said) >= least):
        raise TrackingError(
            f"the environment variable {name} is {said!r}, and not a whole number from {least}; unset it, or set {PATIENCE[name]}"
        )
    return int(said)
