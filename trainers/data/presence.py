"""Which images of an index are not on disk: one listing a folder, and of data in very many folders an answer that is remembered."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainers.errors import DataError

#: What a source's `missing` may be.
REFUSE, SKIP = "refuse", "skip"
#: Data in more folders than this is listed once for a cache; what was missing then is looked for again each time.
REMEMBERED_FROM = 1000
#: How many images an error names.
_SHOWN = 10


def missing_images(files: Sequence[Path]) -> list[int]:
    """Return the positions of the files that are not there. Raises DataError when a folder cannot be listed."""
    there: dict[Path, frozenset[str]] = {}
    gone: list[int] = []
    for position, file in enumerate(files):
        folder = file.parent
        if folder not in there:
            there[folder] = _names(folder)
        if file.name not in there[folder]:
            gone.append(position)
    return gone


def remembered_missing(names: Sequence[str], files: Sequence[Path], cache: Path, about: Mapping[str, Any]) -> list[int]:
    """Return the positions of the files that are not there; `about` is what, besides the names, says which data it is.

    Where there are very many folders the answer is kept under `cache`. An image that goes away later is found when it is read.
    """
    if len({file.parent for file in files}) <= REMEMBERED_FROM:
        return missing_images(files)
    content = json.dumps(about, sort_keys=True) + "\n".join(names) + str(os.path.commonpath(files))
    kept = cache / "present" / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.json"
    try:
        known = json.loads(kept.read_text(encoding="utf-8"))
        if isinstance(known, list):
            return [position for position in known if not files[position].exists()]
    except (OSError, ValueError, TypeError, IndexError):
        pass
    found = missing_images(files)
    remember(kept, found)
    return found


def remember(file: Path, content: Any) -> None:
    """Keep what was looked up as JSON, whole or not at all; without room for it, it is looked up again."""
    aside = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps(content), encoding="utf-8")
        aside.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def refuse_missing(card: str, where: str, names: Sequence[str], of: int) -> None:
    """Raise DataError with how many images are missing, and the first of them."""
    if names:
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")
        raise DataError(
            f"data set '{card}' at {where} lacks {len(names):,} of {of:,} images: {shown}: copy them again from the release, or write "
            "`missing: skip` in the sweep, which leaves them out and says so in the report"
        )


def _names(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise DataError(f"folder {folder} cannot be listed ({error.strerror}): check the disk and the permissions") from error
