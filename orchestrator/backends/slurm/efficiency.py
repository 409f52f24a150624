"""What allocations asked for and what they used, from one sacct for all runs of a sweep, requeued ones included."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from jobs.spec import JobSpec, Resources
from orchestrator.backends.slurm import commands
from orchestrator.backends.slurm.launch import CLOCKS_DIFFER
from orchestrator.backends.slurm.poll import indices
from orchestrator.intents import Intent
from orchestrator.model import Plan
from orchestrator.scheduler import Efficiency, Used

_FORMAT = "JobID,JobName,State,ElapsedRaw,MaxRSS,NTasks,NNodes"
_WELL = frozenset({"COMPLETED", "RUNNING", "COMPLETING"})
_NOT_RUN = frozenset({"PENDING", "CONFIGURING", "REQUEUE_HOLD"})
_UNITS: Mapping[str, float] = {"": 1 / 2**20, "K": 1 / 2**10, "M": 1.0, "G": 2.0**10, "T": 2.0**20}
_SECONDS_AN_HOUR = 3600.0
#: So many runs have to end well before anything is advised.
ENOUGH = 3
#: What is advised is so much more than was ever used.
MEMORY_ROOM, TIME_ROOM = 1.25, 1.5
#: Advice to ask for less is given only when so much less is enough, to ask for more when so little was left.
WORTH_IT, TIGHT = 0.6, 0.9
GONE = "no longer in the sweep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of one element: a requeue makes another."""

    intent: Intent
    index: int
    word: str
    seconds: float
    memory_mb: float = 0.0

    @property
    def gpu_hours(self) -> float:
        """Return what it used, by what its submission asked for."""
        return self.seconds * float(self.intent.terms.get("gpus", 0)) / _SECONDS_AN_HOUR


@dataclass(slots=True, kw_only=True)
class _Group:
    specs: dict[str, JobSpec] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)


def efficiency(plan: Plan, found: Sequence[Intent]) -> Efficiency:
    """Compare what submissions of a plan asked for with what they used. Raises BackendError when sacct does not answer."""
    mine = [intent for intent in found if intent.sweep == plan.sweep and intent.native is not None]
    if not mine:
        return Efficiency(note="nothing of this sweep was handed to Slurm yet")
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(min(intent.created for intent in mine) - CLOCKS_DIFFER))
    names = f"--name={','.join(intent.name for intent in mine)}"
    told = commands.run("sacct", "-D", "-n", "-P", names, f"--starttime={start}", f"--format={_FORMAT}")
    return summed(plan, runs(told, mine))


def runs(told: str, found: Sequence[Intent]) -> list[Run]:
    """Read the lines of sacct: an allocation's, then those of its steps, which hold the memory."""
    by_number = {str(intent.native["id"]): intent for intent in found if intent.native is not None}
    read: list[Run] = []
    last: dict[str, int] = {}
    for line in told.splitlines():
        row = line.split("|")
        if len(row) != len(_FORMAT.split(",")):
            continue
        number, name, word, elapsed, rss, tasks, nodes = row
        whole, _, step = number.partition(".")
        intent, listed = by_number.get(whole.split("_")[0]), indices(whole)
        if step and whole in last:
            used = _megabytes(rss) * math.ceil(max(1, _whole(tasks)) / max(1, _whole(nodes)))
            run = read[last[whole]]
            read[last[whole]] = replace(run, memory_mb=max(run.memory_mb, used))
        elif not step and intent is not None and name == intent.name and len(listed) == 1 and word not in _NOT_RUN:
            last[whole] = len(read)
            read.append(Run(intent=intent, index=_whole(listed[0]), word=word.split(" ")[0], seconds=float(_whole(elapsed))))
    return read


def _whole(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _megabytes(text: str) -> float:
    number, unit = (text[:-1], text[-1]) if text[-1:].isalpha() else (text, "")
    try:
        return float(number or 0) * _UNITS.get(unit.upper(), 0.0)
    except ValueError:
        return 0.0


# --- by phase ----------------------------------------------------------------------------------------------------------------------------


def summed(plan: Plan, found: Sequence[Run]) -> Efficiency:
    """Sum runs by what they ran: one row a phase and chain of stages. Pure."""
    known = plan.by_id()
    groups: defaultdict[tuple[str, str], _Group] = defaultdict(_Group)
    for run in found:
        jobs = [known[job] for job in run.intent.elements[run.index][0] if job in known] if run.index < len(run.intent.elements) else []
        phases, stages = ("+".join(dict.fromkeys(names)) for names in ([job.phase for job in jobs], [str(job.stage) for job in jobs]))
        key = (phases, stages) if jobs else (GONE, "")
        groups[key].runs.append(run)
        groups[key].specs |= {job.job_id: job for job in jobs}
    rows = tuple(_used(phase, stages, group) for (phase, stages), group in groups.items())
    return Efficiency(rows=rows, gpu_hours=sum(row.gpu_hours for row in rows))


def _used(phase: str, stages: str, group: _Group) -> Used:
    lost = [run for run in group.runs if run.word not in _WELL]
    done = [run for run in group.runs if run.word == "COMPLETED"]
    memory = max((run.memory_mb for run in group.runs), default=0.0)
    hours = max((run.seconds for run in done), default=0.0) / _SECONDS_AN_HOUR
    asked = [run.intent.terms for run in group.runs if "minutes" in run.intent.terms]
    asked_mb = max((float(terms["memory_mb"]) for terms in asked), default=None)
    asked_hours = max((float(terms["minutes"]) / 60 for terms in asked), default=None)
    words = Counter(run.word for run in lost)
    if any(_is_ray(run.intent) for run in group.runs):
        advice = tuple(_ray_advice(hours, asked_hours))
    else:
        advice = tuple(_advice(group, memory, hours, asked_mb, asked_hours, words)) if len(done) >= ENOUGH else ()
    return Used(
        phase=phase,
        stages=stages,
        allocations=len({(run.intent.sid, run.index) for run in group.runs}),
        runs=len(group.runs),
        gpu_hours=sum(run.gpu_hours for run in group.runs),
        lost_gpu_hours=sum(run.gpu_hours for run in lost),
        lost_runs=dict(sorted(words.items())),
        memory_asked_mb=None if asked_mb is None else round(asked_mb),
        memory_used_mb=round(memory) or None,
        hours_asked=asked_hours,
        hours_used=hours or None,
        advice=advice,
    )


def _is_ray(intent: Intent) -> bool:
    """Tell whether an allocation was a Ray cluster, which hands its nodes out to jobs itself."""
    return "node_cpus" in intent.terms


def _ray_advice(hours: float, asked_hours: float | None) -> Iterator[str]:
    """Say what to write under `allocation` next time, and why nothing is said of `resources`."""
    if hours and asked_hours:
        minutes = _rounded_up(60 * hours * TIME_ROOM)
        if hours * TIME_ROOM <= WORTH_IT * asked_hours and minutes < 60 * asked_hours:
            yield f"`allocation: {{time: {_time(minutes)}}}` is enough: it was given back after {_clock(hours)} of {_clock(asked_hours)}"
    yield "a Ray cluster of whole nodes: accounting knows what all jobs used together and not each, so it advises on no `resources`"


def _advice(
    group: _Group, memory: float, hours: float, asked_mb: float | None, asked_hours: float | None, words: Mapping[str, int]
) -> Iterator[str]:
    """Say what to write under `resources` of a phase next time; an allocation may hold several jobs, so ratios are carried over."""
    mine = [spec.resources for spec in group.specs.values()]
    if not mine:
        return
    if asked_mb and memory:
        yield from _memory_advice(mine, memory, asked_mb, killed=words.get("OUT_OF_MEMORY", 0))
    if asked_hours and hours:
        yield from _time_advice(mine, hours, asked_hours, ended=words.get("TIMEOUT", 0))


def _memory_advice(mine: Sequence[Resources], used: float, asked: float, *, killed: int) -> Iterator[str]:
    share = used * MEMORY_ROOM / asked
    whole = max(1, math.ceil(max(one.memory_mb for one in mine) * share / 1024))
    seen = f"{used / 1024:.1f} of {asked / 1024:.1f} G were used at most"
    if share <= WORTH_IT and whole * 1024 < max(one.memory_mb for one in mine):
        yield f"`memory: {whole}G` is enough: {seen}"
    elif used >= TIGHT * asked or killed:
        more = f", and {killed} ended for want of it" if killed else ""
        yield f"`memory: {max(whole, math.ceil(asked * MEMORY_ROOM / 1024))}G` is safer: {seen}{more}"


def _time_advice(mine: Sequence[Resources], used: float, asked: float, *, ended: int) -> Iterator[str]:
    share = used * TIME_ROOM / asked
    longest = max(one.time_minutes for one in mine)
    minutes = _rounded_up(longest * share)
    seen = f"the longest took {_clock(used)} of {_clock(asked)}"
    if share <= WORTH_IT and minutes < longest:
        yield f"`time: {_time(minutes)}` is enough, and short jobs start sooner: {seen}"
    elif used >= TIGHT * asked or ended:
        more = f", and {ended} reached the limit" if ended else ""
        yield f"`time: {_time(_rounded_up(max(longest * share, longest * TIME_ROOM)))}` is safer: {seen}{more}"


def _rounded_up(minutes: float) -> int:
    step = 5 if minutes <= 60 else 15 if minutes <= 240 else 60
    return max(step, math.ceil(minutes / step) * step)


def _time(minutes: int) -> str:
    return f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m"


def _clock(hours: float) -> str:
    minutes = round(hours * 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
