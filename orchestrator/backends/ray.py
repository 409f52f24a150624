"""Run the whole plan as one Ray Tune experiment on this machine. Ray is imported here and in `ray_search` alone.

A `Searcher` suggests a job when its inputs are done and says nothing while none is ready, so phases overlap and nobody waits at a barrier.
Workers are reused from job to job. Tune's own checkpoints, loggers and retries are off: the job's directory is the truth, and a job
whose worker died is suggested again as its next attempt.

A trial occupies what its job asks for (cpus, gpus). Changing a worker's size costs a new process, so jobs of the size that has just become
free go first, and a pick, which only reads numbers, runs in whatever size is free. Threads do not follow the worker but the job.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from jobs.events import is_alive, process_identity
from jobs.paths import RunPaths
from jobs.spec import canonical_json
from orchestrator.backends import base
from orchestrator.backends.base import Capabilities, Notice, Queued, Session, Submission
from orchestrator.backends.ray_search import EPOCH, TOLD, VALUE, Referee, stopping
from orchestrator.errors import BackendError, Error
from orchestrator.execution.attempt import end_lost, run_attempt
from orchestrator.execution.beside import Beside
from orchestrator.execution.board import Board, Shape, board_of, shape_of
from orchestrator.execution.watch import Watch
from orchestrator.intents import Held, Intent, ask_to_cancel, halt_file, log_file
from orchestrator.model import ClusterConfig
from orchestrator.plans import read_plan
from orchestrator.searches import contests_of
from orchestrator.sightings import Sighting

_FOLDER_PREFIX = "orch-ray-"
#: Nothing goes through Ray's object store; this is near the least it accepts.
_OBJECT_STORE_BYTES = 80 * 2**20
_EXIT_HALTED = 6
_FRESH_SECONDS = 60.0
_STARTING_AT_ONCE = 8
#: Seconds that the nodes of an allocation have to come.
_GATHER_WITHIN = 300.0


def make(cluster: ClusterConfig) -> RayTune:
    """Make the backend for a cluster config."""
    return RayTune(cluster)


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


class RayTune:
    """As many jobs at once as the machine has room for."""

    name = "ray"
    capabilities = Capabilities(parallel=True, searches=True)

    def __init__(self, cluster: ClusterConfig, joined: Joined | None = None) -> None:
        self._cluster = cluster
        self._joined = joined

    def render(self, sweep: str, jobs: Sequence[Queued]) -> Submission:
        """Say what would run, in order of preference. Raises BackendError for a job that asks for more than the machine has."""
        cpus, gpus = base.machine_cpus(self._cluster), base.machine_gpus(self._cluster)
        base.refuse_oversized(jobs, cpus=cpus, gpus=gpus, cluster=self._cluster.name)
        text = base.listing(sweep, jobs, f"as one Ray Tune experiment on this machine ({cpus} cpus, {gpus} gpus)")
        return Submission(backend=self.name, sweep=sweep, jobs=tuple(jobs), text=text)

    def submit(self, submission: Submission, session: Session) -> frozenset[str]:
        """Run every job whose inputs are done until none is left, or a person wants to stop. Returns the jobs it gave up on.

        Raises BackendError when Ray cannot be started or stops by itself; what was done before is kept.
        """
        log = log_file(session.run, session.intent.sid)
        try:
            ray = _local_ray(self._cluster, log) if self._joined is None else _joined_ray(self._cluster, self._joined, log)
            with ray as folder, Watch(session) as watch:
                board = board_of(submission, session, watch)
                _fit(board, session, watch, _referee(submission, session), folder)
                return frozenset(board.gave_up)
        except Error:
            raise
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise BackendError(
                f"backend 'ray': Ray stopped ({reason[-1]}); its log is {log}; submit again to go on, or set `backend: inline`",
                transient=True,
            ) from error

    def poll(self, run: RunPaths, intents: Sequence[Intent]) -> Mapping[str, Sighting] | None:
        """Return None: the files say it all."""
        return None

    def recover(self, run: RunPaths, intents: Sequence[Held]) -> None:
        """Do nothing: what died with its client is seen by its process."""

    def cancel(self, run: RunPaths, intent: Intent, jobs: Sequence[str]) -> None:
        """Ask the process that runs a submission to cancel jobs of it."""
        ask_to_cancel(run, intent.sid, jobs)


# --- Tune --------------------------------------------------------------------------------------------------------------------------------


def _referee(submission: Submission, session: Session) -> Referee:
    plan = read_plan(session.run.sweep(submission.sweep).plan)
    running = [job.spec.job_id for job in submission.jobs]
    return Referee(contests_of(plan.jobs), session.run, session.notify, running=running)


def _fit(board: Board, session: Session, watch: Watch, referee: Referee, folder: Path) -> None:
    from ray import tune

    tuner = tune.Tuner(
        _trainable(tune),
        param_space={"job": "", "job_file": "", "attempt": 0, "runner": session.runner, "metric": "", "halt": "", "cpus": 1, "gpus": 0},
        tune_config=tune.TuneConfig(
            search_alg=_searcher(board, session, watch, referee),
            scheduler=stopping(referee),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name="plan",
            storage_path=str(folder / "tune"),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            callbacks=[_announcer(tune, session)],
        ),
    )
    tuner.fit()


def _trial_name(trial: Any) -> str:
    return f"{trial.config['job'][:12]}-{trial.config['attempt']}-{trial.trial_id}"


def _trainable(tune: ModuleType) -> type:
    """Make the class whose one step is one job, or, in a search, one epoch of it."""

    class RunJob(tune.Trainable):
        @classmethod
        def default_resource_request(cls, config: dict[str, Any]) -> Any:
            bundle = {"CPU": config["cpus"], "GPU": config["gpus"]}
            return tune.PlacementGroupFactory([{name: number for name, number in bundle.items() if number}])

        def setup(self, config: dict[str, Any]) -> None:
            # The word to stop may come before the job has its own handler, and must not kill the worker.
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)
            self._job = config
            self._beside: Beside | None = None

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.cleanup()
            self._job = new_config
            return True

        def cleanup(self) -> None:
            # A job that lost is no longer Tune's, and still saves: the worker is free when it has.
            if self._beside is not None:
                self._beside.stop()
                self._beside = None

        def step(self) -> dict[str, Any]:
            job = self._job
            if self._beside is None and Path(job["halt"]).exists():
                return {"code": _EXIT_HALTED, "done": True}
            if not job["metric"]:
                return {"code": run_attempt(Path(job["job_file"]), job["attempt"], job["runner"]), "done": True}
            if self._beside is None:
                self._beside = Beside(Path(job["job_file"]), job["attempt"], job["runner"], job["metric"])
            reading = self._beside.next()
            if reading is not None:
                return {EPOCH: reading.epoch, VALUE: reading.value}
            beside, self._beside = self._beside, None
            return {"code": beside.finish(), TOLD: beside.told, "done": True}

    return RunJob


def _searcher(board: Board, session: Session, watch: Watch, referee: Referee) -> Any:
    """Make the searcher that hands a board's jobs to Tune."""
    from ray.tune.search import Searcher

    class Jobs(Searcher):
        def __init__(self) -> None:
            super().__init__()
            self._trials: dict[str, tuple[str, int, Shape]] = {}
            self._free: Shape | None = None

        def suggest(self, trial_id: str) -> Any:
            if session.halt.wanted:
                board.abandon()
            job = board.take(self._free)
            if job is None:
                return Searcher.FINISHED if board.finished else None
            slot = _slot(job, self._free)
            self._trials[trial_id] = (job.spec.job_id, job.attempt, slot)
            watch.started(job.spec.job_id, job.attempt)
            return {
                "job": job.spec.job_id,
                "job_file": str(session.run.job(job.spec.job_id).job),
                "attempt": job.attempt,
                "runner": session.runner,
                "metric": referee.metric(job.spec.job_id),
                "halt": str(halt_file(session.run, session.intent.sid)),
                "cpus": slot[0],
                "gpus": slot[1],
            }

        def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
            job, attempt, self._free = self._trials.pop(trial_id)
            watch.ended(job)
            if error:
                end_lost(session.run.job(job).attempt(attempt))
            if session.halt.wanted:
                board.abandon()
            board.give_back(job)

        def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
            """Save nothing: the ledger is the truth, and a stopped experiment is planned anew from it."""

        def __reduce__(self) -> tuple[type, tuple[()]]:
            # Tune pickles itself for a restore that never happens.
            return dict, ()

    return Jobs()


def _slot(job: Queued, free: Shape | None) -> Shape:
    """Return the size of the worker that a job runs in."""
    asked = (job.resources.cpus, job.resources.gpus)
    if shape_of(job) is None and free is not None and free[0] >= asked[0] and free[1] >= asked[1]:
        return free
    return asked


def _announcer(tune: ModuleType, session: Session) -> Any:
    class Announcer(tune.Callback):
        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            session.notify(Notice(kind="started", job_id=trial.config["job"]))

        def __reduce__(self) -> tuple[type, tuple[()]]:
            # By value it would take the session along, and with it the locks of whoever is notified.
            return dict, ()

    return Announcer()


# --- a Ray of our own --------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _local_ray(cluster: ClusterConfig, log: Path) -> Iterator[Path]:
    """Start a private Ray on this machine, never joining another, and take it and its traces away afterwards."""
    _sweep_up()
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
def _joined_ray(cluster: ClusterConfig, joined: Joined, log: Path) -> Iterator[Path]:
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


def _sweep_up() -> None:
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
