"""MIMIC-CXR-JPG's layout: tables of labels, metadata and splits beside `files/p10/p10000032/s50414267/<dicom_id>.jpg`.

Labels are of studies and stand in their table by subject and study, in alphabetical order; views are of images and stand in the metadata.
Version 2.1.0 keeps the names of 2.0.0's tables. Tables may be unpacked (`.csv`) or not (`.csv.gz`).

Which view each `ViewPosition` is stands in the card (`options.views`). Images with another one (`LAO`, `SWIMMERS`, nothing ...) are left
out, and so are images of the few studies that have no row of labels. With `options.test_labels`, the test split is the studies that
radiologists labelled (`mimic-cxr-2.1.0-test-set-labeled.csv`): their labels take the place of those of the labeller, and other test studies
are left out.

With `options.reports`, studies have the texts of the project MIMIC-CXR, which the release of the JPEGs lacks: its `mimic-cxr-reports.zip`
beside the tables, or what is in it, unpacked among the images (`files/p*/p*/s*.txt`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from trainers.data.access import Rows
from trainers.data.cards import Card
from trainers.data.places import folder_with, one_file
from trainers.data.reports import packed_texts, text_of
from trainers.data.tables import Collected, Line, read_table
from trainers.errors import DataError

_FOLDERS = (
    "mimic-cxr-jpg",
    "physionet.org/files/mimic-cxr-jpg/2.1.0",
    "physionet.org/files/mimic-cxr-jpg/2.0.0",
)
_VIEWS = ("frontal", "lateral")
_IDS = ("dicom_id", "subject_id", "study_id")
#: What the radiologists' table calls a label of the others.
_OF_RADIOLOGISTS = {"Lung Opacity": "Airspace Opacity"}
_TEST = "test"
_PACKED, _UNPACKED = ".zip", ".txt"


def check(card: Card) -> str | None:
    """Say what is wrong with a card's options, or None."""
    for name, value in card.options.items():
        if name == "views":
            if not isinstance(value, Mapping) or not value or not set(value.values()) <= set(_VIEWS):
                return ".views: is a mapping from ViewPosition to frontal or lateral, such as {PA: frontal, LL: lateral}"
        elif name in ("test_labels", "reports"):
            if value not in card.label_files:
                return f".{name}: '{value}' is none of label_files"
            if name == "reports" and not str(value).endswith((_PACKED, _UNPACKED)):
                return f".reports: '{value}' is neither mimic-cxr-reports.zip nor files/p*/p*/s*.txt"
        else:
            return f".{name}: unknown key; it has views, test_labels and reports"
    return None if "views" in card.options else ".views: there is none; say which view each ViewPosition is, such as {PA: frontal}"


def base(card: Card, root: Path) -> Path:
    """Return the folder that holds the tables: the root, or the release's folder in it."""
    return folder_with(card, root, _FOLDERS)


def read(card: Card, root: Path) -> Rows:
    """Return one row an image with a view that the card knows, in the order of the metadata. Raises DataError with file and line."""
    folder, found = base(card, root), Collected(card)
    metadata, splits = (_table(card, folder, kind) for kind in ("metadata", "split"))
    split_of = {
        line.text("dicom_id"): (line.text("subject_id"), line.text("study_id"), line.text("split"), line.number)
        for line in read_table(card, splits, (*_IDS, "split"))
    }
    labels, of_radiologists = _labels(card, folder), _radiologists(card, folder)
    views: Mapping[str, str] = card.options["views"]
    for line in read_table(card, metadata, (*_IDS, "ViewPosition")):
        view = views.get(line.cells["ViewPosition"].strip())
        study = (line.text("subject_id"), line.text("study_id"))
        given = _given(line, study, split_of, splits)
        values = labels.get(study)
        if given == _TEST and of_radiologists is not None:
            values = of_radiologists.get(study[1])
        if view is not None and values is not None:
            _add(line, study, view, given, values, found)
    return found.rows()


def reports(card: Card, base: Path, studies: Sequence[str]) -> list[str | None] | None:
    """Return the report of each study, None of those that have no file; None in all where the card names none. Raises DataError."""
    entry = card.options.get("reports")
    if entry is None:
        return None
    names = [f"files/{study[:3]}/{study}.txt" for study in studies]
    if str(entry).endswith(_PACKED):
        return packed_texts(one_file(card, base, entry), names)
    return [text_of(base / name) for name in names]


def _add(line: Line, study: tuple[str, str], view: str, given: str, labels: list[float], found: Collected) -> None:
    subject, number = study
    found.add(
        f"files/p{subject[:2]}/p{subject}/s{number}/{line.text('dicom_id')}.jpg",
        patient=f"p{subject}",
        study=f"p{subject}/s{number}",
        view=view,
        labels=labels,
        place=line.place,
        given=given,
        traits=line.cells,
    )


def _given(line: Line, study: tuple[str, str], split_of: Mapping[str, tuple[str, str, str, int]], splits: Path) -> str:
    image = line.text("dicom_id")
    if image not in split_of:
        return ""
    *other, split, number = split_of[image]
    if tuple(other) != study:
        raise DataError(
            f"{line.place}: {image} is of another subject or study than at {splits}:{number}: take both tables from one release"
        )
    return split


def _labels(card: Card, folder: Path) -> dict[tuple[str, str], list[float]]:
    """Return the labels of each study by subject and study."""
    found: dict[tuple[str, str], list[float]] = {}
    for line in read_table(card, _table(card, folder, "labels"), ("subject_id", "study_id", *card.labels.values())):
        study = (line.text("subject_id"), line.text("study_id"))
        if study in found:
            raise DataError(f"{line.place}: study {study[1]} of subject {study[0]} is there twice: remove one of the two lines")
        found[study] = [line.label(column) for column in card.labels.values()]
    return found


def _radiologists(card: Card, folder: Path) -> dict[str, list[float]] | None:
    """Return the radiologists' labels by study; None where the card does without. A study is named there without its subject."""
    if "test_labels" not in card.options:
        return None
    columns = [_OF_RADIOLOGISTS.get(column, column) for column in card.labels.values()]
    found: dict[str, list[float]] = {}
    for line in read_table(card, one_file(card, folder, card.options["test_labels"]), ("study_id", *columns)):
        if line.text("study_id") in found:
            raise DataError(f"{line.place}: study {line.text('study_id')} is there twice: remove one of the two lines")
        found[line.text("study_id")] = [line.label(column) for column in columns]
    return found


def _table(card: Card, folder: Path, kind: str) -> Path:
    """Return the table of a kind: `metadata`, `split` or `labels`, which is the one that is neither."""
    entries = [entry for entry in card.label_files if entry not in (card.options.get("test_labels"), card.options.get("reports"))]
    named = {name: next((entry for entry in entries if name in entry), "") for name in ("metadata", "split")}
    named["labels"] = next((entry for entry in entries if entry not in named.values()), "")
    if not named[kind]:
        raise DataError(f"card '{card.name}': label_files names no table of {kind}, such as mimic-cxr-2.0.0-{kind}.csv.gz")
    return one_file(card, folder, named[kind])
