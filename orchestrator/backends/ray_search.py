"""Searches on Ray Tune: every contest has a scheduler of Tune's to itself, and a word in the attempt stops what it finds losing.

All contests run inside the one experiment of the plan. Tune is given one scheduler, which passes each reading on to that of its contest and
lets every other job run; so no job waits for another phase's search, and the candidates of one pick compete among themselves only. What
jobs of a contest logged in earlier submissions counts: a search that was interrupted goes on with what it knew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from jobs.paths import RunPaths
from jobs.spec import SHORT_ID, Json, State
from jobs.stopping import tell_lost
from orchestrator.backends.base import Notice, Notify
from orchestrator.execution.curve import Curve, Reading
from orchestrator.ledger import states
from orchestrator.searches import Contest, rule_words

#: Median stopping compares with so many others at least.
_MEDIAN_OF = 3
#: Keys of what a worker reports of an epoch, and of an end.
EPOCH, VALUE, TOLD = "epoch", "value", "told"


class Referee:
    """Judges the jobs of one submission that take part in a search."""

    def __init__(self, contests: Mapping[str, Contest], run: RunPaths, notify: Notify, *, running: Collection[str]) -> None:
        self._contests = contests
        self._run = run
        self._notify = notify
        self._running = frozenset(running)
        self._games: dict[str, _Game] = {}
        self._unheard: set[str] = set()

    def metric(self, job: str) -> str:
        """Return the metric that a job is watched by; empty for a job that is in no search."""
        contest = self._contests.get(job)
        return "" if contest is None else contest.rule["metric"]

    def loses(self, job: str, attempt: int, reading: Reading) -> bool:
        """Judge a job after an epoch; one that loses is told so, saves and stops."""
        contest = self._contests[job]
        game = self._games.get(contest.pick)
        if game is None:
            game = self._games[contest.pick] = self._begin(contest)
        if not game.loses(job, reading):
            return False
        message = f"{rule_words(contest.rule)}: {reading.value:.4g} at epoch {reading.epoch} of {contest.epochs[job]} was losing"
        try:
            tell_lost(self._run.job(job).attempt(attempt), contest.rule, message)
        except OSError:
            # Where no word can be written the job cannot hear one; it runs on.
            game.spare(job)
            return False
        return True

    def unheard(self, job: str) -> None:
        """Say once a contest that its metric is none that its jobs log, so that nothing is stopped."""
        contest = self._contests[job]
        if contest.pick not in self._unheard:
            self._unheard.add(contest.pick)
            said = f"{job[:SHORT_ID]} of phase '{contest.phase}' logged no {contest.rule['metric']}: its search stops nothing"
            self._notify(Notice(kind="note", job_id=job, message=said))

    def _begin(self, contest: Contest) -> _Game:
        """Start a contest with what is known of the jobs that this submission does not run."""
        game = _Game(contest)
        for job, status in states(self._run, contest.epochs.keys() - self._running).items():
            for reading in Curve(self._run.job(job), contest.rule["metric"]).news():
                game.record(job, reading)
            if status.state in (State.STOPPED, State.FAILED):
                game.drop(job)
        return game


class _Game:
    """One contest and its scheduler, which is given jobs where it expects trials."""

    def __init__(self, contest: Contest) -> None:
        self._contest = contest
        self._scheduler = _scheduler(contest.rule, max(contest.epochs.values()))
        self._rivals = {job: _Rival(job) for job in contest.epochs}
        self._out: set[str] = set()
        self._spared: set[str] = set()
        self._lost: set[str] = set()

    def loses(self, job: str, reading: Reading) -> bool:
        """Tell whether a job is to be stopped. One that has lost stays lost; the last one standing never loses."""
        if job in self._lost:
            return True
        if reading.epoch >= self._contest.epochs[job] or job in self._spared:
            # Nothing is left to save, and what it reached still counts for the others.
            self.record(job, reading)
            return False
        from ray.tune.schedulers import TrialScheduler

        self._scheduler.on_trial_add(None, self._rivals[job])
        decision = self._scheduler.on_trial_result(None, self._rivals[job], _result(reading))
        if decision != TrialScheduler.STOP:
            return False
        if len(self._out | {job}) == len(self._rivals):
            self.spare(job)
            return False
        self._lost.add(job)
        self._out.add(job)
        return True

    def record(self, job: str, reading: Reading) -> None:
        """Let a reading count without asking what follows from it."""
        self._scheduler.on_trial_add(None, self._rivals[job])
        self._scheduler.on_trial_complete(None, self._rivals[job], _result(reading))

    def drop(self, job: str) -> None:
        """Note a job that is no longer a candidate."""
        self._out.add(job)

    def spare(self, job: str) -> None:
        """Let a job run to its end."""
        self._spared.add(job)
        self._lost.discard(job)
        self._out.discard(job)


class _Rival:
    """What a scheduler of Tune's knows of a trial: its id."""

    def __init__(self, job: str) -> None:
        self.trial_id = job


def _result(reading: Reading) -> dict[str, Json]:
    return {EPOCH: reading.epoch, VALUE: reading.value}


def _scheduler(rule: Mapping[str, Json], epochs: int) -> Any:
    """Make the scheduler of Tune's that a rule names."""
    from ray.tune import schedulers

    grace = min(int(rule["grace"]), epochs)
    common: dict[str, Any] = {"time_attr": EPOCH, "metric": VALUE, "mode": rule["mode"], "grace_period": grace}
    if rule["scheduler"] == "median":
        # An endless slice: jobs are stopped or run, and never put aside for others.
        return schedulers.MedianStoppingRule(**common, min_samples_required=_MEDIAN_OF, min_time_slice=float("inf"), hard_stop=True)  # pyright: ignore[reportArgumentType]
    return schedulers.AsyncHyperBandScheduler(**common, max_t=epochs, stop_last_trials=False)


def stopping(referee: Referee) -> Any:
    """Make the scheduler that Tune is given: it asks the referee about readings, and lets every other job run."""
    from ray.tune.schedulers import FIFOScheduler, TrialScheduler

    class Stopping(FIFOScheduler):
        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            if EPOCH not in result:
                return TrialScheduler.CONTINUE
            reading = Reading(epoch=result[EPOCH], value=result[VALUE])
            lost = referee.loses(trial.config["job"], trial.config["attempt"], reading)
            return TrialScheduler.STOP if lost else TrialScheduler.CONTINUE

        def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
            if result.get(TOLD) == 0 and result.get("code") == 0:
                referee.unheard(trial.config["job"])

        def __reduce__(self) -> tuple[type, tuple[()]]:
            # Tune pickles itself for a restore that never happens.
            return dict, ()

    return Stopping()
