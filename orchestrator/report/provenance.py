"""`provenance.json`: when, where and with what the results came to be. Nothing in it is in `report.json`, and the other way round."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from jobs.events import read_events
from jobs.paths import JobPaths, RunPaths
from jobs.spec import JobSpec, Json
from orchestrator.model import Plan

PACKAGES = ("cxr-orchestrator", "numpy", "scipy", "matplotlib", "pyarrow", "torch", "timm", "scikit-learn", "mlflow", "ray")


def provenance(plan: Plan, run: RunPaths) -> dict[str, Json]:
    """Return where every job of a plan stands, its attempts with clocks and hosts, and the versions that the report was made with."""
    return {
        "sweep": plan.sweep,
        "file": plan.file,
        "run_root": str(run.root),
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "made_on": platform.node(),
        "python": platform.python_version(),
        "versions": versions(),
        "jobs": [job_record(spec, run.job(spec.job_id)) for spec in plan.jobs],
    }


def provenance_of_files(paths: Sequence[Path]) -> dict[str, Json]:
    """Return which files a report of predictions was made from, by sha256, and the versions that it was made with."""
    return {
        "sweep": "predictions",
        "file": ", ".join(path.name for path in paths),
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "made_on": platform.node(),
        "python": platform.python_version(),
        "versions": versions(),
        "files": [
            {"path": str(path), "bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in paths
        ],
        "jobs": [],
    }


def versions() -> dict[str, str]:
    """Return the versions of what is installed, without importing it."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def job_record(spec: JobSpec, paths: JobPaths) -> dict[str, Json]:
    """Return one job's attempts: what happened last, when it ran and where."""
    attempts = [_attempt(number, read_events(one.events)) for number, one in ((one.number, one) for one in paths.attempts())]
    return {
        "job": spec.job_id,
        "trial": spec.trial,
        "stage": str(spec.stage),
        "done": paths.result.exists(),
        "seconds": round(sum(one["seconds"] for one in attempts), 3),
        "attempts": attempts,
    }


def _attempt(number: int, events: list[dict[str, Json]]) -> dict[str, Json]:
    started = next((event for event in events if event["kind"] == "STARTED"), None)
    first, last = (events[0], events[-1]) if events else (None, None)
    return {
        "attempt": number,
        "state": last["kind"] if last else "NEW",
        "failure": (last or {}).get("failure"),
        "host": (started or {}).get("host"),
        "started": (first or {}).get("time"),
        "ended": (last or {}).get("time"),
        "seconds": float(last["time"] - first["time"]) if first and last else 0.0,
    }


def text(content: Mapping[str, Json]) -> str:
    """Return `provenance.json` as text."""
    return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
