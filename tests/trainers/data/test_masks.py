"""Masks behind the gate, made small by area or as published, kept and found again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.trainers.data.test_made_cards import parameters_of
from trainers.data import masks as masks_module
from trainers.data.access import Access
from trainers.data.cards import load_card
from trainers.data.located import locate
from trainers.data.masks import COVERAGE, PUBLISHED, published
from trainers.data.open import open_data
from trainers.data.phantom.layout import write_made
from trainers.data.regions import masks_of
from trainers.errors import DataError, SplitClosed


@pytest.fixture(scope="module")
def jsrt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose `made` is a small set in JSRT's layout."""
    root = tmp_path_factory.mktemp("jsrt")
    opened(root)
    return root


@pytest.fixture
def folder(jsrt: Path, tmp_path: Path) -> Path:
    """Return a copy of it that a test may change."""
    shutil.copytree(jsrt / "made", tmp_path / "made")
    return tmp_path


def opened(root: Path, name: str = "jsrt_lung", shut: tuple[str, ...] = (), **changes: Any) -> Access:
    card, folder = load_card(name), root / "made"
    if not folder.exists():
        # Made data that was changed would be made anew.
        write_made(folder, parameters_of(card, **changes), card.made.get("layout", card.reader))
    source = {"card": name, "made": {"generator": "phantom"}}
    return open_data(source, None, lambda place: folder, root / "cache", lambda split: split not in shut)


def test_a_mask_of_a_split_that_was_not_opened_is_refused(folder: Path) -> None:
    access = opened(folder, shut=("test",))
    train = access.rows("train").position
    hidden = sorted(set(range(32)) - set(train.tolist()) - set(access.rows("val").position.tolist()))[0]
    store = access.masks(16, COVERAGE)
    assert store.mask(int(train[0])).shape == (1, 16, 16)
    for ask in (store.mask, store.known, store.full):
        with pytest.raises(SplitClosed, match="belongs to no split that this stage has opened"):
            ask(hidden)


def test_a_card_without_structures_has_no_masks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="card 'montgomery_tb' has no masks here"):
        opened(tmp_path, "montgomery_tb").masks(16, COVERAGE)


def test_coverage_is_the_share_of_a_pixel_that_is_inside(folder: Path) -> None:
    access = opened(folder)
    store, rows = access.masks(16, COVERAGE), access.rows("train")
    place = locate(load_card("jsrt_lung"), lambda place: folder / "made")
    for image, position in zip(rows.images[:6].tolist(), rows.position[:6].tolist(), strict=True):
        full = masks_of(place, image)["lungs"]
        np.testing.assert_array_equal(store.full(position)["lungs"], full)
        share = full.reshape(16, 4, 16, 4).mean(axis=(1, 3))
        assert np.abs(store.mask(position)[0] / 255 - share).max() <= 0.51 / 255
        assert store.known(position).tolist() == [True]


def test_published_masks_add_bytes_that_wrap_and_mark_all_that_is_left() -> None:
    # Two halves that cover half a pixel each, where 128 + 128 wraps to 0; a sliver of a tenth is marked whole.
    half, other, sliver = (np.zeros((20, 20), np.uint8) for _ in range(3))
    half[0:10, 0:5] = 255
    other[0:10, 5:10] = 255
    sliver[10:20, 10:11] = 255
    small = [cv2.resize(part, (2, 2), interpolation=cv2.INTER_AREA) for part in (half, other)]
    assert [int(part[0, 0]) for part in small] == [128, 128]
    assert published([half, other], 2).tolist() == [[0, 0], [0, 0]]
    assert published([half, sliver], 2).tolist() == [[255, 0], [0, 255]]
    # Both wholly inside: 255 + 255 = 254, which is above 0.
    assert published([np.full((4, 4), 255, np.uint8)] * 2, 2).tolist() == [[255, 255], [255, 255]]


@pytest.mark.parametrize("name", ["jsrt_lung", "montgomery"])
def test_published_masks_are_never_thinner_than_what_was_drawn(tmp_path: Path, name: str) -> None:
    access = opened(tmp_path, name)
    drawn, theirs = access.masks(16, COVERAGE), access.masks(16, PUBLISHED)
    wider = 0
    for position in access.rows("train").position.tolist():
        ours, other = drawn.mask(position)[0], theirs.mask(position)[0]
        assert set(np.unique(other)) <= {0, 255}
        assert (other[ours >= 128] == 255).mean() > 0.99
        wider += int((other > 0).sum() - (ours >= 128).sum())
    assert wider > 0


def test_masks_are_decoded_once_and_again_when_their_files_change(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    whole = masks_module.small_masks

    def counted(place: Any, image: str, px: int, how: str) -> Any:
        decoded.append(image)
        return whole(place, image, px, how)

    monkeypatch.setattr(masks_module, "small_masks", counted)
    first = opened(folder)
    position = int(first.rows("train").position[0])
    before = first.masks(16, COVERAGE).mask(position).copy()
    count = len(decoded)
    assert count == len(set(decoded)) == 32
    again = opened(folder)
    again.rows("train")
    np.testing.assert_array_equal(again.masks(16, COVERAGE).mask(position), before)
    assert len(decoded) == count
    # The files of another size, or of other content, are others.
    again.masks(8, COVERAGE).mask(position)
    assert len(decoded) == 2 * count
    image = str(first.rows("train").images[0])
    file = next((folder / "made").glob(f"**/left lung/{image}.gif"))
    file.write_bytes(next(path for path in sorted((folder / "made").glob("**/right lung/*.gif"))).read_bytes())
    changed = opened(folder)
    changed.rows("train")
    assert not np.array_equal(changed.masks(16, COVERAGE).mask(position), before)


def test_a_mask_that_cannot_be_read_stops_who_asks_for_it_alone(folder: Path) -> None:
    access = opened(folder)
    rows = access.rows("train")
    next((folder / "made").glob(f"**/left lung/{rows.images[0]}.gif")).write_bytes(b"GIF89a")
    broken = opened(folder)
    broken.rows("train")
    store = broken.masks(16, COVERAGE)
    assert store.mask(int(rows.position[1])).any()
    with pytest.raises(DataError, match=rf"mask .*{rows.images[0]}\.gif cannot be decoded: copy it again"):
        store.mask(int(rows.position[0]))


def test_another_way_of_making_masks_small_is_refused(folder: Path) -> None:
    access = opened(folder)
    with pytest.raises(ValueError, match="there are coverage and published"):
        access.masks(16, "nearest").mask(int(access.rows("train").position[0]))
