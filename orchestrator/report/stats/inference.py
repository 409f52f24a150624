"""From replicates to intervals: the three questions of a cell or a difference, each answered twice."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.report.stats import intervals
from orchestrator.report.stats.bootstrap import Counts, mean_over_draws, of_side
from orchestrator.report.stats.estimate import Estimate, Status
from orchestrator.report.stats.multireader import TwoWay
from orchestrator.report.stats.proportions import wilson
from orchestrator.report.stats.scales import AREA, Scale

#: Fewer valid bootstrap replicates than this make no interval.
ENOUGH = 100
#: The method that corrects the patient bootstrap for bias and skewness; it stands beside the percentiles and is never the headline.
BCA = "patient_bootstrap_bca"
#: A standard error or a width below this is the rounding of numbers that are all the same.
NO_SPREAD = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of some replicates, and what an interval may rest on."""

    confidence: float
    counts: Counts
    #: `draws`, `seeds` or `pretrainings`: what differs between replicates.
    replicate: str
    #: `patients`, `studies` or `images`: what is resampled.
    cluster: str
    given: tuple[str, ...] = ()
    #: Patients (clusters) of either class, for an interval at 0 or 1.
    positives: int
    negatives: int
    #: Clusters of the test set; only scales of few clusters ask.
    clusters: int = 0
    difference: bool = False
    scale: Scale = AREA

    @property
    def these_models(self) -> str:
        """Name estimand (a)."""
        return f"these_models_new_{self.cluster}"

    @property
    def this_test_set(self) -> str:
        """Name estimand (b)."""
        return f"new_{self.replicate}_this_test_set" + "".join(f"_given_{what}" for what in self.given)

    @property
    def both(self) -> str:
        """Name estimand (c)."""
        return f"new_{self.replicate}_new_{self.cluster}" + "".join(f"_given_{what}" for what in self.given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicates:
    """One arm, or a difference of matched arms: `values` (draws,), `areas` (draws, bootstrap replicates)."""

    values: np.ndarray
    areas: np.ndarray
    #: True where a value that went in is at an end of its scale.
    at_boundary: bool
    #: Mean influence values of the draws, (clusters,), which BCa takes its acceleration from; None for no such interval.
    influence: np.ndarray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The headline, everything beside it, and what may be wrong with it."""

    headline: Estimate
    estimates: tuple[Estimate, ...]
    status: tuple[Status, ...]


def answer(found: TwoWay, sides: tuple[Replicates, ...], question: Question) -> Answer:
    """Answer (a), (b) and (c) analytically and by bootstrap. `sides` is one group of replicates, or two that are not matched."""
    analytic = _analytic(found, question)
    resampled = _resampled(found, sides, question)
    status = [] if found.variance_both is not None else [Status.ONE_RUN]
    wide = [one for one in resampled if one.method != BCA and one.low is not None and one.high is not None and one.high > one.low]
    if not any(side.at_boundary for side in sides):
        if question.difference and found.variance_patients <= NO_SPREAD**2:
            return _identical(found, question, status)
        headline = wide[-1] if question.scale.resampled and wide else analytic[-1]
        # Without a spread over patients there is no interval, and a number without one says so.
        status += [Status.NOT_ESTIMABLE] if headline.low is None else []
        return Answer(headline=headline, estimates=(*analytic, *resampled), status=tuple(status))
    status.append(Status.AT_BOUNDARY)
    edge = [] if question.difference else _edge(found, question)
    if question.difference and not wide:
        return _identical(found, question, status)
    # At an end of the scale standard errors collapse, so no analytic interval may stand as the headline.
    if edge and (question.scale.at_end(found.value) or not wide):
        headline = edge[0]
    elif wide and not (question.scale.at_end(found.value) and not question.difference):
        headline = wide[-1]
    else:
        headline = Estimate(estimand=question.these_models, method="none", value=found.value)
    return Answer(headline=headline, estimates=(*edge, *resampled), status=tuple(status))


def _analytic(found: TwoWay, question: Question) -> list[Estimate]:
    most = float(question.clusters - 1) if question.scale.few_clusters else math.inf
    rows = [(question.these_models, "influence", found.variance_patients, most)]
    if found.variance_draws is not None:
        rows.append((question.this_test_set, "t", found.variance_draws, found.df_draws))
    if found.variance_both is not None:
        rows.append((question.both, "obuchowski_rockette_hillis", found.variance_both, min(found.df_both, most)))
    return [_interval(found.value, variance, df, question, estimand, method) for estimand, method, variance, df in rows]


def _interval(value: float, variance: float, df: float, question: Question, estimand: str, method: str) -> Estimate:
    se = math.sqrt(max(variance, 0.0))
    if se <= NO_SPREAD or df <= 0 or (not question.difference and question.scale.at_end(value)):
        return Estimate(estimand=estimand, method=method, value=value, se=se)
    if question.difference or not question.scale.logit:
        low, high = intervals.raw(value, se, df, question.confidence)
        low, high = (low, high) if question.difference else question.scale.inside(low, high)
    else:
        low, high = intervals.on_logit(value, se, df, question.confidence)
    p = intervals.p_two_sided(value, se, df) if question.difference else None
    return Estimate(estimand=estimand, method=method, value=value, low=low, high=high, se=se, df=None if math.isinf(df) else df, p=p)


def _resampled(found: TwoWay, sides: tuple[Replicates, ...], question: Question) -> list[Estimate]:
    rows = [(question.these_models, "patient_bootstrap", False)]
    if found.variance_both is not None:
        rows.append((question.both, "crossed_bootstrap", True))
    made: list[Estimate] = []
    for estimand, method, redraw in rows:
        parts = [mean_over_draws(side.areas, of_side(question.counts, index), redraw=redraw) for index, side in enumerate(sides)]
        values = parts[0] if len(parts) == 1 else parts[0] - parts[1]
        values = values[np.isfinite(values)]
        if len(values) < ENOUGH:
            continue
        low, high = intervals.percentile(values, question.confidence)
        if high - low <= NO_SPREAD:
            # Resamples that never move say nothing of an interval: it does not have no width, it does not exist.
            made.append(Estimate(estimand=estimand, method=method, value=found.value, se=0.0))
            continue
        if not question.difference:
            low, high = question.scale.inside(low, high)
        p = intervals.p_bootstrap(values) if question.difference else None
        made.append(Estimate(estimand=estimand, method=method, value=found.value, low=low, high=high, se=float(values.std(ddof=1)), p=p))
        if not redraw and (bent := _bent(values, found.value, sides, question)) is not None:
            made.append(replace(made[-1], method=BCA, low=bent[0], high=bent[1], p=None))
    return made


def _bent(values: np.ndarray, value: float, sides: tuple[Replicates, ...], question: Question) -> tuple[float, float] | None:
    """Return the bias-corrected and accelerated interval for these models on new patients; None where there is none."""
    known = [side.influence for side in sides if side.influence is not None]
    if len(known) < len(sides) or any(side.at_boundary for side in sides):
        return None
    ends = intervals.bca(values, value, known[0] if len(known) == 1 else known[0] - known[1], question.confidence)
    if ends is None or ends[0] == ends[1]:
        return None
    return ends if question.difference else question.scale.inside(*ends)


def _edge(found: TwoWay, question: Question) -> list[Estimate]:
    """Return the interval that has a width at 0 and 1, where the scale has one: for a proportion each cluster counts as one case."""
    if question.scale.edge == "newcombe":
        ends = intervals.newcombe(found.value, question.positives, question.negatives, question.confidence)
    elif question.scale.edge == "wilson":
        ends = wilson(found.value * question.clusters, question.clusters, question.confidence)
    else:
        ends = None
    if ends is None:
        return []
    return [Estimate(estimand=question.these_models, method=question.scale.edge, value=found.value, low=ends[0], high=ends[1])]


def _identical(found: TwoWay, question: Question, status: list[Status]) -> Answer:
    """Two arms that rank every case alike have no interval: their difference is zero by construction, not by evidence."""
    headline = Estimate(estimand=question.these_models, method="none", value=found.value)
    return Answer(headline=headline, estimates=(), status=(*status, Status.IDENTICAL))
