"""The code that jobs run: a copy by content, so that what waits in a queue does not run what was edited meanwhile.

RUN_ROOT/code/<digest>/   orchestrator, jobs, trainers as they were when a plan was submitted; shared by every plan with the same code
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from jobs.paths import RunPaths, sync_folder
from orchestrator.errors import BackendError

PACKAGES = ("orchestrator", "jobs", "trainers")
#: What lies beside code and is none.
_SKIPPED_FOLDERS = frozenset({"__pycache__", ".git", ".ipynb_checkpoints"})
_SKIPPED_ENDINGS = (".pyc", ".pyo", ".swp", "~")
#: A file this large beside code is data or weights that somebody left there.
LARGEST_FILE = 5 * 2**20


def source_root() -> Path:
    """Return the folder that holds the packages."""
    return Path(__file__).resolve().parents[3]


def code_folder(run: RunPaths, root: Path | None = None) -> Path:
    """Return where the code's copy is, or will be."""
    return run.root / "code" / digest_of(root or source_root())[:16]


def take(run: RunPaths, root: Path | None = None) -> Path:
    """Copy the code into the run root unless it is there, and return its folder. Raises BackendError when it changes meanwhile."""
    origin = root or source_root()
    target = code_folder(run, origin)
    if target.is_dir():
        return target
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        for name in _files(origin):
            copy = aside / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(origin / name, copy)
        if _digest(aside)[:16] != target.name:
            raise BackendError("the code changed while it was copied for the jobs; submit again", transient=True)
        try:
            aside.rename(target)
        except OSError:
            # Somebody else's copy of the same code was first.
            if not target.is_dir():
                raise
        sync_folder(target.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


@cache
def digest_of(root: Path) -> str:
    """Return the sha256 of the names and contents of the code under a folder, read once a process."""
    return _digest(root)


def _digest(root: Path) -> str:
    total = hashlib.sha256()
    for name in _files(root):
        content = hashlib.sha256((root / name).read_bytes()).hexdigest()
        total.update(f"{content}  {name}\n".encode())
    return total.hexdigest()


def _files(root: Path) -> Iterator[str]:
    """Yield the code's files by their path under the root, sorted."""
    found: list[str] = []
    for package in PACKAGES:
        for folder, folders, names in os.walk(root / package):
            folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS)
            for name in names:
                path = Path(folder, name)
                if not name.endswith(_SKIPPED_ENDINGS) and not name.startswith(".") and path.stat().st_size <= LARGEST_FILE:
                    found.append(path.relative_to(root).as_posix())
    yield from sorted(found)
