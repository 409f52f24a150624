"""A report as files: one self-contained page, the same as Markdown, the values as JSON, the figures, and provenance apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs.paths import RunPaths, write_atomically
from jobs.spec import Json
from orchestrator.report import checklist, latex, lines, provenance, record, tables, wording
from orchestrator.report.blocks import Block
from orchestrator.report.entries import Entry
from orchestrator.report.figures.curves import thinned
from orchestrator.report.figures.drawing import inked, standalone
from orchestrator.report.figures.paper import pdfs
from orchestrator.report.keys import slug
from orchestrator.report.layout import Section, sections
from orchestrator.report.pictures.page import Shown, caption, copy_pictures, on_page, sentences
from orchestrator.report.values import Report, Verdict

#: Verdicts shown before the rest is folded away.
FIRST = 8
#: A page of more bytes opens slowly, and mail refuses it.
LARGEST_PAGE = 2_000_000
#: The folder beside the report that pictures lie in.
PICTURES = "pictures"
#: Blocks that no page is without: the answers, and what to do next.
_ALWAYS = ("headline", "curves", "folds", "pairwise", "next")
#: About how many bytes a cell of a table takes on the page.
_CELL = 150


def write(report: Report, folder: Path, origin: Mapping[str, Json] | None = None, *, run: RunPaths | None = None) -> Path:
    """Write the page and everything beside it; return the page's path.

    `report.html`, `report.md`, `report.json`, `report.csv`, `report.tex` with `tables/*.tex`, `figures/*.svg` and `*.pdf`, `checklist.md`
    and, from `origin`, `provenance.json`. `origin` is what `orchestrator.report.provenance.provenance` returned. Every file is replaced
    whole; figures and tables that the report no longer has go away. Pictures that jobs left are copied from `run` to `pictures/`; without
    it the page takes those that lie there.
    """
    if run is not None:
        copy_pictures(report, run, folder / PICTURES)
    written = record.text(report)
    write_atomically(folder / "report.json", written.encode())
    # Everything else is made from what was written, so that the JSON alone gives the same bytes again, on any machine.
    report = record.parse(written)
    shown = sections(report)
    write_atomically(folder / "report.csv", lines.csv_text(report).encode())
    figures = [figure for part in shown for block in part.blocks for figure in block.all_figures()]
    _replace(folder / "figures", {f"{figure.key}.svg": standalone(figure).encode() for figure in figures}, ".svg")
    _replace(folder / "figures", {f"{key}.pdf": drawn for key, drawn in pdfs(figures).items()}, ".pdf")
    document = latex.document(report, shown)
    _replace(folder / "tables", {Path(name).name: text.encode() for name, text in document.tables.items()}, ".tex")
    write_atomically(folder / "report.tex", document.text.encode())
    write_atomically(folder / "checklist.md", checklist.text(report).encode())
    write_atomically(folder / "report.md", markdown(report, shown).encode())
    if origin is not None:
        write_atomically(folder / "provenance.json", provenance.text(origin).encode())
    page = folder / "report.html"
    write_atomically(page, html(report, shown, origin, folder / PICTURES).encode())
    return page


def _replace(folder: Path, files: Mapping[str, bytes], kind: str) -> None:
    """Make some files all that a folder holds of one kind."""
    for old in folder.glob(f"*{kind}"):
        if old.name not in files:
            old.unlink()
    for name, content in files.items():
        write_atomically(folder / name, content)


def html(report: Report, shown: tuple[Section, ...], origin: Mapping[str, Json] | None = None, pictures: Path | None = None) -> str:
    """Return the page, below `LARGEST_PAGE` bytes: it needs no network and no other file. The largest blocks go first, and say so.

    Pictures, from the folder that they lie in, have the room that is left.
    """
    kept, page = shown, _page(report, shown, origin)
    for smaller in _smaller(shown):
        if len(page.encode()) < LARGEST_PAGE:
            break
        kept, page = smaller, _page(report, smaller, origin)
    if not report.pictures or pictures is None:
        return page
    return _page(report, kept, origin, on_page(report, pictures, LARGEST_PAGE - len(page.encode())))


def _smaller(shown: tuple[Section, ...]) -> Iterator[tuple[Section, ...]]:
    """Yield the sections with one more block left off each time, the largest first."""
    places = [(which, at) for which, part in enumerate(shown) for at, block in enumerate(part.blocks) if block.key not in _ALWAYS]
    blocks = [list(part.blocks) for part in shown]
    for which, at in sorted(places, key=lambda place: -_weight(shown[place[0]].blocks[place[1]])):
        whole = blocks[which][at]
        said = (
            f"Left off this page, which stays below {LARGEST_PAGE // 10**6} MB. Its {len(whole.all_tables())} tables are in report.md and, "
            f"an estimate a row, in report.csv; its {len(whole.all_figures())} figures are in figures/."
        )
        blocks[which][at] = Block(key=whole.key, title=whole.title, sentences=(said,), in_latex=whole.in_latex, of_others=whole.of_others)
        yield tuple(replace(part, blocks=tuple(now)) for part, now in zip(shown, blocks, strict=True))


def _weight(block: Block) -> int:
    drawn = sum(len(svg) for figure in block.all_figures() for svg in figure.on_page())
    return drawn + _CELL * sum(len(row.entries) for table in block.all_tables() for row in table.rows)


def _page(report: Report, shown: tuple[Section, ...], origin: Mapping[str, Json] | None, pictures: tuple[Shown, ...] = ()) -> str:
    figures = [figure for part in shown for block in part.blocks for figure in block.all_figures()]
    drawn, styles = inked(svg for figure in figures for svg in figure.on_page())
    environment = _environment(autoescape=True)
    environment.filters["inked"] = drawn.__getitem__
    return environment.get_template("report.html.j2").render(
        **_context(report, shown),
        origin=_origin(origin),
        drawn_styles=styles,
        pictures=pictures,
        about_pictures=sentences(report, pictures),
    )


def markdown(report: Report, shown: tuple[Section, ...]) -> str:
    """Return the report as Markdown, verdicts first."""
    told = [(one, caption(one, report)) for one in report.pictures]
    return _environment(autoescape=False).get_template("report.md.j2").render(**_context(report, shown), pictures=told)


def _context(report: Report, shown: tuple[Section, ...]) -> dict[str, Any]:
    return {
        "report": report,
        "sections": shown,
        "verdicts": list(report.verdicts[:FIRST]),
        "more_verdicts": list(report.verdicts[FIRST:]),
        "ledger": tables.ledger(report),
        "made_data": wording.made_data(sample=report.sample),
        "contamination": wording.CONTAMINATION,
        "checklist": checklist.answers(report),
        "editions": checklist.EDITIONS,
        "symbol": symbol,
        "emphasised": emphasised,
        "coded": coded,
        "level": wording.percent(report.confidence),
    }


def coded(sentence: str) -> Any:
    """Return a sentence with what stands between backticks, which a person types, set as code."""
    import markupsafe

    parts = sentence.split("`")
    if len(parts) % 2 == 0:
        return sentence
    return markupsafe.Markup("").join(
        markupsafe.Markup("<code>{}</code>").format(part) if index % 2 else part for index, part in enumerate(parts)
    )


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
    return {"better": "▲", "worse": "▼", "open": "○", "silent": "–"}[verdict.tone]


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
    environment.filters["thinned"] = thinned
    environment.filters["slug"] = slug
    environment.tests["plain_sorted"] = lambda entry: (
        entry.sort == entry.text or (isinstance(entry.sort, float) and entry.text == wording.number(entry.sort))
    )
    environment.filters["sortable"] = lambda value: f"{value:.7g}" if isinstance(value, float) else value
    return environment


def _for_markdown(entry: Entry) -> str:
    """Write an entry for a Markdown table."""
    marks = f" *({'; '.join(entry.marks)})*" if entry.marks else ""
    below = f" ({entry.below})" if entry.below else ""
    text = {1: f"**{entry.text}**", 2: f"<ins>{entry.text}</ins>"}.get(entry.rank or 0, entry.text)
    return f"{text}{''.join(entry.signs)}{below}{marks}".replace("|", "\\|")
