"""The order of arms as a drawing: how often each takes each place, and which neighbours no test tells apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.report.entries import series_of
from orchestrator.report.figures.drawing import INK, MUTED, SERIES, Figure, color_of, file_slug
from orchestrator.report.figures.svg import Sheet
from orchestrator.report.study.values import ArmRank, PairDifference
from orchestrator.report.values import Report, SizeInfo, TestSet
from orchestrator.report.wording import alpha, estimand_words, number, percent, plural

#: Arms in one drawing; all of them stand in the table.
MOST_ARMS = 12
#: The strongest tint still lets ink be read.
STRONGEST = 0.62
_ROW = 38.0
_LANE = 14.0


def rank_figure(report: Report, test_set: TestSet, size: SizeInfo) -> Figure | None:
    """Draw the places of arms for one number of labels; None with fewer than three that are ranked."""
    every = [one for one in report.study.ranks if (one.test_set, one.size) == (test_set.key, size.key)]
    if len(every) < 3:
        return None
    own = sorted(every, key=lambda one: (one.rank, one.mean_rank))[:MOST_ARMS]
    tested = {frozenset((one.arm, one.baseline)): one for one in report.study.pairs if (one.test_set, one.size) == (test_set.key, size.key)}
    joined = alike([one.arm for one in own], tested, report.confidence)
    titles, series = {arm.key: arm.title for arm in test_set.arms}, series_of(test_set.arms)
    draw = [_draw(own, [titles[one.arm] for one in own], [series[one.arm] for one in own], joined, width) for width in (1040.0, 400.0)]
    return Figure(
        key=f"ranks-{file_slug(test_set.key)}-{file_slug(size.key)}",
        alt=_alt(own, titles, size, joined),
        caption=_caption(report, size, own, len(every), tested, joined),
        wide=draw[0],
        narrow=draw[1],
    )


def alike(arms: Sequence[str], tested: Mapping[frozenset[str], PairDifference], confidence: float) -> list[tuple[int, int]]:
    """Return the longest runs of neighbours (first, last) of which no two differ once p is adjusted; none where nothing is tested."""

    def apart(a: str, b: str) -> bool:
        one = tested.get(frozenset((a, b)))
        return one is not None and one.p_adjusted is not None and one.p_adjusted < alpha(confidence)

    found: list[tuple[int, int]] = []
    for first in range(len(arms) if tested else 0):
        last = first
        while last + 1 < len(arms) and not any(apart(arms[index], arms[last + 1]) for index in range(first, last + 1)):
            last += 1
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def _alt(own: Sequence[ArmRank], titles: Mapping[str, str], size: SizeInfo, joined: Sequence[tuple[int, int]]) -> str:
    told = [f"{titles[one.arm]}: place {one.rank}, mean {number(one.mean_rank, 1)}, {one.low} to {one.high}" for one in own]
    said = [f"{titles[own[first].arm]} to {titles[own[last].arm]}" for first, last in joined]
    return f"Places of arms, {size.title}. {'; '.join(told)}." + (f" Not told apart: {'; '.join(said)}." if said else "")


def _caption(
    report: Report,
    size: SizeInfo,
    own: Sequence[ArmRank],
    count: int,
    tested: Mapping[frozenset[str], PairDifference],
    joined: Sequence[tuple[int, int]],
) -> str:
    one = next(iter(tested.values()), None)
    if one is None:
        bars = "No pair is tested, because an arm with one run says nothing of its draws, so nothing joins arms."
    else:
        level = f"at an adjusted p below {alpha(report.confidence):g}, by max-t over all {one.family} pairs"
        bars = (
            f"Upright lines at the right join neighbours of which no two differ {level}; they rest on those tests and not on the places, "
            "and do not say that two arms are equal."
            if joined
            else f"No line joins neighbours, because every two differ {level}."
        )
    left = f" The first {len(own)} of {count} arms." if len(own) < count else ""
    counts = sorted({each.n_replicates for each in own})
    runs = plural(counts[0], "replicate") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} replicates"
    return (
        f"Places, {size.title}: in each row the share of {report.resamples:,} resamples ({estimand_words(own[0].estimand)}; {runs} an arm) "
        f"in which the arm takes each place, stronger is more; a mark is the mean place, and its bar holds {percent(report.confidence)} of "
        f"resamples. {bars}{left}"
    )


def _draw(own: Sequence[ArmRank], names: Sequence[str], series: Sequence[int], joined: Sequence[tuple[int, int]], width: float) -> str:
    left = 232.0 if width > 600 else 118.0
    places = max(len(one.shares) for one in own)
    lanes = _lanes(joined)
    column = min(84.0, (width - left - 8 - _LANE * (max(lanes, default=-1) + 1)) / places)
    sheet = Sheet(width=width, height=24 + _ROW * len(own) + 8, size=12 if column > 34 else 10.5)
    for place in range(places):
        sheet.text(left + column * (place + 0.5), 14, str(place + 1), color=MUTED, anchor="middle", small=True)
    for index, (one, name, kind) in enumerate(zip(own, names, series, strict=True)):
        _row(sheet, one, name, kind, left=left, column=column, top=24 + _ROW * index)
    for (first, last), lane in zip(joined, lanes, strict=True):
        x = left + column * places + 12 + _LANE * lane
        sheet.line(x, 24 + _ROW * first + 7, x, 24 + _ROW * (last + 1) - 7, INK, width=3)
    return sheet.svg()


def _row(sheet: Sheet, one: ArmRank, name: str, series: int, *, left: float, column: float, top: float) -> None:
    for row, words in enumerate(sheet.wrap(name, left - 12, 2)):
        sheet.text(0, top + 17 + 14 * row, words)
    for place, share in enumerate(one.shares):
        x = left + column * place
        sheet.box(x + 1, top + 1, column - 2, _ROW - 2, SERIES[0], opacity=STRONGEST * share)
        if share >= 0.005:
            sheet.text(x + column / 2, top + 15, number(share, 2), anchor="middle", small=True)

    def at(mean: float) -> float:
        return left + column * (mean - 0.5)

    y = top + _ROW - 12
    sheet.line(at(one.low), y, at(one.high), y, INK, width=1.6)
    sheet.marker(at(one.mean_rank), y, color_of(series), series)


def _lanes(joined: Sequence[tuple[int, int]]) -> list[int]:
    """Return a lane for each run, so that two that share an arm stand beside each other."""
    lanes: list[int] = []
    for first, last in joined:
        taken = {lane for lane, (other, end) in zip(lanes, joined, strict=False) if other <= last and first <= end}
        lanes.append(next(lane for lane in range(len(joined)) if lane not in taken))
    return lanes
