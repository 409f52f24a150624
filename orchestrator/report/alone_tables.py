"""The table of tests over runs alone: what they say, and the smallest p that they could have said."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report.entries import Column, Entry, Row, Table, series_of
from orchestrator.report.values import ReplicateTest, Report, TestSet
from orchestrator.report.wording import STATUS_NAMES, apart, p_value

NOTE = (
    "These hold the test set fixed: they say how runs differ on these patients, not on new ones. Below each p of a test that lists or "
    "samples assignments stands the smallest that it could have given; where that is not below .05, a larger p says nothing."
)


def runs_alone(report: Report, test_set: TestSet) -> Table | None:
    """Return one row for each declared difference that replicates can test; None when there is none."""
    tests = [one for one in report.replicate_tests if one.test_set == test_set.key]
    if not tests:
        return None
    titles, series = {arm.key: arm.title for arm in test_set.arms}, series_of(test_set.arms)
    sizes = {size.key: (index, size.title) for index, size in enumerate(test_set.sizes)}
    places = list(dict.fromkeys((one.arm, one.baseline, one.size) for one in tests))
    rows = [
        Row(
            entries=(
                Entry(text=titles[arm], below=f"minus {apart(titles[arm], titles[base])[1]}", series=series[arm]),
                Entry(text=sizes[size][1], sort=sizes[size][0]),
                *(_p(_first(tests, (arm, base, size), methods)) for methods in _METHODS),
            )
        )
        for arm, base, size in places
    ]
    columns = (
        Column(title="Arm", below="minus its baseline", kind="text"),
        Column(title="Labels", kind="text"),
        Column(title="p, exchanged", below="signs; labels where not matched"),
        Column(title="p, signed ranks"),
        Column(title="p, t", below="paired; Welch where not matched"),
    )
    caption = f"Tests over replicates alone, in {test_set.measure_title}; raw p values."
    return Table(key=f"runs-alone-{test_set.key}", caption=caption, columns=columns, rows=tuple(rows), note=NOTE)


_METHODS = (("sign_flip", "permutation"), ("wilcoxon",), ("paired_t", "welch_t"))


def _first(tests: Sequence[ReplicateTest], place: tuple[str, str, str], methods: tuple[str, ...]) -> ReplicateTest | None:
    return next((one for one in tests if (one.arm, one.baseline, one.size) == place and one.method in methods), None)


def _p(one: ReplicateTest | None) -> Entry:
    if one is None:
        return Entry(text="–")
    below = f"at least {one.smallest_p:.2g}" if one.smallest_p else ""
    return Entry(text=p_value(one.p), below=below, sort=one.p, marks=tuple(STATUS_NAMES[word] for word in one.status), title=one.method)
