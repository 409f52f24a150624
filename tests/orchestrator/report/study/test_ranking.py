"""The order of arms, and what lone runs borrow, in a made study with seven arms, gaps and one run a cell with all labels."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import special, stats

from orchestrator.model import AxisKind
from orchestrator.report.analysis import build
from orchestrator.report.layout import sections
from orchestrator.report.lines import lines
from orchestrator.report.render import html, markdown
from orchestrator.report.study.rank_drawing import alike, rank_figure
from orchestrator.report.values import Report
from tests.orchestrator.report.made_run import Made, many_arms


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    made, plan = many_arms(tmp_path_factory.mktemp("run"), patients=90)
    return build(plan, made.run)


def test_arms_are_ranked_with_every_number_of_labels(report: Report) -> None:
    for size in report.test_sets[0].sizes:
        own = [one for one in report.study.ranks if one.size == size.key]
        cells = {
            one.arm: one.estimate or 0 for one in report.cells if one.size == size.key and one.n_replicates > (size.key != "fraction=1")
        }
        assert {one.arm for one in own} == set(cells)
        by_value = sorted(cells, key=lambda arm: -cells[arm])
        assert [one.arm for one in sorted(own, key=lambda one: one.rank)] == by_value
        assert sum(one.first for one in own) == pytest.approx(1)
        assert sum(one.mean_rank for one in own) == pytest.approx(len(own) * (len(own) + 1) / 2)
        assert all(1 <= one.low <= one.high <= len(own) for one in own)


def test_with_one_run_an_arm_only_patients_are_drawn_again(report: Report) -> None:
    assert {one.estimand for one in report.study.ranks if one.size == "fraction=1"} == {"these_models_new_patients"}
    assert {one.estimand.partition("_given")[0] for one in report.study.ranks if one.size == "fraction=0.01"} == {"new_draws_new_patients"}


def test_single_runs_are_ranked_as_a_bootstrap_by_hand_ranks_them(made: Made) -> None:
    """Redrawn by another generator, with areas counted pair by pair: shares of first places agree up to chance."""
    made.axis("model", AxisKind.COMPARE, ("a", "b", "c"))
    specs = [
        made.evaluation("finetune", {"model": name, "target": "phantom"}, separation=level)
        for name, level in (("a", 1.0), ("b", 1.05), ("c", 0.6))
    ]
    found = build(made.plan(contrasts=(), resamples=1000), made.run).study.ranks
    people = sorted(set(made.patient))
    taken = np.random.default_rng(0).multinomial(len(people), [1 / len(people)] * len(people), 500)
    areas = np.zeros((3, 500))
    for arm, spec in enumerate(specs):
        for _, rows in pq.read_table(made.run.job(spec.job_id).predictions).to_pandas().groupby("label"):
            weight = taken[:, np.searchsorted(people, rows.patient)]
            positive, score = rows.truth.to_numpy() == 1, rows.score.to_numpy()
            above = (score[positive][:, None] > score[~positive][None]).astype(float)
            pairs = weight[:, positive].sum(axis=1) * weight[:, ~positive].sum(axis=1)
            areas[arm] += np.einsum("rp,pn,rn->r", weight[:, positive], above, weight[:, ~positive], optimize=True) / pairs
    first = np.bincount(areas.argmax(axis=0), minlength=3) / 500
    shares = [one.first for one in found]
    assert 0.1 < shares[0] < 0.9
    np.testing.assert_allclose(shares, first, atol=0.07)


def test_a_lone_run_borrows_from_the_largest_smaller_size(report: Report) -> None:
    own = {one.arm: one for one in report.study.borrowed if one.baseline is None}
    assert {one.size for one in own.values()} == {"fraction=1"}
    assert {one.from_size for one in own.values()} == {"fraction=0.3"}
    for arm, one in own.items():
        lone = next(cell for cell in report.cells if (cell.arm, cell.size) == (arm, one.size))
        lender = next(cell for cell in report.cells if (cell.arm, cell.size) == (arm, one.from_size))
        parts, alone = lender.components, lone.components
        draw = max((parts["ms_draws"] or 0) - ((parts["var_case"] or 0) - (parts["cov_case"] or 0)), 0.0)
        variance = (alone["var_case"] or 0) + draw
        df = variance**2 / ((parts["ms_draws"] or 0) ** 2 / (lender.n_replicates - 1))
        half = stats.t.ppf(0.975, df) * np.sqrt(variance) / ((lone.estimate or 0) * (1 - (lone.estimate or 0)))
        ends = special.expit(special.logit(lone.estimate) + half * np.array([-1, 1]))
        assert (one.low, one.high) == pytest.approx(tuple(ends))
        assert one.low <= (one.own_low or 0) < (one.own_high or 0) <= one.high


def test_differences_of_lone_runs_borrow_too_and_nothing_is_tested(report: Report) -> None:
    found = [one for one in report.study.borrowed if one.baseline is not None]
    assert found
    assert {one.estimand for one in found} <= {
        "new_draws_new_patients_given_borrowed_spread",
        "these_models_new_patients_given_borrowed_spread",
    }
    rows = [line for line in lines(report) if line.kind == "borrowed"]
    assert len(rows) == len(report.study.borrowed)
    assert {row.p for row in rows} == {None}
    assert all(one.p_adjusted is None for one in report.differences if one.size == "fraction=1")


def test_the_page_shows_the_order_and_says_what_is_assumed(report: Report) -> None:
    shown = sections(report)
    for page in (html(report, shown), markdown(report, shown)):
        assert "How stable the order is" in page
        assert "A rank is a view and no test" in page
        assert "Lone runs with borrowed spread" in page
        assert "draws spread no more with more labels" in page


def test_two_arms_are_not_ranked(made: Made) -> None:
    made.axis("model", AxisKind.COMPARE, ("a", "b"))
    for name in ("a", "b"):
        made.evaluation("finetune", {"model": name, "target": "phantom"})
    study = build(made.plan(contrasts=()), made.run).study
    assert (study.ranks, study.borrowed) == ((), ())


def test_the_lowest_is_first_where_lower_is_better(made: Made) -> None:
    made.axis("model", AxisKind.COMPARE, ("a", "b", "c"))
    for name, level in (("a", 0.4), ("b", 2.0), ("c", 1.0)):
        made.evaluation("finetune", {"model": name, "target": "phantom"}, separation=level)
    report = build(made.plan(contrasts=(), measure={"default": "brier_macro"}), made.run)
    by_place = {one.rank: one for one in report.study.ranks}
    scores = {one.arm: one.estimate or 0 for one in report.cells}
    assert [scores[by_place[place].arm] for place in (1, 2, 3)] == sorted(scores.values())
    assert by_place[1].mean_rank < by_place[2].mean_rank < by_place[3].mean_rank


def test_the_drawing_of_places_says_what_ranks_and_pairs_say(report: Report) -> None:
    test_set = report.test_sets[0]
    for size in test_set.sizes:
        own = sorted((one for one in report.study.ranks if one.size == size.key), key=lambda one: one.rank)
        figure = rank_figure(report, test_set, size)
        assert figure is not None
        shown = re.findall(r">([01]\.\d\d)</text>", figure.wide)
        assert sorted(shown) == sorted(f"{share:.2f}" for one in own for share in one.shares if share >= 0.005)
        pairs = {frozenset((one.arm, one.baseline)): one for one in report.study.pairs if one.size == size.key}
        joined = alike([one.arm for one in own], pairs, report.confidence)
        assert figure.wide.count("stroke-width:3") == len(joined)
        assert ("max-t over all" in figure.caption) == bool(pairs)
        assert ("Upright lines" in figure.caption) == bool(joined)
        assert bool(joined) == (size.key != "fraction=1")
        inside = [(index, other) for first, last in joined for index in range(first, last) for other in range(index + 1, last + 1)]
        for index in range(len(own) - 1):
            told = (pairs[frozenset((own[index].arm, own[index + 1].arm))].p_adjusted or 1) < 0.05 if pairs else True
            assert told != ((index, index + 1) in inside)
        assert all((pairs[frozenset((own[a].arm, own[b].arm))].p_adjusted or 1) >= 0.05 for a, b in inside)


def test_two_arms_have_no_drawing_of_places(report: Report) -> None:
    few = replace(report, study=replace(report.study, ranks=report.study.ranks[:2]))
    assert rank_figure(few, few.test_sets[0], few.test_sets[0].sizes[0]) is None
