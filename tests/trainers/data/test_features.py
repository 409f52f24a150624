"""Features of whole parts: computed once whoever asks first, shared, mended, and never of an image that is shut."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainers.made_data import MemoryStore, made_images, made_rows
from trainers.data.access import Access, Rows
from trainers.data.features import BLOCK, PASS, features_of
from trainers.data.open import open_data
from trainers.data.phantom.layout import write_chexpert
from trainers.errors import SplitClosed

ROWS = made_rows(BLOCK + 70)


class Network:
    """Counts what it is asked for, and gives of each image its position and the size of the pass."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.passes: list[int] = []
        self.entered = threading.Event()
        self.may_go = threading.Event()
        self.may_go.set()

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        self.entered.set()
        assert self.may_go.wait(20)
        self.seen += positions.tolist()
        self.passes.append(len(positions))
        return np.stack([positions, np.full(len(positions), len(positions))], axis=1).astype(np.float32)


def access(cache: Path | None, drawn: np.ndarray) -> Access:
    return Access(
        card="made",
        label_names=ROWS.label_names,
        rows_of=lambda split: ROWS.take(drawn) if split == "train" else None,
        store=lambda px: MemoryStore(made_images(ROWS, 8), [(8, 8)] * len(ROWS)),
        is_open=lambda split: True,
        parts_of=lambda split: [ROWS],
        features=None if cache is None else lambda px, exact: cache,
    )


def asked(cache: Path | None, drawn: list[int], network: Network, key: Mapping[str, Any] | None = None) -> np.ndarray:
    data = access(cache, np.array(drawn))
    return features_of(data, data.rows("train"), 8, exact=False, network=key or {"net": 1}, compute=network)


def test_rows_come_in_their_order_and_only_blocks_with_one_of_them_are_computed(tmp_path: Path) -> None:
    network = Network()
    assert asked(tmp_path, [9, 3, 60], network)[:, 0].tolist() == [9, 3, 60]
    assert network.seen == list(range(BLOCK))
    assert set(network.passes) == {PASS}


def test_who_asks_first_does_not_show(tmp_path: Path) -> None:
    first = asked(tmp_path / "a", [3, BLOCK + 5], Network())
    asked(tmp_path / "b", [BLOCK + 69, 7], Network())
    assert np.array_equal(asked(tmp_path / "b", [3, BLOCK + 5], Network()), first)
    assert np.array_equal(asked(None, [3, BLOCK + 5], Network()), first)


def test_nothing_is_computed_twice_and_another_network_has_its_own(tmp_path: Path) -> None:
    network = Network()
    asked(tmp_path, [1], network)
    asked(tmp_path, [2, 5], network)
    assert len(network.seen) == BLOCK
    asked(tmp_path, [1], network, {"net": 2})
    assert len(network.seen) == 2 * BLOCK


def test_of_two_jobs_at_once_one_computes_a_block_and_the_other_takes_it(tmp_path: Path) -> None:
    slow, other = Network(), Network()
    slow.may_go.clear()
    found: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: found.append(asked(tmp_path, [1], slow)))
    thread.start()
    assert slow.entered.wait(20)
    late = threading.Thread(target=lambda: found.append(asked(tmp_path, [1, BLOCK + 1], other)))
    late.start()
    assert other.entered.wait(20)
    slow.may_go.set()
    thread.join(20)
    late.join(20)
    assert len(found) == 2
    assert slow.seen == list(range(BLOCK))
    assert other.seen == list(range(BLOCK, BLOCK + 70))


@pytest.mark.parametrize("damage", ["cut", "bytes", "empty", "other"])
def test_a_file_that_is_not_what_was_written_is_computed_again(tmp_path: Path, damage: str) -> None:
    network = Network()
    good = asked(tmp_path, [1], network)
    (file,) = tmp_path.glob("*/*.npz")
    whole = bytearray(file.read_bytes())
    if damage == "other":
        np.savez(file, features=good + 1, sha256=np.array("0"))
    else:
        whole[300] ^= 255
        file.write_bytes({"cut": whole[:100], "bytes": whole, "empty": b""}[damage])
    assert np.array_equal(asked(tmp_path, [1], network), good)
    assert len(network.seen) == 2 * BLOCK
    assert not list(tmp_path.glob("*/.*"))


# --- what may be looked at ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chexpert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chexpert(tmp_path_factory.mktemp("made"), patients_train=30, patients_valid=12, px=32).root


def opened(root: Path, cache: Path, draw: Mapping[str, Any], closed: str = "test") -> Access:
    made = {"card": "chexpert"}
    return open_data(made, draw, roots=lambda place: root / "CheXpert-v1.0-small", cache=cache, is_open=lambda split: split != closed)


def parts(data: Access, split: str) -> list[set[str]]:
    return [set(part.images.tolist()) for part in data.parts(data.rows(split))]


def looked_at(data: Access, rows: Rows) -> set[int]:
    store, seen = data.images(24), set[int]()

    def compute(positions: np.ndarray) -> np.ndarray:
        seen.update(positions.tolist())
        return np.array([[store.image(position).mean()] for position in positions.tolist()], np.float32)

    features_of(data, rows, 24, exact=False, network={}, compute=compute)
    return seen


def test_a_draw_shares_the_pool_of_its_split_and_no_other(chexpert: Path, tmp_path: Path) -> None:
    data = opened(chexpert, tmp_path, {"scheme": "fraction", "fraction": 0.2, "by": "patient"})
    whole = opened(chexpert, tmp_path, {"scheme": "fraction", "fraction": 1.0})
    rows = data.rows("train")
    (pool,) = parts(data, "train")
    assert pool == set(whole.rows("train").images.tolist()) > set(rows.images.tolist())
    assert looked_at(data, rows) == set(whole.rows("train").position.tolist())
    assert data.pooled() == {"train": len(pool)}
    with pytest.raises(SplitClosed):
        data.rows("test")
    test = opened(chexpert, tmp_path, {"fraction": 1.0}, closed="").rows("test")
    with pytest.raises(SplitClosed):
        data.images(24).image(int(test.position[0]))


@pytest.mark.parametrize("draw", [{"scheme": "kfold", "folds": 4, "fold": 1}, {"scheme": "leave_pair_out", "fold": 3}])
def test_folds_share_what_is_not_held_out_alone(chexpert: Path, tmp_path: Path, draw: dict[str, Any]) -> None:
    data = opened(chexpert, tmp_path, draw, closed="held_out")
    rows = data.rows("train")
    assert looked_at(data, rows) == set(rows.position.tolist())
    assert len(parts(data, "train")) > 1
    after = opened(chexpert, tmp_path, draw, closed="")
    held = after.rows("held_out")
    assert set().union(*parts(after, "held_out")) == set(held.images.tolist())
    # Another fold finds what this one computed in the same files: of its training rows only those held out here are new.
    other = opened(chexpert, tmp_path, {**draw, "fold": draw["fold"] + 1}, closed="held_out")
    assert looked_at(other, other.rows("train")) <= set(held.position.tolist())


def test_rows_that_were_not_handed_out_have_no_parts(tmp_path: Path) -> None:
    data = access(tmp_path, np.array([1]))
    with pytest.raises(ValueError, match="not handed out"):
        data.parts(ROWS)
