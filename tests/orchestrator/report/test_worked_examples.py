"""The worked examples of the docs are what the report says today, and they show what they are there to show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.orchestrator.report import worked_examples
from tests.orchestrator.report.worked_examples import BETTER, EQUAL, PAGE, Claims, Example, claims, example, main, page


@pytest.fixture(scope="module")
def seen() -> Claims:
    return claims(EQUAL)


@pytest.fixture(scope="module")
def equal(seen: Claims) -> Example:
    return example(EQUAL, seen.first)


@pytest.fixture(scope="module")
def better() -> Example:
    return example(BETTER, 0)


def test_the_originals_call_a_difference_significant_that_is_not_there_and_ours_does_not(equal: Example, seen: Claims) -> None:
    theirs = equal.published("ark", baseline=True)
    a, b = equal.values("new"), equal.values("base")
    assert theirs.p == pytest.approx(stats.ttest_ind(a, b).pvalue, rel=1e-9)
    assert (theirs.claim, theirs.ours_claim) == ("lower", "open")
    assert theirs.p is not None
    assert theirs.p < 0.01
    ours = equal.ours
    assert ours.low is not None
    assert ours.high is not None
    # The truth: the two methods are equal.
    assert ours.low < 0.0 < ours.high
    assert equal.report.verdicts[0].tone == "open"
    # The files carry six decimals, so the report's areas are those of the world.
    assert seen.independent[seen.first] == pytest.approx(theirs.p, rel=0.05)
    assert (seen.independent < 0.05).mean() > 0.3
    assert (seen.ours < 0.05).mean() < 0.10


def test_a_difference_that_is_there_is_found_and_its_interval_holds_it(better: Example) -> None:
    ours, truth = better.ours, BETTER.effects[0]
    assert ours.low is not None
    assert ours.high is not None
    assert 0.0 < ours.low < truth < ours.high
    assert better.report.verdicts[0].tone == "better"
    widths = [(one.high or 0.0) - (one.low or 0.0) for one in map(better.estimate, ("influence", "t", "obuchowski_rockette_hillis"))]
    assert widths[2] > max(widths[:2])


def test_the_page_is_what_the_report_says(seen: Claims, equal: Example, better: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worked_examples, "claims", lambda _: seen)
    made = {(EQUAL, seen.first): equal, (BETTER, 0): better}
    monkeypatch.setattr(worked_examples, "example", lambda world, seed: made[world, seed])
    assert PAGE.read_text(encoding="utf-8") == page(), "type: python -m tests.orchestrator.report.worked_examples"


def test_the_files_are_written_for_the_command(tmp_path: Path, seen: Claims, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worked_examples, "claims", lambda _: seen)
    assert main(["--files", str(tmp_path)]) == 0
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.csv")) == [
        "better/base.csv",
        "better/new.csv",
        "equal/base.csv",
        "equal/new.csv",
    ]
    head, first, *rest = (tmp_path / "equal" / "new.csv").read_text(encoding="utf-8").splitlines()
    assert head == "image,patient,label,truth,score,draw"
    assert len(first.split(",")) == 6
    assert len(rest) + 1 == EQUAL.draws * len(EQUAL.truth()[0])
    assert np.isfinite(float(first.split(",")[4]))
