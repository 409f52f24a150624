"""A job of a minute in each kind of partition, that looks whether a node has what jobs need: `doctor --deep`."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from jobs.paths import RunPaths
from jobs.spec import Json, Resources, pretty_json
from orchestrator.backends.slurm import commands, snapshot
from orchestrator.backends.slurm.forecast import arguments
from orchestrator.backends.slurm.pending import waiting_for
from orchestrator.backends.slurm.probe import ANSWER, ASKED
from orchestrator.backends.slurm.request import options_of, python_command, setup_lines
from orchestrator.checks import Check
from orchestrator.errors import BackendError
from orchestrator.model import ClusterConfig, Partition

#: Seconds that a visitor may wait in the queue and run.
PATIENCE = 600.0
LOOK_EVERY = 2.0
MINUTES = 5
MEMORY_MB = 4096


def visit(cluster: ClusterConfig) -> Iterator[Check]:
    """Send a job to the first partition with GPUs and the first without, and say what it found there."""
    kinds = {one.gpus > 0: one for one in reversed(cluster.partitions)}
    for partition in [kinds[key] for key in sorted(kinds)] or [None]:
        yield from _visit_one(cluster, partition)


def _visit_one(cluster: ClusterConfig, partition: Partition | None) -> Iterator[Check]:
    name = f"node of {partition.name}" if partition else "node"
    run = RunPaths(cluster.run_root.absolute())
    folder = run.root / "doctor" / uuid.uuid4().hex[:12]
    folder.mkdir(parents=True)
    try:
        gpus = 1 if partition and partition.gpus else 0
        places = [str(place.absolute()) for place in (cluster.data_root, *cluster.data.values()) if place is not None]
        (folder / ASKED).write_text(pretty_json({"places": places}), encoding="utf-8")
        script = folder / "visit.sh"
        script.write_text(_script(cluster, run, folder), encoding="utf-8")
        number = _submit(cluster, partition, folder, script, gpus)
        said = _wait(number, folder)
        yield from _findings(name, folder, said, gpus)
    except BackendError as error:
        yield Check(what=name, ok=False, text=str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _script(cluster: ClusterConfig, run: RunPaths, folder: Path) -> str:
    """Write the same lines around Python as a job's script has."""
    python = python_command(cluster, sys.executable)
    lines = setup_lines(cluster, snapshot.take(run, cluster))
    return "\n".join(["#!/bin/bash", *lines, f"{python} -m orchestrator.backends.slurm.probe {shlex.quote(str(folder))}", ""])


def _submit(cluster: ClusterConfig, partition: Partition | None, folder: Path, script: Path, gpus: int) -> str:
    memory = min(MEMORY_MB, partition.memory_mb) if partition else MEMORY_MB
    asked = Resources(gpus=gpus, cpus=1, memory_mb=memory, time_minutes=MINUTES)
    options = options_of(asked, "doctor", cluster) | ({"partition": partition.name} if partition else {})
    extra = [f"--job-name=orch-doctor-{folder.name}", f"--output={folder}/output", "--parsable"]
    return commands.run("sbatch", *arguments(options), *extra, str(script)).strip().split(";")[0]


def _wait(number: str, folder: Path) -> str:
    """Wait until the job has answered or gone. Returns why there is no answer; a job that waits too long is cancelled."""
    until = time.monotonic() + PATIENCE
    reason = ""
    try:
        while not (folder / ANSWER).exists():
            state, _, why = commands.run("squeue", "--noheader", f"--job={number}", "--states=all", "--format=%T|%r").strip().partition("|")
            if state not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"):
                time.sleep(LOOK_EVERY)
                return "" if (folder / ANSWER).exists() else f"the job ended ({state.lower() or 'unknown'}) and left no answer here"
            reason = waiting_for(why).why if state == "PENDING" else "it runs"
            if time.monotonic() > until:
                return f"no answer within {PATIENCE / 60:.0f} minutes: {reason}"
            time.sleep(LOOK_EVERY)
    finally:
        commands.call("scancel", number)
    return ""


def _findings(name: str, folder: Path, said: str, gpus: int) -> Iterator[Check]:
    if said:
        output = folder / "output"
        lines = output.read_text(encoding="utf-8", errors="replace").splitlines()[-3:] if output.exists() else []
        told = " | ".join(lines) or "it printed nothing that can be seen here, so the node may not see `run_root`"
        yield Check(what=name, ok=False, text=f"{said}: {told}")
        return
    found: dict[str, Json] = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
    yield Check(what=name, ok=True, text=f"{found['node']}, Python {found['python']}, {found['cpus']} CPUs; it sees the run root")
    failed = found["failed_imports"]
    if failed:
        text = f"cannot import {', '.join(failed)}: correct `setup`, `container` or `slurm: {{python: ...}}`"
        yield Check(what=name, ok=False, text=text)
    else:
        yield Check(what=name, ok=True, text="imports what jobs import")
    if found["missing"]:
        yield Check(what=name, ok=False, text=f"does not see {', '.join(found['missing'])}: correct `data` or `data_root`")
    if gpus and found["gpus"]:
        yield Check(what=name, ok=True, text=f"PyTorch sees {found['gpus']} GPU, as asked for")
    elif gpus:
        yield Check(what=name, ok=False, text="PyTorch sees no GPU: look at the driver there, or at `slurm: {gres: ...}`")
