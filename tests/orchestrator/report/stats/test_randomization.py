"""Sign flips, permutations and signed ranks against full enumeration and scipy, with the smallest p that each can reach."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from orchestrator.report.stats import randomization
from orchestrator.report.stats.estimate import Status
from orchestrator.report.stats.randomization import permutation, sign_flip, wilcoxon

PAIRS = [
    np.array([0.01, 0.02, -0.005, 0.03, 0.011]),
    np.array([0.01, 0.01, -0.01, 0.02, 0.02, -0.03, 0.04]),
    np.array([0.3, 0.2, 0.1, 0.1, 0.2]),
    np.array([0.0, 0.5, -0.25, 0.0, 0.75, 1.0]),
    np.array([1.0, -1.0, 1.0, -1.0]),
    np.array([0.2]),
    np.random.default_rng(0).normal(0.4, 1, 12),
]


def share_as_far(seen: float, all_of_them: list[float]) -> float:
    far = np.abs(np.array(all_of_them))
    return float((far >= abs(seen) - 1e-12).mean())


@pytest.mark.parametrize("gap", PAIRS)
def test_flipping_signs_lists_them_all(gap: np.ndarray) -> None:
    every = [float((np.array(signs) * gap).mean()) for signs in product((1, -1), repeat=len(gap))]
    found = sign_flip(gap)
    assert found.p == pytest.approx(share_as_far(gap.mean(), every), abs=1e-15)
    assert found.statistic == pytest.approx(gap.mean())
    assert found.smallest_p == pytest.approx(2 / 2.0 ** np.count_nonzero(gap))
    assert (found.exact, found.assignments) == (True, 2 ** len(gap))
    if len(gap) > 1:
        theirs = stats.permutation_test((gap,), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert found.p == pytest.approx(theirs.pvalue, abs=1e-12)


def test_five_draws_cannot_reach_five_per_cent() -> None:
    found = sign_flip(np.array([0.03, 0.02, 0.04, 0.01, 0.05]))
    assert found.p == found.smallest_p == 0.0625
    assert not found.can_reach(0.05)
    assert sign_flip(np.full(6, 0.01)).can_reach(0.05)


@pytest.mark.parametrize("gap", PAIRS)
def test_signed_ranks_are_counted_out_also_with_ties(gap: np.ndarray) -> None:
    kept = gap[gap != 0]
    ranks = stats.rankdata(np.abs(kept))
    every = np.array([ranks[np.array(signs) > 0].sum() for signs in product((1, -1), repeat=len(kept))])
    seen = ranks[kept > 0].sum()
    expected = min(1.0, 2 * min((every <= seen + 1e-9).mean(), (every >= seen - 1e-9).mean()))
    found = wilcoxon(gap)
    assert found.p == pytest.approx(expected, abs=1e-12)
    assert found.smallest_p == pytest.approx(min(1.0, 2 / 2 ** len(kept)))
    assert (found.statistic, found.n, found.exact) == (seen, len(kept), True)


@pytest.mark.parametrize("n", [5, 20, 50])
def test_signed_ranks_are_scipys(n: int) -> None:
    gap = np.random.default_rng(n).normal(0.2, 1, n)
    expected = stats.wilcoxon(gap, method="exact")
    found = wilcoxon(gap)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-11)
    assert min(found.statistic or 0, n * (n + 1) / 2 - (found.statistic or 0)) == expected.statistic


def test_many_signed_ranks_are_scipys_normal_also_with_ties_and_zeros() -> None:
    gap = np.round(np.random.default_rng(1).normal(0.1, 1, 400), 1)
    found, expected = wilcoxon(gap), stats.wilcoxon(gap, method="asymptotic", zero_method="wilcox", correction=False)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-10)
    assert not found.exact


def test_counting_out_and_the_normal_meet() -> None:
    gap = np.random.default_rng(2).normal(0.15, 1, randomization.COUNTED_UP_TO)
    assert wilcoxon(gap).p == pytest.approx(stats.wilcoxon(gap, method="asymptotic").pvalue, rel=0.02)


@pytest.mark.parametrize(("n", "m"), [(3, 3), (5, 4), (2, 6), (1, 4), (5, 5)])
def test_permuting_labels_lists_them_all(n: int, m: int) -> None:
    rng = np.random.default_rng([n, m])
    a, b = np.round(rng.normal(0.3, 1, n), 1), np.round(rng.normal(0, 1, m), 1)
    pooled = np.concatenate([a, b])
    every = []
    for chosen in combinations(range(n + m), n):
        mask = np.zeros(n + m, bool)
        mask[list(chosen)] = True
        every.append(float(pooled[mask].mean() - pooled[~mask].mean()))
    found = permutation(a, b)
    assert found.p == pytest.approx(share_as_far(a.mean() - b.mean(), every), abs=1e-15)
    assert found.statistic == pytest.approx(a.mean() - b.mean(), abs=1e-12)
    far = np.abs(every)
    assert found.smallest_p == pytest.approx((far >= far.max() - 1e-12).mean(), abs=1e-15)
    assert found.assignments == len(every)


def test_three_runs_an_arm_cannot_reach_five_per_cent() -> None:
    found = permutation(np.array([0.9, 0.91, 0.92]), np.array([0.5, 0.51, 0.53]))
    assert found.p == found.smallest_p == 0.1
    assert not found.can_reach(0.05)


def test_a_sample_of_assignments_comes_near_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    gap = np.random.default_rng(3).normal(0.3, 1, 12)
    a, b = gap[:6] + 0.4, gap[6:]
    exact = sign_flip(gap), permutation(a, b)
    monkeypatch.setattr(randomization, "EXACT_UP_TO", 1)
    sampled = sign_flip(gap), permutation(a, b)
    for one, other in zip(exact, sampled, strict=True):
        assert not other.exact
        assert other.p == pytest.approx(one.p, abs=4 * np.sqrt(0.25 / 20_000))
        assert other.smallest_p == 1 / 20_001
        assert one.statistic == pytest.approx(other.statistic)


def test_a_sample_depends_on_the_seed_alone_and_never_reaches_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(randomization, "EXACT_UP_TO", 1)
    gap = np.linspace(0.9, 1.1, 30)
    found = sign_flip(gap, sampled=500)
    assert found.p == found.smallest_p == 1 / 501
    mixed = np.random.default_rng(4).normal(0.1, 1, 30)
    assert sign_flip(mixed, seed=1) == sign_flip(mixed, seed=1)
    assert sign_flip(mixed, seed=1).p != sign_flip(mixed, seed=2).p
    monkeypatch.setattr(randomization, "_TILE", 7)
    assert sign_flip(mixed, seed=1, sampled=999).p == pytest.approx(sign_flip(mixed, seed=1, sampled=999).p)


def test_tiles_do_not_change_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(randomization, "EXACT_UP_TO", 1)
    gap = np.random.default_rng(5).normal(0.1, 1, 25)
    before = sign_flip(gap), permutation(gap, gap[:9] + 0.5)
    monkeypatch.setattr(randomization, "_TILE", 37)
    assert (sign_flip(gap), permutation(gap, gap[:9] + 0.5)) == before


@pytest.mark.parametrize("test", [sign_flip, wilcoxon])
def test_nothing_and_all_zero_have_a_status_and_no_p(test: object) -> None:
    run = {"sign_flip": sign_flip, "wilcoxon": wilcoxon}[test.__name__]  # type: ignore[attr-defined]
    assert (run(np.array([])).status, run(np.array([])).p) == ((Status.NOT_ESTIMABLE,), None)
    assert (run(np.zeros(4)).status, run(np.zeros(4)).p) == ((Status.IDENTICAL,), None)


def test_samples_without_a_difference_to_find_have_a_status() -> None:
    assert permutation(np.array([]), np.array([0.1])).status == (Status.NOT_ESTIMABLE,)
    assert permutation(np.full(3, 0.3), np.full(2, 0.1 + 0.2)).status == (Status.IDENTICAL,)
    # Two constant samples that differ can be permuted, unlike in a t-test.
    assert permutation(np.full(3, 0.3), np.full(3, 0.2)).p == 0.1


def test_one_value_a_side_says_nothing() -> None:
    assert permutation(np.array([0.9]), np.array([0.1])).p == 1.0
    assert sign_flip(np.array([0.9])).p == 1.0
    assert wilcoxon(np.array([0.9])).p == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_refused(bad: float) -> None:
    values = np.array([0.1, bad, 0.2])
    for run in (sign_flip, wilcoxon, lambda one: permutation(one, one[:1])):
        with pytest.raises(ValueError, match="not finite"):
            run(values)
