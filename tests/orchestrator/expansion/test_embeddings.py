"""Embeddings in a plan: who hands them out, what is in which id, and tables that a phase starts from."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.catalog import find_trainers
from jobs.spec import Stage
from orchestrator.errors import SweepError
from orchestrator.expand import expand
from orchestrator.loading import load_sweep
from tests.orchestrator.planning import FakeResolver, jobs_of, plan_of
from trainers.errors import WeightsError

SWEEP = """
sweep: s
data: d
phases:
  a:
    trainer: TRAINER
    config: {lr: 1e-3}
    pick: PICK
    evaluate: [{data: same, split: test, MORE}]
"""


def sweep(more: str, *, trainer: str = "classification", pick: str = "{metric: val/auroc_macro}") -> str:
    return SWEEP.replace("TRAINER", trainer).replace("PICK", pick).replace("MORE", more)


def test_only_the_evaluation_that_hands_them_out_has_another_id(tmp_path: Path) -> None:
    plain, with_them, whole = (
        plan_of(tmp_path, sweep(more)) for more in ("", "outputs: [predictions, embeddings]", "outputs: [predictions]")
    )
    assert [job.job_id for job in plain.jobs] == [job.job_id for job in whole.jobs]
    assert [job.job_id for job in plain.jobs][:2] == [job.job_id for job in with_them.jobs][:2]
    (mine,), (theirs,) = (jobs_of(plan, "a", Stage.EVALUATE) for plan in (with_them, plain))
    assert {**theirs.config, "embeddings": "backbone"} == mine.config and mine.job_id != theirs.job_id
    assert mine.labels == theirs.labels


def test_arrays_are_in_the_id_of_the_evaluation_that_writes_them(tmp_path: Path) -> None:
    plain, with_them = (plan_of(tmp_path, sweep(more)) for more in ("", "outputs: [predictions, arrays]"))
    (mine,), (theirs,) = (jobs_of(plan, "a", Stage.EVALUATE) for plan in (with_them, plain))
    assert {**theirs.config, "arrays": True} == mine.config and mine.job_id != theirs.job_id
    with pytest.raises(SweepError, match=r"evaluate\[0\].outputs: data 'd' has masks, and arrays are of labels: leave `arrays` out"):
        catalog, file = find_trainers(), tmp_path / "masks.yaml"
        file.write_text(sweep("outputs: [predictions, arrays]", trainer="segmentation", pick="{metric: val/dice_macro}"), encoding="utf-8")
        expand(load_sweep(file, catalog=catalog), catalog, FakeResolver(tasks={"d": "segmentation"}))


def test_thresholds_as_published_are_in_the_id_of_the_evaluation_that_asks_for_them(tmp_path: Path) -> None:
    plain, asked, default = (plan_of(tmp_path, sweep(more)) for more in ("", "thresholds: as_published", "thresholds: validation"))
    (mine,), (theirs,) = (jobs_of(plan, "a", Stage.EVALUATE) for plan in (asked, plain))
    assert {**theirs.config, "thresholds": "as_published"} == mine.config and mine.job_id != theirs.job_id
    assert [job.job_id for job in plain.jobs] == [job.job_id for job in default.jobs]
    with pytest.raises(SweepError, match=r"evaluate\[0\].thresholds: expects one of validation, as_published, got 'test'"):
        plan_of(tmp_path, sweep("thresholds: test"))
    with pytest.raises(SweepError, match=r"evaluate\[1\]: this evaluation is listed twice"):
        plan_of(tmp_path, sweep("thresholds: as_published}, {data: same, split: test"))
    with pytest.raises(SweepError, match=r"evaluate\[0\].thresholds: data 'd' has masks, and thresholds are of labels: leave it out"):
        catalog, file = find_trainers(), tmp_path / "masks.yaml"
        file.write_text(sweep("thresholds: as_published", trainer="segmentation", pick="{metric: val/dice_macro}"), encoding="utf-8")
        expand(load_sweep(file, catalog=catalog), catalog, FakeResolver(tasks={"d": "segmentation"}))


def test_a_projector_may_be_asked_for_where_there_is_one(tmp_path: Path) -> None:
    more = "outputs: [predictions, embeddings], embedding: projector"
    (job,) = jobs_of(plan_of(tmp_path, sweep(more, trainer="ark", pick="{metric: val/d/auroc_macro}")), "a", Stage.EVALUATE)
    assert job.config["embeddings"] == "projector"
    with pytest.raises(
        SweepError, match=r"evaluate\[0\].embedding: trainer 'classification' embeds by backbone: write embedding: backbone"
    ):
        plan_of(tmp_path, sweep(more))
    with pytest.raises(SweepError, match="trainer 'segmentation' has no embeddings: leave `embeddings` out"):
        plan_of(tmp_path, sweep("outputs: [predictions, embeddings]", trainer="segmentation"))


@pytest.mark.parametrize(
    "pick",
    [
        "{metric: val/auroc_macro, checkpoints: all}",
        "{metric: val/auroc_macro, top: 2}",
        "{metric: val/auroc_macro, per: label}",
        "{metric: val/auroc_macro, when: [{if: {lr: 1e-3}, set: {checkpoints: all}}]}",
    ],
)
def test_embeddings_of_several_checkpoints_are_refused(tmp_path: Path, pick: str) -> None:
    text = sweep("outputs: [predictions, embeddings]", pick=pick).replace("config: {lr: 1e-3}", "compare: {lr: [1e-3, 1e-2]}")
    with pytest.raises(SweepError, match="embeddings are of one: leave checkpoints, top and per out of the pick"):
        plan_of(tmp_path, text)


def test_a_floor_hands_out_none(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, sweep("outputs: [predictions, embeddings]") + "report: {floor: true}\n")
    (floor,) = jobs_of(plan, "floor", Stage.EVALUATE)
    assert "embeddings" not in floor.config


TABLES = """
sweep: s
data: d
phases:
  external:
    trainer: embedding_probe
    compare: {embeddings: [one.parquet, other.npz]}
    draws: {fraction: [0.1, 1.0], repeats: [2, 1], seed: 3}
    pick: {metric: val/auroc_macro}
    evaluate: [{data: same, split: test}]
  ours:
    trainer: classification
    config: {freeze: backbone}
    draws: {fraction: [0.1, 1.0], repeats: [2, 1], seed: 3}
    pick: {metric: val/auroc_macro}
    evaluate: [{data: same, split: test}]
"""


def test_a_table_is_in_the_id_by_its_content_and_draws_are_those_of_other_arms(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, TABLES)
    trains, ours = jobs_of(plan, "external", Stage.TRAIN), jobs_of(plan, "ours", Stage.TRAIN)
    assert len(trains) == 6 and len({job.weights["embeddings"] for job in trains}) == 2
    assert {job.config["embeddings"] for job in trains} == {"file"} and {job.labels["embeddings"] for job in trains} == {
        "one.parquet",
        "other.npz",
    }
    assert [job.data for job in trains if job.labels["embeddings"] == "other.npz"] == [job.data for job in ours]
    assert len(jobs_of(plan, "external", Stage.EVALUATE)) == 6


def test_a_table_that_is_not_there_and_one_that_is_not_named_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SweepError, match="the trainer 'embedding_probe' needs 'embeddings': set it in config, or make it an axis"):
        plan_of(tmp_path, TABLES.replace("compare: {embeddings: [one.parquet, other.npz]}", "config: {penalty: 2.0}"))

    def gone(self: FakeResolver, value: str) -> None:
        raise WeightsError(f"there is no file {value}; correct the path")

    monkeypatch.setattr(FakeResolver, "file", gone)
    with pytest.raises(SweepError, match=r"phases\.external\.config\.embeddings: there is no file one\.parquet"):
        plan_of(tmp_path, TABLES)
