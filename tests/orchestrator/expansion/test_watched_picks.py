"""A pick by what is watched of a pretraining: declared, turned on, and said to be a choice with labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jobs.catalog import find_trainers
from jobs.spec import Stage
from orchestrator.errors import SweepError
from orchestrator.expand import expand
from orchestrator.loading import load_sweep
from orchestrator.model import Plan
from tests.orchestrator.planning import FakeResolver, jobs_of

SWEEP = """
sweep: watched
data: chexpert
phases:
  pretrain:
    trainer: moco_cxr
    config: {{{config}}}
    tune: {{lr: [1e-4, 1e-3]}}
    pick: {{metric: {metric}}}
  finetune:
    trainer: classification
    after: pretrain
    pick: {{metric: val/auroc_macro}}
    evaluate: [{{data: same, split: test}}]
"""


def planned(folder: Path, *, metric: str = "val/knn/auroc_macro", config: str = "watch_every_epochs: 2") -> Plan:
    path = folder / "watched.yaml"
    path.write_text(SWEEP.format(metric=metric, config=config), encoding="utf-8")
    catalog = find_trainers()
    return expand(load_sweep(path, catalog=catalog), catalog, FakeResolver())


@pytest.mark.parametrize("metric", ["val/knn/auroc_macro", "val/probe/auroc_macro", "val/knn/auroc/pleural_effusion"])
def test_what_is_watched_may_choose_and_the_plan_calls_that_supervised(tmp_path: Path, metric: str) -> None:
    plan = planned(tmp_path, metric=metric)
    assert len(jobs_of(plan, "pretrain")) == 2 and len(jobs_of(plan, "pretrain", Stage.PICK)) == 1
    assert all(job.config["monitor"]["metric"] == metric for job in jobs_of(plan, "pretrain"))
    (note,) = (one for one in plan.notes if one.startswith("pretrain: its pick"))
    assert note.endswith(
        f"reads '{metric}', which is measured on validation labels: 'moco_cxr' learns without labels, and what is handed on is chosen "
        "with them, which is a supervised choice"
    )


def test_a_search_by_what_is_watched_is_held_to_the_same(tmp_path: Path) -> None:
    search = "search: {scheduler: asha, metric: METRIC, samples: 2, space: {lr: {sample: log_uniform, from: 1e-4, to: 1e-1}}}"
    text = SWEEP.replace("    tune: {{lr: [1e-4, 1e-3]}}\n", f"    {search.replace('{', '{{').replace('}', '}}')}\n")
    catalog, path = find_trainers(), tmp_path / "searched.yaml"
    filled = text.format(metric="val/knn/auroc_macro", config="watch_every_epochs: 1")
    path.write_text(filled.replace("METRIC", "val/probe/auroc_macro"), encoding="utf-8")
    notes = expand(load_sweep(path, catalog=catalog), catalog, FakeResolver()).notes
    assert [note.split(",")[0] for note in notes if "supervised" in note] == [
        "pretrain: its pick reads 'val/knn/auroc_macro'",
        "pretrain: its search reads 'val/probe/auroc_macro'",
    ]
    path.write_text(filled.replace("METRIC", "val/loss"), encoding="utf-8")
    with pytest.raises(SweepError, match="writes no 'val/loss'") as error:
        expand(load_sweep(path, catalog=catalog), catalog, FakeResolver())
    assert error.value.path == "phases.pretrain.search.metric"


def test_a_pick_that_reads_no_label_is_not_called_supervised(tmp_path: Path) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text(
        SWEEP.format(metric="x", config="epochs: 4").replace("pick: {metric: x}", "").replace("[1e-4, 1e-3]", "[1e-4]"), encoding="utf-8"
    )
    catalog = find_trainers()
    assert not [note for note in expand(load_sweep(path, catalog=catalog), catalog, FakeResolver()).notes if "supervised" in note]


def test_a_metric_that_is_not_turned_on_is_refused_with_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(SweepError) as error:
        planned(tmp_path, config="epochs: 4")
    assert error.value.path == "phases.pretrain.pick.metric"
    said = "trainer 'moco_cxr' writes 'val/knn/auroc_macro' only with `watch_every_epochs`: set it in config, `watch_every_epochs: 1`"
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("metric", "hint"),
    [("val/auroc_macro", "did you mean 'val/knn/auroc_macro'?"), ("val/knn/auroc_makro", "did you mean 'val/knn/auroc_macro'?")],
)
def test_a_metric_that_is_never_written_is_refused_with_the_nearest(tmp_path: Path, metric: str, hint: str) -> None:
    with pytest.raises(SweepError) as error:
        planned(tmp_path, metric=metric)
    assert f"trainer 'moco_cxr' predicts no labels and writes no '{metric}'; {hint}" in str(error.value)


def test_jobs_that_are_not_watched_keep_their_ids(tmp_path: Path) -> None:
    moco = find_trainers()["moco_cxr"]
    assert moco.before["watch_every_epochs"] == 0 and moco.before["watch_images"] == 500
    plan = planned(tmp_path)
    assert all("watch_images" not in job.config and job.config["watch_every_epochs"] == 2 for job in jobs_of(plan, "pretrain"))


def test_monitors_are_names_or_names_with_the_key_that_turns_them_on() -> None:
    moco = find_trainers()["moco_cxr"]
    assert moco.monitored_by("val/knn/auroc/edema") == "watch_every_epochs"
    assert moco.monitored_by("val/knn/auroc/") is None and moco.monitored_by("val/auroc/edema") is None
    plain = replace(moco, monitors={"val/loss": ""})
    assert plain.monitored_by("val/loss") == ""
