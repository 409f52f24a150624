"""Data of one's own: tables and folders, what is wrong with them, and made stand-ins for both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.trainers.data.readers.made import made
from trainers.data.card_checks import problem_of
from trainers.data.cards import Card, SplitRule
from trainers.data.decode import read_gray
from trainers.data.located import Located
from trainers.data.phantom.layouts.csv import TABLE
from trainers.data.phantom.sources import FINDINGS
from trainers.errors import DataError

OPTIONS = {"path": "path", "patient": "patient", "study": "study", "view": "view", "split": "split", "images": "images"}
TABLED = Card(
    name="own",
    title="Own",
    reader="csv",
    labels={name: name for name in FINDINGS},
    primary="effusion",
    options=OPTIONS,
    splits=SplitRule(given={"train": "train", "test": "test"}, patients_by_hash={"val": 0.2}),
    label_files=(TABLE,),
    traits={"sex": "sex", "age": "age"},
    made={"generator": "phantom", "parameters": {"views": ["frontal", "lateral"]}},
)
POOL = Card(
    name="pool",
    title="Pool",
    reader="folder",
    task="unlabelled",
    splits=SplitRule(official={"": "train"}),
    names_of=("**/*.png",),
    options={"patient": r"(patient\d+)/"},
    made={"generator": "phantom"},
)


def test_a_made_table_is_read_as_one_s_own(tmp_path: Path) -> None:
    assert problem_of(TABLED) is None
    place = made(tmp_path, TABLED, patients_train=20)
    rows = place.index()
    assert set(place.split_of(rows).tolist()) == {"train", "val", "test"}
    assert set(rows.views.tolist()) == {"frontal", "lateral"} and len(np.unique(rows.studies)) < len(rows)
    assert {0.0, 1.0} <= set(np.unique(rows.labels[~np.isnan(rows.labels)]).tolist())
    assert read_gray(place.files([str(rows.images[0])])[0]).shape == (32, 32)


def test_a_made_folder_is_a_pool_of_patients(tmp_path: Path) -> None:
    assert problem_of(POOL) is None
    rows = made(tmp_path, POOL).index()
    assert len(np.unique(rows.patients)) == 20 and rows.labels.shape == (len(rows), 0)
    alone = replace(POOL, name="alone", options={})
    assert len(np.unique(made(tmp_path, alone).index().patients)) == len(rows)


def table(root: Path, text: str, **changes: Any) -> Located:
    (root / "t.csv").write_text(text, encoding="utf-8")
    card = replace(TABLED, labels={"a": "a"}, primary="a", traits={}, label_files=("t.csv",), options={"path": "p", "patient": "q"})
    return Located(card=replace(card, **changes), root=root)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("p,q,a\nx.png,1,2\n", {}, r"t\.csv:2: 'a' is '2', and may be 1, 0, -1 or nothing"),
        ("p,q,a\nx.png,,1\n", {}, r"t\.csv:2: 'q' is empty"),
        ("p,q,a\n/x.png,1,1\n", {}, r"t\.csv:2: path '/x\.png' does not lie in the data set's folder"),
        ("p,q,a\n../x.png,1,1\n", {}, r"path '\.\./x\.png' does not lie in the data set's folder"),
        ("p,q,a\nC:\\x.png,1,1\n", {}, r"path 'C:/x\.png' does not lie in the data set's folder"),
        ("p,q,a\nx.png,1,1\nx.png,1,1\n", {}, r"t\.csv:3: x\.png is already named at t\.csv:2"),
        ("p,q\nx.png,1\n", {}, r"t\.csv: has no column 'a' \(it has p, q\)"),
        ("p,q,a,v\nx.png,1,1,side\n", {"view": "v"}, r"t\.csv:2: 'v' is 'side', which is no view that is known"),
        ("p,q,a,v\nx.png,1,1,PA\n", {"view": "v", "views": {"LL": "lateral"}}, "'v' is 'PA', which is no view that is known"),
        ("p;q;a\nx.png;1\n", {"delimiter": ";"}, r"t\.csv:2: has 2 fields, the header has 3"),
    ],
)
def test_a_wrong_table_says_where(tmp_path: Path, text: str, options: Mapping[str, Any], message: str) -> None:
    place = table(tmp_path, text, options={"path": "p", "patient": "q", **options})
    with pytest.raises(DataError, match=message):
        place.index()


def test_a_table_with_a_column_of_classes(tmp_path: Path) -> None:
    labels = {"normal": "Normal", "sick": "Sick"}
    options = {"path": "p", "patient": "q", "class": "c"}
    place = table(tmp_path, "p,q,c\nx.png,1,Sick\nw.png,2,Normal\n", labels=labels, primary="sick", task="multiclass", options=options)
    assert problem_of(place.card) is None
    assert place.index().labels.tolist() == [[1, 0], [0, 1]]
    (tmp_path / "t.csv").write_text("p,q,c\nx.png,1,sick\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.csv:2: 'c' is 'sick', and the card has the classes Normal, Sick"):
        place.index()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"path": "p"}, "options.patient: there is none; name the column that holds the patient"),
        ({"path": "p", "patient": "q", "label": "a"}, "options.label: unknown key; there are path, patient, study"),
        ({"path": "p", "patient": 3}, "options.patient: is 3, and has to be a text"),
        ({"path": "p", "patient": "q", "views": {"PA": "front"}}, "options.views: says what a cell"),
        ({"path": "p", "patient": "q", "delimiter": ";;"}, "options.delimiter: is ';;', and has to be one character"),
        ({"path": "p", "patient": "q", "class": "c"}, "options.class: a column that names one class is of a card with `task: multiclass`"),
    ],
)
def test_wrong_options_of_a_table(options: Mapping[str, Any], problem: str) -> None:
    assert problem in str(problem_of(replace(TABLED, options=options)))


def test_a_split_column_needs_its_words() -> None:
    rule = SplitRule(official={"": "train"})
    assert "options.split: splits.given says what the words" in str(problem_of(replace(TABLED, splits=rule)))


def test_a_table_without_options_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="options: there are none; name the columns, such as"):
        table(tmp_path, "p\n", options={}).index()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"options": {"patient": "("}}, "options.patient: '(' is no regular expression"),
        ({"options": {"patient": "(a)(b)"}}, "options.patient: has more than one group"),
        ({"options": {"patients": "a"}}, "options.patients: unknown key; there is patient"),
        ({"options": {"patient": 3}}, "options.patient: 3 is no regular expression"),
    ],
)
def test_wrong_options_of_a_folder(changes: dict[str, Any], problem: str) -> None:
    assert problem in str(problem_of(replace(POOL, **changes)))


def test_a_path_without_a_patient_and_a_folder_with_labels(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match=r"options\.patient '\(patient\\d\+\)/' finds no patient in x\.png"):
        Located(card=POOL, root=tmp_path).index()
    labelled = replace(POOL, task="multilabel", labels={"a": "a"}, primary="a")
    with pytest.raises(DataError, match="knows of no labels: say `task: unlabelled`, or use the reader 'csv'"):
        Located(card=labelled, root=tmp_path).index()
