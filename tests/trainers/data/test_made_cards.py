"""Every card that data is made for: its layout is written, read back by its reader, split, and opened down to pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainers.data.cards import Card, list_cards, load_card
from trainers.data.located import Located, locate
from trainers.data.open import open_data
from trainers.data.phantom.layout import Made, write_made
from trainers.data.phantom.parameters import PhantomParameters, parameters_from
from trainers.data.verify import verify_card

CARDS = {name: load_card(name) for name in list_cards()}
MADE = sorted(name for name, card in CARDS.items() if card.made.get("generator") == "phantom" and not card.members)


def parameters_of(card: Card, **changes: object) -> PhantomParameters:
    return parameters_from({**card.made.get("parameters", {}), "patients_train": 24, "patients_valid": 8, "px": 64, **changes})


def make(card: Card, root: Path, **changes: object) -> tuple[Made, Located]:
    made = write_made(root, parameters_of(card, **changes), card.made.get("layout", card.reader))
    return made, locate(card, lambda place: root)


@pytest.mark.parametrize("name", MADE)
def test_made_data_is_read_split_and_opened_as_the_real_set_is(tmp_path: Path, name: str) -> None:
    card = CARDS[name]
    made, place = make(card, tmp_path / "made")
    rows = place.index()
    split = place.split_of(rows)
    for part in card.split_names:
        assert (split == part).any(), f"{part} is empty"
    if card.task == "multilabel" and card.made.get("parameters", {}).get("labelled", True):
        positives = rows.labels[:, rows.label_names.index(card.primary)] == 1
        assert 0 < positives.sum() < len(rows)
    if card.task == "multiclass":
        assert ((rows.labels == 1).sum(axis=0) > 0).sum() > 1
    assert all(path.is_file() for path in place.files(rows.images.tolist()))
    assert set(np.unique(rows.views)) <= set(card.use_views)
    errors = [finding.text for finding in verify_card(place, sample=4) if finding.level == "error"]
    assert not errors
    access = open_data({"card": name, "made": made.fingerprint}, None, lambda place: made.root, tmp_path / "cache", lambda part: True)
    train = access.rows("train")
    store = access.images(32)
    batch = [store.image(int(position)) for position in train.position[:4]]
    assert all(image.dtype == np.uint8 and min(image.shape) == 32 and image.std() > 5 for image in batch)


@pytest.mark.parametrize("name", MADE)
def test_made_data_is_the_same_bytes_again(tmp_path: Path, name: str) -> None:
    card = CARDS[name]
    few = {"patients_train": 3, "patients_valid": 2, "px": 32}
    contents = []
    for folder in ("one", "two"):
        made, _ = make(card, tmp_path / folder, **few)
        contents.append({path.relative_to(made.root): path.read_bytes() for path in made.root.rglob("*") if path.is_file()})
    assert contents[0] == contents[1]


@pytest.mark.parametrize("name", sorted({CARDS[name].reader for name in MADE}))
def test_every_reader_says_what_is_missing(tmp_path: Path, name: str) -> None:
    from trainers.data.index import label_digests, read_index
    from trainers.errors import DataError

    card = next(CARDS[one] for one in MADE if CARDS[one].reader == name)
    for look in (read_index, label_digests):
        with pytest.raises(DataError) as error:
            look(card, tmp_path)
        assert "\n" not in str(error.value)
        assert any(words in str(error.value) for words in ("this the folder that holds", "has no row in", "has no list"))
