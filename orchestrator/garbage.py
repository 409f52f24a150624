"""What could go without losing a fact: resume files of finished jobs, decoded images, folders of jobs that no plan has, old code."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.checkpoints import CheckpointStore
from jobs.paths import RunPaths
from orchestrator.intents import open_intents
from orchestrator.ledger import states
from orchestrator.model import Plan

#: Seconds after which nobody can still be busy with a copy of the code that has no name yet.
_COPIED_WITHIN = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """One file or folder that could go."""

    path: Path
    size: int
    why: str


def find(run: RunPaths, plans: Iterable[Plan]) -> list[Garbage]:
    """List what could be deleted, largest first. Results, predictions and kept checkpoints of planned jobs are never listed."""
    planned = {job.job_id for plan in plans for job in plan.jobs}
    found = [*_unplanned(run, planned), *_resume_files(run, planned), *_cache(run), *_code(run)]
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
        Garbage(path=folder, size=_size(folder), why=f"{what}, made again when needed")
        for kind, what in (("images", "decoded images"), ("features", "features of frozen networks"))
        for folder in (run.cache / kind).glob("*")
    ]


def _code(run: RunPaths) -> list[Garbage]:
    """Return copies of the code that no submission in a queue runs, and what is left of copies that were never finished."""
    used = {held.intent.terms.get("code") for held in open_intents(run) if held.intent.detaches}
    if None in used:
        return []
    found: list[Garbage] = []
    for folder in sorted((run.root / "code").glob("*")):
        if not folder.name.startswith("."):
            why = "" if folder.name in used else "code that nothing in a queue runs, copied again when needed"
        else:
            why = "" if time.time() - folder.stat().st_mtime < _COPIED_WITHIN else "copy of the code that was never finished"
        if why:
            found.append(Garbage(path=folder, size=_size(folder), why=why))
    return found


def _size(folder: Path) -> int:
    if folder.is_file():
        return folder.stat().st_size
    return sum(os.lstat(f"{base}/{name}").st_size for base, _, names in os.walk(folder) for name in names)
