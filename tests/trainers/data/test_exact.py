"""Exact views against torchvision's own transforms on the RGB images that the originals open."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import functional

from trainers.data import exact, transforms
from trainers.data.images import FileStore, Gallery, PreparedStore, open_store
from trainers.data.streams import uniform

SHAPES = [(390, 320), (320, 391), (257, 257), (101, 230), (64, 64), (40, 33)]
PX = 64


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    files = [tmp_path / f"{number}.jpg" for number in range(len(SHAPES))]
    for number, (file, shape) in enumerate(zip(files, SHAPES, strict=True)):
        pixels = cv2.resize(np.random.default_rng(number).integers(0, 256, (12, 10), dtype=np.uint8), shape[::-1])
        cv2.imwrite(str(file), pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return Gallery(card="toy", names=[file.name for file in files], files=files, exact=True)


def test_views_are_torchvisions_pixel_for_pixel(gallery: Gallery) -> None:
    augment, store = transforms.AUGMENTS["cxr_paper_exact"], FileStore(gallery, PX)
    positions = np.arange(len(SHAPES))
    for epoch in range(8):
        found = transforms.batch(store, positions, PX, augment, seed=3, epoch=epoch)
        draws = uniform(8, seed=3, epoch=epoch, positions=positions)
        for position, (flip, angle, _, _, x, y, *_) in zip(positions, draws, strict=True):
            picture = functional.resize(Image.open(gallery.files[position]).convert("RGB"), [PX])
            picture = functional.hflip(picture) if flip < 0.5 else picture
            picture = functional.rotate(picture, 10.0 * (2 * angle - 1))
            width, height = picture.size
            picture = functional.crop(picture, int(y * (height - PX + 1)), int(x * (width - PX + 1)), PX, PX)
            for channel in np.moveaxis(np.asarray(picture), 2, 0):
                np.testing.assert_array_equal(found[position, 0], channel)


def test_the_centre_is_torchvisions_pixel_for_pixel(gallery: Gallery) -> None:
    found = transforms.plain(FileStore(gallery, PX), np.arange(len(SHAPES)), PX, as_published=True)
    for position, file in enumerate(gallery.files):
        picture = functional.center_crop(functional.resize(Image.open(file).convert("L"), [PX]), [PX, PX])
        np.testing.assert_array_equal(found[position, 0], np.asarray(picture))


def test_exact_images_have_a_cache_of_their_own(gallery: Gallery, tmp_path: Path) -> None:
    plain = Gallery(card="toy", names=gallery.names, files=gallery.files)
    assert plain.key(PX) != gallery.key(PX)
    one, other = open_store(gallery, PX, tmp_path / "cache"), open_store(plain, PX, tmp_path / "cache")
    assert isinstance(one, PreparedStore)
    np.testing.assert_array_equal(one.image(0), exact.resized(cv2.imread(str(gallery.files[0]), cv2.IMREAD_GRAYSCALE), PX))
    assert (one.image(0) != other.image(0)).any()


def test_what_has_no_exact_way_is_refused() -> None:
    with pytest.raises(ValueError, match="no exact way to draw"):
        transforms.Augment(exact=True, brightness=0.2)
