"""Every card that can be made: it can be planned as a sample, its structures have masks, and sources differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orchestrator.expand import expand
from orchestrator.loading import load_sweep
from orchestrator.model import ClusterConfig
from orchestrator.resolving import DiskResolver
from tests.trainers.data.readers.made import made
from trainers.data.cards import list_cards, load_card
from trainers.data.regions import masks_of

CARDS = tuple(name for name in list_cards() if load_card(name).made.get("generator") == "phantom")
LEARNING = """
sweep: s
data: {card}
phases:
  a:
    trainer: {trainer}
    pick: {{rule: last}}
    evaluate: [{{data: same, split: test}}]
"""
PRETRAINING = """
sweep: s
data: {card}
phases:
  a: {{trainer: moco_cxr}}
"""


@pytest.mark.parametrize("name", [name for name in CARDS if load_card(name).task == "segmentation"])
def test_every_structure_of_a_card_has_a_mask(name: str, tmp_path: Path) -> None:
    place = made(tmp_path, load_card(name))
    rows = place.index()
    for image, labels in zip(rows.images[:3].tolist(), rows.labels[:3], strict=True):
        found = masks_of(place, image, (24, 24))
        assert tuple(found) == rows.label_names == place.card.label_names
        # A finding that an image has not has an empty mask.
        for mask, label in zip(found.values(), labels.tolist(), strict=True):
            assert mask.dtype == np.uint8 and set(np.unique(mask)) == ({0, 1} if label == 1 else {0})


@pytest.mark.parametrize("name", CARDS)
def test_a_sample_of_it_can_be_planned(name: str, tmp_path: Path) -> None:
    from jobs.catalog import find_trainers

    catalog = find_trainers()
    card = load_card(name)
    text = LEARNING if card.task != "unlabelled" and "test" in card.split_names else PRETRAINING
    trainer = "segmentation" if card.task == "segmentation" else "thumbnail"
    (tmp_path / "s.yaml").write_text(text.format(card=name, trainer=trainer), encoding="utf-8")
    cluster = ClusterConfig(name="here", run_root=tmp_path / "runs", made_root=tmp_path / "made")
    plan = expand(load_sweep(tmp_path / "s.yaml", catalog=catalog), catalog, DiskResolver(cluster=cluster, catalog=catalog, sample=True))
    assert plan.made_data and all(job.resolved for job in plan.jobs)


def test_sources_differ() -> None:
    sources = {name: load_card(name).made["parameters"].get("source", 0) for name in CARDS if "parameters" in load_card(name).made}
    assert len(set(sources.values())) == 6
