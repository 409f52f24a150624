"""What could be deleted without losing a fact: resume files of finished jobs, decoded images, folders of jobs that no plan has."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.checkpoints import CheckpointStore
from jobs.paths import RunPaths
from orchestrator.ledger import states
from orchestrator.model import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """One file or folder that could go."""

    path: Path
    size: int
    why: str


def find(run: RunPaths, plans: Iterable[Plan]) -> list[Garbage]:
    """List what could be deleted, largest first. Results, predictions and kept checkpoints of planned jobs are never listed."""
    planned = {job.job_id for plan in plans for job in plan.jobs}
    found = [*_unplanned(run, planned), *_resume_files(run, planned), *_cache(run)]
    return sorted(found, key=lambda item: (-item.size, str(item.path)))


def delete(found: Sequence[Garbage]) -> None:
    """Delete what was listed."""
    for item in found:
        if item.path.is_dir():
            shutil.rmtree(item.path)
        else:
            item.path.unlink(missing_ok=True)


def _unplanned(run: RunPaths, planned: set[str]) -> list[Garbage]:
    """Return folders of jobs that no stored plan has and that nobody runs."""
    folders = [folder for folder in (run.root / "jobs").glob("*/*") if folder.is_dir() and folder.name not in planned]
    known = states(run, [folder.name for folder in folders])
    return [Garbage(path=folder, size=_size(folder), why="job of no stored plan") for folder in folders if not known[folder.name].is_live]


def _resume_files(run: RunPaths, planned: set[str]) -> list[Garbage]:
    """Return resume files of jobs that have their result."""
    found: list[Garbage] = []
    for job in sorted(planned):
        paths = run.job(job)
        if paths.result.exists():
            store = CheckpointStore(paths.checkpoints)
            found += [
                Garbage(path=file, size=file.stat().st_size, why="resume file of a finished job")
                for file in store.folder.glob("state-*.pt")
            ]
    return found


def _cache(run: RunPaths) -> list[Garbage]:
    return [
        Garbage(path=folder, size=_size(folder), why="decoded images, made again when needed")
        for folder in (run.cache / "images").glob("*")
    ]


def _size(folder: Path) -> int:
    if folder.is_file():
        return folder.stat().st_size
    return sum(os.lstat(f"{base}/{name}").st_size for base, _, names in os.walk(folder) for name in names)
