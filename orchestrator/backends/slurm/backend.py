"""The verbs of the Slurm backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from jobs.paths import RunPaths
from jobs.spec import Json, Resources
from orchestrator import intents
from orchestrator.backends.base import Capabilities, Notice, Part, Queued, Session, Submission
from orchestrator.backends.slurm import brakes, commands, follower, keeper, launch, snapshot
from orchestrator.backends.slurm.forecast import arguments
from orchestrator.backends.slurm.layout import Unit, lay_out
from orchestrator.backends.slurm.poll import poll
from orchestrator.backends.slurm.request import options_of, packed, refuse_impossible, signal_lead, within_limits, within_reach
from orchestrator.backends.slurm.scripts import script
from orchestrator.errors import BackendError
from orchestrator.intents import Held, Intent
from orchestrator.ledger import states
from orchestrator.model import ClusterConfig
from orchestrator.sightings import Sighting

#: scancel takes that many elements in one call.
_CANCELLED_AT_ONCE = 500


def make(cluster: ClusterConfig) -> Slurm:
    """Make the backend for a cluster config."""
    return Slurm(cluster)


class Slurm:
    """Arrays on a cluster, which run on when the client has gone."""

    name = "slurm"
    capabilities = Capabilities(detaches=True, queues=True, parallel=True, needs_shared_fs=True, enforces_limits=True, scheduler="slurm")

    def __init__(self, cluster: ClusterConfig) -> None:
        self._cluster = cluster
        self._run = RunPaths(cluster.run_root)

    def render(self, sweep: str, jobs: Sequence[Queued]) -> Submission:
        """Arrange jobs in arrays and write their scripts. Raises BackendError for a job that no partition can hold."""
        parts = self.arrange(sweep, jobs)
        return Submission(backend=self.name, sweep=sweep, jobs=tuple(jobs), text=self._text(sweep, parts), parts=parts)

    def arrange(self, sweep: str, jobs: Sequence[Queued]) -> tuple[Part, ...]:
        """Arrange jobs in arrays, parents first. Raises BackendError for a job that no partition can hold."""
        jobs = [within_reach(job, self._cluster) for job in jobs]
        refuse_impossible(jobs, self._cluster)
        site = self._cluster.slurm
        layout = lay_out(jobs, array_size=site.array_size, canary=site.canary)
        code = snapshot.code_folder(self._run, self._cluster).name
        parallel = None if site.parallel is None else max(1, site.parallel // max(1, _widest(layout.parts)))
        parts: list[Part] = []
        for part, asked, units in zip(layout.parts, layout.resources, layout.units, strict=True):
            lanes = max(len(element) for element in part.elements)
            wanted = within_limits(packed(asked, lanes), self._cluster)
            leaves_out = units[0].leaves_out
            options = options_of(wanted, _about(sweep, units), self._cluster, parallel=parallel, leaves_out=leaves_out)
            terms = self._terms(wanted, code) | {"canary": units[0].is_canary, "asked": arguments(options), "leaves_out": list(leaves_out)}
            parts.append(replace(part, options=options, terms=terms))
        return tuple(parts)

    def _terms(self, asked: Resources, code: str) -> dict[str, Json]:
        site = self._cluster.slurm
        return {
            "signal_lead": signal_lead(asked, self._cluster),
            "stop_after": site.stop_after,
            "gpu_hours": self._cluster.limits.gpu_hours,
            "gpus": asked.gpus * asked.nodes,
            "memory_mb": asked.memory_mb,
            "minutes": asked.time_minutes,
            "code": code,
        }

    def _text(self, sweep: str, parts: Sequence[Part]) -> str:
        """Return the scripts, one after the other; what only sbatch can tell stands as PART-1, PART-2, ..."""
        natives = [f"PART-{number}" for number in range(1, len(parts) + 1)]
        pieces = [f"# {sweep}: {_count(len(parts), 'array')} for sbatch\n"]
        for number, part in enumerate(parts, 1):
            jobs = _count(len(part.jobs), "job")
            head = f"\n# --- {natives[number - 1]}: {_count(len(part.elements), 'element')}, {jobs}\n"
            pieces.append(head + script(self._run, self._cluster, part, natives, snapshot.folder_of(self._run, str(part.terms["code"]))))
        return "".join(pieces)

    def submit(self, submission: Submission, session: Session) -> frozenset[str]:
        """Hand every part to sbatch, parents first; what cannot be handed over is put away. Gives up on nothing.

        Raises BackendError when sbatch refuses; what was submitted before it runs on.
        """
        waiting = list(session.intents)
        with intents.beating(session.run, [intent.sid for intent in waiting]):
            try:
                self._send(submission, session, waiting)
            finally:
                if waiting:
                    intents.give_up(session.run, [intent.sid for intent in waiting])
        if self._cluster.slurm.keeper and not session.halt.wanted:
            code = snapshot.take(session.run, self._cluster, name=str(submission.parts[0].terms["code"]))
            number = keeper.ensure(session.run, submission.sweep, self._cluster, code)
            if number:
                session.notify(Notice(kind="note", message=f"{number}: a keeper, which goes on with what Slurm does not do again"))
        return frozenset()

    def _send(self, submission: Submission, session: Session, waiting: list[Intent]) -> None:
        """Hand over part after part, and take each intent from the list before its sbatch: what is left in it was never submitted."""
        if session.intents and (over := brakes.over_budget(session.run, session.intents[0])):
            raise BackendError(over)
        code = snapshot.take(session.run, self._cluster, name=str(submission.parts[0].terms["code"]))
        follower.offer(session.run, submission.sweep, self._cluster)
        natives: list[str] = []
        for part in submission.parts:
            sent = launch.send(session.run, waiting.pop(0), part, natives, self._cluster, code)
            if sent is None or sent.native is None:
                session.notify(Notice(kind="note", message="another client has taken over what was not submitted yet"))
                return
            natives.append(str(sent.native["id"]))
            session.notify(
                Notice(kind="note", message=f"{natives[-1]}: {_count(len(part.elements), 'element')} ({part.options['comment']})")
            )
            if session.halt.wanted:
                return

    def poll(self, run: RunPaths, found: Sequence[Intent]) -> Mapping[str, Sighting] | None:
        """Ask the queue and the records, once each, where every job of these submissions stands; None when they do not answer."""
        return poll(run, [one for one in found if one.backend == self.name], accounting=self._cluster.slurm.accounting)

    def recover(self, run: RunPaths, found: Sequence[Held]) -> None:
        """Adopt submissions whose client died before it noted their number, or put them away when the scheduler does not know them."""
        launch.recover(run, [held for held in found if held.intent.backend == self.name], self._cluster)

    def cancel(self, run: RunPaths, intent: Intent, jobs: Sequence[str]) -> None:
        """Take elements of which nothing is left to do out of the queue; ask the rest's supervisors to stop single jobs."""
        intents.ask_to_cancel(run, intent.sid, jobs)
        if intent.native is None:
            return
        known = states(run, intent.jobs)
        gone = {job for job, status in known.items() if status.state.is_final}
        idle = [index for index, element in enumerate(intent.elements) if all(job in gone for lane in element for job in lane)]
        native = str(intent.native["id"])
        # scancel is called under the lock of the run root, as all of this verb is: `idle` is read and acted on in one piece. By its
        # number it reaches no later submission of these jobs, so it may move out once the verb has a half that runs after the lock.
        if not intent.native["array"]:
            if idle:
                commands.run("scancel", native)
            return
        for start in range(0, len(idle), _CANCELLED_AT_ONCE):
            listed = ",".join(map(str, idle[start : start + _CANCELLED_AT_ONCE]))
            commands.run("scancel", f"{native}_[{listed}]")


def _widest(parts: Sequence[Part]) -> int:
    """Return how many arrays may run at the same time: those that wait for nothing."""
    return sum(not part.needs for part in parts)


def _about(sweep: str, units: Sequence[Unit]) -> str:
    phase, stages = units[0].kind
    return f"{sweep} {phase} {'+'.join(dict.fromkeys(stages))}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
