"""A card without labels is to pretrain on, and a plan that wants more of it is refused where it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import SweepError
from tests.orchestrator.planning import FakeResolver, jobs_of, plan_of

SWEEP = """
sweep: s
phases:
  pretrain: {{trainer: moco_cxr, data: {pretrain}}}
  finetune:
    trainer: classification
    data: {finetune}
    after: pretrain
    pick: {{metric: val/auroc_macro}}
    evaluate: [{{data: {target}, split: test}}]
"""


def planned(folder: Path, **cards: str) -> int:
    text = SWEEP.format(**{"pretrain": "labelled", "finetune": "labelled", "target": "same", **cards})
    return len(jobs_of(plan_of(folder, text, FakeResolver(label_names={"pool": ()}, tasks={"masks": "segmentation"})), "pretrain"))


def test_images_without_labels_pretrain(tmp_path: Path) -> None:
    assert planned(tmp_path, pretrain="pool") == 1


def test_nothing_is_learnt_from_labels_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(SweepError) as error:
        planned(tmp_path, finetune="pool")
    assert error.value.path == "phases.finetune.data"
    assert "data 'pool' has no labels, and trainer 'classification' learns from labels: name a card with labels" in str(error.value)


def test_nothing_is_scored_on_labels_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(SweepError) as error:
        planned(tmp_path, target="pool")
    assert error.value.path == "phases.finetune.evaluate[0].data"
    assert "data 'pool' has no labels to score against: name a card with labels" in str(error.value)


@pytest.mark.parametrize(("place", "at"), [("finetune", "phases.finetune.data"), ("target", "phases.finetune.evaluate[0].data")])
def test_masks_are_not_for_a_classifier(tmp_path: Path, place: str, at: str) -> None:
    with pytest.raises(SweepError) as error:
        planned(tmp_path, **{place: "masks"})
    assert error.value.path == at
    said = "data 'masks' is for segmentation, and trainer 'classification' is for multilabel and multiclass: name a card for that"
    assert said in str(error.value)


def test_masks_pretrain(tmp_path: Path) -> None:
    assert planned(tmp_path, pretrain="masks") == 1
