"""ROC curves, precision-recall curves and reliability diagrams of a test set, a figure for each number of labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from orchestrator.report.diagnostics.values import Calibration, Curve, OperatingPoint
from orchestrator.report.entries import series_of
from orchestrator.report.figures.drawing import Figure, file_slug
from orchestrator.report.figures.forest import MOST_ARMS
from orchestrator.report.figures.multiples import Axes, Line, Square, figure
from orchestrator.report.measures import title_of
from orchestrator.report.stats.estimate import FEW
from orchestrator.report.values import ArmInfo, LabelInfo, Report, SizeInfo, TestSet
from orchestrator.report.wording import number, percent, plural

#: Lines that a page draws of all test sets together, so that it stays small; numbers of labels give way first, then findings.
MOST_LINES = 900
#: Findings of one figure.
MOST_FINDINGS = 24
#: Arms whose bins can still be told apart with intervals.
MOST_WITH_BARS = 4
#: Where a curve is read for who cannot see it.
READ_AT = {"roc": 0.1, "pr": 0.8}


class _Placed(Protocol):
    @property
    def arm(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def n_runs(self) -> int: ...


_One = TypeVar("_One", bound=_Placed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """What of a test set is drawn for one number of labels, and the words for what is not."""

    report: Report
    test_set: TestSet
    size: SizeInfo
    arms: tuple[ArmInfo, ...]
    labels: tuple[str, ...]
    left_out: str

    @property
    def series(self) -> dict[str, int]:
        return series_of(self.test_set.arms)

    def names(self) -> list[tuple[str, int]]:
        """Return (name, series) of every arm."""
        return [(f"{arm.title} (floor)" if arm.floor else arm.title, self.series[arm.key]) for arm in self.arms]

    def title(self, label: str) -> str:
        return next((one.title for one in self.test_set.labels if one.name == label), title_of(label))

    def info(self, label: str) -> LabelInfo | None:
        return next((one for one in self.test_set.labels if one.name == label), None)

    def counted(self, label: str) -> str:
        """Say how much of a finding there is."""
        info = self.info(label)
        return "" if info is None else f"{info.n_positive:,} with, {info.n_negative:,} without"


def drawn_sizes(report: Report, test_set: TestSet, kind: str) -> tuple[SizeInfo, ...]:
    """Return the numbers of labels that have a figure of a kind (`roc`, `pr`, `reliability`): all, or both ends and some between."""
    found = _found(report, test_set, kind)
    there = [size for size in test_set.sizes if any(one.size == size.key for one in found)]
    if not there:
        return ()
    lines = min(MOST_ARMS, len({one.arm for one in found})) * len({one.label for one in found})
    most = max(1, _allowed(report) // max(1, lines))
    if len(there) <= most:
        return tuple(there)
    if most == 1:
        return (there[-1],)
    return tuple(there[round(index * (len(there) - 1) / (most - 1))] for index in range(most))


def not_drawn(report: Report, test_set: TestSet, kind: str) -> str:
    """Say for which numbers of labels there is no figure though there are values; nothing when all have one."""
    there = {one.size for one in _found(report, test_set, kind)}
    shown = {size.key for size in drawn_sizes(report, test_set, kind)}
    left = [size.title for size in test_set.sizes if size.key in there - shown]
    return (
        f"Drawn for {plural(len(shown), 'number')} of labels of {len(there)}; the values of {', '.join(left)} are in report.json."
        if left
        else ""
    )


def _allowed(report: Report) -> int:
    return MOST_LINES // (3 * max(1, len(report.test_sets)))


def _found(report: Report, test_set: TestSet, kind: str) -> list[Curve] | list[Calibration]:
    if kind == "reliability":
        return [one for one in report.diagnostics.calibrations if one.test_set == test_set.key and len(one.reliability_bins) > 0]
    return [one for one in report.diagnostics.curves if (one.test_set, one.kind) == (test_set.key, kind)]


def _shown(report: Report, test_set: TestSet, size: SizeInfo, found: Sequence[_Placed]) -> _Shown:
    arms = [arm for arm in test_set.arms if any(one.arm == arm.key for one in found)]
    labels = list(dict.fromkeys(one.label for one in found))
    kept = arms[:MOST_ARMS]
    most = max(1, min(MOST_FINDINGS, _allowed(report) // len(kept)))
    said = [
        f"the first {fewer} of {plural(all_of, noun)}"
        for fewer, all_of, noun in ((len(kept), len(arms), "arm"), (min(most, len(labels)), len(labels), "finding"))
        if fewer < all_of
    ]
    left_out = f" Drawn are {' and '.join(said)}; the values of all are in report.json." if said else ""
    return _Shown(report=report, test_set=test_set, size=size, arms=tuple(kept), labels=tuple(labels[:most]), left_out=left_out)


def curve_figure(report: Report, test_set: TestSet, size: SizeInfo, kind: str) -> Figure | None:
    """Draw the mean curves of one kind (`roc` or `pr`) for one number of labels; None where there are none."""
    if size not in drawn_sizes(report, test_set, kind):
        return None
    found = [one for one in report.diagnostics.curves if (one.test_set, one.kind, one.size) == (test_set.key, kind, size.key)]
    shown = _shown(report, test_set, size, found)
    points = {
        (one.arm, one.label): one
        for one in report.diagnostics.operating_points
        if (one.test_set, one.size, one.rule) == (test_set.key, size.key, "youden")
    }
    axes, name, place = (
        (Axes(across="1 − specificity", up="sensitivity"), "ROC curves", _on_roc)
        if kind == "roc"
        else (Axes(across="recall", up="precision"), "Precision-recall curves", _on_pr)
    )
    squares = [_curve_square(shown, label, [one for one in found if one.label == label], points, place) for label in shown.labels]
    at = READ_AT[kind]
    told = f"mean sensitivity at a false positive rate of {at:g}" if kind == "roc" else f"mean precision at a recall of {at:g}"
    return figure(
        key=f"{kind}-{file_slug(test_set.key)}-{file_slug(size.key)}",
        caption=_curve_caption(shown, name, found, kind, marked=any((one.arm, one.label) in points for one in found)),
        alt=f"{name}, {size.title}, {told}.",
        axes=axes,
        squares=squares,
        arms=shown.names(),
    )


def _curve_square(
    shown: _Shown,
    label: str,
    found: Sequence[Curve],
    points: dict[tuple[str, str], OperatingPoint],
    place: Callable[[OperatingPoint], tuple[float, float] | None],
) -> Square:
    grid, by_arm = shown.report.diagnostics.grid, {one.arm: one for one in found}
    kind, info = found[0].kind, shown.info(label)
    near = min(range(len(grid)), key=lambda index: abs(grid[index] - READ_AT[kind]))
    lines, told = [], []
    for arm in shown.arms:
        if arm.key not in by_arm:
            continue
        one, point = by_arm[arm.key], points.get((arm.key, label))
        at = None if point is None else place(point)
        # The first value of a ROC curve is the upper end of the step at zero.
        start = ((0.0, 0.0),) if kind == "roc" else ()
        marks = () if at is None or point is None else ((at, point.n_runs == 1),)
        lines.append(Line(series=shown.series[arm.key], points=(*start, *zip(grid, one.y, strict=True)), marks=marks))
        told.append(f"{arm.title} {number(one.y[near], 2)}")
    share = info.n_positive / max(1, info.n_positive + info.n_negative) if info is not None else 0.0
    return Square(
        title=shown.title(label),
        below=shown.counted(label),
        alt=f"{shown.title(label)}: {', '.join(told)}",
        lines=tuple(lines),
        reference=((0.0, 0.0), (1.0, 1.0)) if kind == "roc" else ((0.0, share), (1.0, share)),
    )


def _on_roc(point: OperatingPoint) -> tuple[float, float] | None:
    shares = {one.name: one.estimate for one in point.shares}
    sensitivity, specificity = shares.get("sensitivity"), shares.get("specificity")
    return None if sensitivity is None or specificity is None else (1 - specificity, sensitivity)


def _on_pr(point: OperatingPoint) -> tuple[float, float] | None:
    shares = {one.name: one.estimate for one in point.shares}
    sensitivity, ppv = shares.get("sensitivity"), shares.get("ppv")
    return None if sensitivity is None or ppv is None else (sensitivity, ppv)


def _runs(found: Sequence[_Placed]) -> str:
    counts = sorted({one.n_runs for one in found})
    return plural(counts[0], "run") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} runs"


def _curve_caption(shown: _Shown, name: str, found: Sequence[Curve], kind: str, *, marked: bool) -> str:
    count, cluster = len(shown.report.diagnostics.grid), shown.test_set.cluster
    made = (
        f"sensitivity at each of {count} false positive rates, joined by straight lines"
        if kind == "roc"
        else f"precision at the highest threshold that reaches each of {count} recalls"
    )
    chance = (
        "The dotted diagonal is chance." if kind == "roc" else "The dotted line is the share of cases with the finding, which is chance."
    )
    mark = (
        " A mark is where the thresholds that validation chose (Youden) lead, each run at its own, averaged over runs, so that it need "
        "not lie on the mean curve; hollow is one run."
        if marked
        else ""
    )
    return (
        f"{name}, {shown.size.title}: a panel a finding, a line an arm, which is the mean over its runs ({_runs(found)} an arm) of {made}. "
        f"They describe these models on these {shown.test_set.n_clusters:,} {cluster} and have no interval. {chance}{mark}{shown.left_out}"
    )


def reliability_figure(report: Report, test_set: TestSet, size: SizeInfo) -> Figure | None:
    """Draw observed frequencies against probabilities for one number of labels; None where there is no calibration."""
    if size not in drawn_sizes(report, test_set, "reliability"):
        return None
    found = [one for one in report.diagnostics.calibrations if (one.test_set, one.size) == (test_set.key, size.key)]
    shown = _shown(report, test_set, size, found)
    bars = len(shown.arms) <= MOST_WITH_BARS
    squares = [_reliability_square(shown, label, [one for one in found if one.label == label], bars=bars) for label in shown.labels]
    said = (
        f"its bar the {percent(report.confidence)} interval for these models and new {test_set.cluster}"
        if bars
        else f"intervals are in report.json, because those of more than {MOST_WITH_BARS} arms would hide each other"
    )
    return figure(
        key=f"reliability-{file_slug(test_set.key)}-{file_slug(size.key)}",
        caption=f"Reliability, {size.title}: the share of cases with the finding against the mean probability, in {found[0].bins} bins "
        f"of equal width over all runs of an arm ({_runs(found)} an arm). A dot is a bin of {FEW} cases a run and more; {said}. Lines "
        f"pass through the other bins too. On the dotted diagonal probabilities are frequencies.{shown.left_out}",
        alt=f"Reliability diagrams, {size.title}, expected calibration error over bins of equal width.",
        axes=Axes(across="mean probability", up="share with the finding"),
        squares=squares,
        arms=shown.names(),
    )


def _reliability_square(shown: _Shown, label: str, found: Sequence[Calibration], *, bars: bool) -> Square:
    by_arm = {one.arm: one for one in found}
    lines, told = [], []
    for arm in shown.arms:
        if arm.key not in by_arm:
            continue
        one = by_arm[arm.key]
        many = [each for each in one.reliability_bins if each.count >= FEW]
        known = [(each.probability, each.frequency_low, each.frequency_high) for each in many]
        lines.append(
            Line(
                series=shown.series[arm.key],
                points=tuple((each.probability, each.frequency) for each in one.reliability_bins),
                dots=tuple((each.probability, each.frequency) for each in many),
                bars=tuple((x, low, high) for x, low, high in known if low is not None and high is not None) if bars else (),
            )
        )
        told.append(f"{arm.title} {number(one.ece_equal_width, 2)}")
    return Square(
        title=shown.title(label),
        below=shown.counted(label),
        alt=f"{shown.title(label)}: {', '.join(told)}",
        lines=tuple(lines),
        reference=((0.0, 0.0), (1.0, 1.0)),
    )
