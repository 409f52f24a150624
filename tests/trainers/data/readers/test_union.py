"""Unions of shipped cards: members that share another card's place, and the 926K pool, made and opened as a sample does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.stages import data_root, made_folder, made_parts
from orchestrator.model import ClusterConfig, Sample
from orchestrator.resolving import DiskResolver
from trainers.data.access import Access
from trainers.data.cards import list_cards, load_card
from trainers.data.open import open_data
from trainers.data.overlap import overlap
from trainers.data.phantom.layout import write_made
from trainers.data.phantom.layout_names import CHEXPERT
from trainers.data.phantom.parameters import parameters_from

POOL = """
name: pool
title: Pool
task: unlabelled
members: {kermany_official: [train, val], montgomery_tb: [train, val, test]}
splits: {official: {"": train}}
"""


def opened(folder: Path, name: str, cards: tuple[Path, ...] = ()) -> Access:
    """Plan a card as a sample, make what it needs, and open it as a job does."""
    cluster = ClusterConfig(name="here", run_root=folder / "runs", made_root=folder / "made", card_paths=cards)
    resolver = DiskResolver(cluster=cluster, catalog={}, sample=True)
    resolver.use_sample(Sample(n=12, px=32))
    source: Any = resolver.data(name).identity
    machine: Any = {"made_root": cluster.made_root}
    for part in made_parts(source):
        place = made_folder(part, cluster.made_root)
        write_made(place, parameters_from(part["made"]["parameters"]), part["made"].get("layout", CHEXPERT))
    return open_data(source, None, lambda place: data_root(source, place, machine), folder / "cache", lambda split: True, cards)


def members_of(access: Access) -> set[str]:
    return {image.partition("/")[0] for image in access.rows("train").images.tolist()}


def test_a_member_at_another_card_s_place_is_made_and_found(tmp_path: Path) -> None:
    (tmp_path / "pool.yaml").write_text(POOL, encoding="utf-8")
    access = opened(tmp_path, "pool", (tmp_path,))
    assert members_of(access) == {"kermany_official", "montgomery_tb"}
    rows = access.rows("train")
    first = [rows.position[rows.images == image][0] for image in (rows.images[0], rows.images[-1])]
    assert all(access.images(16).image(position).std() > 5 for position in first)


@pytest.mark.parametrize("name", ["xrays_926k"])
def test_the_pool_of_the_benchmark_is_made_and_opened(name: str, tmp_path: Path) -> None:
    card = load_card(name)
    access = opened(tmp_path, name)
    assert members_of(access) == set(card.members)
    rows = access.rows("train")
    assert rows.labels.shape == (len(rows), 0) and set(rows.views.tolist()) == {"frontal", "lateral"}
    store = access.images(16)
    of = np.array([image.partition("/")[0] for image in rows.images.tolist()])
    for member in card.members:
        position = rows.position[of == member][-1]
        assert store.image(position).dtype == np.uint8


def test_what_the_pool_has_seen_is_known() -> None:
    pool = load_card("xrays_926k")
    seen = {name for name in list_cards() if overlap(pool, load_card(name), "test", load_card)}
    # As the original did: their test images are in it.
    assert {"shenzhen", "jsrt", "jsrt_lung", "montgomery", "montgomery_tb", "rsna"} <= seen
    # Held out: official tests of which it has the training images alone, and made data.
    assert not {"chexpert", "chexpert_official_test", "vindr", "phantom"} & seen
