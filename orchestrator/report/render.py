"""A report as files: one self-contained page, the same as Markdown, the values as JSON, the figures, and provenance apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.paths import write_atomically
from jobs.spec import Json
from orchestrator.report import figures, findings, provenance, record, tables, wording
from orchestrator.report.entries import Entry, Table
from orchestrator.report.figures import Figure
from orchestrator.report.values import Report, TestSet, Verdict

#: Verdicts shown before the rest is folded away.
FIRST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What the page shows of one test set."""

    test_set: TestSet
    figure: Figure | None
    headline: Table | None
    differences: Table | None
    folds: Table | None
    #: (title of the size, areas by finding, differences by finding).
    findings: tuple[tuple[str, Table, Table | None], ...]


def write(report: Report, folder: Path, origin: Mapping[str, Json] | None = None) -> Path:
    """Write `report.html`, `report.md`, `report.json`, `figures/*.svg` and, from `origin`, `provenance.json`; return the page's path.

    `origin` is what `orchestrator.report.provenance.provenance` returned. Every file is replaced whole.
    """
    shown = sections(report)
    write_atomically(folder / "report.json", record.text(report).encode())
    for section in shown:
        if section.figure is not None:
            write_atomically(folder / "figures" / f"{section.figure.key}.svg", figures.standalone(section.figure).encode())
    write_atomically(folder / "report.md", markdown(report, shown).encode())
    if origin is not None:
        write_atomically(folder / "provenance.json", provenance.text(origin).encode())
    page = folder / "report.html"
    write_atomically(page, html(report, shown, origin).encode())
    return page


def sections(report: Report) -> tuple[Section, ...]:
    """Lay out what is shown of each test set."""
    return tuple(
        Section(
            test_set=test_set,
            figure=None if test_set.by_folds else figures.label_efficiency(report, test_set),
            headline=None if test_set.by_folds else tables.headline(report, test_set),
            differences=None if test_set.by_folds else tables.differences(report, test_set),
            folds=tables.folds(report, test_set) if test_set.by_folds else None,
            findings=_findings(report, test_set),
        )
        for test_set in report.test_sets
    )


def _findings(report: Report, test_set: TestSet) -> tuple[tuple[str, Table, Table | None], ...]:
    if test_set.by_folds or len(test_set.labels) < 2:
        return ()
    return tuple(
        (size.title, findings.findings(report, test_set, size.key), findings.finding_differences(report, test_set, size.key))
        for size in test_set.sizes
    )


def html(report: Report, shown: tuple[Section, ...], origin: Mapping[str, Json] | None = None) -> str:
    """Return the page: it needs no network and no other file."""
    return _environment(autoescape=True).get_template("report.html.j2").render(**_context(report, shown), origin=_origin(origin))


def markdown(report: Report, shown: tuple[Section, ...]) -> str:
    """Return the report as Markdown, verdicts first."""
    return _environment(autoescape=False).get_template("report.md.j2").render(**_context(report, shown))


def _context(report: Report, shown: tuple[Section, ...]) -> dict[str, Any]:
    return {
        "report": report,
        "sections": shown,
        "verdicts": list(report.verdicts[:FIRST]),
        "more_verdicts": list(report.verdicts[FIRST:]),
        "ledger": tables.ledger(report),
        "made_data": wording.MADE_DATA,
        "series": figures.SERIES,
        "symbol": symbol,
        "emphasised": emphasised,
        "level": wording.percent(report.confidence),
    }


def emphasised(claim: str, names: Iterable[str]) -> Any:
    """Return a claim with the names of arms set apart, so that a sentence about `pretrain · real` reads as one."""
    import markupsafe

    wanted = sorted({name for name in names if name}, key=len, reverse=True)
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in wanted)) if wanted else None
    if pattern is None:
        return claim
    parts: list[str] = []
    done = 0
    for found in pattern.finditer(claim):
        parts += [markupsafe.escape(claim[done : found.start()]), markupsafe.Markup("<em>{}</em>").format(found.group())]
        done = found.end()
    return markupsafe.Markup("").join([*parts, markupsafe.escape(claim[done:])])


def symbol(verdict: Verdict) -> str:
    """Return the sign before a verdict."""
    return {"higher": "▲", "lower": "▼", "open": "○", "silent": "–"}[verdict.tone]


def _origin(origin: Mapping[str, Json] | None) -> dict[str, Any] | None:
    if origin is None:
        return None
    jobs = origin["jobs"]
    hosts = sorted({attempt["host"] for job in jobs for attempt in job["attempts"] if attempt.get("host")})
    again = sum(len(job["attempts"]) > 1 for job in jobs)
    return {
        "made_at": origin["made_at"],
        "file": origin["file"],
        "versions": origin["versions"],
        "python": origin["python"],
        "hosts": hosts,
        "jobs": len(jobs),
        "done": sum(job["done"] for job in jobs),
        "again": again,
        "work": _duration(sum(job["seconds"] for job in jobs)),
    }


def _duration(seconds: float) -> str:
    for unit, size in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _environment(*, autoescape: bool) -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["pipe"] = _for_markdown
    return environment


def _for_markdown(entry: Entry) -> str:
    """Write an entry for a Markdown table."""
    marks = f" *({'; '.join(entry.marks)})*" if entry.marks else ""
    below = f" ({entry.below})" if entry.below else ""
    return f"{entry.text}{below}{marks}".replace("|", "\\|")
