"""Run the whole plan as one Ray Tune experiment on this machine. Ray is imported here, in `ray_own` and in `ray_search` alone.

A `Searcher` suggests a job when its inputs are done and says nothing while none is ready, so phases overlap and nobody waits at a barrier.
Workers are reused from job to job. Tune's own checkpoints, loggers and retries are off: the job's directory is the truth, and a job
whose worker died is suggested again as its next attempt.

A trial occupies what its job asks for (cpus, gpus). Changing a worker's size costs a new process, so jobs of the size that has just become
free go first, and a pick, which only reads numbers, runs in whatever size is free. Threads do not follow the worker but the job.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from jobs.paths import RunPaths
from orchestrator.backends import base
from orchestrator.backends.base import Capabilities, Notice, Queued, Session, Submission
from orchestrator.backends.ray_own import Joined, joined_ray, local_ray
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

_EXIT_HALTED = 6


def make(cluster: ClusterConfig) -> RayTune:
    """Make the backend for a cluster config."""
    return RayTune(cluster)


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
            ray = local_ray(self._cluster, log) if self._joined is None else joined_ray(self._cluster, self._joined, log)
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
