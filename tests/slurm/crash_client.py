"""What a client of the nursery does: submit one of the plans below, and perhaps die while at it."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import submitit  # noqa: F401  (so that no client has to import it)

from jobs.paths import RunPaths
from jobs.spec import Stage
from orchestrator.backends.slurm import backend, snapshot
from orchestrator.model import ClusterConfig, Plan
from tests.orchestrator.standin import job, plan
from tests.slurm import client
from tests.slurm.fault_points import Points
from tests.slurm.nursery import Errand

LEAN = Path(__file__).parent / "lean"
#: Rows of train jobs from this length on send a canary first.
CANARY = 3
#: The exit code of a client that raised.
RAISED = 70


def study() -> Plan:
    """A shared parent; three points, a canary first, each with a second training that follows it; a pick and its evaluation."""
    parent = job("parent", phase="before")
    points = [job(f"point{n}", (parent,), phase="tune") for n in range(3)]
    later = [job(f"later{n}", (point,), phase="tune") for n, point in enumerate(points)]
    pick = job("pick", tuple(later), phase="tune", stage=Stage.PICK)
    return plan(parent, *points, *later, pick, job("evaluate", (pick,), phase="tune", stage=Stage.EVALUATE), sweep="study")


def sibling() -> Plan:
    """A sweep that shares the parent of `study` and two of its points, and goes on from them by itself."""
    parent = job("parent", phase="before")
    points = [job(f"point{n}", (parent,), phase="tune") for n in range(2)]
    return plan(parent, *points, *(job(f"own{n}", (point,), phase="own") for n, point in enumerate(points)), sweep="sibling")


def row() -> Plan:
    """Three jobs that wait for nothing."""
    return plan(*(job(f"row{n}", phase="row") for n in range(3)), sweep="row")


def failing() -> Plan:
    """A parent that fails, and a child in an array of its own."""
    parent = job("parent", phase="before", config={"fail": "ERROR"})
    return plan(parent, job("child", (parent,), phase="after"), sweep="failing")


PLANS: Mapping[str, Callable[[], Plan]] = {"study": study, "sibling": sibling, "row": row, "failing": failing}


def config(folder: Path, **site: Any) -> ClusterConfig:
    """Return the cluster config of every client: nodes run the stand-in stage, and start in half the time."""
    made = client.config(folder, **{"canary": CANARY, **site})
    return replace(made, setup=(f"export PYTHONPATH={LEAN}:{client.NODE}:{client.ROOT}",))


def share_code(folder: Path, others: Path) -> None:
    """Copy the code into a run root that the others of a test share."""
    cluster = config(others)
    snapshot.take(RunPaths(cluster.run_root), cluster)
    run = config(folder).run_root
    run.mkdir(parents=True)
    (run / "code").symlink_to(cluster.run_root / "code")


def do(errand: Errand) -> int:
    """Submit; returns the exit code of the submission, or `RAISED`."""
    folder = Path(errand.folder)
    log = os.open(folder / f"{errand.name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(log, number)
    os.environ.update(errand.env or {})
    for place, seconds in (errand.shorter or {}).items():
        module, _, name = place.partition(":")
        setattr(import_module(module), name, seconds)
    while errand.after and not Path(errand.after).exists():
        time.sleep(0.01)
    cluster = config(folder, **(errand.site or {}))
    points = Points(cluster.run_root, at=errand.at, signum=errand.signum)
    if errand.at is not None or errand.record:
        points.install()
    try:
        done = client.hand_over(PLANS[errand.plan](), cluster, wait=errand.wait, notify=lambda notice: _note(notice.message))
        points.before("the end")
    except Exception:
        traceback.print_exc()
        return RAISED
    finally:
        if errand.record:
            (folder / f"{errand.name}.points").write_text(json.dumps(points.labels))
    _note(f"submitted {done.submitted}; {dict(done.counts)}; left {sorted(map(str, done.kept.values()))}")
    return done.exit_code


def _note(text: str) -> None:
    if text:
        sys.stdout.write(f"{time.time():.2f} {text}\n")
        sys.stdout.flush()


assert backend, "imported so that no client has to"
