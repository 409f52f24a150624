"""What a check finds on disk: counts, sizes, images that are the same within a card and between training and tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.trainers.data.layouts import write_chexpert
from trainers.data import looking
from trainers.data.cards import card_digest, load_card
from trainers.data.images import Gallery, prepare
from trainers.data.located import Located, locate
from trainers.data.looking import look
from trainers.data.verify import Check, Role

CARD = load_card("chexpert")


def smooth(root: Path, seed: int = 0) -> Path:
    """Give every image of a data set clouds of its own, as coarse as a chest is; noise would not survive a change of size."""
    rng = np.random.default_rng(seed)
    for file in sorted(root.rglob("*.jpg")):
        clouds = rng.normal(size=(12, 12))
        image = cv2.resize(clouds, (100, 90), interpolation=cv2.INTER_CUBIC) * 40 + 128
        cv2.imwrite(str(file), np.clip(image, 0, 255).astype(np.uint8))
    return root


@pytest.fixture
def chexpert(tmp_path: Path) -> Path:
    return smooth(write_chexpert(tmp_path / "CheXpert-v1.0-small"))


def located(root: Path, **changes: object) -> Located:
    return locate(replace(CARD, **{"counts": {}, **changes}), lambda _: root)  # type: ignore[arg-type]


def checked(place: Located, sample: int | None = None) -> Check:
    check = Check()
    check.card(place, sample)
    return check


def said(check: Check, level: str) -> list[str]:
    return [one.text for one in check.findings if one.level == level]


def copy_of(source: Path, target: Path) -> None:
    """Save an image again, larger and brighter, as anybody's conversion might."""
    image = cv2.imread(str(source), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    larger = cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_LINEAR)
    cv2.imwrite(str(target), (255 * (larger / 255) ** 0.8).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 95])


def test_a_test_image_that_is_a_training_image_is_an_error(chexpert: Path) -> None:
    copy_of(chexpert / "train/patient00004/study1/view1_frontal.jpg", chexpert / "valid/patient01002/study1/view2_lateral.jpg")
    check = checked(located(chexpert))
    (error,) = said(check, "error")
    assert error.startswith(
        "copies: 1 pairs of images in two splits are the same: train/patient00004/study1/view1_frontal.jpg (train) = "
        "valid/patient01002/study1/view2_lateral.jpg (test); leave them out by a list"
    ), error
    (pair,) = check.copies[0].pairs
    assert (pair.first.patient, pair.second.patient, pair.second.split) == ("patient00004", "patient01002", "test")


def test_copies_within_a_split_are_told_apart_by_patient(chexpert: Path) -> None:
    first = chexpert / "train/patient00004/study1"
    copy_of(first / "view1_frontal.jpg", first / "view2_lateral.jpg")
    assert "copies: 1 pairs of images of one patient in one split are the same" in said(checked(located(chexpert)), "ok")
    copy_of(first / "view1_frontal.jpg", chexpert / "train/patient00005/study1/view1_frontal.jpg")
    (warning,) = [text for text in said(checked(located(chexpert)), "warning") if text.startswith("copies")]
    assert warning.startswith("copies: 2 pairs of images of two patients in one split are the same: train/patient00004")


def test_a_sample_looks_for_no_copies_and_says_so(chexpert: Path) -> None:
    check = checked(located(chexpert), sample=5)
    assert "copies: not looked for in a sample; --all opens every image" in said(check, "ok") and not check.copies


def test_the_numbers_of_the_release_are_compared(chexpert: Path) -> None:
    counts = {"all": {"images": 40, "patients": 16}, "test": {"images": 8}}
    warnings = said(checked(located(chexpert, counts=counts)), "warning")
    assert "all: 32 images, and the release has 40: is it whole, and the version that the card is for?" in warnings
    assert not any("patients, and the release" in text or text.startswith("test: 8") for text in warnings)


def test_other_sizes_than_the_release_s_are_said(chexpert: Path) -> None:
    cv2.imwrite(str(chexpert / "valid/patient01001/study1/view1_frontal.jpg"), np.arange(600, dtype=np.uint8).reshape(20, 30))
    warnings = said(checked(located(chexpert, image_size=(90, 100))), "warning")
    (size,) = [text for text in warnings if "pixels" in text]
    assert size.startswith("1 images are not of 90x100 pixels: ") and size.endswith("valid/patient01001/study1/view1_frontal.jpg has 20x30")
    assert not any("pixels" in text for text in said(checked(located(chexpert)), "warning"))


def test_images_of_one_grey_are_said_and_are_no_copies(chexpert: Path) -> None:
    for name in ("train/patient00004/study1/view1_frontal.jpg", "valid/patient01001/study1/view1_frontal.jpg"):
        cv2.imwrite(str(chexpert / name), np.zeros((20, 26), np.uint8))
    check = checked(located(chexpert))
    assert any(text.startswith("2 images are of one grey") for text in said(check, "warning")) and not said(check, "error")


def test_facts_of_the_release_are_in_no_id() -> None:
    assert card_digest(CARD) == card_digest(replace(CARD, counts={}, image_size=(1, 1)))


# --- training against tests


def roles(tmp_path: Path) -> tuple[Role, Role, Path]:
    ours, theirs = smooth(write_chexpert(tmp_path / "ours")), smooth(write_chexpert(tmp_path / "theirs", patients=6), seed=5)
    trained = Role(name="ours", splits=("train", "val"), place=located(ours, name="ours"))
    return trained, Role(name="theirs", splits=("test",), place=located(theirs, name="theirs")), theirs


def test_test_images_among_training_images_of_another_card(tmp_path: Path) -> None:
    trained, tested, theirs = roles(tmp_path)
    check = Check(cache=tmp_path / "cache")
    check.against(trained, tested)
    assert said(check, "ok") == ["no image of theirs (test) among images that training on 'ours' opens (8 and 24 looked at)"]
    copy_of(tmp_path / "ours/train/patient00002/study1/view1_frontal.jpg", theirs / "valid/patient01003/study1/view1_frontal.jpg")
    # A copy of an image that training never opens is none of its business.
    copy_of(tmp_path / "ours/valid/patient01002/study1/view1_frontal.jpg", theirs / "valid/patient01004/study1/view1_frontal.jpg")
    again = Check(cache=tmp_path / "cache")
    again.against(trained, tested)
    (error,) = said(again, "error")
    assert error.startswith("1 images of theirs (test) among images that training on 'ours' opens: train/patient00002")


def test_images_that_are_decoded_already_are_taken_and_files_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, tested, theirs = roles(tmp_path)
    copy_of(tmp_path / "ours/train/patient00002/study1/view1_frontal.jpg", theirs / "valid/patient01003/study1/view1_frontal.jpg")
    names = trained.place.index().images.tolist()
    prepare(Gallery(card="ours", names=names, files=trained.place.files(names)), 64, tmp_path / "cache")
    opened: list[Path] = []
    real = looking.read_gray

    def counting(path: Path, bits: int) -> np.ndarray:
        opened.append(path)
        return real(path, bits)

    monkeypatch.setattr(looking, "read_gray", counting)
    check = Check(cache=tmp_path / "cache")
    check.against(trained, tested)
    assert len(opened) == 8 and all(path.is_relative_to(theirs) for path in opened)
    (error,) = said(check, "error")
    assert error.startswith("1 images of theirs (test) among images that training on 'ours' opens: train/patient00002")


def test_what_is_known_is_not_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted(write_chexpert(tmp_path / "set").rglob("*.jpg"))
    files[3].write_bytes(b"")
    opened: list[Path] = []
    real = looking.read_gray

    def counting(path: Path, bits: int) -> np.ndarray:
        opened.append(path)
        return real(path, bits)

    monkeypatch.setattr(looking, "read_gray", counting)
    steps: list[tuple[int, int]] = []
    first = look(files, tmp_path / "cache", lambda done, total: steps.append((done, total)))
    assert len(opened) == 32 and list(first.broken) == [3] and steps[-1] == (32, 32)
    opened.clear()
    cv2.imwrite(str(files[7]), np.zeros((9, 9), np.uint8))
    second = look(files, tmp_path / "cache", again=False)
    assert sorted(opened) == [files[3], files[7]]
    assert np.array_equal(np.delete(first.prints, 7, 0), np.delete(second.prints, 7, 0)) and not second.shown[7]
    opened.clear()
    look(files, tmp_path / "cache")
    assert len(opened) == 32
    for file in (tmp_path / "cache").rglob("*.npz"):
        file.write_bytes(b"torn")
    assert np.array_equal(look(files, tmp_path / "cache", again=False).prints, second.prints)
