"""What student and teacher see: one geometry, of which the teacher has no light; or the whole image."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from tests.trainers.made_data import MemoryStore
from trainers.ark.views import Look, levels, motion, views
from trainers.data import windows
from trainers.data.streams import uniform

N, SIDE, PX = 200, 48, 32


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (N, 6, 6)).astype(np.uint8)
    images = np.stack([cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for image in coarse])
    return MemoryStore(images, [(SIDE, SIDE)] * N)


def seen(store: MemoryStore, *, epoch: int = 0, seed: int = 1, source: int = 5, **look: Any) -> np.ndarray:
    return views(store, np.arange(N), Look(px=PX, augment=look.pop("augment", "ark"), **look), seed=seed, epoch=epoch, source=source)[:, 0]


def draws_of(seed: int = 1, epoch: int = 0, source: int = 5) -> np.ndarray:
    return uniform(windows.COLUMNS + 10, seed=seed, epoch=epoch, positions=np.arange(N), view=source)


def test_student_and_teacher_have_one_geometry_and_the_student_alone_has_light(store: MemoryStore) -> None:
    student, teacher = seen(store), seen(store, teacher="bilinear")
    lit = draws_of()[:, windows.COLUMNS + 5] < 0.3
    assert 0.2 < lit.mean() < 0.4
    assert np.array_equal(student[~lit], teacher[~lit])
    different = np.array([not np.array_equal(a, b) for a, b in zip(student[lit], teacher[lit], strict=True)])
    assert different.mean() > 0.9
    # What light does is one table of grey levels.
    for index in np.flatnonzero(lit)[:10]:
        assert np.array_equal(student[index], cv2.LUT(teacher[index], levels(draws_of()[index])))


def test_as_published_the_teachers_pixels_come_by_nearest_neighbour(store: MemoryStore) -> None:
    nearest, bilinear = seen(store, teacher="nearest"), seen(store, teacher="bilinear")
    for index in range(20):
        assert set(np.unique(nearest[index])) <= set(np.unique(store.images[index]))
    distance = np.abs(nearest.astype(int) - bilinear.astype(int)).mean()
    assert 0 < distance < 12


def test_windows_are_8_to_100_percent_and_half_of_them_move(store: MemoryStore) -> None:
    draws = draws_of()
    cuts = windows.windows(np.full((N, 2), SIDE), (0.08, 1.0), (3 / 4, 4 / 3), draws)
    share = cuts[:, 2] * cuts[:, 3] / SIDE**2
    assert share.min() < 0.15 and share.max() > 0.85
    still = draws[:, windows.COLUMNS] >= 0.5
    assert 0.4 < still.mean() < 0.6
    teacher = seen(store, teacher="bilinear")
    for index in np.flatnonzero(still)[:20]:
        top, left, tall, wide = cuts[index]
        window = store.images[index, top : top + tall, left : left + wide]
        assert np.array_equal(teacher[index], cv2.resize(window, (PX, PX), interpolation=cv2.INTER_LINEAR))


def test_the_motion_is_within_its_bounds() -> None:
    for some in draws_of():
        matrix = motion(PX, some)
        zoom = float(np.hypot(matrix[0, 0], matrix[0, 1]))
        angle = float(np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0])))
        assert 0.9 <= zoom <= 1.1 and abs(angle) <= 10
        centre = matrix @ np.array([PX / 2, PX / 2, 1.0])
        assert np.abs(centre - PX / 2).max() <= 0.0625 * PX + 1e-9


def test_ark_plus_shows_the_teacher_the_whole_image(store: MemoryStore) -> None:
    whole = seen(store, teacher="whole")
    assert np.array_equal(whole, seen(store, teacher="whole", epoch=3, seed=9))
    assert np.array_equal(whole[0], cv2.resize(store.images[0], (PX, PX), interpolation=cv2.INTER_AREA))


def test_our_views_keep_the_geometry_too(store: MemoryStore) -> None:
    student, teacher = seen(store, augment="plus"), seen(store, augment="plus", teacher="bilinear")
    correlation = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(student, teacher, strict=True)]
    assert min(correlation) > 0.8 and not np.array_equal(student, teacher)


def test_views_are_a_function_of_seed_epoch_source_and_position(store: MemoryStore) -> None:
    first = seen(store)
    assert np.array_equal(first, seen(store))
    for other in (seen(store, seed=2), seen(store, epoch=1), seen(store, source=6)):
        assert not np.array_equal(first, other)
    some = views(store, np.array([7, 3]), Look(px=PX, augment="ark"), seed=1, epoch=0, source=5)[:, 0]
    assert np.array_equal(some, first[[7, 3]])
