"""The report as people open it: from disk, without a network, on a desk, on a phone, in the dark and on paper."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator.report.analysis import build
from orchestrator.report.provenance import provenance
from orchestrator.report.render import write
from tests.browser.test_mlflow_ui import BROWSER
from tests.orchestrator.report.made_run import leave_pair_out, many_arms, quickstart

pytestmark = pytest.mark.needs("chromium")
#: What sticks out of the window: elements whose own width is not held by a scrolling ancestor.
STICKS_OUT = """() => document.documentElement.scrollWidth - document.documentElement.clientWidth"""
COLUMN = """([id, column]) => Array.from(document.querySelectorAll(`#${id} tbody tr`))
    .map(row => row.cells[column].querySelector('.value').textContent)"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write three reports: one like the quickstart's, a large one, and one without a verdict."""
    found: dict[str, Path] = {}
    for name, make in (("quick", quickstart), ("large", many_arms), ("folds", leave_pair_out)):
        root = tmp_path_factory.mktemp(name)
        made, plan = make(root, patients=120, gaps=1) if make is quickstart else make(root)
        found[name] = write(build(plan, made.run), root / "report", provenance(plan, made.run))
    return found


@dataclass(slots=True)
class Seen:
    """A page and everything that it said or asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def opened(pages: dict[str, Path]) -> Iterator[Callable[..., Seen]]:
    """Open reports in a browser whose network is off; at the end nothing was asked for and the console is empty."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=BROWSER.split())
        every: list[Seen] = []

        def show(name: str, *, width: int = 1280, dark: bool = False) -> Seen:
            context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, color_scheme="dark" if dark else "light")
            seen = Seen(page=context.new_page())
            seen.page.on("console", lambda one: seen.said.append(one.text))
            seen.page.on("pageerror", lambda error: seen.said.append(str(error)))
            seen.page.on("request", lambda request: seen.asked.append(request.url))
            seen.page.goto(pages[name].as_uri())
            every.append(seen)
            return seen

        yield show
        browser.close()
    for seen in every:
        assert seen.said == []
        assert [url for url in seen.asked if not url.startswith("file://")] == []
        assert len(seen.asked) == 1, "the page is one file"


@pytest.mark.parametrize(
    ("name", "width"), [("quick", 1280), ("quick", 768), ("quick", 390), ("quick", 320), ("large", 1280), ("large", 390), ("folds", 390)]
)
def test_nothing_sticks_out_at_any_width(opened: Callable[..., Seen], name: str, width: int, tmp_path: Path) -> None:
    page = opened(name, width=width).page
    assert page.evaluate(STICKS_OUT) == 0
    for tab in page.locator("[role=tab]").all():
        tab.click()
        assert page.evaluate(STICKS_OUT) == 0
    shown = page.locator(".drawing .narrow" if width <= 720 else ".drawing .wide")
    assert shown.count() == page.locator(".drawing").count()
    if shown.count():
        assert shown.first.is_visible()
    page.screenshot(path=str(tmp_path / "page.png"))


def test_a_column_sorts_by_click(opened: Callable[..., Seen]) -> None:
    page = opened("large").page
    head = page.locator("#headline-phantom thead th").nth(1)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    rising = page.evaluate(COLUMN, ["headline-phantom", 1])
    assert rising == sorted(rising)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert page.evaluate(COLUMN, ["headline-phantom", 1]) == sorted(rising, reverse=True)
    assert len(set(rising)) > 4


def test_a_column_sorts_and_tabs_turn_by_keyboard_alone(opened: Callable[..., Seen]) -> None:
    page = opened("large").page
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.textContent === 'Arm' && !!document.activeElement.closest('#headline-phantom')"):
            break
    page.keyboard.press("Enter")
    names = page.evaluate(COLUMN, ["headline-phantom", 0])
    assert names == sorted(names)
    page.keyboard.press("Space")
    assert page.evaluate(COLUMN, ["headline-phantom", 0]) == sorted(names, reverse=True)
    tabs = page.locator(".tabs").first
    tabs.locator("[role=tab]").first.focus()
    page.keyboard.press("ArrowRight")
    assert tabs.locator("[role=tab]").nth(1).get_attribute("aria-selected") == "true"
    assert [panel.is_visible() for panel in tabs.locator(".panel").all()] == [False, True, False, False]


def test_what_is_missing_sorts_last(opened: Callable[..., Seen]) -> None:
    page = opened("quick").page
    page.locator("#ledger thead th", has_text="Result").locator("button").click()
    assert page.evaluate(COLUMN, ["ledger", 3])[-1] == "missing"
    page.locator("#ledger thead th", has_text="Result").locator("button").click()
    assert page.evaluate(COLUMN, ["ledger", 3])[-1] == "missing"


def test_dark_as_the_reader_has_it_and_by_the_button(opened: Callable[..., Seen]) -> None:
    paper = "() => getComputedStyle(document.body).backgroundColor"
    dark, light = opened("quick", dark=True).page, opened("quick").page
    assert dark.evaluate(paper) != light.evaluate(paper)
    drawn = "() => Array.from(document.querySelectorAll('.wide svg path'), one => getComputedStyle(one).stroke).join()"
    assert dark.evaluate(drawn) != light.evaluate(drawn), "figures follow the page"
    light.get_by_role("button", name="Dark page").click()
    assert light.evaluate(paper) == dark.evaluate(paper)


def test_the_order_is_the_order_in_which_a_reader_asks(opened: Callable[..., Seen]) -> None:
    page = opened("quick").page
    heads = [text.strip() for text in page.locator("main h2, main h3").all_inner_texts()]
    wanted = [
        "What the runs say",
        "Results",
        "With more labels",
        "By finding",
        "Against the baseline",
        "Ledger of runs",
        "Methods",
        "Provenance",
    ]
    assert [head for head in heads if head in wanted] == wanted
    for link in page.locator("nav a").all():
        target = str(link.get_attribute("href")).removeprefix("#")
        assert page.locator(f"[id='{target}']").count() == 1, target


def test_every_figure_is_told_to_who_cannot_see_it(opened: Callable[..., Seen]) -> None:
    page = opened("large").page
    drawings = page.locator(".drawing [role=img], .multiples [role=img]").all()
    assert len(drawings) > page.locator(".drawing, .multiples").count()
    for drawing in drawings:
        assert len(str(drawing.get_attribute("aria-label"))) > 60
    assert page.locator("figure svg:not([aria-hidden=true] svg):not([aria-hidden=true]):not([role=img] svg)").count() == 0
    assert page.locator("table:not(:has(thead th[scope=col]))").count() == 0
    assert page.locator("tbody tr:not(:has(th[scope=row]))").count() == 0


def test_it_prints_with_every_view_and_no_button(opened: Callable[..., Seen], tmp_path: Path) -> None:
    page = opened("quick").page
    page.pdf(path=str(tmp_path / "report.pdf"), format="A4")
    assert (tmp_path / "report.pdf").stat().st_size > 30_000
    page.emulate_media(media="print")
    assert page.locator("#theme").is_hidden()
    assert all(panel.is_visible() for panel in page.locator(".panel").all())


@pytest.mark.needs("latex")
def test_the_printed_pages_hold_every_table(opened: Callable[..., Seen], tmp_path: Path) -> None:
    page = opened("quick").page
    tables = page.locator("figure.table").count()
    page.pdf(path=str(tmp_path / "report.pdf"), format="A4")
    text = subprocess.run(["pdftotext", str(tmp_path / "report.pdf"), "-"], capture_output=True, text=True, check=True).stdout
    assert [f"Table {number}." in text for number in range(1, tables + 1)] == [True] * tables


def test_a_large_page_is_small(pages: dict[str, Path]) -> None:
    assert pages["large"].stat().st_size < 2_000_000
