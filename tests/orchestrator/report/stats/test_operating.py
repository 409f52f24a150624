"""Operating points, calibration and curves against trying everything, sklearn, statsmodels and textbook identities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, precision_recall_curve, roc_curve
from statsmodels.stats.proportion import proportion_confint

from orchestrator.report.stats.calibration import BINS, brier, debiased, ece, equal_mass, equal_width
from orchestrator.report.stats.operating import mean_proportion, parts_at, proportion, thresholds_of
from orchestrator.report.stats.rates import GRID, counts, precision_recall, roc


def cases(seed: int = 0, size: int = 300, digits: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = (rng.random(size) < 0.3).astype(np.int8)
    return truth, np.round(1 / (1 + np.exp(-(1.5 * truth - 1 + rng.standard_normal(size)))), digits)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=2, max_size=25))
@settings(max_examples=100, deadline=None)
def test_thresholds_are_those_of_trying_every_score(pairs: list[tuple[bool, int]]) -> None:
    truth, score = np.array([one for one, _ in pairs], np.int8), np.array([float(two) for _, two in pairs])
    found = thresholds_of(truth, score)
    m, n = int(truth.sum()), int((1 - truth).sum())
    if not m or not n:
        assert found == {}
        return
    tried = [(t, int((truth[score >= t] == 1).sum()), int((truth[score < t] == 0).sum())) for t in sorted(set(score))]
    assert found["youden"] == max(tried, key=lambda one: (one[1] * n + one[2] * m, -one[0]))[0]
    assert found["sensitivity_90"] == max(t for t, hits, _ in tried if 10 * hits >= 9 * m)
    assert found.get("specificity_90") == min((t for t, _, passed in tried if 10 * passed >= 9 * n), default=None)


def test_with_one_run_and_one_case_a_patient_it_is_wilsons_interval() -> None:
    truth, score = cases()
    for name, (above, below) in parts_at(truth, score >= 0.5).items():
        if name == "f1":
            continue
        found = proportion([(above, below)], np.arange(len(truth)), len(truth), 0.95)
        assert found is not None, name
        low, high = proportion_confint(above.sum(), below.sum(), method="wilson")
        assert found.value == above.sum() / below.sum()
        # The n - 1 of a variance makes one case fewer of them.
        assert found.n_effective == pytest.approx(below.sum() - 1, abs=1e-6)
        assert (found.low, found.high) == (pytest.approx(low, abs=2e-3), pytest.approx(high, abs=2e-3))


def test_copies_of_a_patient_are_worth_one_patient() -> None:
    truth, score = cases()
    above, below = parts_at(truth, score >= 0.5)["sensitivity"]
    once = proportion([(above, below)], np.arange(300), 300, 0.95)
    again = proportion([(np.tile(above, 4), np.tile(below, 4))], np.tile(np.arange(300), 4), 300, 0.95)
    assert once is not None
    assert again is not None
    assert (again.low, again.high) == (pytest.approx(once.low, abs=1e-12), pytest.approx(once.high, abs=1e-12))
    assert again.n == 4 * once.n
    assert again.n_effective == pytest.approx(once.n_effective)


def test_all_right_has_a_width_and_never_more_cases_than_patients() -> None:
    truth = np.repeat([1, 0], 20)
    above, below = parts_at(truth, truth)["sensitivity"]
    found = proportion([(above, below)], np.arange(40) // 2, 20, 0.95)
    assert found is not None
    assert (found.value, found.high, found.n, found.n_effective) == (1.0, 1.0, 20.0, 10.0)
    assert found.low == pytest.approx(proportion_confint(10, 10, method="wilson")[0])


def test_several_runs_are_averaged_and_never_worth_more_than_their_cases() -> None:
    truth, score = cases()
    rng = np.random.default_rng(1)
    runs = [parts_at(truth, score + 0.3 * rng.standard_normal(300) >= 0.5)["specificity"] for _ in range(20)]
    found = proportion(runs, np.arange(300), 300, 0.95)
    assert found is not None
    assert found.value == pytest.approx(np.mean([above.sum() / below.sum() for above, below in runs]))
    assert found.n_effective <= found.n
    assert found.runs == 20


def test_what_does_not_exist_is_none_and_one_patient_has_no_interval() -> None:
    nobody = np.zeros(5, bool)
    assert proportion([(nobody, nobody)], np.arange(5), 5, 0.95) is None
    one = np.ones(4, bool)
    alone = proportion([(one, one), (nobody[:4], nobody[:4])], np.zeros(4, int), 1, 0.95)
    assert alone is not None
    assert (alone.value, alone.low, alone.high, alone.runs) == (1.0, None, None, 1)


def test_reliability_is_that_of_sklearn() -> None:
    truth, probability = cases(digits=6)
    found = equal_width(probability, truth)
    frequency, mean = calibration_curve(truth, probability, n_bins=BINS)
    np.testing.assert_allclose(found.frequency, frequency)
    np.testing.assert_allclose(found.probability, mean)
    assert found.count.sum() == 300
    expected = sum(
        abs(probability[inside].mean() - truth[inside].mean()) * inside.sum() / 300
        for low in np.arange(0, 1, 0.1)
        if (inside := (probability >= low) & (probability < low + 0.1)).any()
    )
    assert ece(found) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 100)), min_size=1, max_size=60))
@settings(max_examples=100, deadline=None)
def test_the_parts_of_a_brier_score_add_up_and_bins_hold_every_case(pairs: list[tuple[bool, int]]) -> None:
    truth, probability = np.array([one for one, _ in pairs], np.int8), np.array([two / 100 for _, two in pairs])
    found = brier(probability, truth, equal_mass(probability, truth))
    assert found.value == pytest.approx(((probability - truth) ** 2).mean(), abs=1e-12)
    assert found.reliability - found.resolution + found.uncertainty + found.within == pytest.approx(found.value, abs=1e-12)
    for bins in (equal_width(probability, truth), equal_mass(probability, truth)):
        assert bins.count.sum() == len(pairs)
        assert (bins.count > 0).all()
        assert ((bins.low <= bins.probability + 1e-12) & (bins.probability <= bins.high + 1e-12)).all()
        assert 0 <= ece(bins) <= 1
        assert debiased(bins) is None or 0 <= (debiased(bins) or 0) <= 1
    order = np.random.default_rng(0).permutation(len(pairs))
    assert ece(equal_mass(probability[order], truth[order])) == pytest.approx(ece(equal_mass(probability, truth)), abs=1e-12)


def test_bins_of_one_probability_each_leave_nothing_within() -> None:
    truth, probability = np.array([0, 1, 1, 0, 1, 1]), np.array([0.2, 0.2, 0.8, 0.8, 0.8, 0.8])
    found = brier(probability, truth, equal_mass(probability, truth))
    assert found.within == pytest.approx(0.0, abs=1e-15)
    assert found.value == pytest.approx(brier_score_loss(truth, probability))


def test_chance_is_taken_off_a_calibrated_model() -> None:
    rng = np.random.default_rng(4)
    plain, less = [], []
    for _ in range(60):
        probability = rng.random(400)
        bins = equal_mass(probability, (rng.random(400) < probability).astype(int))
        plain.append(np.sqrt((bins.count * (bins.probability - bins.frequency) ** 2).sum() / 400))
        less.append(debiased(bins))
    assert np.mean(less) < 0.5 * np.mean(plain)


@pytest.mark.parametrize("digits", [1, 6])
def test_curves_pass_through_the_points_of_sklearn(digits: int) -> None:
    truth, score = cases(digits=digits)
    found = roc(counts(truth, score))
    assert found is not None
    false_rate, true_rate, _ = roc_curve(truth, score, drop_intermediate=False)
    for x, y in zip(GRID, found, strict=True):
        at = np.flatnonzero(false_rate == x)
        expected = true_rate[at[-1]] if len(at) else np.interp(x, false_rate, true_rate)
        assert y == pytest.approx(expected, abs=1e-12)
    assert (np.diff(found) >= -1e-12).all()
    assert found[-1] == 1.0
    curve = precision_recall(counts(truth, score))
    assert curve is not None
    precision, recall, _ = precision_recall_curve(truth, score)
    for x, y in zip(GRID, curve, strict=True):
        reached = np.flatnonzero((recall >= x - 1e-12) & (recall > 0))
        assert y == pytest.approx(precision[reached[-1]], abs=1e-12)


def test_a_curve_needs_its_classes() -> None:
    score = np.array([0.1, 0.4])
    assert roc(counts(np.array([1, 1]), score)) is None
    assert roc(counts(np.array([0, 0]), score)) is None
    assert precision_recall(counts(np.array([0, 0]), score)) is None
    flat = roc(counts(np.array([0, 1]), np.array([0.5, 0.5])))
    assert flat is not None
    np.testing.assert_allclose(flat, GRID)


# --- F1 and accuracy ----------------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=2, max_size=25))
@settings(max_examples=100, deadline=None)
def test_the_threshold_for_f1_is_the_smallest_that_sklearn_finds_best(pairs: list[tuple[bool, int]]) -> None:
    truth, score = np.array([one for one, _ in pairs], np.int8), np.array([float(two) for _, two in pairs])
    if 0 < truth.sum() < len(truth):
        tried = {limit: f1_score(truth, score >= limit) for limit in sorted(set(score))}
        best = max(tried.values())
        assert thresholds_of(truth, score)["f1"] == next(limit for limit, value in tried.items() if value == pytest.approx(best, abs=1e-12))


def test_f1_and_accuracy_are_sklearns_and_f1_has_the_width_of_the_delta_method() -> None:
    truth, score = cases(3, 900)
    called = score >= 0.4
    parts = parts_at(truth, called)
    found = {name: proportion([parts[name]], np.arange(900), 900, 0.95, halves=name == "f1") for name in ("accuracy", "f1")}
    assert found["accuracy"] is not None and found["accuracy"].value == pytest.approx(accuracy_score(truth, called))
    one = found["f1"]
    assert one is not None and one.low is not None and one.high is not None
    assert one.value == pytest.approx(f1_score(truth, called))
    # Beside it, the spread of F1 over resampled cases.
    rng, draws = np.random.default_rng(0), []
    for _ in range(2000):
        rows = rng.integers(0, 900, 900)
        draws.append(f1_score(truth[rows], called[rows]))
    assert (one.high - one.low) / 2 == pytest.approx(1.96 * np.std(draws), rel=0.08)


def test_a_mean_over_findings_has_the_width_of_resampled_patients() -> None:
    rng = np.random.default_rng(5)
    cluster = np.repeat(np.arange(150), 2)
    known = [np.arange(300), np.arange(0, 300, 3)]
    truth = (rng.random((300, 2)) < 0.4).astype(np.int8)
    called = (truth + rng.normal(0, 0.7, (300, 1)) + rng.normal(0, 0.3, (300, 2))) > 0.5
    for name in ("accuracy", "f1"):
        each = [parts_at(truth[rows, column], called[rows, column])[name] for column, rows in enumerate(known)]
        found = mean_proportion([([one], cluster[rows]) for one, rows in zip(each, known, strict=True)], 150, 0.95)
        assert found is not None and found.low is not None and found.high is not None
        assert found.value == pytest.approx(np.mean([above.sum() / below.sum() for above, below in each]))
        draws = []
        for _ in range(1500):
            times = np.bincount(rng.integers(0, 150, 150), minlength=150)
            weights = [times[cluster[rows]] for rows in known]
            draws.append(np.mean([(w * above).sum() / (w * below).sum() for (above, below), w in zip(each, weights, strict=True)]))
        assert (found.high - found.low) / 2 == pytest.approx(1.96 * np.std(draws), rel=0.12)
    nobody = parts_at(np.zeros(300, np.int8), np.zeros(300, bool))["f1"]
    assert mean_proportion([([nobody], cluster)], 150, 0.95) is None and mean_proportion([], 150, 0.95) is None
    # A finding twice is that finding.
    one = parts_at(np.repeat(truth[::2, 0], 2), np.repeat(called[::2, 0], 2))["accuracy"]
    twice, once = (mean_proportion([([one], cluster)] * times, 150, 0.95) for times in (2, 1))
    assert twice is not None and once is not None and (twice.low, twice.high) == (pytest.approx(once.low), pytest.approx(once.high))
