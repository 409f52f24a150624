"""The pages of the methods, written from the trainers' declarations and from `docs/methods/origins.yaml`: `docs/methods/<trainer>.md`.

`python -m orchestrator.method_page docs/methods` writes all of them and the page that lists them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from jobs.catalog import Declaration
from orchestrator.documents import read_document
from orchestrator.key_tables import shown_value, table
from orchestrator.preset_page import value_tables
from trainers.data.cards import load_card

ROOT = Path(__file__).parents[1]
SWEEPS = ROOT / "sweeps"
ORIGINS = ROOT / "docs" / "methods" / "origins.yaml"
INDEX = "index.md"
_NOTICE = "Written from the code and from [origins.yaml](origins.yaml) by `make docs`; a test holds it current."
_OURS = (
    "The code here is Apache-2.0. It was written from publications and from what public code was seen to do, and none of it was copied. A",
    "licence or a patent of others may bind how you use a method, a file of weights or a data set all the same. What stands here is what",
    "their authors say, and where they say it. It is no legal opinion.",
)


def origins() -> dict[str, Any]:
    """Return what each method goes back to, by trainer. Raises SweepError for a file that is no YAML of ours."""
    return read_document(ORIGINS).plain()


def pages(catalog: Mapping[str, Declaration]) -> dict[str, str]:
    """Return the page of every trainer, and the one that lists them, as Markdown by file name. Raises KeyError without an origin."""
    known = origins()
    uses = _sweeps_by_trainer()
    found = {f"{name}.md": method_page(one, known[name], uses.get(name, ())) for name, one in catalog.items()}
    return {INDEX: index_page(catalog, known), **found}


def index_page(catalog: Mapping[str, Declaration], known: Mapping[str, Any]) -> str:
    """Return the page that lists the methods."""
    rows: list[tuple[str, ...]] = []
    for name, declaration in catalog.items():
        origin = known[name]
        papers = ", ".join(_short(paper) for paper in origin["papers"]) or "ours"
        rows.append(
            (f"[{origin['title']}]({name}.md)", f"`{name}`", _learns(declaration), papers, "pending" if "patents" in origin else "")
        )
    heads = ("method", "trainer", "learns from", "goes back to", "patents")
    lines = [
        "# Methods",
        "",
        _NOTICE,
        "",
        "A method is a trainer that a phase of a sweep names. Each page says what it is, what its presets set, where",
    ]
    lines += ["its defaults depart from the publication, what to cite, and which licences code, weights and data have.", ""]
    return "\n".join([*lines, *table(heads, rows), "", *_OURS]) + "\n"


def method_page(declaration: Declaration, origin: Mapping[str, Any], sweeps: Sequence[tuple[str, str]]) -> str:
    """Return the page of one method: `sweeps` are the files that train it, with their questions."""
    name = declaration.name
    lines = [f"# {origin['title']}", "", _NOTICE, "", origin["what"], ""]
    if "patents" in origin:
        lines += [
            "> **Patents pending.** " + origin["patents"] + " Whether you may use the method is for you, or your institution, to decide.",
            "",
        ]
    lines += [*table(("", ""), _facts(declaration, origin)), "", *_sweeps(sweeps)]
    lines += ["## Presets", "", *_presets(declaration), "", "## Where the defaults depart", "", *_departures(declaration)]
    lines += ["", "## Cite", "", *_citations(origin["papers"]), "", "## Licences", "", *_licences(origin), "", *_OURS]
    return "\n".join(lines).replace(f"{name}.md#", "#") + "\n"


def _facts(declaration: Declaration, origin: Mapping[str, Any]) -> list[tuple[str, str]]:
    name = declaration.name
    rows = [
        ("trainer", f"`{name}`, version {declaration.version}"),
        ("in short", declaration.about),
        ("learns from", _learns(declaration)),
    ]
    if declaration.roles and declaration.starts:
        rows.append(("a parent may be", ", ".join(f"`{role}`" for role in declaration.roles)))
    if declaration.embeddings:
        rows.append(("hands out embeddings of", ", ".join(f"`{one}`" for one in declaration.embeddings)))
    if declaration.needs:
        rows.append(("files that prediction reads too", ", ".join(f"`{key}`" for key in declaration.needs)))
    guide = PurePosixPath(origin["guide"])
    title = (ROOT / "docs" / guide).read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    rows.append(("how to run it", f"[{title}]({os.path.relpath(guide, 'methods')})"))
    rows.append(("every key, with its default", f"[reference](../reference.md#{name})"))
    return rows


def _learns(declaration: Declaration) -> str:
    if not declaration.labels:
        return "images alone"
    if declaration.floor:
        return "labels and an 8 x 8 thumbnail"
    words = {"multilabel": "findings", "multiclass": "classes", "segmentation": "masks"}
    told = " or ".join(words[task] for task in declaration.tasks)
    return told + (", of several data sets" if declaration.by_source is not None else "")


def _sweeps(sweeps: Sequence[tuple[str, str]]) -> list[str]:
    if not sweeps:
        return []
    rows = [(f"[`sweeps/{file}`](../../sweeps/{file})", about) for file, about in sweeps]
    return ["## Sweeps that train it", "", *table(("file", "question"), rows), ""]


def _presets(declaration: Declaration) -> list[str]:
    if not declaration.presets:
        return ["None: a phase sets what it wants under `config`, and the rest are defaults."]
    lines = [
        "`preset: NAME` stands beside `trainer` in a phase. Why each value is what it is, is told in [presets](../presets.md); without a"
    ]
    return [*lines, "preset every key has its default.", *value_tables(declaration)]


def _departures(declaration: Declaration) -> list[str]:
    if not declaration.departures:
        return ["There is no publication or release that it follows."]
    rows = [(f"`{key}`", shown_value(theirs), shown_value(ours), why) for key, (theirs, ours, why) in declaration.departures.items()]
    return table(("key", "paper or release", "here", "why"), rows)


def _citations(papers: Sequence[Mapping[str, Any]]) -> list[str]:
    if not papers:
        return ["Nothing but this project."]
    lines = ["```bibtex", "\n\n".join(bibtex(paper) for paper in papers), "```", ""]
    return [*lines, *(f"- `{paper['key']}`: {paper['source']}" for paper in papers)]


def bibtex(paper: Mapping[str, Any]) -> str:
    """Return a paper as a BibTeX entry."""
    fields = [f"  {name:<13} = {{{value}}}," for name, value in paper["fields"].items()]
    return "\n".join([f"@{paper['kind']}{{{paper['key']},", *fields, "}"])


def _short(paper: Mapping[str, Any]) -> str:
    authors = paper["fields"]["author"].split(" and ")
    return authors[0].split(",")[0] + (" et al. " if len(authors) > 2 else " ") + paper["fields"]["year"]


def _licences(origin: Mapping[str, Any]) -> list[str]:
    rows = [("this implementation", "code", "Apache-2.0", "[LICENSE](../../LICENSE)")]
    for what in ("code", "weights"):
        rows += [(one["name"], what, one["licence"], one["source"]) for one in origin[what]]
    rows += [
        (f"{load_card(card).title} (card `{card}`)", "data", load_card(card).licence, f"[card](../reference.md#{card})")
        for card in origin["data"]
    ]
    return table(("of what", "kind", "licence", "where that was read"), rows)


def _sweeps_by_trainer() -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted(SWEEPS.glob("*.yaml")):
        content = read_document(path).plain()
        for trainer in dict.fromkeys(_trainers(content)):
            found.setdefault(trainer, []).append((path.name, content.get("about", "")))
    return found


def _trainers(content: Mapping[str, Any]) -> Iterator[str]:
    for phase in content.get("phases", {}).values():
        if "trainer" in phase:
            yield phase["trainer"]


def main(arguments: Sequence[str]) -> None:
    """Write every page into a folder."""
    from orchestrator.reference import own_trainers

    (folder,) = map(Path, arguments)
    written = pages(own_trainers())
    for stale in {path.name for path in folder.glob("*.md")} - set(written):
        (folder / stale).unlink()
    for name, text in written.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
