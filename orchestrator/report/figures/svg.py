"""A small drawing surface: lines, dots and texts as SVG in the page's colours, a few bytes each, the same bytes each time."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from orchestrator.report.figures.drawing import INK, MUTED, PAPER, RULE, escaped, paint

#: Width of a letter as a share of the font size, on average; for room, not for breaking lines exactly.
LETTER = 0.56


@dataclass(slots=True)
class Sheet:
    """One drawing under construction; units are pixels at the width that it is made for."""

    width: float
    height: float
    size: float = 12.0
    parts: list[str] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, color: str = RULE, *, width: float = 1.0, dash: str = "") -> None:
        """Draw a straight line; `dash` is dashes and gaps as SVG writes them."""
        style = f"stroke:{paint(color)};stroke-width:{width:g}" + (f";stroke-dasharray:{dash}" if dash else "")
        self.parts.append(f'<path d="M{_n(x1)} {_n(y1)}L{_n(x2)} {_n(y2)}" style="{style}"/>')

    def lines(self, ends: Sequence[tuple[float, float, float, float]], color: str, *, width: float = 1.0, opacity: float = 1.0) -> None:
        """Draw many lines of one kind."""
        path = "".join(f"M{_n(x1)} {_n(y1)}L{_n(x2)} {_n(y2)}" for x1, y1, x2, y2 in ends)
        self.parts.append(f'<path d="{path}" style="stroke:{paint(color)};stroke-width:{width:g};opacity:{opacity:g};fill:none"/>')

    def curve(self, points: Sequence[tuple[float, float]], color: str, *, width: float = 1.6, dash: str = "", opacity: float = 1.0) -> None:
        """Join points in their order; one that lies straight between its neighbours, as they are written, is not written."""
        style = f"stroke:{paint(color)};stroke-width:{width:g};fill:none" + (f";stroke-dasharray:{dash}" if dash else "")
        style += f";opacity:{opacity:g}" if opacity < 1 else ""
        self.parts.append(f'<path d="{_path(points)}" style="{style}"/>')

    def dots(self, places: Sequence[tuple[float, float]], color: str, *, radius: float = 2.2, opacity: float = 0.65) -> None:
        """Draw many small dots of one kind."""
        path = "".join(f"M{_n(x)} {_n(y)}h0" for x, y in places)
        style = f"stroke:{paint(color)};stroke-width:{2 * radius:g};stroke-linecap:round;opacity:{opacity:g}"
        self.parts.append(f'<path d="{path}" style="{style}"/>')

    def marker(self, x: float, y: float, color: str, series: int, *, hollow: bool = False, radius: float = 4.2) -> None:
        """Draw the mark of a series, in the shape that curves and tables give it; hollow for one run."""
        fill, stroke = (PAPER, color) if hollow or series < 0 else (color, PAPER)
        style = f"fill:{'none' if series < 0 else paint(fill)};stroke:{paint(color if series < 0 else stroke)};stroke-width:1.2"
        self.parts.append(f'<path d="{_shape(x, y, series, radius)}" style="{style}"/>')

    def box(self, x: float, y: float, width: float, height: float, color: str, *, opacity: float = 1.0) -> None:
        """Fill a rectangle."""
        style = f"fill:{paint(color)};fill-opacity:{opacity:.2f}"
        self.parts.append(f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" style="{style}"/>')

    def corner(self, x: float, y: float, side: float = 7.0) -> None:
        """Fill the upper right corner of a cell whose corner is at (x, y)."""
        self.parts.append(f'<path d="M{_n(x)} {_n(y)}v{_n(side)}l{_n(-side)} {_n(-side)}z" style="fill:{paint(INK)}"/>')

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        color: str = INK,
        anchor: str = "start",
        bold: bool = False,
        small: bool = False,
        turn: int = 0,
    ) -> None:
        """Write words with their baseline at y."""
        turned = f' transform="rotate({turn} {_n(x)} {_n(y)})"' if turn else ""
        more = (";font-weight:600" if bold else "") + (f";text-anchor:{anchor}" if anchor != "start" else "")
        style = f"fill:{paint(color)};font-size:{self.size - 1.5 if small else self.size:g}px{more}"
        self.parts.append(f'<text x="{_n(x)}" y="{_n(y)}"{turned} style="{style}">{escaped(words)}</text>')

    def fit(self, words: str, room: float) -> str:
        """Shorten words to a room, with an ellipsis."""
        most = max(3, int(room / (LETTER * self.size)))
        return words if len(words) <= most else words[: most - 1].rstrip() + "…"

    def wrap(self, words: str, room: float, most: int = 3) -> list[str]:
        """Break words over lines of a room; the last of too many lines ends in an ellipsis."""
        broken = textwrap.wrap(words, max(4, int(room / (LETTER * self.size))))
        return broken if len(broken) <= most else [*broken[: most - 1], broken[most - 1].rstrip() + "…"]

    def svg(self) -> str:
        """Return the drawing."""
        box = f"0 0 {_n(self.width)} {_n(self.height)}"
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-family="DejaVu Sans, sans-serif">'
        return head + "".join(self.parts) + "</svg>"


def legend(sheet: Sheet, entries: Sequence[tuple[str, str, int]], *, left: float, top: float) -> float:
    """Write (name, colour, series) in rows from the upper left and return where the rows end."""
    x, y = left, top
    for name, color, series in entries:
        shown = sheet.fit(name, sheet.width - left - 20)
        room = 26 + len(shown) * LETTER * sheet.size
        if x > left and x + room > sheet.width:
            x, y = left, y + 20
        sheet.marker(x + 6, y, color, series)
        sheet.text(x + 15, y + 4, shown)
        x += room
    return y + 20


def axis(sheet: Sheet, ticks: Sequence[tuple[float, str]], *, top: float, bottom: float) -> None:
    """Draw upright rules with their numbers below."""
    for x, words in ticks:
        sheet.line(x, top, x, bottom)
        sheet.text(x, bottom + 15, words, color=MUTED, anchor="middle", small=True)


def _path(points: Sequence[tuple[float, float]]) -> str:
    """Write a path in steps of a tenth of a pixel, each from the last, so that no error adds up."""
    placed = [(round(10 * x), round(10 * y)) for x, y in points]
    steps: list[tuple[int, int]] = []
    for (x0, y0), (x1, y1) in pairwise(placed):
        step = (x1 - x0, y1 - y0)
        last = steps[-1] if steps else (0, 0)
        if steps and step[0] * last[1] == step[1] * last[0] and step[0] * last[0] >= 0 and step[1] * last[1] >= 0:
            steps[-1] = (last[0] + step[0], last[1] + step[1])
        elif step != (0, 0):
            steps.append(step)
    return f"M{_n(placed[0][0] / 10)} {_n(placed[0][1] / 10)}" + "".join(_step(*step) for step in steps)


def _step(x: int, y: int) -> str:
    if not y:
        return f"h{_n(x / 10)}"
    if not x:
        return f"v{_n(y / 10)}"
    return f"l{_n(x / 10)}{'' if y < 0 else ' '}{_n(y / 10)}"


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _shape(x: float, y: float, series: int, r: float) -> str:
    """Return the path of a series' mark: a cross for the floor, then disc, square, triangle, diamond and so on."""
    if series < 0:
        across = _n(1.6 * r)
        return f"M{_n(x - r * 0.8)} {_n(y - r * 0.8)}l{across} {across}M{_n(x + r * 0.8)} {_n(y - r * 0.8)}l-{across} {across}"
    kind = series % 8
    if kind == 0:
        return f"M{_n(x - r)} {_n(y)}a{_n(r)} {_n(r)} 0 1 0 {_n(2 * r)} 0a{_n(r)} {_n(r)} 0 1 0 {_n(-2 * r)} 0z"
    return "M" + "L".join(f"{_n(x + a * r)} {_n(y + b * r)}" for a, b in _CORNERS[kind]) + "z"


_PLUS = [(-0.4, -1.1), (0.4, -1.1), (0.4, -0.4), (1.1, -0.4), (1.1, 0.4), (0.4, 0.4)]
_CROSS = [(-1.1, -0.55), (-0.55, -1.1), (0, -0.5), (0.55, -1.1), (1.1, -0.55), (0.5, 0)]
#: Corners of the marks after the disc, in radii from the middle.
_CORNERS: dict[int, list[tuple[float, float]]] = {
    1: [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    2: [(0, -1.1), (1.05, 0.8), (-1.05, 0.8)],
    3: [(0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)],
    4: [(0, 1.1), (1.05, -0.8), (-1.05, -0.8)],
    5: [*_PLUS, *((-x, -y) for x, y in _PLUS)],
    6: [*_CROSS, *((-x, -y) for x, y in _CROSS)],
    7: [(0, -1.15), (1, -0.57), (1, 0.57), (0, 1.15), (-1, 0.57), (-1, -0.57)],
}
