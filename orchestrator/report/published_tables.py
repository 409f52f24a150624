"""Tables of what original studies would have printed, beside this report."""

from __future__ import annotations

from orchestrator.report.entries import Column, Entry, Row, Table, ends, interval, marks_of, series_of
from orchestrator.report.published_lines import PublishedKeys, is_difference
from orchestrator.report.values import Published, Report, TestSet
from orchestrator.report.wording import apart, number, p_value, plural, signed

#: How a claim is read in a table: what an original says, and what this report says.
READ = {
    "higher": "higher",
    "lower": "lower",
    "open": "no difference shown",
    "best": "best",
    "": "",
}
TITLES = {"moco_cxr": "MoCo-CXR", "ark": "Ark", "benchmark": "Benchmark of transformers", "unichest": "UniChest"}


def published(report: Report, test_set: TestSet) -> tuple[Table, ...]:
    """Return one table for each procedure that the sweep asks for; rows of single findings stand in `report.json` alone."""
    rows = [one for one in report.as_published if one.test_set == test_set.key and one.label is None]
    keys = PublishedKeys.of(report)
    names = dict.fromkeys(one.procedure for one in rows)
    return tuple(_table(test_set, [one for one in rows if one.procedure == name], keys) for name in names)


def _table(test_set: TestSet, rows: list[Published], keys: PublishedKeys) -> Table:
    name, sizes = rows[0].procedure, {size.key: size.title for size in test_set.sizes}
    series, titles = series_of(test_set.arms), {arm.key: arm.title for arm in test_set.arms}
    columns = (
        Column(title="Arm", kind="text"),
        Column(title="Labels", kind="text"),
        Column(title="As published", below=TITLES[name]),
        Column(title="It reads", kind="text"),
        Column(title="This report"),
        Column(title="It reads", kind="text"),
    )
    order = list(sizes)
    made = [
        Row(
            entries=(
                _arm(one, titles, series),
                Entry(text=sizes[one.size], sort=order.index(one.size)),
                _theirs(one, keys),
                _read(one.claim, one.p, one, f"{keys.theirs(one)}.p"),
                _ours(one, keys),
                _read(one.ours_claim, one.ours_p, one, f"{keys.ours(one)}.p_adjusted"),
            )
        )
        for one in rows
    ]
    caption = f"What the procedure of {TITLES[name]} makes of the same runs, in {test_set.measure_title}; not what this report says."
    return Table(key=f"published-{name}-{test_set.key}", caption=caption, columns=columns, rows=tuple(made), note=rows[0].not_covered)


def _arm(one: Published, titles: dict[str, str], series: dict[str, int]) -> Entry:
    below = ""
    if one.groups is not None and one.baseline is not None:
        group, other = one.groups
        below = f"best of {group} by test score, minus {titles[one.baseline]} of {other}"
    elif one.baseline is not None:
        word = "minus" if is_difference(one) else "against"
        below = f"{word} {apart(titles[one.arm], titles[one.baseline])[1]}"
    return Entry(text=titles[one.arm], below=below, series=series[one.arm], sort=titles[one.arm])


def _theirs(one: Published, keys: PublishedKeys) -> Entry:
    write = signed if is_difference(one) else number
    marks = marks_of(one.status, n_runs=one.n_runs, n_planned=one.n_runs)
    below = f"± {number(one.spread)}" if one.spread is not None else interval(one.low, one.high, sign=is_difference(one))
    numbers: tuple[tuple[str, str], ...] = ()
    if one.estimate is not None:
        beside = ((number(one.spread), keys.spread(one)),) if one.spread is not None else _ends(one.low, one.high, one, keys.theirs(one))
        numbers = ((write(one.estimate), keys.theirs(one)), *beside)
    title = f"from {plural(one.n_runs, 'run')}"
    return Entry(text=write(one.estimate), below=below, sort=one.estimate, marks=marks, title=title, numbers=numbers)


def _ours(one: Published, keys: PublishedKeys) -> Entry:
    write = signed if is_difference(one) else number
    below, numbers = interval(one.ours_low, one.ours_high, sign=is_difference(one)), ()
    if one.ours_estimate is not None:
        numbers = ((write(one.ours_estimate), keys.ours(one)), *_ends(one.ours_low, one.ours_high, one, keys.ours(one)))
    return Entry(text=write(one.ours_estimate), below=below, sort=one.ours_estimate, numbers=numbers)


def _ends(low: float | None, high: float | None, one: Published, key: str) -> tuple[tuple[str, str], ...]:
    return ends(low, high, key, sign=is_difference(one))


def _read(claim: str, p: float | None, one: Published, key: str) -> Entry:
    differs = ("they differ",) if {one.claim, one.ours_claim} in ({"higher", "open"}, {"lower", "open"}, {"higher", "lower"}) else ()
    below = "" if p is None else f"p {p_value(p)}"
    return Entry(
        text=READ[claim] or "–",
        below=below,
        sort=claim,
        marks=differs if claim == one.ours_claim else (),
        numbers=() if p is None else ((p_value(p), key),),
    )
