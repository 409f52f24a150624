"""Boxes and peaks beside the boxes of a card: means by hand, places in the file, and the gate of the split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.trainers.ag_cnn.made_lesions import TINY, made_lesions, setup_of
from tests.trainers.made_data import LABELS, MemoryStore
from trainers.ag_cnn import train
from trainers.data.access import Access
from trainers.data.regions import Boxes, boxes_from
from trainers.errors import DataError, SplitClosed
from trainers.localisation import Located, agreement, localisation


def with_boxes(boxes: Any, side: int = 256) -> Access:
    """Open made lesions whose files have a side of `side`, with boxes."""
    data = made_lesions()
    data._boxes = boxes
    plain = data._store
    data._store = lambda px, **kind: MemoryStore(plain(px).images, [(side, side)] * 60)  # pyright: ignore[reportAttributeAccessIssue]
    return data


def test_means_are_those_by_hand() -> None:
    rows = made_lesions().rows("train").take(np.arange(3))
    names = rows.images.tolist()
    # Two boxes in the first image, of which the second agrees better; another label's in the second; none in the third.
    boxes = boxes_from([names[0], names[0], names[1]], ["signal", "signal", "noise"], [[0, 0, 10, 10], [10, 0, 30, 20], [0, 0, 4, 4]])
    found = Located(
        boxes=np.array([[[10, 10, 20, 20]], [[0, 0, 8, 2]], [[0, 0, 1, 1]]], float), peaks=np.array([[[12, 5]], [[7, 1]], [[0, 0]]], float)
    )
    signal = agreement(found, rows, boxes, "signal", 0)
    assert signal == {"images": 1, "iou": pytest.approx(100 / 400), "iobb": 1.0, "pointing": 1.0}
    noise = agreement(found, rows, boxes, "noise", 1)
    assert noise == {"images": 1, "iou": pytest.approx(8 / 24), "iobb": 0.5, "pointing": 0.0}
    # Moved by the same amount, all of them agree as before; a box that is its own twin agrees wholly.
    moved = Located(boxes=found.boxes + 7, peaks=found.peaks + 7)
    assert agreement(moved, rows, boxes_from(boxes.images.tolist(), boxes.labels.tolist(), boxes.corners + 7), "signal", 0) == signal
    twin = Located(boxes=np.repeat(boxes.corners[:1, None], 3, 0), peaks=found.peaks)
    assert agreement(twin, rows, boxes, "signal", 0)["iou"] == 1


def test_places_are_in_pixels_of_the_file() -> None:
    # At 32 px the map has one pixel, and the box is all that the network sees.
    data = with_boxes(lambda: boxes_from([], [], []))
    method = train.build(setup_of(TINY, data=data))
    found = method.located(data.rows("test"))
    assert found is not None
    np.testing.assert_array_equal(found.boxes[:, 0], [[0, 0, 256, 256]] * len(found.boxes))
    np.testing.assert_array_equal(found.peaks[:, 0], [[4, 4]] * len(found.peaks))


def test_boxes_of_a_shut_split_stay_shut_and_missing_ones_are_named() -> None:
    def broken() -> Boxes:
        raise DataError("no BBox_List_2017.csv")

    data = with_boxes(broken)
    rows = made_lesions().rows("test")
    with pytest.raises(SplitClosed, match="boxes of image 48"):
        data.boxes(rows)
    method = train.build(setup_of(TINY, data=data))
    opened = data.rows("test")
    found = localisation(method, data, opened, LABELS, "test/lesions")
    assert found == {"localisation": {"status": "boxes cannot be read", "why": "no BBox_List_2017.csv"}}
    data._boxes = lambda: boxes_from(["elsewhere"], ["signal"], [[0, 0, 1, 1]])
    assert localisation(method, data, opened, LABELS, "x")["localisation"]["status"] == "no image of this split has a box"
    assert localisation(object(), data, opened, LABELS, "x") == {}
    data._boxes = None
    assert localisation(method, data, opened, LABELS, "x") == {}


def test_a_result_names_every_label_with_boxes() -> None:
    names = made_lesions().rows("test").images.tolist()
    data = with_boxes(lambda: boxes_from(names[:3], ["signal"] * 3, [[0, 0, 128, 256]] * 3))
    method = train.build(setup_of(TINY, data=data))
    found = localisation(method, data, data.rows("test"), LABELS, "test/lesions")
    assert found["localisation"]["labels"] == {"signal": {"images": 3, "iou": 0.5, "iobb": 0.5, "pointing": 1.0}}
    assert found["metrics"] == {"test/lesions/iou/signal": 0.5, "test/lesions/iobb/signal": 0.5, "test/lesions/pointing/signal": 1.0}
