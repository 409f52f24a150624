"""The kernel equals one area a replicate, and depends on nothing but the seed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from orchestrator.report.stats import bootstrap
from orchestrator.report.stats.bootstrap import LANES, Engine, auroc_replicates, in_pairs, mean_over_draws, precision_replicates, resample
from orchestrator.report.stats.ranking import auroc
from orchestrator.report.stats.streams import below, multiplicities, permutations, words

ROOT = Path(__file__).parents[4]
ENGINES = ["numpy", pytest.param("numba", marks=pytest.mark.needs("numba"))]


def cases(seed: int, patients: int, images: int, share: float, digits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return truth, score and patient of images; few digits make many ties."""
    rng = np.random.default_rng(seed)
    unit = rng.permutation(np.repeat(np.arange(patients), images))
    truth = (rng.random(len(unit)) < share).astype(np.int8)
    return truth, np.round(rng.standard_normal(len(unit)) + truth, digits).astype(np.float32), unit


@pytest.mark.needs("numba")
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    patients=st.integers(1, 40),
    images=st.integers(1, 4),
    share=st.sampled_from([0.1, 0.5, 0.9]),
    digits=st.sampled_from([6, 1, 0]),
)
def test_the_kernels_give_the_same_bits(seed: int, patients: int, images: int, share: float, digits: int) -> None:
    truth, score, unit = cases(seed, patients, images, share, digits)
    both = [resample(patients, 70, seed=seed, engine=engine) for engine in ("numpy", "numba")]
    np.testing.assert_array_equal(both[1].tiles, both[0].tiles)
    for kernel in (auroc_replicates, precision_replicates):
        # NaN included.
        assert kernel(truth, score, unit, both[1]).tobytes() == kernel(truth, score, unit, both[0]).tobytes()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    patients=st.integers(1, 40),
    images=st.integers(1, 4),
    share=st.sampled_from([0.1, 0.5, 0.9]),
    digits=st.sampled_from([6, 1, 0]),
)
def test_the_kernel_equals_one_area_a_replicate(seed: int, patients: int, images: int, share: float, digits: int) -> None:
    truth, score, unit = cases(seed, patients, images, share, digits)
    counts = resample(patients, 70, seed=seed, engine="numpy")
    drawn = auroc_replicates(truth, score, unit, counts)
    weights = counts.matrix()[unit]
    for replicate in range(70):
        expected = auroc(truth, score, weights[:, replicate].astype(np.int64))
        assert np.isnan(drawn[replicate]) if expected is None else drawn[replicate] == pytest.approx(expected, abs=1e-15)


@pytest.mark.needs("numba")
@pytest.mark.parametrize("digits", [6, 2, 0])
def test_byte_sums_are_emptied_before_they_overflow(digits: int) -> None:
    """Thousands of cases on one side of an anchor, and ties of thousands: whatever a byte cannot hold."""
    truth, score, unit = cases(8, 3000, 2, 0.002, digits)
    counts, compiled = resample(3000, 70, engine="numpy"), resample(3000, 70, engine="numba")
    assert counts.most > 4
    for kernel in (auroc_replicates, precision_replicates):
        assert kernel(truth, score, unit, compiled).tobytes() == kernel(truth, score, unit, counts).tobytes()
    weight = counts.matrix()[unit].T[3]
    assert auroc_replicates(truth, score, unit, compiled)[3] == pytest.approx(roc_auc_score(truth, score, sample_weight=weight), abs=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_kernel_equals_sklearn(engine: Engine) -> None:
    rng = np.random.default_rng(3)
    unit = np.sort(rng.integers(0, 150, 900))
    truth = (rng.random(900) < 0.08).astype(np.int8)
    score = np.round(rng.standard_normal(900) + truth, 2)
    counts = resample(150, 40, engine=engine)
    drawn = auroc_replicates(truth, score, unit, counts)
    for replicate, weight in enumerate(counts.matrix()[unit].T):
        assert drawn[replicate] == pytest.approx(roc_auc_score(truth, score, sample_weight=weight), abs=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("units", [1, 7, 97, 2500])
def test_a_replicate_depends_on_the_seed_and_its_index_alone(units: int, engine: Engine) -> None:
    whole = resample(units, 200, seed=4, engine=engine).matrix()
    np.testing.assert_array_equal(whole, multiplicities(units, 4, np.arange(200)).T)
    np.testing.assert_array_equal(multiplicities(units, 4, np.array([150, 3])).T, whole[:, [150, 3]])
    np.testing.assert_array_equal(resample(units, 60, seed=4, engine=engine).matrix(), whole[:, :60])
    assert units == 1 or (resample(units, 200, seed=5, engine=engine).matrix() != whole).any()
    assert (whole.sum(axis=0) == units).all()


@pytest.mark.needs("numba")
def test_the_compiled_kernels_are_loaded_where_they_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, bootstrap._COMPILED, raising=False)
    assert bootstrap.engine_for(bootstrap.WORTH_COMPILING - 1) == "numpy"
    assert bootstrap.engine_for(bootstrap.WORTH_COMPILING) == "numba"
    monkeypatch.setattr(bootstrap, "_kernels", lambda: None)
    assert bootstrap.engine_for(bootstrap.WORTH_COMPILING) == "numpy"


def test_without_numba_numpy_does_it(tmp_path: Path) -> None:
    # A numba that cannot be imported stands before the real one; so does a switched-off compiler.
    (tmp_path / "numba.py").write_text("raise ImportError('Numba needs another numpy')\n", encoding="utf-8")
    code = "from orchestrator.report.stats.bootstrap import WORTH_COMPILING, engine_for; print(engine_for(WORTH_COMPILING))"
    for extra in ({"PYTHONPATH": f"{tmp_path}"}, {"NUMBA_DISABLE_JIT": "1"}):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **extra}, cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "numpy"


def test_the_order_of_cases_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    unit, truth = rng.integers(0, 50, 300), (rng.random(300) < 0.3).astype(np.int8)
    score = np.round(rng.standard_normal(300) + truth, 1)
    counts, order = resample(50, 100), rng.permutation(300)
    np.testing.assert_array_equal(
        auroc_replicates(truth, score, unit, counts), auroc_replicates(truth[order], score[order], unit[order], counts)
    )


def test_random_words_are_those_of_splitmix64() -> None:
    # The first outputs of splitmix64 from state 1234567, as published with the reference implementation.
    state, golden, mask = 1234567, 0x9E3779B97F4A7C15, 2**64 - 1
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    produced = []
    for _ in range(5):
        state = (state + golden) & mask
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        produced.append(z ^ (z >> 31))
    assert produced == expected

    def mix(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    start = mix((mix((8 + golden) & mask) + 4 * golden) & mask)
    assert words(8, np.array([3]), 2).tolist() == [[mix((start + golden) & mask), mix((start + 2 * golden) & mask)]]


def test_integers_are_uniform_and_permutations_are_permutations() -> None:
    drawn = below(7, 1, np.arange(2000), 35)
    shares = np.bincount(drawn.ravel(), minlength=7) / drawn.size
    assert np.abs(shares - 1 / 7).max() < 5 * np.sqrt(1 / 7 * 6 / 7 / drawn.size)
    assert multiplicities(7, 1, np.arange(5)).dtype == np.uint8
    assert (np.sort(permutations(9, 2, np.arange(50)), axis=1) == np.arange(9)).all()
    with pytest.raises(ValueError, match="limit"):
        below(0, 1, np.arange(2), 3)


def test_redrawing_draws_widens_their_spread_to_what_it_should_be() -> None:
    # Patients hold no noise here, so the spread of the mean is that of the draws alone: sd / sqrt(D), not the smaller biased one.
    values = np.array([0.70, 0.74, 0.78, 0.81, 0.72])
    counts = resample(50, 4000)
    drawn = mean_over_draws(np.repeat(values[:, None], 4000, axis=1), counts, redraw=True)
    assert drawn.std() == pytest.approx(values.std(ddof=1) / np.sqrt(5), rel=0.05)
    assert np.ptp(mean_over_draws(np.repeat(values[:, None], 4000, axis=1), counts, redraw=False)) == 0


@pytest.mark.parametrize("replicates", [1, 64, 65, 128, 200])
def test_counts_in_pairs_are_the_counts(replicates: int) -> None:
    counts = resample(50, replicates, engine="numba")
    assert counts.packed is not None
    halves = np.stack([counts.packed & 15, counts.packed >> 4], axis=1).reshape(-1, 50, LANES)
    assert (halves[: len(counts.tiles)] == counts.tiles).all() and not halves[len(counts.tiles) :].any()


def test_counts_that_do_not_fit_into_half_a_byte_are_numpys() -> None:
    tiles = np.zeros((1, 4, LANES), np.uint8)
    assert in_pairs(tiles, 15, "numba") is not None
    assert in_pairs(tiles, 16, "numba") is None and in_pairs(tiles, 1, "numpy") is None


@pytest.mark.parametrize("engine", ENGINES)
def test_some_units_keep_their_counts_in_both_forms(engine: Engine) -> None:
    rng = np.random.default_rng(0)
    counts, units = resample(60, 200, engine=engine), rng.permutation(60)[:40]
    some = counts.only(units)
    np.testing.assert_array_equal(some.matrix(), counts.matrix()[units])
    truth, score = rng.integers(0, 2, 40), rng.random(40)
    truth[:2] = 0, 1
    plain = replace(some, engine="numpy", packed=None)
    np.testing.assert_array_equal(auroc_replicates(truth, score, np.arange(40), some), auroc_replicates(truth, score, np.arange(40), plain))
