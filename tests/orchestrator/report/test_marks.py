"""Bold, underline and signs: what a published table says beside its numbers, and when it must say nothing."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from orchestrator.report import marks, values
from orchestrator.report.stats.estimate import Status
from orchestrator.report.values import ArmInfo, Cell, Difference


def made(kind: type, **given: object) -> Any:
    return kind(**{item.name: given.get(item.name) for item in fields(kind)} | given)


def cell(estimate: float | None, *status: Status, low: float | None = 0.1) -> Cell:
    return made(Cell, estimate=estimate, low=low, high=0.9, status=tuple(map(str, status)), arm="a", size="s")


def difference(estimate: float | None, adjusted: float | None, contrast: str = "after: none", arm: str = "a") -> Difference:
    return made(
        Difference, estimate=estimate, p_adjusted=adjusted, contrast=contrast, arm=arm, baseline="b", size="s", status=(), test_set="t"
    )


SET = made(
    values.TestSet,
    key="t",
    higher_is_better=True,
    label_higher_is_better=True,
    arms=(made(ArmInfo, key="a", title="MoCo"), made(ArmInfo, key="b", title="no pretraining")),
)


def test_the_best_and_the_second_of_a_column() -> None:
    assert marks.ranks([cell(0.7), cell(0.9), None, cell(0.8), cell(0.75)]) == [None, 1, None, 2, None]
    assert marks.ranks([cell(0.2), cell(0.1), cell(0.3)], higher_is_better=False) == [2, 1, None]


def test_what_prints_alike_shares_a_place() -> None:
    assert marks.ranks([cell(0.80001), cell(0.80049), cell(0.7)]) == [1, 1, None]
    assert marks.ranks([cell(0.9), cell(0.8), cell(0.80002)]) == [1, 2, 2]


@pytest.mark.parametrize("status", [Status.ONE_RUN, Status.NOT_ESTIMABLE, Status.FEW_POSITIVES])
def test_what_is_no_estimate_of_a_method_is_never_best(status: Status) -> None:
    assert marks.ranks([cell(0.99, status), cell(0.8), cell(0.7)]) == [None, 1, 2]
    assert marks.ranks([cell(0.99, status), cell(0.8)]) == [None, None], "nothing is best among one"


def test_without_an_interval_nothing_is_ranked_and_gaps_do_not_unrank() -> None:
    assert marks.ranks([cell(0.9, low=None), cell(None), cell(0.8), cell(0.7, Status.MISSING_RUNS)]) == [None, None, 1, 2]
    assert marks.ranks([]) == []


def test_a_sign_needs_an_adjusted_p() -> None:
    found = [
        difference(0.1, 0.049),
        difference(0.1, 0.05, arm="x"),
        difference(0.1, None, arm="y"),
        difference(-0.1, 0.001, contrast="init: random"),
    ]
    signs = marks.signs_of(found)
    assert signs == {"after: none": "†", "init: random": "‡"}
    assert marks.signed_places(found, signs, 0.95) == {("a", "s", None): ("†", "‡")}
    assert marks.signed_places(found, signs, 0.99) == {("a", "s", None): ("‡",)}
    many = marks.signs_of([difference(0.1, 0.01, contrast=str(index)) for index in range(7)])
    assert len(set(many.values())) == 7


def test_the_legend_says_what_is_there_and_no_more() -> None:
    ranked, alone = [cell(0.8), cell(0.7)], cell(0.9, Status.ONE_RUN)
    text = marks.legend([*ranked, alone], [difference(0.1, 0.01)], SET, confidence=0.95, column="column")
    assert "Bold is the highest estimate of a column" in text
    assert "Left out of that ranking: 1 number from one run." in text
    assert "Holm-adjusted p below 0.05: † from no pretraining." in text
    assert marks.legend([alone], [], SET, confidence=0.95, column="column") == ""
    finding = [replace(difference(0.1, 0.01), label="edema")]
    assert "Benjamini–Hochberg q, exploratory, below 0.1" in marks.legend([], finding, SET, confidence=0.9, column="row")
