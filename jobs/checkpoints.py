"""Checkpoints on disk: written aside, made durable, named last by a manifest with the sha256 of every file.

    checkpoints/
      state-000007.pt, state-000007.json              resume files: the last and the one before it
      epoch-0003.safetensors, .val.parquet, .json     kept checkpoints: the last, and the best by a metric

A checkpoint exists when its manifest does. The manifest is written after its files and removed before them, so that a kill at any
moment leaves each checkpoint whole or absent.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from jobs.paths import sync_folder, write_atomically
from jobs.spec import Json, pretty_json
from trainers.errors import DiskFull, WeightsError

#: Writes a file at a path.
Write: TypeAlias = Callable[[Path], None]

_STATE = re.compile(r"state-(\d{6,})\.")
_KEPT = re.compile(r"[a-z0-9][a-z0-9_-]*")
_KEPT_STATES = 2
_FULL_ERRNO = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: What libraries that hide the error number say of a write that the system cut short: torch.save ("unexpected pos" when it closes the
#: archive, "failed writing" before), safetensors ("os error N"), pyarrow ("errno N").
_FULL_TEXT = re.compile(r"unexpected pos|failed writing|No space left|File too large|quota exceeded|(os error|errno) (27|28|122)\b", re.I)
_LOG = logging.getLogger(__name__)


class CheckpointStore:
    """The checkpoints of one job. One process writes; any may read."""

    def __init__(self, folder: Path, *, warn: Callable[[str], None] = _LOG.warning) -> None:
        self.folder = folder
        self._warn = warn
        self._tidied = False

    # --- resume files --------------------------------------------------------------------------------------------------------------------

    def save_state(self, step: int, epoch: int, write: Write) -> None:
        """Keep a resume file, and of the older ones the newest alone. Raises DiskFull; what was there before stays."""
        self._tidy()
        number = max(self._states(), default=0) + 1
        name = f"state-{number:06d}"
        self._commit(name, {"pt": write}, {"kind": "state", "step": step, "epoch": epoch})
        for old in sorted(self._states())[:-_KEPT_STATES]:
            self._remove(f"state-{old:06d}")

    def latest_state(self) -> Path | None:
        """Return the newest resume file whose sha256 is that of its manifest, or None; says which ones it passed over."""
        for number in sorted(self._states(), reverse=True):
            name = f"state-{number:06d}"
            fault = self._fault(name)
            if not fault:
                return self.folder / f"{name}.pt"
            self._warn(f"{self.folder / name}.pt is passed over: {fault}")
        if self._states():
            self._warn(f"no resume file in {self.folder} is intact: the job starts again from its beginning")
        return None

    def drop_states(self) -> None:
        """Remove every resume file: the job is done."""
        for number in self._states():
            self._remove(f"state-{number:06d}")

    def _states(self) -> list[int]:
        found = (_STATE.fullmatch(name.removesuffix("json")) for name in self._names() if name.endswith(".json"))
        return [int(match[1]) for match in found if match]

    # --- kept checkpoints ----------------------------------------------------------------------------------------------------------------

    def keep(self, name: str, metrics: Mapping[str, float], files: Mapping[str, Write], info: Mapping[str, Any]) -> None:
        """Keep a checkpoint with its files by suffix; `info` holds `step`, `epoch` and `retention` {metric, mode, best}.

        The last is kept, and the `best` ones by the metric (NaN is never best, ties go to the earlier); a negative `best` keeps all, and
        `last: False` the best alone, where any has a value.
        Keeping a name again replaces it. Raises DiskFull; other checkpoints stay.
        """
        if not _KEPT.fullmatch(name) or name.startswith("state-"):
            raise ValueError(f"'{name}' is no name for a checkpoint: lower case letters, digits, - and _")
        self._tidy()
        self._remove(name)
        finite = {key: value if math.isfinite(value) else None for key, value in metrics.items()}
        about = {key: value for key, value in info.items() if key not in ("step", "epoch")}
        self._commit(name, files, {"kind": "kept", "step": info["step"], "epoch": info["epoch"], "metrics": finite, "info": about})
        kept = self.kept()
        stay = retained(kept, info.get("retention") or {})
        for entry in kept:
            if entry["name"] not in stay:
                self._remove(entry["name"])

    def kept(self) -> list[dict[str, Json]]:
        """Return the manifests of kept checkpoints by epoch: name, epoch, step, metrics, files {suffix: {file, sha256, bytes}}, info."""
        names = sorted(name.removesuffix(".json") for name in self._names() if name.endswith(".json"))
        manifests = (self._manifest(name) for name in names if not name.startswith((".", "state-")))
        found = [manifest for manifest in manifests if manifest is not None and manifest.get("kind") == "kept"]
        return sorted(found, key=lambda manifest: (manifest["epoch"], manifest["name"]))

    def file(self, name: str, suffix: str) -> Path:
        """Return a file of a kept checkpoint. Raises WeightsError when it is not there or not what was written."""
        manifest = self._manifest(name)
        again = f"delete {self.folder.parent} and type `orchestrate resume SWEEP`, which runs that job again"
        if manifest is None or suffix not in manifest["files"]:
            known = ", ".join(entry["name"] for entry in self.kept()) or "none"
            raise WeightsError(f"{self.folder}: no {suffix} file of checkpoint '{name}' (kept here: {known}); {again}")
        fault = self._fault(name, only=suffix)
        if fault:
            raise WeightsError(f"{self.folder / name}.{suffix} is not what was written: {fault}; {again}")
        return self.folder / manifest["files"][suffix]["file"]

    # --- files ---------------------------------------------------------------------------------------------------------------------------

    def _names(self) -> list[str]:
        try:
            return os.listdir(self.folder)
        except FileNotFoundError:
            return []

    def _commit(self, name: str, files: Mapping[str, Write], manifest: Mapping[str, Json]) -> None:
        """Write the files, make them durable, and then the manifest. On an error nothing of it stays."""
        self.folder.mkdir(parents=True, exist_ok=True)
        written: dict[str, Json] = {}
        try:
            with _no_space_is_disk_full(self.folder, name):
                for suffix, write in sorted(files.items()):
                    path = self.folder / f"{name}.{suffix}"
                    written[suffix] = {"file": path.name, **_write_file(path, write)}
                sync_folder(self.folder)
                write_atomically(self.folder / f"{name}.json", pretty_json({"name": name, **manifest, "files": written}).encode())
        except BaseException:
            for suffix in files:
                (self.folder / f"{name}.{suffix}").unlink(missing_ok=True)
            raise

    def _manifest(self, name: str) -> dict[str, Json] | None:
        try:
            return json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def _fault(self, name: str, only: str | None = None) -> str:
        """Say what is wrong with a checkpoint's files; empty when they are what was written."""
        manifest = self._manifest(name)
        if manifest is None:
            return "its manifest cannot be read"
        for suffix, entry in manifest["files"].items():
            if only is not None and suffix != only:
                continue
            try:
                size = (self.folder / entry["file"]).stat().st_size
                if size != entry["bytes"]:
                    return f"it has {size} bytes, and {entry['bytes']} were written"
                if _sha256(self.folder / entry["file"]) != entry["sha256"]:
                    return "its sha256 differs from the one that was written"
            except OSError as error:
                return str(error)
        return ""

    def _remove(self, name: str) -> None:
        """Remove a checkpoint, its manifest first."""
        manifest = self._manifest(name)
        (self.folder / f"{name}.json").unlink(missing_ok=True)
        files = [entry["file"] for entry in manifest["files"].values()] if manifest else []
        for file in files or [other for other in self._names() if other.startswith(f"{name}.")]:
            (self.folder / file).unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Before the first write, remove what a killed process left half written."""
        if self._tidied:
            return
        self._tidied = True
        names = self._names()
        for name in names:
            # Ours end in .tmp; safetensors writes aside under names of its own.
            stale = name.startswith(".")
            orphan = _STATE.match(name) is not None and f"{name.split('.')[0]}.json" not in names
            if stale or orphan:
                (self.folder / name).unlink(missing_ok=True)


def retained(kept: Sequence[Mapping[str, Any]], retention: Mapping[str, Any]) -> set[str]:
    """Return the names that stay of manifests in order of epoch: the last, and the `best` by `metric` (`mode` max or min).

    With `last: False` the best alone, unless none has a value.
    """
    best = int(retention.get("best", 1))
    if best < 0:
        return {entry["name"] for entry in kept}
    stay = {kept[-1]["name"]} if kept else set()
    metric = retention.get("metric")
    if metric is None:
        return stay
    sign = -1.0 if retention.get("mode", "max") == "max" else 1.0
    valued = [entry for entry in kept if entry["metrics"].get(metric) is not None]
    ranked = sorted(valued, key=lambda entry: (sign * entry["metrics"][metric], entry["epoch"], entry["name"]))
    chosen = {entry["name"] for entry in ranked[:best]}
    return chosen if chosen and not retention.get("last", True) else stay | chosen


def is_disk_full(error: BaseException) -> bool:
    """Tell whether an exception of a write says that space, quota or the file size limit ran out."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _FULL_ERRNO:
            return True
        if isinstance(seen, Exception) and _FULL_TEXT.search(str(seen)):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


@contextlib.contextmanager
def _no_space_is_disk_full(folder: Path, name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise DiskFull(no_space(folder, error, what=f"checkpoint '{name}'")) from error


def no_space(folder: Path, error: BaseException, what: str = "") -> str:
    """Say for people that a disk is full: where, how full, and what to do."""
    space = os.statvfs(folder)
    free = space.f_bavail * space.f_frsize / 2**20
    what = what or Path(getattr(error, "filename", None) or "what the job makes").name
    return (
        f"{folder}: no space to write {what} ({free:.0f} MB free, or a quota is reached); what was written before is intact: "
        "free some space, or set `run_root` in the cluster config to another disk, then type the same command again"
    )


def _write_file(path: Path, write: Write) -> dict[str, Json]:
    """Write a file aside, fsync it, rename it into place, and return its sha256 and size."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(aside)
        with aside.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    return {"sha256": digest, "bytes": size}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
