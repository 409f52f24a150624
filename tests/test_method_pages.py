"""Each method has a page: current, with what it cites, its licences and what is patented, and nothing of it made up."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator import method_page, reference
from orchestrator.key_tables import shown_value
from trainers.data.cards import list_cards, load_card

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "methods"
TRAINERS = reference.own_trainers()
ORIGINS = method_page.origins()


def page_of(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def entries_of(page: str) -> dict[str, dict[str, str]]:
    """Return the BibTeX entries of a page: key -> field -> value. Fails on what is no BibTeX."""
    found: dict[str, dict[str, str]] = {}
    for block in re.findall(r"(?s)```bibtex\n(.*?)```", page):
        rest = block
        for entry in re.finditer(r"(?ms)^@(\w+)\{([^,]+),\n(.*?)^\}\n", block):
            fields = dict(re.findall(r"(?m)^  (\w+)\s+= \{(.*)\},$", entry[3]))
            assert len(fields) == len(entry[3].splitlines())
            assert all(value.count("{") == value.count("}") for value in fields.values())
            found[entry[2]] = fields
            rest = rest.replace(entry[0], "")
        assert rest.strip() == ""
    return found


def test_pages_are_current() -> None:
    written = method_page.pages(TRAINERS)
    assert {path.name for path in FOLDER.glob("*.md")} == set(written)
    for name, text in written.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, "type: make docs"


def test_every_trainer_says_where_it_comes_from() -> None:
    assert set(ORIGINS) == set(TRAINERS)


def rows_of(text: str) -> list[list[str]]:
    """Return the rows of the tables in a text, cell by cell."""
    lines = [line.strip("| ") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.replace("\\|", "|") for cell in re.split(r"(?<!\\) \| ", line)] for line in lines]


@pytest.mark.parametrize("name", TRAINERS)
def test_a_page_tells_presets_and_departures(name: str) -> None:
    declaration = TRAINERS[name]
    parts = dict(re.findall(r"(?ms)^## (.+?)\n(.*?)(?=^## |\Z)", page_of(name)))
    told: dict[tuple[str, str], str] = {}
    heads: list[str] = []
    for row in rows_of(parts["Presets"]):
        heads = row if row[0] == "key" else heads
        told |= {(preset, row[0].strip("`")): value for preset, value in zip(heads[1:-1], row[1:-1], strict=True)}
    for preset, settings in declaration.presets.items():
        assert {key: told[preset, key] for key in settings} == {key: shown_value(value) for key, (value, _) in settings.items()}
    departures = {row[0].strip("`"): row[1:] for row in rows_of(parts["Where the defaults depart"])[2:]}
    wanted = {key: [shown_value(theirs), shown_value(ours), why] for key, (theirs, ours, why) in declaration.departures.items()}
    assert departures == {key: [" ".join(cell.split()) for cell in row] for key, row in wanted.items()}


@pytest.mark.parametrize("name", TRAINERS)
def test_citations_are_whole(name: str) -> None:
    papers = ORIGINS[name]["papers"]
    entries = entries_of(page_of(name))
    assert entries == {paper["key"]: paper["fields"] for paper in papers}
    for fields in entries.values():
        assert {"author", "title", "year"} <= set(fields)
        # "Family, Given and Family, Given": what BibTeX sorts and shortens by.
        assert all(re.fullmatch(r"[^,]+, [^,]+", author) for author in fields["author"].split(" and "))
        assert re.fullmatch(r"(19|20)\d\d", fields["year"])
        assert "doi" not in fields or re.fullmatch(r"10\.\d{4,}/\S+", fields["doi"])
    assert all(paper["source"] for paper in papers)


@pytest.mark.parametrize("name", TRAINERS)
def test_licences_are_told_with_their_source(name: str) -> None:
    origin, page = ORIGINS[name], page_of(name)
    told = page.split("## Licences")[1]
    for one in [*origin["code"], *origin["weights"]]:
        assert set(one) == {"name", "licence", "source"} and all(one.values())
        assert all(text in told for text in one.values())
    for card in origin["data"]:
        assert card in list_cards() and load_card(card).licence in told


def test_what_is_patented_stands_first() -> None:
    pending = {name for name, origin in ORIGINS.items() if "patents" in origin}
    # Every method whose authors' code has the licence of Arizona State University, whose papers say so.
    assert {"ark", "classification", "segmentation", "simmim"} == pending
    for name in TRAINERS:
        assert ("**Patents pending.**" in page_of(name).split("## ")[0]) == (name in pending)
    assert page_of("index").count("| pending |") == len(pending)


def test_a_method_that_learns_from_no_labels_says_so() -> None:
    said: dict[str, Any] = {name: page_of(name) for name in TRAINERS}
    assert {name for name, page in said.items() if "| learns from | images alone |" in page} == {
        name for name, one in TRAINERS.items() if not one.labels
    }
