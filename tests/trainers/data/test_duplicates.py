"""Images that are the same: fingerprints of copies and of others, and the search among all pairs."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from trainers.data.duplicates import MOST_PAIRS, near, pairs
from trainers.data.fingerprints import BITS, LEAST_CORRELATION, MOST_DIFFERENT_BITS, correlation, fingerprint
from trainers.data.phantom.parameters import parameters_from
from trainers.data.phantom.patients import studies
from trainers.data.phantom.render import render


@pytest.fixture(scope="module")
def chests() -> list[np.ndarray]:
    """Return made frontal radiographs of two sources, of two studies a patient where there are two."""
    found: list[np.ndarray] = []
    for source in (0, 3):
        parameters = parameters_from({"patients_train": 12, "patients_valid": 0, "px": 128, "source": source, "seed": source + 1})
        found += [render(study, "frontal", px=128).image for study in studies(parameters) if "frontal" in study.views]
    return found


def bits_between(one: np.ndarray, other: np.ndarray) -> int:
    first, second = fingerprint(one), fingerprint(other)
    assert first is not None and second is not None
    return int(np.bitwise_count(first ^ second).sum())


def encoded(image: np.ndarray, suffix: str, *options: int) -> np.ndarray:
    decoded = cv2.imdecode(cv2.imencode(suffix, image, list(options))[1], cv2.IMREAD_GRAYSCALE)
    assert decoded is not None
    return decoded


def windowed(image: np.ndarray) -> np.ndarray:
    low, high = np.percentile(image, [2, 98])
    return (np.clip((image - low) / max(high - low, 1), 0, 1) * 255).astype(np.uint8)


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "jpeg": lambda image: encoded(image, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 75),
    "png": lambda image: encoded(image, ".png"),
    "smaller": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "larger": lambda image: cv2.resize(image, None, fx=2.5, fy=2.5, interpolation=cv2.INTER_CUBIC),
    "squeezed": lambda image: cv2.resize(image, (96, 128), interpolation=cv2.INTER_LINEAR),
    "12 bits to 8": lambda image: (image.astype(np.int32) * 16 + 7 >> 4).astype(np.uint8),
    "windowed": windowed,
    "brighter": lambda image: (255 * (image / 255) ** 0.7).astype(np.uint8),
    "equalised": cv2.equalizeHist,
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_found(chests: list[np.ndarray], kind: str) -> None:
    for image in chests:
        copy = COPIES[kind](image)
        assert bits_between(image, copy) <= MOST_DIFFERENT_BITS
        assert correlation(image, copy) >= LEAST_CORRELATION


def test_no_two_chests_are_the_same(chests: list[np.ndarray]) -> None:
    prints = np.array([fingerprint(image) for image in chests])
    assert len(prints) >= 24
    assert not pairs(prints, prints, lambda one, other: (chests[one], chests[other]), within=True)


def test_an_image_of_one_grey_has_no_fingerprint() -> None:
    assert fingerprint(np.full((50, 40), 7, np.uint8)) is None
    assert correlation(np.full((50, 40), 7, np.uint8), np.eye(50, dtype=np.uint8) * 255) == 0


def random_prints(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, (count, 4), dtype=np.uint64)


def flipped(bits: np.ndarray, count: int, seed: int) -> np.ndarray:
    plain = np.unpackbits(bits.view(np.uint8))
    plain[np.random.default_rng(seed).choice(BITS, count, replace=False)] ^= 1
    return np.packbits(plain).view(np.uint64)


def test_all_near_pairs_are_found_and_no_others() -> None:
    first, second = random_prints(70, 1), random_prints(9000, 2)
    for at, (where, count) in enumerate([(5, 0), (8191, 39), (8192, 40), (8999, 41), (44, 90)]):
        second[where] = flipped(first[at * 15], count, at)
    one, other = (np.unpackbits(prints.view(np.uint8), axis=1) for prints in (first, second))
    distance = one.astype(np.int32) @ (1 - other.T.astype(np.int32)) + (1 - one.astype(np.int32)) @ other.T.astype(np.int32)
    expected = [(int(row), int(column), int(distance[row, column])) for row, column in np.argwhere(distance <= MOST_DIFFERENT_BITS)]
    assert {(0, 5, 0), (15, 8191, 39), (30, 8192, 40)} == set(expected)
    assert sorted(near(first, second)) == sorted(expected)
    assert len(list(near(first, second, most=130))) == int((distance <= 130).sum())


def test_candidates_are_looked_at_and_the_search_ends() -> None:
    prints = np.repeat(random_prints(1, 3), 200, axis=0)
    noise = np.random.default_rng(0).integers(0, 256, (2, 64, 64), dtype=np.uint8)
    assert not pairs(prints, prints, lambda one, other: (noise[0], noise[1]), within=True)
    found = pairs(prints, prints, lambda one, other: (noise[0], noise[0]), within=True)
    assert len(found) == MOST_PAIRS < 200 * 199 // 2
    assert all(pair.first < pair.second for pair in found)
