"""The report's intervals cover as they say: one cell in every run, the whole study with --slow, and the page that it wrote."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from orchestrator.report.stats.bootstrap import Counts
from tests.orchestrator.report.stats import coverage_study
from tests.orchestrator.report.stats.coverage_page import page
from tests.orchestrator.report.stats.coverage_study import (
    FLOOR,
    PAGE,
    PROMISED_CLAIMS,
    PROMISED_COVERAGE,
    Cell,
    beyond,
    grid,
    main,
    twins,
)
from tests.orchestrator.report.stats.made_world import World, repetitions, separation

NONE = Counts(tiles=(), units=1, replicates=0, seed=0)


@pytest.mark.parametrize(("area", "sd"), [(0.8, 0.006), (0.83, 0.05), (0.95, 0.01), (0.5, 0.02), (0.8, 0.0)])
def test_areas_of_draws_have_the_mean_and_the_spread_that_a_world_asks_for(area: float, sd: float) -> None:
    mean, spread = separation(area, sd)
    areas = stats.norm.cdf((mean + spread * stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)) / math.sqrt(2))
    assert areas.mean() == pytest.approx(area, abs=1e-6)
    assert areas.std() == pytest.approx(sd, abs=1e-5)


def test_a_large_test_set_shows_the_truth_of_its_world() -> None:
    """3,000 positive patients: the mean over 60 draws lies within chance of the area, and matched arms share half of their luck."""
    world = World(positives=3000, draws=60, draw_sd=0.02, rho=0.3, effects=(0.03,))
    first, second = next(repetitions(world, 1, np.random.default_rng(0), NONE))
    assert first.values.mean() == pytest.approx(0.80, abs=3.5 * 0.02 / math.sqrt(60) + 0.006)
    assert second.values.mean() - first.values.mean() == pytest.approx(0.03, abs=3.5 * 0.02 / math.sqrt(60) + 0.006)
    assert first.values.std(ddof=1) == pytest.approx(0.02, abs=0.008)
    assert np.corrcoef(first.values, second.values)[0, 1] == pytest.approx(0.5, abs=0.35)


def test_patients_and_images_are_as_the_world_says() -> None:
    world = World(positives=20, draws=3, draw_sd=0.02, rho=0.3)
    truth, patient = world.truth()
    assert len(np.unique(patient)) == world.patients == 133
    assert len(np.unique(patient[truth == 1])) == 20
    assert np.bincount(patient).tolist()[:4] == [1, 1, 2, 4]
    # Half of a positive patient's images, rounded up.
    assert [int(truth[patient == who].sum()) for who in range(4)] == [1, 1, 1, 2]


def test_three_hundred_experiments_cover_as_promised_and_the_originals_do_not() -> None:
    """Five draws, sd .02, 50 positive patients, rho .3. Bounds are 3.3 standard errors of 300 experiments around 95 % and 5 %."""
    cell = Cell(world=World(positives=50, draws=5, draw_sd=0.02, rho=0.3, effects=(0.0, 0.03)), repetitions=300)
    assert cell in grid(300)
    assert cell.promised
    tally = cell.measure()
    reach = 100 * 3.3 * math.sqrt(0.95 * 0.05 / 300)
    for name in ("arm/covered", "gap/covered"):
        assert tally.of[name] == 300
        assert tally.share(name) == pytest.approx(95, abs=reach)
    assert tally.share("null/claimed") == pytest.approx(5, abs=reach)
    # What holds one source of chance fixed is narrower, and claims more.
    assert tally.share("arm/t") < 85
    assert tally.share("null/independent_t") > 12
    assert tally.share("arm/influence") <= tally.share("arm/covered")


def test_a_cell_gives_the_same_numbers_again_whatever_ran_before(tmp_path: Path) -> None:
    cells = [Cell(world=World(positives=10, draws=3, draw_sd=0.02, rho=rho, effects=(0.0,)), repetitions=4) for rho in (0.0, 0.3)]
    both, last = coverage_study.run(cells, tmp_path / "memory"), coverage_study.run(cells[1:])
    assert both[1][1] == last[0][1]
    assert both[0][1] != both[1][1]
    assert coverage_study.run(cells, tmp_path / "memory") == both
    assert len((tmp_path / "memory").read_text(encoding="utf-8").splitlines()) == 2


def test_the_page_is_written_from_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two cells in place of the grid; each table has a row a cell."""
    small = [one for one in grid(2) if one.world.positives == 20 and one.world.draws == 3][:4]
    monkeypatch.setattr(coverage_study, "grid", lambda _: small)
    monkeypatch.setattr(coverage_study, "beyond", lambda _: beyond(2)[:1])
    monkeypatch.setattr(coverage_study, "twins", lambda _: twins(1)[:1])
    assert main(["--repetitions", "2", "--out", str(tmp_path / "page.md")]) == 0
    written = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "coverage_study --repetitions 2`" in written
    assert [len(table) for table in tables(written)] == [2, 1, 1, 2]
    assert written == page(*[coverage_study.run(cells) for cells in (small, beyond(2)[:1], twins(1)[:1])], 2)


def tables(text: str) -> list[list[list[str]]]:
    """Return the rows of each table of a page, without their heads."""
    found: list[list[list[str]]] = []
    for part in text.split("\n\n"):
        if part.startswith("|"):
            found.append([[entry.strip() for entry in line.strip("|").split("|")] for line in part.splitlines()[2:]])
    return found


def check_promises(text: str) -> None:
    """Fail where a page's cell breaks what the page promises."""
    every, others, _, _ = tables(text)
    assert len(every) == 54
    for row in every:
        *_, arm, matched, claimed, apart, claimed_apart, promised = row
        for share in map(float, (arm, matched, apart)):
            assert share >= FLOOR, row
            assert not promised or PROMISED_COVERAGE[0] <= share <= PROMISED_COVERAGE[1], row
        for share in map(float, (claimed, claimed_apart)):
            assert share <= 100 - FLOOR, row
            assert not promised or PROMISED_CLAIMS[0] <= share <= PROMISED_CLAIMS[1], row
    assert sum(row[-1] == "yes" for row in every) == 16
    for what, arm, gap, *_ in others:
        # A finding with fewer than ten positive patients carries a status in every report.
        assert what == "5 positive patients" or min(float(arm), float(gap)) >= FLOOR, what


def test_the_committed_page_is_of_the_whole_study_and_keeps_its_promises() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "python -m tests.orchestrator.report.stats.coverage_study`" in text
    assert "Each cell is 4,000 experiments" in text
    check_promises(text)


@pytest.mark.slow
def test_the_whole_study_keeps_its_promises(tmp_path: Path) -> None:
    """About half an hour on one quiet core; the page comes out as it is committed."""
    assert main(["--out", str(tmp_path / "page.md")]) == 0
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    check_promises(text)
    assert text == PAGE.read_text(encoding="utf-8")
