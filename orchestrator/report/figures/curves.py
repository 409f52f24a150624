"""The measure against the number of labels: a curve an arm with its interval, and a dot a run."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from orchestrator.report.entries import series_of
from orchestrator.report.figures.drawing import INK, MUTED, PAPER, RULE, VARIABLES, Figure, color_of, file_slug
from orchestrator.report.figures.paper import saved
from orchestrator.report.stats.estimate import Status
from orchestrator.report.values import ArmInfo, Cell, Reference, Report, SizeInfo, TestSet
from orchestrator.report.wording import number, percent

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
#: Runs drawn a cell at most; of more, evenly spaced ones of the ordered values stand for all.
MOST_DOTS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curve:
    arm: ArmInfo
    series: int
    x: tuple[float, ...]
    cells: tuple[Cell, ...]

    @property
    def color(self) -> str:
        return color_of(self.series)

    @property
    def marker(self) -> str:
        return "x" if self.series < 0 else MARKERS[self.series % len(MARKERS)]


def label_efficiency(report: Report, test_set: TestSet) -> Figure | None:
    """Draw the measure against the number of labels, an interval band an arm and a dot a run; None with fewer than two sizes."""
    curves = _curves(report, test_set)
    if len({x for curve in curves for x in curve.x}) < 2:
        return None
    return Figure(
        key=f"curve-{file_slug(test_set.key)}",
        alt=_alt(curves, test_set) + _alt_published(_published(report, test_set)),
        caption=_caption(report, test_set),
        wide=_draw(curves, test_set, _published(report, test_set), narrow=False),
        narrow=_draw(curves, test_set, _published(report, test_set), narrow=True),
        redrawn=partial(_draw_for_paper, curves, test_set, _published(report, test_set)),
    )


def _curves(report: Report, test_set: TestSet) -> list[_Curve]:
    at = {size.key: x for size in test_set.sizes if (x := _x(size)) is not None}
    series = series_of(test_set.arms)
    curves: list[_Curve] = []
    for arm in test_set.arms:
        cells = [
            one
            for one in report.cells
            if (one.test_set, one.arm) == (test_set.key, arm.key) and one.estimate is not None and one.size in at
        ]
        if cells:
            ordered = sorted(cells, key=lambda one: at[one.size])
            curves.append(_Curve(arm=arm, series=series[arm.key], x=tuple(at[one.size] for one in ordered), cells=tuple(ordered)))
    return curves


def _published(report: Report, test_set: TestSet) -> list[tuple[float, Reference]]:
    """Return the published values of a test set with the number of labels that they stand at."""
    at = {size.key: _x(size) for size in test_set.sizes}
    own = [one for one in report.references if one.test_set == test_set.key]
    return [(x, one) for one in own if (x := at.get(one.size)) is not None]


def _alt_published(published: Sequence[tuple[float, Reference]]) -> str:
    said = [f"{one.title} ({one.source}): {number(one.value)} at {x:,.0f}" for x, one in published]
    return f" Published: {'; '.join(said)}." if said else ""


def _x(size: SizeInfo) -> float | None:
    return size.n_labeled_patients if size.n_labeled_patients is not None else size.n_labeled


def _alt(curves: Sequence[_Curve], test_set: TestSet) -> str:
    told = [
        f"{curve.arm.title}: " + ", ".join(f"{number(cell.estimate)} at {x:,.0f}" for x, cell in zip(curve.x, curve.cells, strict=True))
        for curve in curves
    ]
    return f"{test_set.measure_title} against the number of labelled patients. " + "; ".join(told) + "."


def _caption(report: Report, test_set: TestSet) -> str:
    title = test_set.measure_title
    floor = "; the dashed line is the floor, which sees no network features" if any(arm.floor for arm in test_set.arms) else ""
    return (
        f"{title[:1].upper()}{title[1:]} against the number of labelled patients. Lines join means over replicates; bars and bands are "
        f"{percent(report.confidence)} intervals for new replicates and new {test_set.cluster}; small dots are the runs themselves{floor}. "
        "A hollow marker with a broken bar is one run. Arms are set apart sideways so that they can be told from each other."
        + (" Stars are published values, which nothing is tested against." if _published(report, test_set) else "")
    )


def _draw(curves: Sequence[_Curve], test_set: TestSet, published: Sequence[tuple[float, Reference]], *, narrow: bool) -> str:
    import matplotlib

    with matplotlib.rc_context(_style(11.0 if narrow else 9.5)):
        return _svg(_canvas(curves, test_set, published, narrow=narrow))


def _draw_for_paper(curves: Sequence[_Curve], test_set: TestSet, published: Sequence[tuple[float, Reference]]) -> bytes:
    import matplotlib

    with matplotlib.rc_context({**_style(9.5), "pdf.fonttype": 42}):
        return saved(_canvas(curves, test_set, published, narrow=False))


def _canvas(curves: Sequence[_Curve], test_set: TestSet, published: Sequence[tuple[float, Reference]], *, narrow: bool) -> Any:
    from matplotlib.figure import Figure as Canvas

    legend_rows = len(curves) + len({one.title for _, one in published}) if narrow else 0
    canvas = Canvas(figsize=(4.9, 4.0 + 0.22 * legend_rows) if narrow else (10.4, 4.5))
    axes = canvas.add_subplot()
    gap = _sideways(curves)
    for index, curve in enumerate(curves):
        _plot(axes, curve, shift=gap ** (index - (len(curves) - 1) / 2), beside=gap**0.45, shade=min(0.13, 0.5 / len(curves)))
    _stars(axes, published, last=max(x for curve in curves for x in curve.x), narrow=narrow)
    _axes(axes, curves, test_set, narrow=narrow)
    if narrow:
        top = 1 - (0.12 + 0.22 * legend_rows) / canvas.get_figheight()
        canvas.subplots_adjust(left=0.145, right=0.975, bottom=0.14, top=top)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.01), frameon=False, handlelength=1.6, borderaxespad=0, labelspacing=0.35)
    else:
        canvas.subplots_adjust(left=0.042, right=_room(curves), bottom=0.125, top=0.925)
        _end_labels(axes, curves)
    return canvas


def _room(curves: Sequence[_Curve]) -> float:
    """Return where the axes end, so that the longest name at the right has room (a bold letter is about 0.83 % of the width)."""
    longest = max(len(_name(curve.arm)) for curve in curves)
    return max(0.55, min(0.88, 0.97 - 0.0083 * longest))


def _sideways(curves: Sequence[_Curve]) -> float:
    """Return the factor on the log axis by which neighbouring arms stand apart: enough to see each, never into the next size."""
    logs = sorted({math.log(x) for curve in curves for x in curve.x})
    nearest = min(right - left for left, right in pairwise(logs))
    return math.exp(min(0.024 * (logs[-1] - logs[0]), 0.5 * nearest / len(curves)))


def _plot(axes: Any, curve: _Curve, *, shift: float, beside: float, shade: float) -> None:
    x = [value * shift for value in curve.x]
    dashes = (0, (4, 2.5)) if curve.arm.floor else "-"
    width = 1.4 if curve.arm.floor else 2.0
    axes.plot(x, [cell.estimate for cell in curve.cells], color=curve.color, linewidth=width, linestyle=dashes, zorder=4)
    axes.plot([], [], color=curve.color, marker=curve.marker, markersize=6, linewidth=width, linestyle=dashes, label=_name(curve.arm))
    # The interval of one run answers another question, so no band leads to it.
    known = [(at, cell) for at, cell in zip(x, curve.cells, strict=True) if cell.low is not None and Status.ONE_RUN not in cell.status]
    if len(known) > 1:
        lows, highs = [cell.low for _, cell in known], [cell.high for _, cell in known]
        axes.fill_between([at for at, _ in known], lows, highs, color=curve.color, alpha=shade, linewidth=0, zorder=2)
    for at, cell in zip(x, curve.cells, strict=True):
        _mark(axes, curve, at, cell, beside=at * beside)


def _mark(axes: Any, curve: _Curve, at: float, cell: Cell, *, beside: float) -> None:
    """Draw one cell: its interval, its estimate and, beside it, its runs. One run is hollow with a broken bar."""
    hollow = Status.ONE_RUN in cell.status
    if cell.low is not None:
        style = (0, (2, 2)) if hollow else "-"
        axes.plot([at, at], [cell.low, cell.high], color=curve.color, linewidth=1.4, linestyle=style, zorder=3, solid_capstyle="butt")
    if len(cell.points) > 1:
        dots = thinned([point.value for point in cell.points])
        axes.plot([beside] * len(dots), dots, "o", color=curve.color, markersize=2.9, alpha=0.6, markeredgewidth=0, zorder=5)
    outlined = hollow or curve.arm.floor
    axes.plot(
        [at],
        [cell.estimate],
        curve.marker,
        color=curve.color,
        markersize=6.2,
        markerfacecolor=PAPER if hollow else curve.color,
        markeredgecolor=curve.color if outlined else PAPER,
        markeredgewidth=1.4 if outlined else 1.0,
        zorder=6,
    )


def _stars(axes: Any, published: Sequence[tuple[float, Reference]], *, last: float, narrow: bool) -> None:
    """Mark published values: stars in no arm's colour, named in the legend of the narrow drawing and beside the first in the wide one."""
    named: set[str] = set()
    for x, one in sorted(published, key=lambda pair: pair[0]):
        label = "" if one.title in named else f"{one.title} (published)"
        named.add(one.title)
        # A label that starts with an underscore is in no legend.
        axes.plot([x], [one.value], "*", color=INK, markersize=9, markeredgecolor=PAPER, zorder=7, label=label or "_again")
        if not narrow and label:
            size = axes.xaxis.label.get_size() * 0.85
            # At the right end a name has room on the left alone.
            side, align = (-7, "right") if x >= last else (7, "left")
            axes.annotate(
                label, (x, one.value), xytext=(side, -3), textcoords="offset points", ha=align, color=INK, fontsize=size, zorder=7
            )


def thinned(values: Sequence[float], most: int = MOST_DOTS) -> list[float]:
    """Return at most so many values, evenly spaced in their order, ends included."""
    if len(values) <= most:
        return list(values)
    ordered = sorted(values)
    return [ordered[round(index * (len(ordered) - 1) / (most - 1))] for index in range(most)]


def _name(arm: ArmInfo) -> str:
    return f"{arm.title} (floor)" if arm.floor else arm.title


def _axes(axes: Any, curves: Sequence[_Curve], test_set: TestSet, *, narrow: bool) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    xs = sorted({x for curve in curves for x in curve.x})
    axes.set_xscale("log")
    edge = (xs[-1] / xs[0]) ** 0.1
    axes.set_xlim(xs[0] / edge, xs[-1] * edge)
    axes.xaxis.set_major_locator(FixedLocator(xs))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2f}"))
    axes.set_xlabel("labelled patients (log scale)" if test_set.sizes[0].n_labeled_patients is not None else "labelled images (log scale)")
    title = test_set.measure_title
    if narrow:
        axes.set_ylabel(title[:1].upper() + title[1:])
    else:
        axes.set_title(title[:1].upper() + title[1:], loc="left", fontsize=axes.xaxis.label.get_size(), color=INK, pad=10)
    axes.grid(axis="y", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    low, high = axes.get_ylim()
    if test_set.reference is not None and low < test_set.reference + 0.06:
        axes.set_ylim(min(low, test_set.reference - 0.015), high)
        axes.axhline(test_set.reference, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", color=MUTED)


def _end_labels(axes: Any, curves: Sequence[_Curve]) -> None:
    """Name each curve at its right end, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    gap = (high - low) * 0.058
    wanted = sorted(((float(curve.cells[-1].estimate or 0.0), curve) for curve in curves), key=lambda pair: pair[0])
    placed: list[float] = []
    for value, _ in wanted:
        placed.append(max(value, placed[-1] + gap) if placed else value)
    over = placed[-1] - (high - gap / 2)
    if over > 0:
        placed = [value - over for value in placed]
        for index in range(len(placed) - 2, -1, -1):
            placed[index] = min(max(placed[index], wanted[index][0]), placed[index + 1] - gap)
    left, right = axes.get_xlim()
    for place, (value, curve) in zip(placed, wanted, strict=True):
        axes.annotate(
            _name(curve.arm),
            xy=(curve.x[-1] * (right / curve.x[-1]) ** 0.62, value),
            xytext=(right * (right / left) ** 0.012, place),
            va="center",
            ha="left",
            color=curve.color,
            fontweight="normal" if curve.arm.floor else "bold",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": curve.color,
                "linewidth": 0.7,
                "alpha": 0.55,
                "relpos": (0, 0.5),
                "shrinkA": 3,
                "shrinkB": 2,
            },
        )


def _style(size: float) -> Any:
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "report",
        "font.family": "DejaVu Sans",
        "font.size": size,
        "axes.labelsize": size,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": MUTED,
        "axes.edgecolor": MUTED,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        "path.simplify": False,
    }


def _svg(canvas: Any) -> str:
    """Return the drawing as an SVG element whose colours are variables; the same drawing gives the same bytes."""
    buffer = io.StringIO()
    canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :].strip()
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'(<svg\b[^>]*?)\swidth="[^"]*"', r"\1", drawn, count=1)
    drawn = re.sub(r'(<svg\b[^>]*?)\sheight="[^"]*"', r"\1", drawn, count=1)
    for color, variable in VARIABLES.items():
        drawn = drawn.replace(color, f"var({variable}, {color})")
    return drawn
