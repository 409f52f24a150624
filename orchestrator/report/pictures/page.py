"""Pictures as files beside a report, and how many of them its page holds."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.paths import RunPaths, write_atomically
from jobs.spec import SHORT_ID
from orchestrator.report.pictures.values import Picture
from orchestrator.report.values import Report

#: What a page holds at most: pictures of a job, pictures, and bytes of them as it writes them.
A_JOB, ON_PAGE, BYTES_ON_PAGE = 6, 36, 900_000
#: A picture narrower than this is shown enlarged by a whole number.
_WIDE = 360


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A picture as a page holds it: the pixels in the page itself, and the size that it is shown at."""

    picture: Picture
    caption: str
    source: str
    width: int
    height: int


# --- files beside the report -------------------------------------------------------------------------------------------------------------


def copy_pictures(report: Report, run: RunPaths, folder: Path) -> None:
    """Make the pictures of a report, as they were when its jobs ended, all that a folder holds of them."""
    wanted = {one.file: one for one in report.pictures}
    for old in folder.glob("*.png"):
        if old.name not in wanted:
            old.unlink()
    for name, one in wanted.items():
        content = _content(run.job(one.job).pictures / name.removeprefix(f"{one.job[:SHORT_ID]}-"), one.sha256)
        if content is not None:
            write_atomically(folder / name, content)


def _content(path: Path, sha256: str) -> bytes | None:
    """Return what a file holds; None where it is gone or another one."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return content if hashlib.sha256(content).hexdigest() == sha256 else None


# --- on the page -------------------------------------------------------------------------------------------------------------------------


def on_page(report: Report, folder: Path, room: int) -> tuple[Shown, ...]:
    """Return the pictures that a page with `room` bytes left holds: the first of each job, in order, while there is room."""
    found: list[Shown] = []
    left, of_job = min(room, BYTES_ON_PAGE), dict[str, int]()
    for one in report.pictures:
        if len(found) == ON_PAGE or of_job.get(one.job, 0) == A_JOB:
            continue
        content = _content(folder / one.file, one.sha256)
        if content is None or len(content) * 4 // 3 + 1000 > left:
            continue
        shown = _shown(one, content, report)
        left -= len(shown.source) + len(shown.caption) + 500
        of_job[one.job] = of_job.get(one.job, 0) + 1
        found.append(shown)
    return tuple(found)


def _shown(one: Picture, content: bytes, report: Report) -> Shown:
    width, height = struct.unpack(">II", content[16:24])
    times = max(1, _WIDE // width)
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return Shown(picture=one, caption=caption(one, report), source=source, width=width * times, height=height * times)


def caption(one: Picture, report: Report) -> str:
    """Say what a picture shows, and of which runs."""
    titles = {arm.key: arm.title for part in report.test_sets for arm in part.arms}
    arms = ", ".join(dict.fromkeys(titles.get(arm, arm) for arm in one.arms))
    what = one.caption or one.name.replace("_", " ").replace("-", " ")
    when = f"test images of {one.test_set}" if one.epoch is None else f"after epoch {one.epoch}"
    return f"{what.rstrip('.')}: {when}, phase {one.phase}; for {arms}."


def sentences(report: Report, shown: Sequence[Shown]) -> tuple[str, ...]:
    """Say what pictures are good for, and where those are that a page does not hold."""
    told = ["Of the first run of each arm, of fixed images that nobody chose. They are examples: no number of this report rests on them."]
    if not report.made_data:
        told.append("They are images of patients: keep this page as the data are kept.")
    if left := len(report.pictures) - len(shown):
        told.append(f"{left} more {'is' if left == 1 else 'are'} not on this page; their files are named in report.json, under `pictures`.")
    return tuple(told)
