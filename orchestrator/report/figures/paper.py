"""Figures as vector PDF for LaTeX: the drawing that a page shows, drawn again on matplotlib's PDF pages; the same bytes each time."""

from __future__ import annotations

import io
import math
import re
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.report.figures.drawing import Figure

#: Points (1/72 inch) of a pixel: four panels beside each other are as wide as the text of a page in A4, with letters of 6.8 points.
POINTS = 0.57
#: A clock, a version or a name of a program would make two equal drawings differ.
METADATA: Mapping[str, None] = {"Creator": None, "Producer": None, "CreationDate": None, "ModDate": None}
#: Fonts are embedded as TrueType, which publishers take.
STYLE: Any = {"pdf.fonttype": 42, "pdf.compression": 6, "path.simplify": False, "font.family": "DejaVu Sans"}
#: Latin with its accents, Greek, Cyrillic, punctuation, signs of currency, arrows and mathematics.
LETTERS = frozenset(
    code
    for low, high in ((0x20, 0x7E), (0xA0, 0x17F), (0x370, 0x45F), (0x2010, 0x2044), (0x20A0, 0x20B5), (0x2190, 0x21FF), (0x2200, 0x22FF))
    for code in range(low, high + 1)
)
_SVG = "{http://www.w3.org/2000/svg}"
#: Steps of a quarter circle drawn as one curve.
_ROUND = 0.5522847498


def pdfs(figures: Iterable[Figure]) -> dict[str, bytes]:
    """Return the wide drawing of each figure as a PDF of one page, by the figure's key."""
    import matplotlib

    found: dict[str, bytes] = {}
    with matplotlib.rc_context(STYLE), tempfile.TemporaryDirectory() as folder:
        fonts: dict[bool, str] = {}
        for figure in figures:
            if figure.redrawn is not None:
                found[figure.key] = figure.redrawn()
                continue
            fonts = fonts or {bold: _font(Path(folder), bold=bold) for bold in (False, True)}
            found[figure.key] = _pdf(figure.wide, fonts)
    return found


def _pdf(svg: str, fonts: Mapping[bool, str]) -> bytes:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure as Canvas

    root = ElementTree.fromstring(re.sub(r"var\(--[\w-]+, (#[0-9a-f]{6})\)", r"\1", svg))
    _, _, width, height = (float(one) for one in root.attrib["viewBox"].split())

    class Drawing(Artist):
        """The elements of the drawing, on whatever page they are wanted."""

        def draw(self, renderer: Any) -> None:
            pen = _Pen(renderer, height, fonts)
            for element in root:
                pen.draw(element)

    canvas = Canvas(figsize=(width * POINTS / 72, height * POINTS / 72))
    canvas.patch.set_visible(False)
    canvas.add_artist(Drawing())
    return saved(canvas)


def saved(canvas: Any) -> bytes:
    """Return a drawing of matplotlib as a PDF that has no clock in it."""
    written = io.BytesIO()
    canvas.savefig(written, format="pdf", metadata=dict(METADATA))
    return written.getvalue()


def _font(folder: Path, *, bold: bool) -> str:
    """Write a small copy of the font and return its path: each PDF takes its letters from it, and from the whole font that is slow."""
    # What matplotlib itself embeds fonts with.
    from fontTools import subset
    from matplotlib import get_data_path

    source = Path(get_data_path()) / "fonts" / "ttf" / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
    options = subset.Options(layout_features=[], glyph_names=True, hinting=False, notdef_outline=True)
    options.drop_tables += ["FFTM", "GDEF", "GPOS", "GSUB", "kern", "MATH"]
    font = subset.load_font(str(source), options)
    chosen = subset.Subsetter(options)
    chosen.populate(unicodes=LETTERS)
    chosen.subset(font)
    path = folder / source.name
    subset.save_font(font, str(path), options)
    return str(path)


class _Pen:
    """Draws the elements that `Sheet` writes: paths, rectangles and texts, each with a style of its own."""

    def __init__(self, renderer: Any, height: float, fonts: Mapping[bool, str]) -> None:
        from matplotlib.font_manager import FontProperties
        from matplotlib.transforms import Affine2D

        self.renderer = renderer
        self.fonts = {bold: FontProperties(fname=path) for bold, path in fonts.items()}
        # A page of matplotlib has its origin at the lower left.
        self.place = Affine2D().translate(0, -height).scale(POINTS, -POINTS)

    def draw(self, element: ElementTree.Element) -> None:
        """Draw one element."""
        style = dict(one.split(":", 1) for one in element.attrib["style"].split(";"))
        if element.tag == f"{_SVG}text":
            self._write(element, style)
            return
        if element.tag == f"{_SVG}rect":
            x, y, width, height = (float(element.attrib[name]) for name in ("x", "y", "width", "height"))
            path = f"M{x} {y}h{width}v{height}h{-width}z"
        else:
            path = element.attrib["d"]
        self._stroke(path, style)

    def _stroke(self, path: str, style: Mapping[str, str]) -> None:
        from matplotlib.colors import to_rgba
        from matplotlib.path import Path as Outline

        vertices, codes = read_path(path)
        if not vertices:
            # Dots of which there is none.
            return
        context = self.renderer.new_gc()
        opacity = float(style.get("opacity", 1))
        stroke, fill = style.get("stroke", "none"), style.get("fill", "none")
        context.set_linewidth(float(style.get("stroke-width", 1)) * POINTS if stroke != "none" else 0.0)
        context.set_foreground(to_rgba(stroke if stroke != "none" else fill, opacity), isRGBA=True)
        context.set_capstyle(style.get("stroke-linecap", "butt"))
        if "stroke-dasharray" in style:
            context.set_dashes(0, [float(one) * POINTS for one in style["stroke-dasharray"].split()])
        if opacity < 1:
            context.set_alpha(opacity)
        filled = None if fill == "none" else to_rgba(fill, opacity * float(style.get("fill-opacity", 1)))
        if filled is not None and filled[3] < 1 and stroke == "none":
            context.set_alpha(filled[3])
        self.renderer.draw_path(context, Outline(vertices, codes), self.place, filled)
        context.restore()

    def _write(self, element: ElementTree.Element, style: Mapping[str, str]) -> None:
        from matplotlib.colors import to_rgba

        x, y = float(element.attrib["x"]), float(element.attrib["y"])
        size = float(style["font-size"].removesuffix("px")) * POINTS
        font = self.fonts["font-weight" in style].copy()
        font.set_size(size)
        # As LaTeX tables write letters that their fonts do not have.
        words = "".join(letter if ord(letter) in LETTERS else f"[U+{ord(letter):04X}]" for letter in element.text or "")
        turned = re.match(r"rotate\((-?[\d.]+)", element.attrib.get("transform", ""))
        angle = -float(turned[1]) if turned else 0.0
        width = self.renderer.get_text_width_height_descent(words, font, False)[0]
        back = {"start": 0.0, "middle": 0.5, "end": 1.0}[style.get("text-anchor", "start")] * width
        left, base = self.place.transform((x, y))
        context = self.renderer.new_gc()
        context.set_foreground(to_rgba(style["fill"]), isRGBA=True)
        radians = math.radians(angle)
        self.renderer.draw_text(context, left - back * math.cos(radians), base - back * math.sin(radians), words, font, angle)
        context.restore()


def read_path(path: str) -> tuple[list[tuple[float, float]], list[int]]:
    """Return the vertices and the codes of matplotlib for a path of SVG as `Sheet` writes them: M, L, H, V, h, v, l, a half circle, z."""
    vertices: list[tuple[float, float]] = []
    codes: list[int] = []
    at, start = (0.0, 0.0), (0.0, 0.0)
    for letter, given in _commands(path):
        if letter == "z":
            vertices.append(start)
            codes.append(79)
            at = start
            continue
        if letter == "a":
            end = (at[0] + given[5], at[1] + given[6])
            vertices += _half_circle(at, end)
            codes += [4] * 6
            at = end
            continue
        at = _moved(at, letter, given)
        start = at if letter == "M" else start
        vertices.append(at)
        codes.append(1 if letter == "M" else 2)
    return vertices, codes


def _moved(at: tuple[float, float], letter: str, given: Sequence[float]) -> tuple[float, float]:
    """Return where a straight command leads from a place."""
    if letter == "h":
        return at[0] + given[0], at[1]
    if letter == "v":
        return at[0], at[1] + given[0]
    return (at[0] + given[0], at[1] + given[1]) if letter == "l" else (given[0], given[1])


def _commands(path: str) -> Iterator[tuple[str, list[float]]]:
    for letter, numbers in re.findall(r"([MLlhvaz])([^MLlhvaz]*)", path):
        yield letter, [float(one) for one in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", numbers)]


def _half_circle(start: Sequence[float], end: Sequence[float]) -> list[tuple[float, float]]:
    """Return the vertices of two curves from one end of a diameter to the other, over the upper side where it runs to the right."""
    (x0, y0), (x1, y1) = start, end
    middle, reach = ((x0 + x1) / 2, (y0 + y1) / 2), (x1 - x0) / 2
    k = _ROUND * reach
    top = middle[1] + reach
    return [(x0, y0 + k), (middle[0] - k, top), (middle[0], top), (middle[0] + k, top), (x1, y1 + k), (x1, y1)]
