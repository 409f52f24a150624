"""The site is built strictly and without a network: every page is reached, no link is dead, nothing is fetched from elsewhere."""

from __future__ import annotations

import html.parser
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
#: What a browser loads by itself, besides what a reader follows.
LOADED = {"img": "src", "script": "src", "source": "src", "iframe": "src", "video": "src"}


class Found(html.parser.HTMLParser):
    """The links, the anchors and what is loaded, of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(given.get("href", ""))
        if tag in LOADED and LOADED[tag] in given:
            self.loads.append(given[LOADED[tag]])


def is_elsewhere(target: str) -> bool:
    return bool(re.match(r"[a-z]+:|//", target)) and not target.startswith("data:")


def pages_of(site: Path) -> dict[Path, Found]:
    return {path: Found(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


def dead_links(pages: dict[Path, Found]) -> list[str]:
    """Return every link or load that leads to no file, or to no anchor of one."""
    dead: list[str] = []
    for path, found in pages.items():
        for target in [*found.links, *found.loads]:
            file, _, anchor = unquote(target).partition("#")
            if is_elsewhere(target) or target.startswith("data:"):
                continue
            there = (path.parent / file.partition("?")[0]).resolve() if file else path
            if not there.is_file() or (anchor and there.suffix == ".html" and anchor not in pages[there].anchors):
                dead.append(f"{path.name}: {target}")
    return dead


def reached(pages: dict[Path, Found], home: Path) -> set[Path]:
    """Return the pages that somebody who starts at one comes to by links."""
    seen, waiting = {home}, [home]
    while waiting:
        page = waiting.pop()
        for target in pages[page].links:
            there = (page.parent / unquote(target).partition("#")[0]).resolve()
            if not is_elsewhere(target) and there in pages and there not in seen:
                seen.add(there)
                waiting.append(there)
    return seen


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site").resolve()
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Found]:
    return pages_of(site)


def test_every_page_is_built_and_reached(site: Path, pages: dict[Path, Found]) -> None:
    written = {site / path.relative_to(DOCS).with_suffix(".html") for pattern in ("*.md", "*.ipynb") for path in DOCS.rglob(pattern)}
    assert written <= set(pages)
    assert set(pages) - reached(pages, site / "index.html") - {site / "404.html"} == set()


def test_no_link_is_dead(site: Path, pages: dict[Path, Found]) -> None:
    # The page for what is not there is asked for from anywhere, so that its links start at the top of a server.
    there = {path: found for path, found in pages.items() if path != site / "404.html"}
    assert sum(len(found.links) for found in there.values()) > 500
    assert dead_links(there) == []


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[Path, Found]) -> None:
    assert {target for found in pages.values() for target in found.loads if is_elsewhere(target)} == set()
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert styles and [found for text in styles for found in re.findall(r"url\(\s*[\"']?(https?:[^)]*)", text)] == []


def test_a_file_of_the_repository_is_shown_whole(site: Path) -> None:
    page = (site / "repository" / "sweeps" / "moco_lr.yaml.html").read_text(encoding="utf-8")
    text = html.unescape(re.sub(r"<[^>]+>", "", page))
    for line in (ROOT / "sweeps" / "moco_lr.yaml").read_text(encoding="utf-8").splitlines():
        assert line.strip() in text


def test_no_place_of_a_machine_is_in_it(site: Path) -> None:
    assert [path.name for path in site.rglob("*.html") if str(ROOT) in path.read_text(encoding="utf-8")] == []


@pytest.mark.needs("chromium")
def test_it_is_read_and_searched_as_files(site: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        asked: list[str] = []
        wrong: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto((site / "howto" / "slurm.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.locator("label[for=__search]").first.click()
        page.locator("input.md-search__input").press_sequentially("hillis")
        # Each letter is a search of its own: the last finds the pages that have the word, and no other.
        paths = "[...document.querySelectorAll('.md-search-result__link')].map(found => new URL(found.href).pathname)"
        holders = [path for path in pages_of(site) if "hillis" in path.read_text(encoding="utf-8").lower()]
        page.wait_for_function(
            f"holders => {{ const found = {paths}; return found.length && found.every(path => holders.includes(path)) }}",
            arg=[path.as_posix() for path in holders],
        )
        assert holders
        browser.close()
    assert wrong == [] and [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_what_is_dead_or_never_reached_is_seen(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<p id="here"><a href="b.html#there">b</a> <a href="#here">a</a> <a href="absent.html">c</a></p>')
    (tmp_path / "b.html").write_text('<p id="elsewhere"></p><script src="https://example.org/x.js"></script>')
    (tmp_path / "alone.html").write_text('<a href="index.html">home</a>')
    pages = pages_of(tmp_path.resolve())
    assert dead_links(pages) == ["index.html: b.html#there", "index.html: absent.html"]
    assert {path.name for path in reached(pages, tmp_path.resolve() / "index.html")} == {"index.html", "b.html"}
    assert [target for found in pages.values() for target in found.loads if is_elsewhere(target)] == ["https://example.org/x.js"]
