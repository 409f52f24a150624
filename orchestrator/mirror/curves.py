"""The sweep's own run of the mirror: the report, a note that says it in short, and label-efficiency curves that the UI can draw."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.paths import RunPaths
from orchestrator.mirror.entries import SWEEP, Entry, Point, clean_key
from orchestrator.mirror.outcomes import read_json
from orchestrator.mirror.trials import plan_digest
from orchestrator.model import Contamination, Plan

#: Letters of a note; MLflow cuts a tag at 8,000.
NOTE_LENGTH = 7_500
_LEFT_OUT_ROOM = 160
_LONGEST_WORDS = 1_500
EXPERIMENT_NOTE_LENGTH = 15_000
_LARGEST = 20_000_000


def report_entry(plan: Plan, run: RunPaths, *, time: int) -> Entry | None:
    """Return the entry of a sweep's report; None while there is none.

    It carries the time of its newest trial (milliseconds since the epoch), so that it stands above the trials where the newest come first.
    """
    folder = run.sweep(plan.sweep).report
    report = read_json(folder / "report.json")
    if report is None:
        return None
    return Entry(
        key=SWEEP,
        name=f"{plan.sweep} report",
        status="FINISHED",
        started=time,
        ended=time,
        tags={
            "sweep": plan.sweep,
            "plan": plan_digest(plan),
            "made_data": str(plan.made_data).lower(),
            "mlflow.note.content": _note(report),
        },
        points=tuple(curve_points(report)),
        artifacts={f"report/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in _files(folder)},
    )


def curve_points(report: Mapping[str, Any]) -> list[Point]:
    """Return the curves of a report as `curve/<arm>/<measure>` with `_lo` and `_hi`, step = mean number of labelled images.

    With several test sets it is `curve/<test set>/<arm>/<measure>`. What has no number of labels, or no estimate, is no point.
    """
    names = _names(report)
    points: dict[tuple[str, int], Point] = {}
    for cell in report.get("cells", ()):
        if cell.get("label") is not None or cell.get("n_labeled") is None:
            continue
        key, step = f"{names[cell['test_set'], cell['arm']]}/{cell['measure']}", round(cell["n_labeled"])
        for suffix, bound in (("", "estimate"), ("_lo", "low"), ("_hi", "high")):
            if cell.get(bound) is not None:
                point = Point(clean_key(key + suffix), step, float(cell[bound]), 0)
                points.setdefault((point.key, step), point)
    return sorted(points.values(), key=lambda point: (point.key, point.step))


def experiment_note(plan: Plan) -> str:
    """Return what stands above the runs of an experiment: the question, a warning where one is due, and how to compare draws."""
    warning = "**Made data: the numbers say nothing about patients.**" if plan.made_data or plan.sample else ""
    lines = [
        f"## {plan.sweep}",
        plan.about,
        warning,
        *(f"**Allowed: {one.sentence}**" for one in plan.contamination),
        "One run is one training; `orchestrate sync` writes them from files, so that nothing here feeds a decision. "
        "Runs that differ only by their draw share the tag `cell`: group by it. Each run's params hold every label (`init`, "
        "`label_fraction`, `n_labeled`, `draw`, `seed`, ...). A box plot over draws: choose runs, Compare, Box plot, "
        "x = `label_fraction` or `init`, y = a `test/...` metric.",
        f"The run `{plan.sweep} report` holds the report as artifacts, and per arm `curve/...` with its interval (`_lo`, `_hi`) "
        "over the number of labels.",
    ]
    return "\n\n".join(line for line in lines if line)[:EXPERIMENT_NOTE_LENGTH]


def _names(report: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Return the head of a curve's name by test set and arm; arms whose titles read the same are numbered."""
    sets = report.get("test_sets", ())
    names: dict[tuple[str, str], str] = {}
    for one in sets:
        taken: set[str] = set()
        for arm in one["arms"]:
            title = _slug(arm["title"])
            name = next(found for found in _numbered(title) if found not in taken)
            taken.add(name)
            names[one["key"], arm["key"]] = "/".join(["curve", *([_slug(one["key"])] if len(sets) > 1 else []), name])
    return names


def _numbered(title: str) -> Iterator[str]:
    yield title
    number = 2
    while True:
        yield f"{title} {number}"
        number += 1


def _slug(text: str) -> str:
    """Return a title without what MLflow refuses: `imagenet · freeze backbone` becomes `imagenet - freeze backbone`."""
    return re.sub(r"[^\w.\- :]+", "-", text).strip(" -.") or "arm"


def _note(report: Mapping[str, Any]) -> str:
    """Return the report in short, as markdown: whole paragraphs, and how many were left out where not all have room."""
    head = [f"## {_shortened(report.get('title') or report.get('sweep'))}"]
    if report.get("made_data"):
        head.append("**Made data: the numbers say nothing about patients.**")
    head += [f"**Allowed: {Contamination(**one).sentence}**" for one in report.get("contamination", ())]
    if report.get("about"):
        head.append(_shortened(report["about"]))
    verdicts = [f"- {verdict['claim']} {verdict['evidence']}".strip() for verdict in report.get("verdicts", ())]
    warnings = [f"- {warning}" for warning in report.get("warnings", ())]
    end = f"{report.get('n_present')} of {report.get('n_planned')} evaluations. All of it: artifact `report/report.html`."
    # What is left out is said in a line of its own, which has room whatever its numbers are.
    room = NOTE_LENGTH - len(end) - _LEFT_OUT_ROOM
    kept = _fitting([*head, *verdicts, *warnings], room)
    left = [max(0, len(some) - max(0, kept - before)) for some, before in ((verdicts, len(head)), (warnings, len(head) + len(verdicts)))]
    return "\n\n".join([*[*head, *verdicts, *warnings][:kept], *_left_out(*left), end])


def _shortened(text: object) -> str:
    """Cut what a person wrote between words, where it would leave no room for what came out."""
    said = str(text)
    return said if len(said) <= _LONGEST_WORDS else textwrap.shorten(said, _LONGEST_WORDS, placeholder=" …")


def _fitting(paragraphs: Sequence[str], room: int) -> int:
    """Return how many paragraphs from the first have room, with the empty line after each."""
    used = 0
    for index, paragraph in enumerate(paragraphs):
        used += len(paragraph) + 2
        if used > room:
            return index
    return len(paragraphs)


def _left_out(verdicts: int, warnings: int) -> list[str]:
    """Say what of a report a note had no room for, and where it stands."""
    counted = [
        f"{count:,} more {noun}{'s' if count > 1 else ''}" for count, noun in ((verdicts, "comparison"), (warnings, "warning")) if count
    ]
    return [f"*Not in this note: {' and '.join(counted)}. They stand at the top of `report/report.html`.*"] if counted else []


def _files(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return [path for path in found if path.stat().st_size <= _LARGEST]
