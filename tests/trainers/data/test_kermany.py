from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from trainers.data.cards import load_card
from trainers.data.draws import folds, select
from trainers.data.index import label_digests, read_index
from trainers.data.splits import split_of
from trainers.errors import DataError

CARD = load_card("kermany16")
ROOT = CARD.shipped_root
assert ROOT is not None


def test_the_shipped_images_are_eight_and_eight() -> None:
    rows = read_index(CARD, ROOT)
    assert len(rows) == 16
    assert rows.labels[:, 0].sum() == 8
    normal = rows.labels[:, 0] == 0
    assert len(np.unique(rows.patients[normal])) == 8
    assert len(np.unique(rows.patients[~normal])) == 7
    assert (rows.patients == "person1946").sum() == 2
    assert set(split_of(CARD, rows)) == {"train"}
    assert (ROOT / "ATTRIBUTION.md").read_text(encoding="utf-8").count("CC BY 4.0") == 1


def test_every_pair_of_a_normal_and_a_sick_patient_is_left_out_once() -> None:
    rows = read_index(CARD, ROOT)
    count = folds(CARD, ROOT, {"scheme": "leave_pair_out", "by": "patient"})
    assert count == 56
    pairs = set()
    for fold in range(count):
        drawn = select(rows, {"scheme": "leave_pair_out", "by": "patient", "fold": fold}, CARD.primary, CARD.policies)
        assert drawn.held_out is not None
        patients = sorted(set(drawn.held_out.patients.tolist()))
        assert len(patients) == 2
        assert not set(patients) & set(drawn.rows.patients.tolist())
        assert len(drawn.rows) + len(drawn.held_out) == 16
        assert set(drawn.held_out.labels[:, 0]) == {0.0, 1.0}
        pairs.add(tuple(patients))
    assert len(pairs) == 56


def test_a_fold_too_far() -> None:
    with pytest.raises(DataError, match="56 is not below 56"):
        select(read_index(CARD, ROOT), {"scheme": "leave_pair_out", "fold": 56}, CARD.primary)


def test_the_digest_covers_names_and_contents(tmp_path: Path) -> None:
    before = label_digests(CARD, ROOT)
    copy = tmp_path / "copy"
    shutil.copytree(ROOT, copy)
    assert label_digests(CARD, copy) == before
    first = min(copy.glob("*.jpg"))
    renamed = first.rename(copy / "NORMAL2-IM-9999-0001.jpg")
    assert label_digests(CARD, copy) != before
    renamed.rename(first)
    first.write_bytes(first.read_bytes() + b"\0")
    assert label_digests(CARD, copy) != before


def test_a_name_that_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "chest.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"chest\.jpg: the name says neither normal"):
        read_index(CARD, tmp_path)


def test_the_names_of_the_full_release_are_understood(tmp_path: Path) -> None:
    for name in ("IM-0115-0001.jpg", "person1_virus_6.jpg", "NORMAL2-IM-0007-0001-0002.jpg"):
        (tmp_path / name).write_bytes(b"")
    rows = read_index(CARD, tmp_path)
    assert dict(zip(rows.patients.tolist(), rows.labels[:, 0].tolist(), strict=True)) == {"IM-0115": 0.0, "person1": 1.0, "IM-0007": 0.0}
