"""A Ray of our own: started privately on this machine, or that of an allocation; joined by nobody else, and gone afterwards."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import secrets
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from jobs.events import is_alive, process_identity
from jobs.spec import canonical_json
from orchestrator.backends import base
from orchestrator.errors import BackendError
from orchestrator.model import ClusterConfig

_FOLDER_PREFIX = "orch-ray-"
#: Nothing goes through Ray's object store; this is near the least it accepts.
_OBJECT_STORE_BYTES = 80 * 2**20
_FRESH_SECONDS = 60.0
_STARTING_AT_ONCE = 8
#: Seconds that the nodes of an allocation have to come.
_GATHER_WITHIN = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A Ray that others started for this submission alone."""

    #: host:port of its control service.
    address: str
    #: Its secret, without which nobody can talk to it.
    token: str
    #: A folder that every node sees.
    folder: Path
    #: How many nodes it is to have; it starts with fewer when some do not come.
    nodes: int = 1


@contextlib.contextmanager
def local_ray(cluster: ClusterConfig, log: Path) -> Iterator[Path]:
    """Start a private Ray on this machine, never joining another, and take it and its traces away afterwards."""
    sweep_up()
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX, dir=_short_folder()))
    (folder / "owner.json").write_text(canonical_json(process_identity()), encoding="utf-8")
    try:
        with _environment(base.machine_cpus(cluster), _token()), contextlib.ExitStack() as stack:
            ray = _import_ray()
            stack.enter_context(_talking_to(log))
            try:
                ray.init(
                    address="local",
                    num_cpus=base.machine_cpus(cluster),
                    num_gpus=base.machine_gpus(cluster),
                    include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    log_to_driver=False,
                    configure_logging=False,
                    _temp_dir=str(folder),
                )
                # Starting cleared the handlers.
                stack.enter_context(_talking_to(log))
                yield folder
            finally:
                ray.shutdown()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def joined_ray(cluster: ClusterConfig, joined: Joined, log: Path) -> Iterator[Path]:
    """Connect to the Ray of an allocation, and leave it as it is afterwards: who started it ends it."""
    with _environment(base.machine_cpus(cluster), joined.token), contextlib.ExitStack() as stack:
        ray = _import_ray()
        stack.enter_context(_talking_to(log))
        try:
            ray.init(address=joined.address, log_to_driver=False, configure_logging=False)
            stack.enter_context(_talking_to(log))
            _await_nodes(ray, joined.nodes)
            yield joined.folder
        finally:
            ray.shutdown()


def count_nodes(joined: Joined) -> int:
    """Return how many nodes of a Ray are up."""
    with _environment(1, joined.token):
        _import_ray()
        state = importlib.import_module("ray.util.state")
        return len([node for node in state.list_nodes(address=joined.address, raise_on_missing_output=False) if node.state == "ALIVE"])


def _await_nodes(ray: ModuleType, nodes: int) -> None:
    """Wait until so many nodes have come, for a while: work starts with those that did."""
    until = time.monotonic() + _GATHER_WITHIN
    while sum(node["Alive"] for node in ray.nodes()) < nodes and time.monotonic() < until:
        time.sleep(0.5)


def _import_ray() -> ModuleType:
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.tune")
    except ImportError as error:
        raise BackendError(
            f"backend 'ray': Ray Tune cannot be imported ({error}); type `pip install 'ray[tune]'`, or set `backend: inline`"
        ) from None
    if ray.is_initialized():
        raise BackendError("backend 'ray': this process is connected to another Ray; call `ray.shutdown()` first, or set `backend: inline`")
    return ray


@contextlib.contextmanager
def _environment(cpus: int, token: str) -> Iterator[None]:
    """Set what Ray reads from the environment, for as long as our Ray lives; workers inherit it."""
    before = dict(os.environ)
    for name in [name for name in before if name.startswith(("RAY_", "TUNE_"))]:
        del os.environ[name]
    os.environ.update(
        {
            "RAY_AIR_NEW_OUTPUT": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": token,
            "RAY_CHDIR_TO_TRIAL_DIR": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
            "TUNE_DISABLE_SIGINT_HANDLER": "1",
            # Tune's own record of the experiment is never read: write it once, at the end.
            "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
            # Workers take seconds to start: start several at a time, and not one after the other.
            "TUNE_MAX_PENDING_TRIALS_PG": str(min(cpus, _STARTING_AT_ONCE)),
            "PYTHONPATH": os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if Path(entry or ".").is_dir()),
        }
    )
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@cache
def _token() -> str:
    """Make this process's secret, without which nobody can talk to its Ray; Ray reads it once a process."""
    return secrets.token_hex(32)


@contextlib.contextmanager
def _talking_to(log: Path) -> Iterator[None]:
    """Send what Ray, once imported, says in this process to a file, and nothing of it to the terminal."""
    logger = logging.getLogger("ray")
    before = logger.handlers, logger.propagate, logger.level
    file = logging.FileHandler(log, encoding="utf-8", delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.handlers, logger.propagate = [file], False
    logger.setLevel(logging.INFO)
    # What the raylet reports (a worker that died) has no logger and is printed by this function of Ray's.
    internals = importlib.import_module("ray._private.worker")
    printer = getattr(internals, "print_to_stdstream", None)
    vars(internals)["print_to_stdstream"] = lambda data, **_: logger.warning("%s", "".join(data.get("lines", ())))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        vars(internals)["print_to_stdstream"] = printer
        logger.handlers, logger.propagate = before[0], before[1]
        logger.setLevel(before[2])
        file.close()


def _short_folder() -> str | None:
    """Return a folder whose name leaves room for Ray's sockets (107 bytes in all)."""
    return "/tmp" if os.access("/tmp", os.W_OK) else None


def sweep_up() -> None:
    """Remove what an earlier Ray of ours left behind when its driver was killed."""
    for folder in Path(_short_folder() or tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*"):
        with contextlib.suppress(OSError, ValueError):
            if folder.stat().st_uid == os.geteuid() and _is_left_over(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_left_over(folder: Path) -> bool:
    owner = folder / "owner.json"
    if owner.exists():
        return is_alive(json.loads(owner.read_text(encoding="utf-8"))) is False
    # Swept up once, while its last processes still wrote; or made this very moment, with its owner to follow.
    return time.time() - folder.stat().st_mtime > _FRESH_SECONDS
