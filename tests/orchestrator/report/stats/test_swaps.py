"""The exchange of two models patient by patient against counting every exchange by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from orchestrator.report.stats.bootstrap import _kernels
from orchestrator.report.stats.estimate import Status
from orchestrator.report.stats.swaps import Scores, swap_tests


def made(patients: int, *, each: int = 2, gap: float = 0.6, seed: int = 0, digits: int = 2) -> Scores:
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(patients), each)
    truth = rng.integers(0, 2, patients)[cluster]
    truth[:2], truth[-2:] = 0, 1
    shared = rng.standard_normal(len(cluster))
    first = np.round(truth * (1 + gap) + shared + 0.5 * rng.standard_normal(len(cluster)), digits)
    second = np.round(truth + shared + 0.5 * rng.standard_normal(len(cluster)), digits)
    return Scores(truth=truth, first=first, second=second, cluster=cluster)


def by_hand(labels: list[Scores], patients: int) -> tuple[float, float, float]:
    """Exchange every subset of patients, one after another, with sklearn's area of what comes out."""
    ranks = [(stats.rankdata(one.first), stats.rankdata(one.second)) for one in labels]
    values = []
    for swapped in product((False, True), repeat=patients):
        gaps = []
        for one, (a, b) in zip(labels, ranks, strict=True):
            mask = np.array(swapped)[one.cluster]
            gaps.append(roc_auc_score(one.truth, np.where(mask, b, a)) - roc_auc_score(one.truth, np.where(mask, a, b)))
        values.append(np.mean(gaps))
    far = np.abs(values)
    return values[0], float((far >= far[0] - 1e-12).mean()), float((far >= far.max() - 1e-12).mean())


@pytest.mark.parametrize("seed", range(3))
def test_few_patients_are_every_exchange_by_hand(seed: int) -> None:
    one = made(7, seed=seed, digits=1)
    mean, (own,) = swap_tests([one], 7)
    seen, p, smallest = by_hand([one], 7)
    assert (own.statistic, own.p, own.smallest_p) == pytest.approx((seen, p, smallest), abs=1e-12)
    assert own == mean
    assert own.exact


def test_findings_are_exchanged_together_and_their_mean_is_tested() -> None:
    labels = [made(5, seed=index, gap=gap) for index, gap in enumerate((0.2, 1.0, 0.5))]
    mean, each = swap_tests(labels, 5)
    assert (mean.statistic, mean.p, mean.smallest_p) == pytest.approx(by_hand(labels, 5), abs=1e-12)
    for one, found in zip(labels, each, strict=True):
        assert (found.statistic, found.p, found.smallest_p) == pytest.approx(by_hand([one], 5), abs=1e-12)


def test_a_sample_of_exchanges_comes_near_all_of_them_and_says_its_smallest_p() -> None:
    one = made(15, gap=0.4, seed=5)
    whole, _ = swap_tests([one], 15)
    few = Scores(truth=np.tile(one.truth, 2), first=np.tile(one.first, 2), second=np.tile(one.second, 2), cluster=np.arange(60) // 2)
    sampled, _ = swap_tests([few], 30, sampled=1_999)
    assert whole.exact
    assert not sampled.exact
    assert sampled.assignments == 1_999
    assert sampled.smallest_p == 1 / 2_000
    assert whole.statistic == pytest.approx(sampled.statistic, abs=1e-12)


def test_a_sample_is_of_the_distribution_that_all_exchanges_have(monkeypatch: pytest.MonkeyPatch) -> None:
    one = made(12, gap=0.3, seed=8)
    whole, _ = swap_tests([one], 12)
    monkeypatch.setattr("orchestrator.report.stats.swaps.EXACT_UP_TO", 1)
    part, _ = swap_tests([one], 12, sampled=4_999)
    assert whole.p is not None
    assert part.p == pytest.approx(whole.p, abs=5 * np.sqrt(whole.p * (1 - whole.p) / 4_999) + 1 / 5_000)


def test_numpy_and_machine_code_give_the_same() -> None:
    if _kernels() is None:
        pytest.skip("numba is not installed; pip install 'cxr-orchestrator[fast]'")
    labels = [made(40, seed=index) for index in range(3)]
    assert swap_tests(labels, 40, sampled=300, engine="numpy") == swap_tests(labels, 40, sampled=300, engine="numba")


def test_the_order_of_models_turns_the_sign_and_a_monotone_scale_changes_nothing() -> None:
    one = made(10, seed=3)
    found, _ = swap_tests([one], 10)
    turned, _ = swap_tests([Scores(truth=one.truth, first=one.second, second=one.first, cluster=one.cluster)], 10)
    scaled, _ = swap_tests([Scores(truth=one.truth, first=np.exp(one.first), second=5 * one.second, cluster=one.cluster)], 10)
    assert turned.statistic == pytest.approx(-(found.statistic or 0), abs=1e-15)
    assert turned.p == found.p == scaled.p


def test_how_many_are_exchanged_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = [made(30, seed=1)]
    found = swap_tests(labels, 30, sampled=500)
    monkeypatch.setattr("orchestrator.report.stats.swaps._HELD", 1)
    assert swap_tests(labels, 30, sampled=500) == found


def test_models_that_rank_alike_are_the_same() -> None:
    one = made(30, seed=4)
    same, _ = swap_tests([Scores(truth=one.truth, first=one.first, second=2 * one.first + 1, cluster=one.cluster)], 30)
    assert (same.statistic, same.p, same.status) == (0.0, None, (Status.IDENTICAL,))


def test_a_finding_without_a_class_has_no_test_and_is_not_in_the_mean() -> None:
    one, empty = made(6, seed=2), made(6, seed=3)
    none = Scores(truth=np.zeros_like(empty.truth), first=empty.first, second=empty.second, cluster=empty.cluster)
    mean, (own, other) = swap_tests([one, none], 6)
    assert mean.p == own.p
    assert other.status == (Status.NOT_ESTIMABLE,)
    assert swap_tests([none], 6)[0].status == (Status.NOT_ESTIMABLE,)


def test_without_a_difference_small_p_values_are_as_rare_as_they_say() -> None:
    found = [swap_tests([made(9, each=1, gap=0.0, seed=1_000 + index)], 9)[0].p or 1.0 for index in range(200)]
    assert np.mean(np.array(found) <= 0.1) <= 0.1 + 3 * np.sqrt(0.09 / 200)
