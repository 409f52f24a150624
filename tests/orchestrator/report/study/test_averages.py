"""The average over test sets: its variances by hand, patients who are in two of them, and what is left out."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

from orchestrator.model import AxisKind, Contrast
from orchestrator.report.analysis import build
from orchestrator.report.layout import sections
from orchestrator.report.lines import lines
from orchestrator.report.render import html, markdown
from orchestrator.report.stats.bootstrap import drawn_again, resample
from orchestrator.report.stats.ranking import auroc
from orchestrator.report.stats.streams import permutations
from orchestrator.report.study.average_words import averaged_size, averaged_title
from orchestrator.report.study.values import Average
from orchestrator.report.values import Cell, Difference, Report
from tests.orchestrator.report.made_run import Made

DRAWS = 4


def two_sets(made: Made, *, shared: int = 0, missing: bool = False, resamples: int = 400) -> Report:
    """Evaluate two arms on two test sets of 240 patients, `shared` of whom are in both."""
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("draw", AxisKind.REPLICATE, tuple(range(DRAWS)))
    for target in ("here", "there"):
        if target == "there":
            kept = np.repeat(np.arange(made.patients) < shared, made.images_per_patient)
            made.patient = np.where(kept, made.patient, np.char.add("t", made.patient))
            made.image = np.char.add("t/", made.image)
        for after, level in (("pretrain", 1.4), ("none", 0.9)):
            for draw in range(DRAWS):
                labels = {"after": after, "draw": draw, "target": target}
                present = not (missing and target == "there" and after == "none" and draw == 2)
                made.evaluation("finetune", labels, separation=level, draw_sd=0.2, present=present)
    return build(made.plan(resamples=resamples), made.run)


def of_arm(report: Report, arm: str) -> Average:
    return next(one for one in report.study.averages if one.arm.endswith(arm) and one.baseline is None)


def of_difference(report: Report) -> Average:
    (found,) = (one for one in report.study.averages if one.baseline is not None)
    return found


def se_of(one: Average | Cell | Difference, estimand: str, method: str) -> float:
    return next(each.se or 0 for each in one.estimates if (each.estimand, each.method) == (estimand, method))


def test_variances_over_patients_add_with_quarter_weights_and_draws_are_averaged_first(made: Made) -> None:
    report = two_sets(made)
    for average, own in (
        (of_arm(report, "after=none"), [one for one in report.cells if one.arm.endswith("none")]),
        (of_difference(report), list(report.differences)),
    ):
        assert len(own) == 2
        assert average.estimate == pytest.approx(np.mean([one.estimate or 0 for one in own]))
        fixed = [se_of(one, "these_models_new_patients", "influence") for one in own]
        assert se_of(average, "these_models_new_patients", "influence") == pytest.approx(math.hypot(*fixed) / 2)
        mean = np.mean([[point.value for point in one.points] for one in own], axis=0)
        assert se_of(average, "new_draws_this_test_set", "t") == pytest.approx(stats.sem(mean))
    assert (of_difference(report).n_clusters, of_difference(report).n_shared) == (480, 0)


def test_the_interval_is_that_of_the_analysis_of_draws_and_patients_by_hand(made: Made) -> None:
    """Mean square over draws, and covariance between draws of the same patients, each test set by itself."""
    report = two_sets(made)
    average, own = of_difference(report), report.differences
    points = np.mean([[point.value for point in one.points] for one in own], axis=0)
    cov = 0.0
    for one in own:
        fixed = se_of(one, "these_models_new_patients", "influence") ** 2
        both = se_of(one, "new_draws_new_patients", "obuchowski_rockette_hillis") ** 2
        between = stats.sem([point.value for point in one.points]) ** 2
        assert both > fixed
        cov += max(both - between, 0.0) / 4
    variance = points.var(ddof=1) / DRAWS + cov
    df = variance**2 / ((points.var(ddof=1) / DRAWS) ** 2 / (DRAWS - 1))
    half = stats.t.ppf(0.975, df) * math.sqrt(variance)
    assert (average.low, average.high) == pytest.approx((points.mean() - half, points.mean() + half), rel=1e-6)


def test_a_test_set_averaged_with_itself_is_itself(made: Made) -> None:
    """The same patients with the same scores twice are no more patients: joint clusters see that, independent test sets would not."""
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("draw", AxisKind.REPLICATE, tuple(range(DRAWS)))
    for target in ("here", "there"):
        for after, level in (("pretrain", 1.4), ("none", 0.9)):
            for draw in range(DRAWS):
                spec = made.evaluation("finetune", {"after": after, "draw": draw, "target": target}, separation=level)
                made.predict(spec, made.scores(level, after, f"{after}{draw}", 0.2))
    report = build(made.plan(), made.run)
    average, alone = of_difference(report), report.differences[0]
    assert (average.estimate, average.low, average.high, average.p) == pytest.approx((alone.estimate, alone.low, alone.high, alone.p))
    assert (average.n_clusters, average.n_shared) == (240, 240)


def test_patients_in_both_test_sets_are_counted_and_said(made: Made) -> None:
    report = two_sets(made, shared=60)
    assert (of_difference(report).n_clusters, of_difference(report).n_shared) == (420, 60)
    shown = sections(report)
    for page in (html(report, shown), markdown(report, shown)):
        assert "Average over test sets" in page
        assert "60 of 420 patients are in more than one of them and count as one cluster" in page
    rows = {line.key: line for line in lines(report)}
    row = rows["all-test-sets/pretrain-vs-no-pretraining/all/auroc_macro"]
    assert (row.kind, row.test_set, row.adjustment, row.n_patients) == ("average_difference", "here+there", "holm", 420)


def test_a_replicate_that_a_test_set_lacks_is_in_no_average_and_named(made: Made) -> None:
    report = two_sets(made, missing=True)
    none, pretrain = of_arm(report, "after=none"), of_arm(report, "after=pretrain")
    assert (none.n_replicates, none.missing) == (DRAWS - 1, ("draw 2",))
    assert "missing_runs" in none.status
    assert (pretrain.n_replicates, pretrain.missing) == (DRAWS, ())
    assert of_difference(report).n_replicates == DRAWS - 1
    points = {
        one.test_set: [point.value for point in one.points if point.replicate != "draw 2"]
        for one in report.cells
        if one.arm.endswith("none")
    }
    assert none.estimate == pytest.approx(np.mean([np.mean(values) for values in points.values()]))


def test_each_test_set_and_the_average_are_families_of_their_own(made: Made) -> None:
    report = two_sets(made)
    assert {one.family for one in report.differences} == {1}
    assert of_difference(report).family == 1


SEEDS = 5


def own_sources(made: Made, *, shared: int = 0, missing: bool = False) -> Report:
    """Evaluate models of two cards on each of them, and on each of them those that were trained on it alone."""
    made.axis("data", AxisKind.COMPARE, ("here", "there"), phase="alone")
    made.axis("seed", AxisKind.REPLICATE, tuple(range(SEEDS)))
    for target in ("here", "there"):
        if target == "there":
            kept = np.repeat(np.arange(made.patients) < shared, made.images_per_patient)
            made.patient = np.where(kept, made.patient, np.char.add("t", made.patient))
            made.image = np.char.add("t/", made.image)
        for seed in range(SEEDS):
            made.evaluation("together", {"seed": seed, "target": target}, separation=1.3, draw_sd=0.2)
            own = {"data": target, "seed": seed, "target": target}
            present = not (missing and target == "there" and seed == 2)
            made.evaluation("alone", own, separation=0.9, draw_sd=0.2, present=present)
    return build(made.plan(contrasts=(Contrast(baseline={"phase": "alone"}),)), made.run)


def test_models_of_single_test_sets_are_one_arm_of_the_average(made: Made) -> None:
    """A replicate is the mean over the models of one seed; the two arms share no draw, so that their seeds are nested."""
    report = own_sources(made)
    assert [(one.arm, one.arms) for one in report.study.averages if one.baseline is None] == [
        ("together", ("together", "together")),
        ("alone", ("alone/data=here", "alone/data=there")),
    ]
    average, own = of_difference(report), report.differences
    assert (average.arm, average.baseline, average.baseline_arms) == ("together", "alone", ("alone/data=here", "alone/data=there"))
    assert [(one.arm, one.baseline) for one in own] == [("together", "alone/data=here"), ("together", "alone/data=there")]
    assert (average.matching, average.n_replicates, average.family) == ("nested", SEEDS, 1)
    assert average.estimate == pytest.approx(np.mean([one.estimate or 0 for one in own]))
    fixed = [se_of(one, "these_models_new_patients", "influence") for one in own]
    assert se_of(average, "these_models_new_patients", "influence") == pytest.approx(math.hypot(*fixed) / 2)
    seeds = {
        phase: np.mean([[point.value for point in one.points] for one in report.cells if one.arm.startswith(phase)], axis=0)
        for phase in ("together", "alone")
    }
    welch = stats.ttest_ind(seeds["together"], seeds["alone"], equal_var=False).confidence_interval()
    seeds_alone = next(one for one in average.estimates if (one.estimand, one.method) == ("new_seeds_this_test_set", "t"))
    assert (seeds_alone.low, seeds_alone.high) == pytest.approx((welch.low, welch.high))
    assert average.low is not None and seeds_alone.low is not None and average.low < seeds_alone.low


def test_an_average_over_models_of_their_own_cards_is_said_first_and_named_without_the_cards(made: Made) -> None:
    report = own_sources(made, shared=60)
    assert (of_difference(report).n_clusters, of_difference(report).n_shared) == (420, 60)
    first = report.verdicts[0]
    assert first.test_set == "here+there" and first.tone == "better"
    assert first.claim.startswith("On average over here and there, together scores ")
    assert " higher than alone in macro AUROC." in first.claim and "5 seeds an arm, not matched; 420 test patients" in first.evidence
    assert len(report.verdicts) == 3
    page = markdown(report, sections(report))
    assert "Of alone each test set has the model of its own card; a replicate is the mean over them." in page
    rows = {line.key: line for line in lines(report)}
    row = rows["all-test-sets/together-vs-alone/all/auroc_macro"]
    assert (row.kind, row.arm, row.baseline) == ("average_difference", "together", "alone")
    assert "all-test-sets/alone/all/auroc_macro" in rows


def test_findings_and_numbers_of_labels_that_differ_have_one_title_on_average(made: Made) -> None:
    report = own_sources(made)
    here, there = report.test_sets
    other = replace(there, measure_title="AUROC, edema", sizes=tuple(replace(size, title="56 labelled patients") for size in there.sizes))
    assert (averaged_title([here, there]), averaged_title([here, other])) == ("macro AUROC", "macro AUROC")
    assert (averaged_size([here, there], "all"), averaged_size([here, other], "all")) == ("8,000 labelled patients", "all labels")


def test_a_seed_that_one_card_lacks_is_in_no_average_over_models(made: Made) -> None:
    average = of_difference(own_sources(made, missing=True))
    assert "missing_runs" in average.status and average.n_replicates == SEEDS - 1
    assert average.estimate is not None and average.low is not None


def test_models_of_another_card_are_no_arm_of_their_own_cards(made: Made) -> None:
    """An arm that stands on all test sets is one model, also where its label names one of them."""
    made.axis("data", AxisKind.COMPARE, ("here", "there"), phase="alone")
    made.axis("seed", AxisKind.REPLICATE, tuple(range(3)))
    for target in ("here", "there"):
        for data in ("here", "there"):
            for seed in range(3):
                made.evaluation("alone", {"data": data, "seed": seed, "target": target})
    report = build(made.plan(contrasts=()), made.run)
    assert [one.arm for one in report.study.averages] == ["alone/data=here", "alone/data=there"]


def test_one_test_set_and_other_measures_have_no_average(made: Made) -> None:
    two_sets(made)
    plan = made.plan(measure={"default": "auroc_macro", "there": "auroc/edema"}, contrasts=(Contrast(baseline={"after": "none"}),))
    assert build(plan, made.run).study.averages == ()


def areas_in(report: Report, made: Made, target: str, drawn: np.ndarray, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Return the macro area (draws, resamples) of each arm by counting cases; `drawn` is how often each of `ids` was, (ids, resamples)."""
    found: dict[str, list[list[float]]] = {"pretrain": [], "none": []}
    for one in report.ledger:
        if one.test_set == target:
            table = pq.read_table(made.run.job(one.job).predictions)
            truth, score = (table[name].to_numpy().reshape(len(made.labels), -1) for name in ("truth", "score"))
            who = np.searchsorted(ids, table["patient"].to_numpy(zero_copy_only=False).astype(str)[: truth.shape[1]])
            found[one.arm.rpartition("=")[2]].append(
                [float(np.mean([auroc(*pair, weight) or 0 for pair in zip(truth, score, strict=True)])) for weight in drawn[who].T]
            )
    return {arm: np.array(rows) for arm, rows in found.items()}


@pytest.mark.parametrize("shared", [0, 30])
def test_the_twin_is_a_loop_over_patients_of_each_test_set_and_draws_of_both(tmp_path: Path, shared: int) -> None:
    """Test sets with nobody in common draw by themselves; with somebody in common everybody is drawn from one hat."""
    made = Made(tmp_path, patients=60, labels=("edema", "effusion"), prevalence=(0.4, 0.5))
    report = two_sets(made, shared=shared, resamples=120)
    average = of_difference(report)
    own = {target: np.unique(ids_of(report, made, target)) for target in ("here", "there")}
    if shared:
        union = np.unique(np.concatenate(list(own.values())))
        matrix = resample(len(union), 120).matrix()
        drawn = {target: matrix[np.searchsorted(union, ids)] for target, ids in own.items()}
        orders = {target: np.arange(120) for target in own}
    else:
        drawn = {target: resample(len(ids), 120).matrix() for target, ids in own.items()}
        orders = {"here": np.arange(120), "there": permutations(120, 0x6F726465, np.array([1]))[0]}
    areas = {target: areas_in(report, made, target, drawn[target][:, orders[target]], own[target]) for target in own}
    gap = np.mean([one["pretrain"] - one["none"] for one in areas.values()], axis=0)
    fixed = gap.mean(axis=0)
    taken = drawn_again(DRAWS, 120, resample(2, 120))
    moved = np.array([gap[taken[:, at], at].mean() for at in range(120)])
    ends = np.quantile(fixed + math.sqrt(DRAWS / (DRAWS - 1)) * (moved - fixed), [0.025, 0.975])
    twins = {each.method: each for each in average.estimates}
    assert (twins["crossed_bootstrap"].low, twins["crossed_bootstrap"].high) == pytest.approx(tuple(ends), abs=1e-9)
    assert (twins["patient_bootstrap"].low, twins["patient_bootstrap"].high) == pytest.approx(
        tuple(np.quantile(fixed, [0.025, 0.975])), abs=1e-9
    )
    assert average.method == "obuchowski_rockette_hillis"


def ids_of(report: Report, made: Made, target: str) -> np.ndarray:
    job = next(one.job for one in report.ledger if one.test_set == target)
    return pq.read_table(made.run.job(job).predictions)["patient"].to_numpy(zero_copy_only=False).astype(str)


def test_equal_numbers_of_patients_are_not_drawn_alike(made: Made) -> None:
    """With one seed two test sets of 240 would draw the same places, and err together: variances over patients would not add."""
    report = two_sets(made)
    fixed = [se_of(one, "these_models_new_patients", "patient_bootstrap") for one in report.differences]
    found = se_of(of_difference(report), "these_models_new_patients", "patient_bootstrap")
    assert found == pytest.approx(math.hypot(*fixed) / 2, rel=0.12)


def test_the_twin_of_a_test_set_with_itself_is_its_own(made: Made) -> None:
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("draw", AxisKind.REPLICATE, tuple(range(DRAWS)))
    for target in ("here", "there"):
        for after, level in (("pretrain", 1.4), ("none", 0.9)):
            for draw in range(DRAWS):
                spec = made.evaluation("finetune", {"after": after, "draw": draw, "target": target}, separation=level)
                made.predict(spec, made.scores(level, after, f"{after}{draw}", 0.2))
    report = build(made.plan(), made.run)
    twin, own = ({each.method: each for each in one.estimates} for one in (of_difference(report), report.differences[0]))
    assert twin["crossed_bootstrap"].low == pytest.approx(own["crossed_bootstrap"].low, abs=1e-12)
    assert twin["patient_bootstrap_bca"].high == pytest.approx(own["patient_bootstrap_bca"].high, abs=1e-12)


def test_rows_and_page_have_the_twin(made: Made) -> None:
    report = two_sets(made)
    rows = {line.key: line for line in lines(report)}
    row = rows["all-test-sets/pretrain-vs-no-pretraining/all/auroc_macro@crossed_bootstrap"]
    assert (row.headline, row.B, row.estimate) == (False, 400, of_difference(report).estimate)
    assert "Bootstrap" in markdown(report, sections(report)).split("Average over test sets")[-1]
