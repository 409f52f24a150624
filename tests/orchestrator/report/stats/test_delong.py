"""DeLong and Obuchowski against R's pROC, and by what must not change when cases are renamed, flipped, stretched or repeated."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from orchestrator.report.stats.delong import delong_interval, delong_test, joint_test, obuchowski_test
from orchestrator.report.stats.influence import delong_covariance, influence, obuchowski_covariance

SCRIPT = Path(__file__).with_name("proc.R")


def made(seed: int, cases: int, share: float, digits: int, models: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return truth (cases,) and scores (models, cases) that share what is hard; few digits make many ties."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(cases) < share).astype(np.int8)
    truth[:4] = (0, 1, 0, 1)
    hard = rng.standard_normal(cases)
    scores = np.stack([np.round((0.6 + 0.4 * model) * truth + hard + rng.standard_normal(cases), digits) for model in range(models)])
    return truth, scores


DATA = {
    "plain": made(1, 400, 0.3, 12),
    "ties": made(2, 300, 0.4, 1),
    "heavy_ties": made(3, 250, 0.5, 0),
    "rare": made(4, 2000, 0.004, 3),
    "common": made(5, 500, 0.97, 2),
    "tiny": made(6, 9, 0.5, 1),
}


@pytest.fixture(scope="module")
def proc(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """Return what pROC says of each data set."""
    file = tmp_path_factory.mktemp("proc") / "cases.csv"
    lines = [
        f"{name},{one},{float(a)!r},{float(b)!r}"
        for name, (truth, scores) in DATA.items()
        for one, a, b in zip(truth, *scores, strict=True)
    ]
    file.write_text("\n".join(["set,truth,a,b", *lines]) + "\n", encoding="utf-8")
    done = subprocess.run(["Rscript", "--vanilla", str(SCRIPT), str(file)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    said: dict[str, dict[str, float]] = {}
    for line in done.stdout.splitlines():
        name, what, value = line.split()
        said.setdefault(name, {})[what] = float(value)
    return said


@pytest.mark.needs("proc")
@pytest.mark.parametrize("name", DATA)
def test_areas_variances_and_the_paired_test_are_those_of_proc(name: str, proc: dict[str, dict[str, float]]) -> None:
    (truth, scores), said = DATA[name], proc[name]
    areas, covariance = delong_covariance(truth, scores)
    found = delong_test(truth, scores)
    assert areas.tolist() == pytest.approx([said["auc_a"], said["auc_b"]], abs=1e-14)
    assert [covariance[0, 0], covariance[1, 1], covariance[0, 1]] == pytest.approx([said["var_a"], said["var_b"], said["cov"]], rel=1e-9)
    assert found.z == pytest.approx(said["z"], rel=1e-9)
    assert found.p == pytest.approx(said["p"], rel=1e-9)
    assert delong_interval(truth, scores[0], 0.9) == pytest.approx((areas[0], said["low"], said["high"]), rel=1e-9)


@pytest.mark.parametrize("name", DATA)
def test_a_contrast_is_that_of_the_covariance_matrix(name: str) -> None:
    truth, scores = DATA[name]
    areas, covariance = delong_covariance(truth, scores)
    for contrast in ((1.0, -1.0), (0.5, 0.5), (0.0, 2.0)):
        weights = np.array(contrast)
        found = delong_test(truth, scores, contrast)
        assert found.value == pytest.approx(weights @ areas, abs=1e-15)
        assert found.se == pytest.approx(math.sqrt(weights @ covariance @ weights), rel=1e-12)
        if found.se == 0:
            assert (name, areas[1], found.p) == ("tiny", 1.0, None)
            continue
        assert found.p == pytest.approx(2 * stats.norm.sf(abs(found.value) / found.se), rel=1e-12)
        assert found.interval(0.95) == pytest.approx(stats.norm.interval(0.95, found.value, found.se), rel=1e-12)


def test_several_models_are_tested_jointly() -> None:
    truth, scores = made(7, 400, 0.3, 2, models=4)
    areas, covariance = delong_covariance(truth, scores)
    rows = np.array([[-1, 1, 0, 0], [-1, 0, 1, 0], [-1, 0, 0, 1]], float)
    joint = joint_test(truth, scores)
    assert joint is not None
    statistic = (rows @ areas) @ np.linalg.solve(rows @ covariance @ rows.T, rows @ areas)
    assert (joint.statistic, joint.df, joint.p) == (pytest.approx(statistic), 3, pytest.approx(stats.chi2.sf(statistic, 3)))
    # Contrasts that follow from others add nothing, and one contrast is the square of its Z.
    again = joint_test(truth, scores, np.vstack([rows, rows[0] - rows[1], 3 * rows[2]]))
    assert again is not None
    assert (again.statistic, again.df) == (pytest.approx(statistic), 3)
    one = joint_test(truth, scores, np.array([1.0, 0.0, -1.0, 0.0]))
    alone = delong_test(truth, scores, (1.0, 0.0, -1.0, 0.0))
    assert one is not None
    assert alone.z is not None
    assert (one.statistic, one.p) == (pytest.approx(alone.z**2), pytest.approx(alone.p))
    assert joint_test(truth, np.stack([scores[0]] * 3)) is None


def test_models_that_rank_alike_have_no_variance_and_no_p_value() -> None:
    truth, scores = DATA["ties"]
    alike = np.stack([scores[0], np.exp(3 * scores[0])])
    for found in (delong_test(truth, alike), obuchowski_test(truth, alike, np.arange(len(truth)) // 2)):
        assert (found.value, found.se, found.z, found.p, found.interval(0.95)) == (0.0, 0.0, None, None, None)
    assert delong_interval(np.array([0, 0, 1, 1]), np.arange(4.0), 0.95) is None


def clustered(seed: int = 11) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return truth, scores of two models and patients, with several images for some patients and both classes within some."""
    rng = np.random.default_rng(seed)
    cluster = np.sort(rng.integers(0, 120, 400))
    cluster = np.unique(cluster, return_inverse=True)[1]
    shared = rng.standard_normal(cluster.max() + 1)[cluster]
    truth = (rng.random(400) < 0.35).astype(np.int8)
    scores = np.stack([np.round(0.8 * truth + shared + rng.standard_normal(400), 1) for _ in range(2)])
    return truth, scores, cluster


def test_obuchowski_is_that_of_its_covariance_and_of_delong_without_clusters() -> None:
    truth, scores, cluster = clustered()
    areas, covariance = obuchowski_covariance(truth, scores, cluster)
    found = obuchowski_test(truth, scores, cluster, (1.0, -1.0))
    assert found.value == pytest.approx(areas[0] - areas[1], abs=1e-15)
    assert found.se == pytest.approx(math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]), rel=1e-12)
    alone, independent = obuchowski_test(truth, scores, np.arange(400)), delong_test(truth, scores)
    assert (alone.z, alone.p) == (pytest.approx(independent.z, rel=1e-12), pytest.approx(independent.p, rel=1e-12))
    assert joint_test(truth, scores, cluster=cluster) is not None


def test_what_must_not_matter_does_not() -> None:
    truth, scores, cluster = clustered()
    whole, by_case = obuchowski_test(truth, scores, cluster), delong_test(truth, scores)
    order = np.random.default_rng(0).permutation(len(truth))
    names = np.random.default_rng(1).permutation(cluster.max() + 1)
    stretched = np.stack([np.exp(scores[0]), scores[1] ** 3])
    for found in (
        obuchowski_test(truth[order], scores[:, order], cluster[order]),
        obuchowski_test(truth, scores, names[cluster]),
        obuchowski_test(truth, stretched, cluster),
        # Labels turned round, and scores too.
        obuchowski_test(1 - truth, -scores, cluster),
    ):
        assert (found.areas, found.value) == (whole.areas, whole.value)
        assert found.se == pytest.approx(whole.se, rel=1e-12)
    turned = delong_test(1 - truth, scores)
    assert turned.areas == pytest.approx(tuple(1 - area for area in by_case.areas), abs=1e-15)
    assert (turned.value, turned.se) == (pytest.approx(-by_case.value, abs=1e-15), pytest.approx(by_case.se, rel=1e-12))


def test_every_image_three_times_in_its_patient_is_no_more_evidence() -> None:
    truth, scores, cluster = clustered()
    once, thrice = (obuchowski_test(*data) for data in ((truth, scores, cluster), tripled(truth, scores, cluster)))
    assert thrice.areas == once.areas
    assert thrice.se**2 / once.se**2 == pytest.approx(1.0, abs=1e-12)
    moved = [influence(t, s[0], c, cluster.max() + 1) for t, s, c in ((truth, scores, cluster), tripled(truth, scores, cluster))]
    assert moved[0] is not None
    assert moved[1] is not None
    np.testing.assert_allclose(moved[1].values, moved[0].values, atol=1e-15)
    naive = delong_test(*tripled(truth, scores, cluster)[:2]).se ** 2 / delong_test(truth, scores).se ** 2
    assert naive == pytest.approx(1 / 3, rel=0.01)


def tripled(truth: np.ndarray, scores: np.ndarray, cluster: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.repeat(truth, 3), np.repeat(scores, 3, axis=1), np.repeat(cluster, 3)


def test_merging_two_patients_adds_twice_the_product_of_their_influence() -> None:
    truth, scores, cluster = clustered()
    before = influence(truth, scores[0], cluster, cluster.max() + 1)
    both = [g for g in range(cluster.max() + 1) if len(set(truth[cluster == g])) == 2]
    first, second = both[:2]
    after = influence(truth, scores[0], np.where(cluster == second, first, cluster), cluster.max() + 1)
    assert before is not None
    assert after is not None
    m, n = int(truth.sum()), int((1 - truth).sum())
    i10, i01 = (len(np.unique(cluster[truth == kind])) for kind in (1, 0))
    # The factors know that there is a patient less.
    positive, negative = (math.sqrt(i / (i - 1)) for i in (i10 - 1, i01 - 1))
    placed = {g: parts_of(truth, scores[0], cluster == g) for g in (first, second)}
    expected = positive * (placed[first][0] + placed[second][0]) / m + negative * (placed[first][1] + placed[second][1]) / n
    assert after.values[first] == pytest.approx(expected, rel=1e-12)
    assert after.values[second] == 0.0
    others = np.setdiff1d(np.arange(cluster.max() + 1), [first, second])
    assert np.abs(after.values[others] / np.where(before.values[others] == 0, 1, before.values[others]) - 1).max() < 0.02


def parts_of(truth: np.ndarray, score: np.ndarray, rows: np.ndarray) -> tuple[float, float]:
    """Return the sums of centred placement values of some rows, each pair counted by hand."""
    wins = (score[truth == 1][:, None] > score[truth == 0]) + 0.5 * (score[truth == 1][:, None] == score[truth == 0])
    area = wins.mean()
    return (
        float((wins.mean(axis=1) - area)[rows[truth == 1]].sum()),
        float((wins.mean(axis=0) - area)[rows[truth == 0]].sum()),
    )


def test_too_little_is_refused_in_words() -> None:
    scores = np.arange(10.0).reshape(2, 5)
    with pytest.raises(ValueError, match="two positives"):
        delong_test(np.array([1, 0, 0, 0, 0]), scores)
    with pytest.raises(ValueError, match="a positive and a negative"):
        delong_test(np.zeros(5, int), scores)
    with pytest.raises(ValueError, match="3 numbers for 2 models"):
        delong_test(np.array([1, 1, 0, 0, 0]), scores, (1, -1, 0))
    with pytest.raises(ValueError, match="two clusters"):
        obuchowski_test(np.array([1, 1, 0, 0, 0]), scores, np.array([0, 0, 1, 2, 3]))
