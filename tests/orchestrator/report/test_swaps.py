"""Two single models in a report: the exchange test of the runs' own predictions, beside DeLong's, and from two files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from orchestrator.model import AxisKind
from orchestrator.report.analysis import build
from orchestrator.report.checking.check import check
from orchestrator.report.layout import sections
from orchestrator.report.lines import lines
from orchestrator.report.render import html, markdown
from orchestrator.report.stats.delong import obuchowski_test
from orchestrator.report.stats.swaps import Scores, swap_tests
from orchestrator.report.swap_tables import swap_block
from orchestrator.report.values import Report
from tests.orchestrator.report.made_run import Made


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, Report]:
    made = Made(tmp_path_factory.mktemp("run"), patients=80)
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    for after, level in (("pretrain", 1.1), ("none", 1.0)):
        made.evaluation("finetune", {"after": after, "target": "phantom"}, separation=level)
    return made, build(made.plan(), made.run)


def test_it_is_the_test_of_the_predictions_themselves(single: tuple[Made, Report]) -> None:
    made, report = single
    jobs = {one.arm.rpartition("=")[2]: one.job for one in report.ledger}
    tables = {arm: pq.read_table(made.run.job(job).predictions) for arm, job in jobs.items()}
    score = {arm: table["score"].to_numpy().reshape(len(made.labels), -1) for arm, table in tables.items()}
    cluster = np.repeat(np.arange(made.patients), made.images_per_patient)
    labels = [
        Scores(truth=made.truth[:, column], first=score["pretrain"][column], second=score["none"][column], cluster=cluster)
        for column in range(len(made.labels))
    ]
    mean, each = swap_tests(labels, made.patients)
    found = {one.label: one for one in report.swap_tests}
    assert list(found) == [None, *made.labels]
    assert (found[None].statistic, found[None].p, found[None].smallest_p) == (pytest.approx(mean.statistic), mean.p, 1 / 10_000)
    assert found[None].statistic == pytest.approx(report.differences[0].estimate, abs=1e-12)
    for name, one, test in zip(made.labels, labels, each, strict=True):
        assert found[name].p == test.p
        analytic = obuchowski_test(one.truth, np.stack([one.first, one.second]), cluster).p
        assert found[name].analytic_p == pytest.approx(analytic, rel=0.1)


def test_draws_and_other_measures_have_none(made: Made) -> None:
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("draw", AxisKind.REPLICATE, (0, 1))
    for after in ("pretrain", "none"):
        for draw in (0, 1):
            made.evaluation("finetune", {"after": after, "draw": draw, "target": "phantom"})
    built = build(made.plan(), made.run)
    assert built.swap_tests == ()
    assert swap_block(built, built.test_sets[0]) is None


def test_a_measure_that_is_no_area_has_none(single: tuple[Made, Report]) -> None:
    made, _ = single
    assert build(made.plan(measure={"default": "brier_macro"}), made.run).swap_tests == ()


def test_page_and_rows_have_it_with_the_smallest_p(single: tuple[Made, Report], tmp_path: Path) -> None:
    _, report = single
    shown = sections(report)
    (text := tmp_path / "report.md").write_text(markdown(report, shown), encoding="utf-8")
    assert check(report, [text]).faults == ()
    for page in (html(report, shown), markdown(report, shown)):
        assert "Two models, exchanged" in page
    rows = {line.key: line for line in lines(report)}
    row = rows["phantom/pretrain-vs-no-pretraining/all/auroc_macro/patient_swap"]
    assert (row.kind, row.p, row.estimand) == ("swap_test", report.swap_tests[0].p, "these_models_new_patients")
    assert rows["phantom/pretrain-vs-no-pretraining/all/auroc_macro/patient_swap_smallest"].p == 1e-4
    assert rows["phantom/pretrain-vs-no-pretraining/all/auroc_macro/edema/patient_swap"].label == "edema"
