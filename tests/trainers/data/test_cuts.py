"""What is predicted of an image: centre and ten crops against torchvision's own transforms."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from torchvision import transforms as torchvision

from tests.trainers.made_data import MemoryStore
from trainers.data import cuts, transforms
from trainers.data.images import FileStore, Gallery
from trainers.data.sides import side_of

PX, SIDE = 56, 64
SHAPES = [(390, 320), (320, 391), (257, 257), (101, 230), (64, 64)]


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    files = [tmp_path / f"{number}.png" for number in range(len(SHAPES))]
    for number, (file, shape) in enumerate(zip(files, SHAPES, strict=True)):
        cv2.imwrite(str(file), cv2.resize(np.random.default_rng(number).integers(0, 256, (12, 10), dtype=np.uint8), shape[::-1]))
    return Gallery(card="toy", names=[file.name for file in files], files=files, exact=True)


def test_ten_crops_are_corners_and_centre_and_those_of_the_mirror_image_at_0_16_and_32() -> None:
    image = np.arange(256 * 256, dtype=np.uint32).reshape(256, 256).astype(np.uint8)
    image[:, 0], image[0, :] = 7, 9
    views = cuts.cut(MemoryStore(image[None], [(256, 256)]), np.array([0]), cuts.Cut(px=224, ten=True))
    mirrored = image[:, ::-1]
    corners = [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]
    expected = [side[top : top + 224, left : left + 224] for side in (image, mirrored) for top, left in corners]
    np.testing.assert_array_equal(views[:, 0, 0], expected)


@pytest.mark.parametrize("squashed", [False, True])
def test_exact_ten_crops_are_torchvisions(gallery: Gallery, squashed: bool) -> None:
    store = FileStore(gallery, SIDE)
    views = cuts.cut(store, np.arange(len(SHAPES)), cuts.Cut(px=PX, squashed=squashed, ten=True, exact=True))
    assert views.shape == (10, len(SHAPES), 1, PX, PX)
    for position in range(len(SHAPES)):
        picture = Image.fromarray(store.image(position))
        picture = torchvision.Resize((SIDE, SIDE))(picture) if squashed else picture
        for found, wanted in zip(views[:, position, 0], torchvision.TenCrop(PX)(picture), strict=True):
            np.testing.assert_array_equal(found, np.asarray(wanted))


def test_a_squashed_image_is_nearly_what_one_resize_of_the_file_gives(gallery: Gallery) -> None:
    """Ours goes by way of the store, whose short side is the same: the published recipe resizes the file once."""
    views = cuts.cut(FileStore(gallery, SIDE), np.arange(len(SHAPES)), cuts.Cut(px=PX, squashed=True, exact=True))
    for position, file in enumerate(gallery.files):
        wanted = np.asarray(torchvision.CenterCrop(PX)(torchvision.Resize((SIDE, SIDE))(Image.open(file))))
        assert np.abs(views[0, position, 0].astype(int) - wanted).mean() < 2.5


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("squashed", [False, True])
def test_the_centre_is_the_fifth_crop_and_of_a_store_of_the_views_size_what_it_always_was(
    gallery: Gallery, exact: bool, squashed: bool
) -> None:
    positions = np.arange(len(SHAPES))
    how = cuts.Cut(px=PX, squashed=squashed, exact=exact)
    ten = cuts.cut(FileStore(gallery, SIDE), positions, cuts.Cut(px=PX, squashed=squashed, exact=exact, ten=True))
    np.testing.assert_array_equal(cuts.cut(FileStore(gallery, SIDE), positions, how)[0], ten[4])
    if not squashed:
        store = FileStore(gallery, PX)
        np.testing.assert_array_equal(cuts.cut(store, positions, how)[0], transforms.plain(store, positions, PX, as_published=exact))


@pytest.mark.parametrize(
    ("px", "crop_pct", "side"), [(224, 0.875, 256), (224, 1.0, 224), (64, 0.875, 73), (32, 0.875, 36), (320, 0.7, 457)]
)
def test_the_side_is_timms(px: int, crop_pct: float, side: int) -> None:
    assert side_of(px, crop_pct) == side
