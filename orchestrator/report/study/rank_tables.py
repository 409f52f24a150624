"""The order of arms on a page, a view for each number of labels."""

from __future__ import annotations

from orchestrator.report.blocks import Block, Panel
from orchestrator.report.entries import Column, Entry, Row, Scale, Strip, Table, series_of
from orchestrator.report.study.keys import StudyKeys
from orchestrator.report.study.rank_drawing import rank_figure
from orchestrator.report.study.values import ArmRank
from orchestrator.report.values import Report, SizeInfo, TestSet
from orchestrator.report.wording import estimand_words, number, percent, plural


def rank_block(report: Report, test_set: TestSet) -> Block | None:
    """Return how stable the order of arms is; None with fewer than three that can be ranked."""
    found = [one for one in report.study.ranks if one.test_set == test_set.key]
    if not found:
        return None
    shown = [size for size in test_set.sizes if any(one.size == size.key for one in found)]
    said = (
        "A rank is a view and no test: arms that differ by little trade places when draws and patients are drawn again. Whether one arm is "
        "better than another is answered under all pairs."
    )
    panels = tuple(
        Panel(
            title=size.title,
            figures=tuple(one for one in (rank_figure(report, test_set, size),) if one is not None),
            tables=(_table(report, test_set, size, found),),
        )
        for size in shown
    )
    return Block(key="ranks", title="How stable the order is", sentences=(said,), panels=panels)


def _table(report: Report, test_set: TestSet, size: SizeInfo, found: list[ArmRank]) -> Table:
    titles, series, keys = {arm.key: arm.title for arm in test_set.arms}, series_of(test_set.arms), StudyKeys.of(report)
    own = sorted((one for one in found if one.size == size.key), key=lambda one: (one.rank, one.mean_rank))
    last = float(len(own))
    scale = Scale(low=1.0, high=last, ticks=(1.0, last), reference=None)
    rows = [
        Row(
            entries=(
                Entry(text=titles[one.arm], series=series[one.arm]),
                Entry(text=str(one.rank), sort=one.rank),
                Entry(
                    text=number(one.mean_rank, 1),
                    below=f"{one.low} to {one.high}",
                    sort=one.mean_rank,
                    strip=Strip(scale=scale, value=one.mean_rank, low=one.low, high=one.high, series=series[one.arm]),
                    numbers=(
                        (number(one.mean_rank, 1), keys.rank(one)),
                        (str(one.low), f"{keys.rank(one)}.low"),
                        (str(one.high), f"{keys.rank(one)}.high"),
                    ),
                ),
                Entry(text=number(one.first, 2), sort=one.first, numbers=((number(one.first, 2), keys.first(one)),)),
            )
        )
        for one in own
    ]
    columns = (
        Column(title="Arm", kind="text"),
        Column(title="Place", below="by the estimate"),
        Column(title="Mean place", below=f"{percent(report.confidence)} of resamples", scale=scale),
        Column(title="First", below="share of resamples"),
    )
    redrawn = "" if own[0].n_replicates < 2 else "; draws that all arms share are redrawn together" if own[0].matched else ""
    caption = (
        f"Places of {plural(len(own), 'arm')} in {test_set.measure_title}, {size.title}, over {report.resamples:,} resamples "
        f"({estimand_words(own[0].estimand)}{redrawn}). Floors are not ranked."
    )
    return Table(key=f"ranks-{test_set.key}-{size.key}", caption=caption, columns=columns, rows=tuple(rows))
