from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from trainers.data.cards import SHIPPED, card_digest, list_cards, load_card
from trainers.errors import DataError

TOY = """
name: toy
title: Toy
reader: chexpert
labels: {nodule: Nodule, edema: Edema}
primary: nodule
splits: {official: {train/: train, valid/: test}, patients_by_hash: {val: 0.1}}
label_files: [train.csv]
"""


def write(folder: Path, text: str = TOY, name: str = "toy") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.yaml")))
def test_every_shipped_card_loads(name: str) -> None:
    card = load_card(name)
    assert card.name == name
    assert card.primary in card.label_names or card.task in ("segmentation", "unlabelled")
    assert "train" in card.split_names


def test_chexpert_card_says_what_the_data_set_is() -> None:
    card = load_card("chexpert")
    assert len(card.label_names) == 14
    assert card.labels["pleural_effusion"] == "Pleural Effusion"
    assert set(card.groups["competition"]) == {"atelectasis", "cardiomegaly", "consolidation", "edema", "pleural_effusion"}
    assert card.policies == {"uncertain": "ignore", "missing": "zeros"}
    assert (card.score_per, card.views, card.cluster) == ("study", "max_logit", "patient")
    assert card.split_names == ("train", "val", "test")


def test_unlabelled_phantoms_are_other_patients_than_labelled_ones() -> None:
    labelled = load_card("phantom").made["parameters"]
    pool = load_card("phantom_unlabelled").made["parameters"]
    assert labelled["patients_train"] + labelled["patients_valid"] < pool["first_patient"]


def test_a_folder_of_ones_own_comes_first(tmp_path: Path) -> None:
    write(tmp_path / "a", TOY.replace("name: toy", "name: chexpert"), "chexpert")
    write(tmp_path / "a")
    assert load_card("chexpert", [tmp_path / "a"]).label_names == ("nodule", "edema")
    assert {"toy", "kermany16"} <= set(list_cards([tmp_path / "a"]))


BAD = {
    "unknown key": (TOY + "lables: {}\n", "lables: unknown key; did you mean 'labels'?"),
    "unknown nested key": (TOY.replace("patients_by_hash", "patients_by_hsah"), "splits.patients_by_hsah: unknown key"),
    "missing key": (TOY.replace("primary: nodule\n", ""), "primary: there is none"),
    "wrong type": (TOY.replace("[train.csv]", "3"), "label_files: input should be a valid tuple"),
    "unknown label": (TOY + "groups: {all: [nodule, oedema]}\n", "groups.all: no label 'oedema' among nodule, edema"),
    "unknown primary": (TOY.replace("primary: nodule", "primary: mass"), "primary: no label 'mass' among nodule, edema"),
    "bad slug": (TOY.replace("nodule: Nodule", "Nodule 1: Nodule"), "labels.Nodule 1: a label's name is lower-case"),
    "bad policy": (
        TOY + "policy: {uncertain: maybe}\n",
        "policy.uncertain: input should be 'ignore', 'ones', 'zeros', ",
    ),
    "no train": (TOY.replace("train/: train", "train/: val"), "splits.official: nothing is 'train'"),
    "unknown split": (TOY.replace("valid/: test", "valid/: dev"), "splits.official.valid/: input should be 'train', 'val' or 'test'"),
    "share of one": (TOY.replace("0.1", "1.0"), "splits.patients_by_hash: shares are between 0 and 1"),
    "key twice": (TOY + "title: Again\n", ":9: key 'title' stands there twice: remove one"),
    "not yaml": ("name: [", "is not a YAML file"),
    "a list": ("- 1\n", "the card: "),
    "unknown reader": (TOY.replace("reader: chexpert", "reader: dicom_folder"), "reader: no reader 'dicom_folder'"),
    "unknown key of made": (TOY + "made: {genrator: phantom}\n", "made.genrator: unknown key"),
    "other name": (TOY.replace("name: toy", "name: joy"), "name: is 'joy', but the file is named 'toy'"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_a_wrong_card_says_where_and_what(tmp_path: Path, case: str) -> None:
    text, message = BAD[case]
    folder = write(tmp_path / "cards", text)
    with pytest.raises(DataError) as error:
        load_card("toy", [folder])
    assert message in str(error.value)
    assert str(folder / "toy.yaml") in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_card_names_the_nearest() -> None:
    with pytest.raises(DataError, match="no data set card 'chexprt': did you mean 'chexpert'"):
        load_card("chexprt")


def test_the_digest_follows_what_determines_results_and_nothing_else() -> None:
    card = load_card("chexpert")
    assert card_digest(card) == card_digest(
        replace(card, title="Other", about="x", licence="y", where="z", contamination=("nih",), made={}, traits={})
    )
    turned = dict(reversed(card.labels.items()))
    changes = (
        {"labels": turned},
        {"primary": "edema"},
        {"policy": replace(card.policy, uncertain="ones")},
        {"splits": replace(card.splits, salt="b")},
        {"use_views": ("frontal",)},
        {"score_per": "image"},
    )
    digests = {card_digest(card), *(card_digest(replace(card, **change)) for change in changes)}
    assert len(digests) == 1 + len(changes)


def test_a_plan_can_read_cards_without_heavy_imports() -> None:
    code = (
        "import sys, trainers.data.cards, trainers.data.index, trainers.data.splits, trainers.data.draws\n"
        "trainers.data.cards.load_card('chexpert')\n"
        "heavy = {'torch', 'pandas', 'cv2', 'numpy', 'pyarrow', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


@pytest.mark.parametrize("name", ["score", "Sex", "a b"])
def test_a_trait_that_no_column_may_be_called_is_refused(tmp_path: Path, name: str) -> None:
    text = (SHIPPED / "chexpert.yaml").read_text(encoding="utf-8").replace("name: chexpert\n", "name: mine\n")
    (tmp_path / "mine.yaml").write_text(text.replace("traits: {sex: Sex", f"traits: {{{name}: Sex"), encoding="utf-8")
    with pytest.raises(DataError, match=rf"traits\.{name}: a trait's name is lower-case letters"):
        load_card("mine", [tmp_path])


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.yaml")))
def test_contamination_names_cards_that_there_are(name: str) -> None:
    card = load_card(name)
    assert set(card.contamination) <= set(list_cards()) - {name}


def test_every_card_of_nih_images_names_all_others_of_other_splits() -> None:
    family = {"chestxray14", "chestxray14_702010", "chestxray14_google", "rsna", "rsna_by_patient", "siim", "siim_stage_2", "chestxdet10"}
    for name in family:
        assert family - {name} <= set(load_card(name).contamination)
