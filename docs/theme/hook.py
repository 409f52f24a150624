"""What the site needs besides the pages: files of the repository that pages link to, and anchors as code hosts make them.

A page links to `../../sweeps/x.yaml` because that is where the file lies on a code host. In the site the same link leads to a page that
shows the file. `README.md` is the home page, and a notebook is a page of its cells.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
HOME = "index.md"
#: Where files of the repository stand in the site.
SHELF = "repository"
#: Those that the navigation names.
_NAMED = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
_LANGUAGES = {".yaml": "yaml", ".yml": "yaml", ".py": "python", ".toml": "toml", ".json": "json", ".cff": "yaml"}
#: Code in fences and in backticks, which holds no links, or the target of a link.
_FENCE = r"^[ >]*(?P<fence>```+|~~~+).*?^[ >]*(?P=fence)"
_TICKS = r"(?P<tick>`+)(?!`).*?(?<!`)(?P=tick)(?!`)"
_LINK = re.compile(rf"(?P<code>{_FENCE}|{_TICKS})|(?P<open>\]\(\s*)(?P<target>[^)\s]+)", re.MULTILINE | re.DOTALL)


def anchor(title: str, separator: str) -> str:
    """Return the anchor of a heading as code hosts make it: lower case, spaces to hyphens, punctuation dropped."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", separator)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make anchors as code hosts do, so that a link with one works in both places, and put every page in its place."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = anchor
    folder = Path(config.docs_dir)
    written = [*folder.rglob("*.md"), *(path.with_suffix(".md") for path in folder.rglob("*.ipynb"))]
    pages = sorted(path.relative_to(folder).as_posix() for path in written)
    named = set(_leaves(config.nav))
    config.nav = _expanded(config.nav or [], [page for page in pages if page not in named])
    return config


def _leaves(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for below in nav.values() if isinstance(nav, dict) else nav:
            yield from _leaves(below)


def _expanded(nav: list[Any], pages: list[str]) -> list[Any]:
    """Return a navigation with every pattern replaced by the pages that it takes from those that nobody names. Each is taken once."""
    found: list[Any] = []
    for item in nav:
        if isinstance(item, dict):
            found += [{title: below if isinstance(below, str) else _expanded(below, pages) for title, below in item.items()}]
        elif "*" in item:
            taken = [page for page in pages if PurePosixPath(page).parent == PurePosixPath(item).parent and fnmatch(page, item)]
            pages[:] = [page for page in pages if page not in taken]
            found += taken
        else:
            found.append(item)
    return found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the home page, notebooks, and every file of the repository that some page leads to, and what those lead to."""
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        files.remove(notebook)
        place = place_of(ROOT / "docs" / notebook.src_uri)
        files.append(File.generated(config, place, content=_cells(ROOT / "docs" / notebook.src_uri)))
    waiting = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    seen = set(waiting)
    while waiting:
        source = waiting.pop()
        if source.suffix != ".md":
            continue
        for target in _targets(source):
            if target in seen or not target.is_relative_to(ROOT) or not target.exists():
                continue
            seen.add(target)
            if not target.is_relative_to(ROOT / "docs"):
                waiting.append(target)
    for source in sorted(seen):
        if not source.is_relative_to(ROOT / "docs"):
            files.append(_page_of(source, config))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that leave the documentation into links to the pages that show those files; the home page has no neighbours to list."""
    if page.file.src_uri == HOME:
        page.meta["hide"] = ["navigation"]
    return rewritten(markdown, ROOT / "docs" / page.file.src_uri, page.file.src_uri)


def rewritten(markdown: str, source: Path, place: str) -> str:
    """Return a page's text with each link into the repository as it must be at its place in the site."""

    def link(target: str) -> str:
        path, mark, fragment = target.partition("#")
        there = (source.parent / path).resolve()
        if not path or re.match(r"[a-z]+:", path) or not there.is_relative_to(ROOT) or not there.exists():
            return target
        if source.is_relative_to(ROOT / "docs") and there.is_relative_to(ROOT / "docs") and there.suffix != ".ipynb":
            return target
        return os.path.relpath(place_of(there), PurePosixPath(place).parent) + mark + fragment

    return _each_link(markdown, link)


def place_of(path: Path) -> str:
    """Return where a file of the repository stands in the site, relative to its top."""
    inside = path.relative_to(ROOT).as_posix()
    if path.is_relative_to(ROOT / "docs"):
        return inside.removeprefix("docs/").replace(".ipynb", ".md")
    if inside == "README.md":
        return HOME
    return f"{SHELF}/{inside}" + ("" if path.suffix == ".md" else ".md")


def _each_link(markdown: str, link: Callable[[str], str]) -> str:
    return _LINK.sub(lambda found: found[0] if found["code"] else found["open"] + link(found["target"]), markdown)


def _targets(source: Path) -> Iterator[Path]:
    found: list[str] = []
    _each_link(source.read_text(encoding="utf-8"), lambda target: found.append(target) or target)
    for target in found:
        path = target.partition("#")[0]
        if path and not re.match(r"[a-z]+:", path):
            yield (source.parent / path).resolve()


def _page_of(path: Path, config: MkDocsConfig) -> File:
    place = place_of(path)
    if path.is_dir():
        raise PluginError(f"a page links to the folder {path.relative_to(ROOT)}: link to a file in it")
    text = path.read_text(encoding="utf-8")
    shown = rewritten(text, path, place) if path.suffix == ".md" else _as_code(path, text)
    file = File.generated(config, place, content=shown)
    file.inclusion = InclusionLevel.INCLUDED if path.name in _NAMED and path.parent == ROOT else InclusionLevel.NOT_IN_NAV
    return file


def _cells(notebook: Path) -> str:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    texts = [(cell["cell_type"] == "code", "".join(cell["source"]).rstrip()) for cell in cells]
    return "\n\n".join(f"```python\n{text}\n```" if is_code else text for is_code, text in texts) + "\n"


def _as_code(path: Path, text: str) -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    name = path.relative_to(ROOT).as_posix()
    return f"# `{name}`\n\n{fence}{_LANGUAGES.get(path.suffix, 'text')}\n{text.rstrip()}\n{fence}\n"
