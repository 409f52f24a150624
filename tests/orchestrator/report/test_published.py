"""What original studies' procedures make of made runs, against their scripts written out from the facts, and beside this report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from orchestrator.model import AS_PUBLISHED, AxisKind
from orchestrator.report.analysis import build
from orchestrator.report.checking.check import check
from orchestrator.report.checking.known import Context, known
from orchestrator.report.lines import csv_text, lines
from orchestrator.report.published import SAID
from orchestrator.report.published_lines import KINDS, PublishedKeys
from orchestrator.report.published_tables import published
from orchestrator.report.record import text
from orchestrator.report.render import html, markdown, sections, write
from orchestrator.report.stats.bootstrap import resample
from orchestrator.report.values import Published, Report
from tests.orchestrator.report.made_run import Made, leave_pair_out, quickstart, shuffled

REAL, NONE = "finetune/after=pretrain,images=real", "finetune/after=none"


def rows(report: Report, procedure: str, **where: object) -> list[Published]:
    found = [one for one in report.as_published if one.procedure == procedure]
    return [one for one in found if all(getattr(one, key) == value for key, value in where.items())]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, Report]:
    made, plan = quickstart(tmp_path_factory.mktemp("run"), draw_sd=0.2, patients=150, draws=3)
    return made, build(made.plan(contrasts=plan.report.contrasts, as_published=AS_PUBLISHED), made.run)


def scores(made: Made, report: Report, arm: str, size: str) -> list[dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Return truth and score by finding of each draw, rows in the order of the sorted images."""
    cell = next(one for one in report.cells if (one.arm, one.size) == (arm, size))
    draws = []
    for point in cell.points:
        table = pq.read_table(made.run.job(point.jobs[0]).predictions).to_pandas().sort_values("image")
        draws.append({label: (one.truth.to_numpy(), one.score.to_numpy()) for label, one in table.groupby("label")})
    return draws


def test_moco_cxrs_interval_is_its_script_written_out(study: tuple[Made, Report]) -> None:
    """The mean over draws of the mean area over findings, on the same resample of rows, for the first 1,000 resamples."""
    made, report = study
    draws = scores(made, report, REAL, "count=64")
    counts = resample(len(made.image), 1000).matrix()
    means = []
    for weight in counts.T[:10]:
        chosen = np.repeat(np.arange(len(made.image)), weight)
        means.append(np.mean([[roc_auc_score(truth[chosen], score[chosen]) for truth, score in one.values()] for one in draws]))
    found = rows(report, "moco_cxr", arm=REAL, size="count=64", baseline=None)
    assert len(found) == 1
    assert found[0].n_runs == 3
    # The fast kernel gives all 1,000; the loop checks ten of them, and the places are those of 1,000 sorted values.
    fast = np.sort(kernel(made, report, REAL, counts))
    assert kernel(made, report, REAL, counts)[:10] == pytest.approx(means, abs=1e-12)
    assert (found[0].estimate, found[0].low, found[0].high) == (round(fast.mean(), 3), round(fast[24], 3), round(fast[974], 3))


def kernel(made: Made, report: Report, arm: str, counts: np.ndarray) -> np.ndarray:
    """Return the mean over draws and findings of weighted areas by scikit-learn's own formula, vectorised over resamples by ranks."""
    values = np.zeros(counts.shape[1])
    draws = scores(made, report, arm, "count=64")
    for one in draws:
        for truth, score in one.values():
            order = np.argsort(score, kind="stable")
            weight, positive = counts[order].astype(float), truth[order] == 1
            below = np.cumsum(np.where(positive[:, None], 0.0, weight), axis=0)
            # No two scores of made runs are equal.
            numerator = np.where(positive[:, None], weight * below, 0.0).sum(axis=0)
            values += numerator / (weight[positive].sum(axis=0) * weight[~positive].sum(axis=0)) / len(one) / len(draws)
    return values


def test_moco_cxrs_difference_is_paired_by_draw_and_resample(study: tuple[Made, Report]) -> None:
    made, report = study
    counts = resample(len(made.image), 1000).matrix()
    gap = np.sort(kernel(made, report, REAL, counts) - kernel(made, report, NONE, counts))
    found = rows(report, "moco_cxr", arm=REAL, size="count=64", baseline=NONE)[0]
    assert (found.estimate, found.low, found.high) == (round(gap.mean(), 3), round(gap[24], 3), round(gap[974], 3))
    assert found.claim == ("higher" if gap[24] > 0 else "open")
    ours = next(one for one in report.differences if (one.arm, one.size, one.baseline) == (REAL, "count=64", NONE))
    assert (found.ours_estimate, found.ours_low, found.ours_high, found.ours_p) == (ours.estimate, ours.low, ours.high, ours.p_adjusted)


def test_runs_are_tested_against_the_best_as_ark_and_the_benchmark_do(study: tuple[Made, Report]) -> None:
    _, report = study
    for procedure in ("ark", "benchmark"):
        for size in ("count=64", "count=256"):
            found = rows(report, procedure, size=size)
            values = {
                one.arm: [point.value for point in cell.points]
                for one in found
                for cell in report.cells
                if (cell.arm, cell.size) == (one.arm, size)
            }
            best = max(values, key=lambda arm: np.mean(values[arm]))
            assert [one.arm for one in found if one.claim == "best"] == [best]
            for one in found:
                assert one.estimate == pytest.approx(np.mean(values[one.arm]), abs=1e-14)
                assert one.spread == pytest.approx(np.std(values[one.arm]), abs=1e-14)
                if one.arm != best:
                    assert one.baseline == best
                    expected = stats.ttest_ind(values[one.arm], values[best]).pvalue
                    assert one.p == pytest.approx(expected, rel=1e-10)
                    assert one.claim == ("lower" if expected < 0.05 else "open")
                    assert one.ours_p is not None
                    assert 0 < one.ours_p <= 1
    assert not [one for one in report.as_published if one.arm.startswith("floor")]


def test_the_p_beside_the_best_is_adjusted_over_all_pairs(study: tuple[Made, Report]) -> None:
    """It is never below the p of the pair alone, and with three arms never far above three times that."""
    _, report = study
    for one in rows(report, "ark", size="count=64"):
        if one.baseline is None:
            continue
        alone = [
            other.p
            for other in report.differences
            if other.size == one.size and {other.arm, other.baseline} == {one.arm, one.baseline} and other.p is not None
        ]
        for p in alone:
            assert one.ours_p is not None
            assert p - 4 * np.sqrt(p / 20_000) <= one.ours_p <= 3 * p + 0.01


def test_unichests_bounds_are_of_the_first_run_and_averaged(study: tuple[Made, Report]) -> None:
    made, report = study
    counts = resample(len(made.image), 1000).matrix()
    found = rows(report, "unichest", arm=NONE, size="count=64")
    alone, macro = [one for one in found if one.label is not None], [one for one in found if one.label is None]
    assert [one.label for one in alone] == sorted(made.labels)
    first = scores(made, report, NONE, "count=64")[0]
    one = alone[2]
    truth, score = first[str(one.label)]
    order = np.argsort(score)
    weight, positive = counts[order].astype(float), truth[order] == 1
    below = np.cumsum(np.where(positive[:, None], 0.0, weight), axis=0)
    areas = np.sort((weight * below)[positive].sum(axis=0) / (weight[positive].sum(axis=0) * weight[~positive].sum(axis=0)))
    assert one.estimate == pytest.approx(roc_auc_score(truth, score), abs=1e-12)
    assert (one.low, one.high) == pytest.approx((areas[50], areas[950]), abs=1e-12)
    assert len(macro) == 1
    assert macro[0].low == pytest.approx(np.mean([item.low for item in alone]), abs=1e-14)
    assert macro[0].high == pytest.approx(np.mean([item.high for item in alone]), abs=1e-14)
    assert {item.n_runs for item in found} == {1}


def test_every_row_says_what_is_not_covered(study: tuple[Made, Report]) -> None:
    _, report = study
    assert {one.procedure for one in report.as_published} == set(AS_PUBLISHED) == set(SAID)
    assert all(one.not_covered == SAID[one.procedure] for one in report.as_published)
    shown = sections(report)
    for name in AS_PUBLISHED:
        assert SAID[name] in markdown(report, shown)
    assert len(set(re.findall('id="published-(moco[-_]cxr|ark|benchmark|unichest)', html(report, shown)))) == 4
    assert len(json.loads(text(report))["as_published"]) == len(report.as_published)


def test_a_table_marks_where_the_two_read_differently(study: tuple[Made, Report]) -> None:
    _, report = study
    table = next(one for one in published(report, report.test_sets[0]) if one.key.startswith("published-ark"))
    found = rows(report, "ark", label=None)
    assert len(table.rows) == len(found)
    for row, one in zip(table.rows, found, strict=True):
        differ = {one.claim, one.ours_claim} in ({"open", "lower"}, {"open", "higher"}, {"lower", "higher"})
        assert any("they differ" in entry.marks for entry in row.entries) == differ


def test_nothing_is_shown_that_was_not_asked_for(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path, draws=2, patients=60)
    report = build(plan, made.run)
    assert report.as_published == ()
    assert "As published" not in markdown(report, sections(report))
    once = build(made.plan(as_published=("ark", "ark")), made.run)
    assert len(once.as_published) == len({(one.arm, one.size) for one in once.as_published})


def test_order_does_not_matter(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path, draws=2, patients=60)
    asked = made.plan(contrasts=plan.report.contrasts, as_published=AS_PUBLISHED)
    first = text(build(asked, made.run))
    assert all(text(build(shuffled(asked, seed), made.run)) == first for seed in (3, 4))


def test_one_run_an_arm_has_no_test_and_says_so(made: Made) -> None:
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.evaluation("finetune", {"after": "none", "target": "phantom"}, separation=0.5)
    made.evaluation("finetune", {"after": "pretrain", "target": "phantom"}, separation=1.5)
    report = build(made.plan(as_published=AS_PUBLISHED), made.run)
    best, other = sorted(rows(report, "ark"), key=lambda one: one.claim != "best")
    assert (best.claim, best.spread, other.claim, other.p) == ("best", 0.0, "", None)
    assert other.status == ("not_estimable",)
    assert (other.ours_p, other.ours_claim) == (None, "")
    assert rows(report, "moco_cxr", baseline=best.baseline)[0].low is not None


def test_a_missing_arm_is_no_row_and_missing_draws_are_counted(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path, gaps=2, patients=80, draws=3)
    report = build(made.plan(contrasts=plan.report.contrasts, as_published=("moco_cxr", "ark")), made.run)
    scrambled = "finetune/after=pretrain,images=scrambled"
    assert [one.n_runs for one in rows(report, "ark", arm=scrambled)] == [3, 1]
    assert [one.n_runs for one in rows(report, "moco_cxr", arm=scrambled, size="count=256", baseline=NONE)] == [1]
    made, plan = quickstart(tmp_path / "none", gaps=3, patients=80, draws=3)
    report = build(made.plan(contrasts=plan.report.contrasts, as_published=("moco_cxr", "ark")), made.run)
    assert not [one for one in report.as_published if (one.arm, one.size) == (scrambled, "count=256")]


def test_few_positives_can_leave_a_resample_without_them_and_the_row_says_so(tmp_path: Path) -> None:
    made = Made(tmp_path, patients=40, images_per_patient=1, labels=("hernia",), prevalence=(0.0,))
    made.truth[:3, 0] = 1
    made.axis("after", AxisKind.COMPARE, ("none",))
    for draw in range(2):
        made.evaluation("finetune", {"after": "none", "count": 64, "draw": draw, "target": "phantom"})
    report = build(made.plan(contrasts=(), as_published=("moco_cxr", "unichest")), made.run)
    assert [(one.estimate, one.status) for one in report.as_published] == [(None, ("not_estimable",))] * 2
    markdown(report, sections(report))


def test_held_out_folds_have_no_such_rows(tmp_path: Path) -> None:
    made, plan = leave_pair_out(tmp_path)
    asked = made.plan(contrasts=plan.report.contrasts, verdict=False, as_published=AS_PUBLISHED)
    assert build(asked, made.run).as_published == ()


def test_every_number_has_a_row_and_a_name_of_its_own(study: tuple[Made, Report]) -> None:
    report = study[1]
    found = {line.key: line for line in lines(report) if line.kind in KINDS}
    keys = PublishedKeys.of(report)
    assert found
    for one in report.as_published:
        line = found[keys.theirs(one)]
        assert (line.estimate, line.low, line.high, line.p) == (one.estimate, one.low, one.high, one.p)
        assert (line.arm, line.size, line.label, line.n_draws, line.headline) == (one.arm, one.size, one.label, one.n_runs, False)
        assert (one.spread is None) == (keys.spread(one) not in found)
        if one.spread is not None:
            assert found[keys.spread(one)].estimate == one.spread
        if one.ours_estimate is not None:
            ours = found[keys.ours(one)]
            assert (ours.estimate, ours.low, ours.high, ours.p_adjusted) == (one.ours_estimate, one.ours_low, one.ours_high, one.ours_p)
    assert {line.kind for line in found.values()} == set(KINDS)
    assert csv_text(report).count("as_published_") > len(report.as_published)


def test_latex_carries_the_names_and_a_text_means_an_original_by_name_alone(study: tuple[Made, Report], tmp_path: Path) -> None:
    report = study[1]
    write(report, tmp_path)
    files = sorted((tmp_path / "tables").glob("published-*.tex"))
    assert [path.stem.split("-")[1] for path in files] == ["ark", "benchmark", "moco", "unichest"]
    for path in files:
        body = path.read_text(encoding="utf-8")
        # What a procedure does is told with numbers of its own (.05); every number of the table has a name.
        table = body.partition(r"\toprule")[2].rpartition(r"\bottomrule")[0]
        assert re.findall(r"[+-]?\d?\.\d{3}", re.sub(r"\\cxr\{[^{}]+\}\{(?:[^{}]|\{[^{}]*\})*\}", "", table)) == []
    assert check(report, [tmp_path / "report.tex"]).faults == ()
    assert check(report, [tmp_path / "report.md"]).faults == ()
    one = rows(report, "moco_cxr", arm=REAL, size="count=64", baseline=None)[0]
    known_ = known(report)
    context = Context(arms=frozenset({REAL}), sizes=frozenset({"count=64"}))
    assert not any("as_published" in name or "@beside" in name for name, _ in known_.candidates(context))
    assert known_.named(f"{PublishedKeys.of(report).theirs(one)}.low") == one.low
    changed = tmp_path / "changed.tex"
    changed.write_text(f"% cxr\n\\cxr{{{PublishedKeys.of(report).theirs(one)}}}{{0.123}}\n", encoding="utf-8")
    assert len(check(report, [changed]).faults) == 1
