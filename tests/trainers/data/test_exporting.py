"""Rows as lines of their own label files, in each layout whose lines name images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainers.data.cards import Card, load_card
from trainers.data.exporting import has_columns, text_of
from trainers.data.index import label_paths
from trainers.data.located import Located
from trainers.data.phantom.layout import write_made
from trainers.data.phantom.parameters import parameters_from

CARDS = ("chexpert", "chestxray14", "padchest", "siim", "vindr_kaggle")


def made(card: Card, folder: Path) -> Located:
    layout = str(card.made.get("layout", card.reader))
    write_made(folder, parameters_from({"patients_train": 14, "patients_valid": 4, "px": 32}), layout)
    return Located(card=card, root=folder)


@pytest.mark.parametrize("name", CARDS)
def test_exported_rows_read_back_are_the_same_rows(name: str, tmp_path: Path) -> None:
    card = replace(load_card(name), label_policies={}, sha256={})
    place = made(card, tmp_path / "made")
    rows = place.index()
    assert has_columns(place) and place.root is not None
    file = next(paths[0] for entry, paths in label_paths(card, place.root).items() if entry in card.label_files)
    # Rows of one file, as those of a draw are.
    first = set(text_of(place, rows).splitlines())
    kept = rows.take(np.arange(0, len(rows), 2))
    text = text_of(place, kept)
    header, *lines = text.splitlines()
    original = file.read_text(encoding="utf-8").splitlines()
    assert header == original[0] and lines and len(lines) < len(original) - 1
    assert set(lines) <= first
    for other in label_paths(card, place.root).values():
        for path in other:
            if path != file and path.suffix == ".csv":
                path.write_text(path.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    file.write_text(text, encoding="utf-8")
    back = place.index()
    assert back.images.tolist() == kept.images.tolist()
    assert np.array_equal(back.labels, kept.labels, equal_nan=True)
    assert back.patients.tolist() == kept.patients.tolist()


def test_a_layout_without_a_line_an_image_gives_a_table_of_ours(tmp_path: Path) -> None:
    place = Located(card=load_card("kermany16"), root=load_card("kermany16").shipped_root)
    header, *lines = text_of(place, place.index()).splitlines()
    assert header == "image,patient,study,view,pneumonia" and len(lines) == 16
    assert lines[0].endswith(",frontal,0")
