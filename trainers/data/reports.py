"""What was written of an image: its report, for cards whose reader knows of reports.

A reader that does defines `reports(card, base, studies)`, which returns a text for each study, its sections under headings in capitals with
a colon, or None where the card names no reports. A text is empty where the report says nothing, and None where its file is not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile, ZipFile

from trainers.data.index import reader_of
from trainers.data.located import Located
from trainers.data.presence import REFUSE, remember
from trainers.errors import DataError

if TYPE_CHECKING:
    from trainers.data.access import Rows

#: Bumped when the same files on disk give other texts.
REPORTS_VERSION = 1
#: How many reports an error names.
_SHOWN = 10
_BROKEN = (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


def reports_of(place: Located, rows: Rows, cache: Path, digests: Mapping[str, str], missing: str) -> list[str | None] | None:
    """Return the report of each row's study, or None when the card names no reports.

    A row has None where a member of a union names none, and, with `missing: skip`, where a file is not there. Texts are kept below
    `cache`. Raises DataError when a report is not there or cannot be read.
    """
    studies = sorted(set(rows.studies.tolist()))
    found = _kept(place, studies, cache, digests)
    if found is None:
        return None
    gone = [study for study in studies if study in found and found[study] is None]
    if gone and missing == REFUSE:
        shown = ", ".join(gone[:_SHOWN]) + (f" and {len(gone) - _SHOWN:,} more" if len(gone) > _SHOWN else "")
        raise DataError(
            f"data set '{place.card.name}' at {place.where} lacks the reports of {len(gone):,} of {len(studies):,} studies: {shown}: copy "
            "them again from the release, or write `missing: skip` in the sweep, which goes on without them"
        )
    return [found.get(study) for study in rows.studies.tolist()]


def packed_texts(archive: Path, names: Sequence[str]) -> list[str | None]:
    """Return the texts of files in a ZIP archive, whatever folder they all lie in; None of those that are not there.

    Raises DataError when the archive is none, or is damaged.
    """
    try:
        with ZipFile(archive) as opened:
            depth = max((name.count("/") for name in names), default=0) + 1
            known = {"/".join(name.split("/")[-depth:]): name for name in opened.namelist()}
            return [decoded(opened.read(known[name])) if name in known else None for name in names]
    except _BROKEN as error:
        raise DataError(f"{archive}: cannot be read as a ZIP archive ({error}): copy it again from the release") from error
    except OSError as error:
        raise DataError(f"{archive} cannot be read ({error.strerror}): check the disk and the permissions") from error


def text_of(file: Path) -> str | None:
    """Return the text of a file, None when it is not there. Raises DataError when it cannot be read."""
    try:
        return decoded(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}): check the disk and the permissions") from error


def decoded(content: bytes) -> str:
    """Return bytes as text: UTF-8, else Latin-1, which anything is; line ends are brought to one kind."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _kept(place: Located, studies: Sequence[str], cache: Path, digests: Mapping[str, str]) -> dict[str, str | None] | None:
    """Return what is known of these studies, from the cache where it has them."""
    about = {"version": REPORTS_VERSION, "card": place.card.name, "files": dict(digests), "made": place.made(), "studies": list(studies)}
    name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
    file = cache / "reports" / f"{name}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        return dict(json.loads(file.read_text(encoding="utf-8")))
    found = _read(place, studies)
    # A file that is not there may come: only whole answers are kept.
    if found is not None and None not in found.values():
        remember(file, found)
    return found


def _read(place: Located, studies: Sequence[str]) -> dict[str, str | None] | None:
    """Return the report of each study; of a union, those of the members that have some, and None when none has."""
    if place.root is not None:
        read = getattr(reader_of(place.card), "reports", None)
        found = None if read is None else read(place.card, place.base, studies)
        return None if found is None else dict(zip(studies, found, strict=True))
    joined: dict[str, str | None] = {}
    for name, member in place.members.items():
        own = [study.removeprefix(f"{name}/") for study in studies if study.startswith(f"{name}/")]
        joined |= {f"{name}/{study}": text for study, text in (_read(member, own) or {}).items()}
    return joined or None
