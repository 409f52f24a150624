"""Phases with several sources: who may have them, and by which of their validation metrics a phase may choose."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.spec import Stage
from orchestrator.errors import SweepError
from orchestrator.expand import expand
from orchestrator.expansion.sources import SourceMetrics
from orchestrator.loading import load_sweep
from orchestrator.model import Plan
from tests.golden.trainers import CATALOG
from tests.orchestrator.planning import FakeResolver, jobs_of

SWEEP = """
sweep: several
phases:
  one:
    trainer: {trainer}
    sources: [{sources}]
    pick: {{metric: {metric}}}
"""
LABELS = {"chexpert": ("effusion", "edema"), "rsna": ("Lung Opacity",)}


def planned(folder: Path, *, trainer: str = "ark", sources: str = "chexpert, rsna", metric: str = "val/mean_auroc", more: str = "") -> Plan:
    path = folder / "several.yaml"
    path.write_text(SWEEP.format(trainer=trainer, sources=sources, metric=metric) + more, encoding="utf-8")
    return expand(load_sweep(path, catalog=CATALOG), CATALOG, FakeResolver(label_names=dict(LABELS)))


@pytest.mark.parametrize(
    "metric",
    [
        "val/mean_auroc",
        "val/mean_loss",
        "val/chexpert/auroc_macro",
        "val/chexpert/loss",
        "val/chexpert/auroc_competition",
        "val/chexpert/auroc/edema",
        "val/rsna/auroc/lung_opacity",
        "val/rsna/accuracy",
    ],
)
def test_a_pick_may_read_the_mean_or_one_source(tmp_path: Path, metric: str) -> None:
    plan = planned(tmp_path, metric=metric)
    (job,) = jobs_of(plan, "one")
    assert job.config["monitor"]["metric"] == metric
    assert [source["card"] for source in job.data["sources"]] == ["chexpert", "rsna"]
    assert len(jobs_of(plan, "one", Stage.PICK)) == 1 and not jobs_of(plan, "one", Stage.EVALUATE)


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("val/auroc_macro", "'val/auroc_macro' is measured on no source; did you mean 'val/rsna/auroc_macro'?"),
        ("val/mean_aurok", "did you mean 'val/mean_auroc'?"),
        ("val/vindr/auroc_macro", "'val/vindr/auroc_macro' is measured on no source; did you mean 'val/rsna/auroc_macro'?"),
        ("val/chexpert/auroc/nodule", "names no label of 'chexpert'; there are effusion, edema"),
        ("val/chexpert/auroc/edemas", "names no label of 'chexpert'; did you mean 'edema'?"),
        ("val/chexpert/los", "is no metric of a source; did you mean 'val/chexpert/loss'?"),
        ("val/student/mean_auroc", "is measured on no source"),
    ],
)
def test_another_metric_is_refused_at_the_pick_with_the_nearest(tmp_path: Path, metric: str, said: str) -> None:
    with pytest.raises(SweepError) as error:
        planned(tmp_path, metric=metric)
    assert error.value.path == "phases.one.pick.metric"
    assert said in str(error.value) and "'ark' is validated on each source by itself" in str(error.value)


def test_a_further_network_has_metrics_and_means_of_its_own() -> None:
    known = SourceMetrics(labels={"rsna": ["lung_opacity"]}, networks=("student",))
    assert known.refusal("val/student/mean_auroc") is None
    assert known.refusal("val/rsna/student/auroc_macro") is None
    assert known.refusal("val/rsna/student/auroc/lung_opacity") is None
    assert known.refusal("val/teacher/mean_auroc") is not None
    assert known.refusal("val/rsna/teacher/auroc_macro") is not None


def test_a_trainer_of_one_card_is_refused_several(tmp_path: Path) -> None:
    with pytest.raises(SweepError) as error:
        planned(tmp_path, trainer="classification", metric="val/auroc_macro")
    assert error.value.path == "phases.one.sources"
    assert "trainer 'classification' learns from one card, and 2 are named" in str(error.value)
    assert "a trainer that learns from several (ark, unichest)" in str(error.value)


def test_a_source_stands_once(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="'rsna' is named twice") as error:
        planned(tmp_path, sources="rsna, chexpert, rsna")
    assert error.value.path == "phases.one.sources"


def test_validation_images_that_another_source_trains_on_are_said(tmp_path: Path) -> None:
    path = tmp_path / "several.yaml"
    path.write_text(SWEEP.format(trainer="ark", sources="chexpert, rsna", metric="val/mean_auroc"), encoding="utf-8")
    resolver = FakeResolver(label_names=dict(LABELS), overlaps={("chexpert", "rsna", "val"): "card 'rsna' says so"})
    plan = expand(load_sweep(path, catalog=CATALOG), CATALOG, resolver)
    said = "one: validation images of 'rsna' may be seen in training on 'chexpert' (card 'rsna' says so): its validation numbers"
    assert [note for note in plan.notes if note.startswith(said)] == list(plan.notes)
    assert not planned(tmp_path).notes


def test_a_floor_beside_several_sources_is_refused(tmp_path: Path) -> None:
    more = "    evaluate: [{data: rsna, split: test}]\nallow_contamination: [rsna]\nreport: {measure: auroc_macro, floor: true}\n"
    with pytest.raises(SweepError, match="a floor learns from one card, and 'one' has 2 sources") as error:
        planned(tmp_path, more=more)
    assert error.value.path == "report.floor"


def test_an_evaluation_may_name_whose_head_predicts(tmp_path: Path) -> None:
    targets = "[{data: vindr}, {data: vindr, heads: auto, score_per: image}, {data: vindr, heads: mean}, {data: vindr, heads: rsna}]"
    plan = planned(tmp_path, more=f"    evaluate: {targets}\n")
    jobs = jobs_of(plan, "one", Stage.EVALUATE)
    assert [job.config.get("heads") for job in jobs] == [None, None, "mean", "rsna"]
    assert len({job.job_id for job in jobs}) == len({job.labels["target"] for job in jobs}) == 4
    with pytest.raises(SweepError, match=r"'rsn' is no source; did you mean 'rsna'\?") as error:
        planned(tmp_path, more="    evaluate: [{data: vindr, heads: rsn}]\n")
    assert error.value.path == "phases.one.evaluate[0].heads"
    with pytest.raises(SweepError, match="trainer 'classification' has one head for all labels: leave heads out"):
        planned(
            tmp_path, trainer="classification", sources="chexpert", metric="val/loss", more="    evaluate: [{data: vindr, heads: mean}]\n"
        )
