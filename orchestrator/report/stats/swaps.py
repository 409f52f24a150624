"""Two models on the same cases, by exchanging them: had it made no difference which model scored a patient, any exchange was as likely.

All images of a patient are exchanged together. Scores are ranked within each model first, which leaves areas as they are and lets a logit
stand beside a probability (Venkatraman & Begg 1996 exchange ranks too). What is tested is more than equal areas: that the two models'
ranks of a patient have one joint distribution whichever is called the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from orchestrator.report.stats.bootstrap import LANES, Counts, Engine, auroc_replicates, engine_for, in_pairs
from orchestrator.report.stats.estimate import Status
from orchestrator.report.stats.hypotheses import HypothesisTest
from orchestrator.report.stats.randomization import EXACT_UP_TO, two_sided
from orchestrator.report.stats.ranking import Ranked
from orchestrator.report.stats.streams import words

#: Exchanges that are sampled where they are too many to list: no p is then below 1 / 10,000.
SAMPLED = 9_999
#: Differences of areas that are closer are the same number, summed in another order.
SAME_AREA = 1e-12
#: Bytes of exchanges that are held at a time.
_HELD = 32_000_000
_METHOD = "patient_swap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What two models made of one label: `truth`, scores and cluster code of each case, all (cases,)."""

    truth: np.ndarray
    first: np.ndarray
    second: np.ndarray
    cluster: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class _Doubled:
    """Each case twice, as either model ranked it, in one order: exchanging models is weighing one of the two."""

    truth: np.ndarray
    rank: np.ndarray
    ranked: Ranked
    #: The units that weigh a case for the first model and for the second, each (2 cases,).
    units: tuple[np.ndarray, np.ndarray]
    #: Clusters in which the models differ.
    moved: np.ndarray

    @classmethod
    def of(cls, one: Scores, clusters: int) -> _Doubled:
        ranks = [stats.rankdata(score) for score in (one.first, one.second)]
        truth, rank = np.concatenate([one.truth, one.truth]), np.concatenate(ranks)
        here, there = one.cluster, one.cluster + clusters
        return cls(
            truth=truth,
            rank=rank,
            ranked=Ranked.of(truth, rank),
            units=(np.concatenate([here, there]), np.concatenate([there, here])),
            moved=np.unique(one.cluster[ranks[0] != ranks[1]]),
        )

    def differences(self, counts: Counts) -> np.ndarray:
        """Return the first model's area less the second's in every exchange, (exchanges,)."""
        areas = [auroc_replicates(self.truth, self.rank, unit, counts, self.ranked) for unit in self.units]
        return areas[0] - areas[1]


def swap_tests(
    labels: Sequence[Scores], clusters: int, *, seed: int = 0, sampled: int = SAMPLED, engine: Engine | None = None
) -> tuple[HypothesisTest, tuple[HypothesisTest, ...]]:
    """Test that it makes no difference which of two models scored a patient, by the difference of areas: of their mean, and of each label.

    `clusters` is how many cluster codes there are. Exchanges are the same for every label; all are listed up to 2**17, else sampled by
    counter. A label without both classes is not estimable and not in the mean.
    """
    able = [one for one in labels if 0 < int((one.truth == 1).sum()) < len(one.truth)]
    nothing = HypothesisTest(method=_METHOD, n=0, status=(Status.NOT_ESTIMABLE,))
    if not able:
        return nothing, tuple(nothing for _ in labels)
    doubled = [_Doubled.of(one, clusters) for one in able]
    moved = np.unique(np.concatenate([one.moved for one in doubled]))
    if not len(moved):
        same = HypothesisTest(method=_METHOD, n=0, statistic=0.0, status=(Status.IDENTICAL,))
        return same, tuple(same if any(one is each for each in able) else nothing for one in labels)
    exact = len(moved) < 64 and 2 ** len(moved) <= EXACT_UP_TO
    total = 2 ** len(moved) if exact else sampled
    work = total * sum(len(one.truth) for one in doubled)
    exchanges = _exchanges(moved, clusters, total, seed if not exact else None, engine or engine_for(work))
    gaps = np.concatenate([np.stack([one.differences(counts) for one in doubled]) for counts in exchanges], axis=1)
    seen = np.array([one.differences(_unmoved(clusters))[0] for one in doubled])
    found = iter(_test(gap, float(one), len(two.moved), exact) for gap, one, two in zip(gaps, seen, doubled, strict=True))
    mean = _test(gaps.mean(axis=0), float(seen.mean()), len(moved), exact)
    return mean, tuple(next(found) if any(one is each for each in able) else nothing for one in labels)


def _test(gaps: np.ndarray, seen: float, n: int, exact: bool) -> HypothesisTest:
    if n == 0:
        return HypothesisTest(method=_METHOD, n=0, statistic=0.0, status=(Status.IDENTICAL,))
    return two_sided(_METHOD, n, seen, gaps, SAME_AREA, exact=exact, divide_by=1.0)


def _unmoved(clusters: int) -> Counts:
    tiles = np.zeros((1, 2 * clusters, LANES), np.uint8)
    tiles[0, :clusters, 0] = 1
    return Counts(tiles=tiles, units=2 * clusters, replicates=1, seed=0)


def _exchanges(moved: np.ndarray, clusters: int, total: int, seed: int | None, engine: Engine) -> Iterator[Counts]:
    """Yield exchanges as weights of doubled units: every one of them without a seed, else a sample; unmoved clusters stay."""
    at_once = max(1, _HELD // (2 * clusters * LANES)) * LANES
    for start in range(0, total, at_once):
        last = min(start + at_once, total)
        tiles = np.zeros((-(-(last - start) // LANES), 2 * clusters, LANES), np.uint8)
        for tile, begin in zip(tiles, range(start, last, LANES), strict=True):
            index = np.arange(begin, min(begin + LANES, last))
            tile[:clusters, : len(index)] = 1
            swapped = _listed(len(moved), index) if seed is None else (words(seed, index, len(moved)) >> np.uint64(63)).astype(np.uint8).T
            tile[moved, : len(index)] = 1 - swapped
            tile[clusters + moved, : len(index)] = swapped
        yield Counts(tiles=tiles, units=2 * clusters, replicates=last - start, seed=0, engine=engine, packed=in_pairs(tiles, 1, engine))


def _listed(units: int, index: np.ndarray) -> np.ndarray:
    """Return which units are exchanged in each of all exchanges, by the digits of its number: uint8 (units, exchanges)."""
    return ((index[None, :] >> np.arange(units)[:, None]) & 1).astype(np.uint8)
