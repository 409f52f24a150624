"""The code that jobs run: a copy by content, so that what waits in a queue does not run what was edited meanwhile.

RUN_ROOT/code/<digest>/   shared by every submission of the same code
  orchestrator, jobs, trainers   as they were when a plan was submitted
  theirs/<number>-<name>/        the folders of `trainer_paths` and `card_paths`
  submitted.json                 which of those are which; a job that runs from here reads it before the machine's own record
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jobs.paths import RunPaths, sync_folder
from jobs.spec import pretty_json
from jobs.stages import SUBMITTED
from orchestrator.errors import BackendError
from orchestrator.model import ClusterConfig

PACKAGES = ("orchestrator", "jobs", "trainers")
THEIRS = "theirs"
#: What lies beside code and is none.
_SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules"})
_SKIPPED_ENDINGS = (".pyc", ".pyo", ".swp", "~")
#: A file this large beside code is data or weights: of ours it is left out, and of theirs the copy holds a link.
LARGEST_FILE = 5 * 2**20
#: What a folder of theirs may hold and still be code.
MOST_FILES = 5_000
MOST_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class _Source:
    """One file: where it is, what is copied of it (or linked), and when it was last changed."""

    path: Path
    size: int
    changed: int
    is_link: bool = False


def source_root() -> Path:
    """Return the folder that holds the packages."""
    return Path(__file__).resolve().parents[3]


def folder_of(run: RunPaths, name: str) -> Path:
    """Return the copy of that name."""
    return run.root / "code" / name


def code_folder(run: RunPaths, cluster: ClusterConfig, root: Path | None = None) -> Path:
    """Return where the copy of the code as it is now is, or will be. Raises BackendError for a folder that holds more than code."""
    sources = _sources(run, cluster, root or source_root())
    return folder_of(run, _digest(tuple(sources.items()), _about(cluster))[:16])


def take(run: RunPaths, cluster: ClusterConfig, root: Path | None = None, *, name: str | None = None) -> Path:
    """Copy the code into the run root unless it is there, and return its folder.

    `name` is that of the copy that was promised. Raises BackendError when the code is another by now.
    """
    target = folder_of(run, name) if name else code_folder(run, cluster, root)
    if target.is_dir():
        return target
    sources = _sources(run, cluster, root or source_root())
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        copied = {place: _copy(source, aside / place) for place, source in sources.items()}
        (aside / SUBMITTED).write_text(_about(cluster), encoding="utf-8")
        if _digest(tuple(copied.items()), _about(cluster))[:16] != target.name:
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


def _copy(source: _Source, target: Path) -> _Source:
    """Copy or link one file, and return what came of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_link:
        target.symlink_to(source.path)
        return source
    shutil.copyfile(source.path, target)
    about = target.stat()
    return _Source(target, about.st_size, about.st_mtime_ns)


def _about(cluster: ClusterConfig) -> str:
    """Return what a job is told of the copy: the folders in it that hold trainers and cards, in order."""
    theirs = _theirs(cluster)
    folders = {"trainer_paths": cluster.trainer_paths, "card_paths": cluster.card_paths}
    return pretty_json({key: [theirs[path] for path in paths] for key, paths in folders.items()})


def _theirs(cluster: ClusterConfig) -> Mapping[Path, str]:
    """Return the folders of other people's code, each with its place in the copy."""
    folders = dict.fromkeys((*cluster.trainer_paths, *cluster.card_paths))
    return {folder: f"{THEIRS}/{number}-{folder.name}" for number, folder in enumerate(folders)}


@lru_cache(maxsize=8)
def _digest(sources: tuple[tuple[str, _Source], ...], about: str) -> str:
    """Return the sha256 of names and contents; files that have not changed since are not read again."""
    total = hashlib.sha256(about.encode())
    for place, source in sources:
        if source.is_link:
            content = hashlib.sha256(f"{source.path}\0{source.size}\0{source.changed}".encode()).hexdigest()
        else:
            content = hashlib.sha256(source.path.read_bytes()).hexdigest()
        total.update(f"{content}  {place}\n".encode())
    return total.hexdigest()


# --- which files -------------------------------------------------------------------------------------------------------------------------


def _sources(run: RunPaths, cluster: ClusterConfig, root: Path) -> dict[str, _Source]:
    """Return every file to copy by its place in the copy, in order. Raises BackendError for a folder that holds more than code."""
    found: dict[str, _Source] = {}
    for package in PACKAGES:
        ours = _below(root / package)
        found |= {f"{package}/{name}": source for name, source in ours.items() if source.size <= LARGEST_FILE}
    for folder, place in _theirs(cluster).items():
        found |= {f"{place}/{name}": source for name, source in _code_of(folder, run).items()}
    return dict(sorted(found.items()))


def _code_of(folder: Path, run: RunPaths) -> dict[str, _Source]:
    if not folder.is_dir():
        raise BackendError(f"{folder} is not there: correct `trainer_paths` or `card_paths` of the cluster config")
    found = _below(folder, skipped=(run.root.resolve(), *(source_root() / package for package in PACKAGES)), most=MOST_FILES)
    small = sum(source.size for source in found.values() if source.size <= LARGEST_FILE)
    if len(found) > MOST_FILES or small > MOST_BYTES:
        what = f"more than {MOST_FILES} files" if len(found) > MOST_FILES else f"{small / 2**20:.0f} MB"
        raise BackendError(
            f"{folder} of `trainer_paths` or `card_paths` holds {what}, and jobs get a copy of it; name a folder that holds only code"
        )
    return {
        name: _Source(source.path.resolve(), source.size, source.changed, is_link=True) if source.size > LARGEST_FILE else source
        for name, source in found.items()
    }


def _below(folder: Path, *, skipped: Sequence[Path] = (), most: int | None = None) -> dict[str, _Source]:
    """Return the files below a folder by their path under it; stops soon after `most`. Links to folders are followed, each folder once."""
    found: dict[str, _Source] = {}
    seen: set[Path] = set()
    for base, folders, names in os.walk(folder, followlinks=True):
        here = Path(base)
        real = here.resolve()
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS and not name.startswith("."))
        if real in seen or real in skipped or "pyvenv.cfg" in names:
            folders.clear()
            continue
        seen.add(real)
        found.update((path.relative_to(folder).as_posix(), source) for path, source in _files(here, names))
        if most is not None and len(found) > most:
            break
    return found


def _files(here: Path, names: Sequence[str]) -> Iterator[tuple[Path, _Source]]:
    for name in names:
        path = here / name
        if not name.endswith(_SKIPPED_ENDINGS) and not name.startswith(".") and path.is_file():
            about = path.stat()
            yield path, _Source(path, about.st_size, about.st_mtime_ns)
