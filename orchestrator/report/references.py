"""`report.reference`: published values with their source, laid beside the arms of a test set. Shown, and never tested against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobs.spec import Json
from orchestrator.report.design import text_of
from orchestrator.report.values import Reference, TestSet

#: Keys of a published value that say where it stands; every other one is a label of what was measured.
PLACED = ("value", "low", "high", "source", "measure", "data", "fraction", "count", "name")
#: The number of labels of a value that names none.
_EVERYTHING = ("all", "fraction=1")
#: Values without a place that a sentence names.
_NAMED = 3


def references(asked: Sequence[Mapping[str, Json]], test_sets: Sequence[TestSet]) -> tuple[tuple[Reference, ...], tuple[str, ...]]:
    """Place published values on test sets; return them and a sentence for those of a source that have no place here, for each reason.

    A value is of every test set unless it names one (`data`), of the headline measure unless it names another (`measure`), and of all
    labels unless it names a number of them (`fraction` or `count`).
    """
    found: list[Reference] = []
    homeless: dict[tuple[str, str], list[str]] = {}
    for one in asked:
        placed = [made for test_set in test_sets if (made := _on(one, test_set)) is not None]
        found += placed
        if not placed:
            homeless.setdefault((str(one["source"]), _missing(one, test_sets)), []).append(_title(one))
    return tuple(found), tuple(_left_out(titles, source, why) for (source, why), titles in homeless.items())


def _left_out(titles: Sequence[str], source: str, why: str) -> str:
    if len(titles) == 1:
        return f"The published value of {titles[0]} ({source}) has no place: {why}."
    named, more = "; ".join(titles[:_NAMED]), len(titles) - _NAMED
    return f"The published values of {named}{f' and {more} more' if more > 0 else ''} ({source}) have no place: {why}."


def _on(one: Mapping[str, Json], test_set: TestSet) -> Reference | None:
    size = _size(one, test_set)
    if not _is_of(one, test_set) or size is None or one.get("measure", test_set.measure) != test_set.measure or test_set.by_folds:
        return None
    return Reference(
        test_set=test_set.key,
        title=_title(one),
        size=size,
        measure=test_set.measure,
        value=_number(one["value"]) or 0.0,
        low=_number(one.get("low")),
        high=_number(one.get("high")),
        source=str(one["source"]),
    )


def _is_of(one: Mapping[str, Json], test_set: TestSet) -> bool:
    return "data" not in one or one["data"] in (test_set.key, test_set.card)


def _size(one: Mapping[str, Json], test_set: TestSet) -> str | None:
    there = [size.key for size in test_set.sizes]
    for name in ("fraction", "count"):
        if name in one:
            number = _number(one[name])
            wanted = f"{name}={text_of(number)}" if number is not None else ""
            return next((key for key in there if key == wanted or _same_number(key, name, number)), None)
    return there[0] if len(there) == 1 else next((key for key in there if key in _EVERYTHING), None)


def _same_number(key: str, name: str, number: float | None) -> bool:
    own, _, value = key.partition("=")
    return own == name and number is not None and float(value) == number


def _missing(one: Mapping[str, Json], test_sets: Sequence[TestSet]) -> str:
    own = [test_set for test_set in test_sets if _is_of(one, test_set)]
    if not own:
        return f"no test set is {one['data']}"
    if all(one.get("measure", test_set.measure) != test_set.measure for test_set in own):
        return f"{one['measure']} is the headline measure of none"
    if "fraction" in one or "count" in one:
        return "no run has that number of labels"
    return "it names no number of labels, and no run has all of them; say `fraction` or `count`"


def _title(one: Mapping[str, Json]) -> str:
    if "name" in one:
        return str(one["name"])
    labels = [f"{name} {text_of(value)}" for name, value in one.items() if name not in PLACED and isinstance(value, (str, int, float))]
    return ", ".join(labels) or "a published model"


def _number(value: Json) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
