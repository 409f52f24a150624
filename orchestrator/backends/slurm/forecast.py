"""When a plan's allocations would start, by `sbatch --test-only`: one call for each thing that is asked for, and only a handful."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from jobs.spec import Json
from orchestrator.backends.base import Part
from orchestrator.backends.slurm import commands
from orchestrator.errors import BackendError
from orchestrator.scheduler import Forecast, Start

#: Most questions that one plan asks.
QUESTIONS = 5
#: Options of submitit that say nothing about when a job may start.
_NOT_ASKED = frozenset({"signal_delay_s", "stderr_to_stdout", "comment", "array_parallelism", "wckey"})
_ANSWER = re.compile(r"to start at (?P<when>\S+)")
#: What sbatch says before it says what is wrong.
_OPENING = re.compile(r"^(?:(?:sbatch|allocation failure|error|fatal): *)+")


def forecast(parts: Sequence[Part]) -> Forecast:
    """Ask when the parts that wait for no other would start. Raises nothing: what cannot be asked is a note."""
    waiting = [part for part in parts if not part.needs]
    requests: dict[str, int] = {}
    for part in waiting:
        key = json.dumps(arguments(part.options))
        requests[key] = requests.get(key, 0) + len(part.elements)
    asked = sorted(requests.items(), key=lambda item: -item[1])[:QUESTIONS]
    words = {json.dumps(arguments(part.options)): in_words(part) for part in waiting}
    starts: list[Start] = []
    for key, allocations in asked:
        try:
            starts.append(_start(json.loads(key), words[key], allocations))
        except BackendError as error:
            return Forecast(starts=tuple(starts), note=f"no expected start: {error}")
    left = len(requests) - len(asked)
    return Forecast(starts=tuple(starts), note=f"and {left} other requests that were not asked about" if left > 0 else "")


def _start(options: Sequence[str], asked: str, allocations: int) -> Start:
    done = commands.call("sbatch", "--test-only", *options, "--wrap=true")
    said = done.stderr + done.stdout
    if commands.is_busy(said):
        raise commands.refusal(["sbatch"], said)
    found = _ANSWER.search(said)
    if found is None:
        last = next((line for line in reversed(said.splitlines()) if line.strip()), "sbatch said nothing")
        return Start(asked=asked, allocations=allocations, note=_OPENING.sub("", last).strip())
    try:
        when = f"{datetime.fromisoformat(found['when']):%Y-%m-%d %H:%M}"
    except ValueError:
        when = found["when"]
    return Start(asked=asked, allocations=allocations, when=when)


def arguments(options: Mapping[str, Json]) -> list[str]:
    """Return a part's options as sbatch takes them on its command line."""
    return list(_arguments(options))


def _arguments(options: Mapping[str, Json]) -> Iterator[str]:
    for name, value in sorted(options.items()):
        if name == "additional_parameters":
            yield from _arguments(value)
        elif value in (None, False) or name in _NOT_ASKED:
            continue
        elif value is True:
            yield f"--{name}"
        else:
            yield f"--{name.replace('_', '-')}={value}"


def in_words(part: Part) -> str:
    """Say what one allocation of a part asks for."""
    gpus, nodes = part.terms.get("gpus", 0), part.options.get("nodes", 1)
    cpus = part.options.get("cpus_per_task", 1) * part.options.get("ntasks_per_node", 1)
    asked = [f"{cpus} CPUs" if cpus != 1 else "1 CPU", f"{part.terms.get('memory_mb', 0) / 1024:.3g} G", f"{part.options['time']} min"]
    if gpus:
        asked.insert(0, f"{gpus} GPUs" if gpus != 1 else "1 GPU")
    if nodes != 1:
        asked.append(f"{nodes} nodes")
    where = f" in '{part.options['partition']}'" if "partition" in part.options else ""
    return ", ".join(asked) + where
