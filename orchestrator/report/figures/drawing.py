"""What all figures share: the value, colours as variables with a fallback, and a file of its own for each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

#: Colours on a light page by series, readable by people who do not see red and green apart; the page knows their dark twins.
SERIES = ("#0a66a8", "#c4500c", "#00795a", "#9a4a86", "#8a6400", "#2a8ab2", "#6a51a3", "#5c6b00")
FLOOR = "#7a7a7a"
INK, MUTED, RULE, PAPER = "#1c1f24", "#5f6670", "#d4d8dd", "#fffffe"
VARIABLES: Mapping[str, str] = {
    **{color: f"--series-{index}" for index, color in enumerate(SERIES)},
    FLOOR: "--floor",
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    PAPER: "--paper",
}


#: Dashes of a series, so that lines which look alike in grey are told apart.
DASHES = ("", "6 2.5", "2 2", "8 2 2 2", "4 2", "9 3", "5 2 1.5 2 1.5 2", "3 1.5")
FLOOR_DASH = "1.2 2.4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiple:
    """One of several small drawings on the same axes."""

    title: str
    alt: str
    svg: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One drawing at two widths, with its caption and what a reader who cannot see it is told."""

    key: str
    alt: str
    caption: str
    wide: str
    narrow: str
    #: What a page shows in place of both, as many beside each other as there is room for; `wide` then holds all of them, for files.
    multiples: tuple[Multiple, ...] = ()
    #: The legend of `multiples`: (a sample of the line, its name).
    legend: tuple[tuple[str, str], ...] = ()
    #: Draws the wide drawing as PDF, where that is not made from `wide`.
    redrawn: Callable[[], bytes] | None = field(default=None, compare=False, repr=False)

    def on_page(self) -> tuple[str, ...]:
        """Return the drawings that a page shows."""
        if self.multiples:
            return (*(one.svg for one in self.multiples), *(sample for sample, _ in self.legend))
        return self.wide, self.narrow


def color_of(series: int) -> str:
    """Return the colour of a series on a light page; -1 is the floor."""
    return FLOOR if series < 0 else SERIES[series % len(SERIES)]


def dash_of(series: int) -> str:
    """Return the dashes of a series as SVG writes them, nothing for a full line; -1 is the floor."""
    return FLOOR_DASH if series < 0 else DASHES[series % len(DASHES)]


def paint(color: str) -> str:
    """Return a colour as a style value: the page's variable, with the light colour where there is no page."""
    return f"var({VARIABLES[color]}, {color})"


def inked(svgs: Iterable[str]) -> tuple[dict[str, str], str]:
    """Return each drawing as a page holds it, by what it was, and the style sheet that all of them need.

    Styles that drawings repeat thousands of times become classes, and what only a file of its own needs goes: fallbacks of colours, fonts,
    the name of the format.
    """
    classes: dict[str, str] = {}

    def shared(found: re.Match[str]) -> str:
        style = re.sub(r"var\((--[\w-]+), #[0-9a-f]{6}\)", r"var(\1)", found[1])
        return f'class="{classes.setdefault(style, f"q{len(classes)}")}"'

    needless = re.compile(r' (?:xmlns="[^"]*"|font-family="[^"]*")')
    drawn = {one: needless.sub("", re.sub(r'style="([^"]*)"', shared, one)) for one in dict.fromkeys(svgs)}
    return drawn, "\n".join(f".{name} {{ {style} }}" for style, name in classes.items())


def standalone(figure: Figure) -> str:
    """Return the wide drawing as a file of its own, in plain colours, which programs other than browsers need."""
    head = '<?xml version="1.0" encoding="utf-8"?>\n'
    plain = re.sub(r"var\(--[\w-]+, (#[0-9a-f]{6})\)", r"\1", figure.wide)
    return head + plain.replace("<svg", f'<svg role="img" aria-label="{escaped(figure.alt)}"', 1) + "\n"


def escaped(text: str) -> str:
    """Write a text so that it can stand in XML, also in an attribute."""
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")


def file_slug(text: str) -> str:
    """Return a text as the name of a file."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
