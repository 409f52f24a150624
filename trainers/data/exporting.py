"""Rows of a card as a file in the columns of its original label file, so that other code can read what a draw is.

A layout whose reader can say which image a line names (`IMAGE_COLUMN`) gives copies of lines, all of those of an image; any other gives a
table of our own, which the columns `image, patient, study, view` and the labels make.
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from trainers.data.access import Rows
from trainers.data.index import image_column, image_of, label_paths
from trainers.data.located import Located
from trainers.data.tables import read_lines

_OWN = ("image", "patient", "study", "view")


def has_columns(place: Located) -> bool:
    """Tell whether rows of a card can be written as lines of its own label files."""
    return place.root is not None and image_column(place.card) is not None


def text_of(place: Located, rows: Rows) -> str:
    """Return rows as the text of a CSV file: lines of the original label files in their order, or a table of our own.

    Raises DataError when a label file cannot be read.
    """
    return _own(rows) if not has_columns(place) else _original(place, rows)


def _original(place: Located, rows: Rows) -> str:
    assert place.root is not None
    wanted = set(rows.images.tolist())
    written: list[str] = []
    entries = [entry for entry in label_paths(place.card, place.root).items() if entry[0] in place.card.label_files]
    for _, files in entries:
        for file in files:
            header, lines = read_lines(place.card, file)
            kept = [text for line, text in lines if image_of(place.card, line) in wanted]
            if not kept:
                continue
            if not written:
                written.append(header)
            elif written[0] != header:
                # Later releases have other columns: one file cannot hold both.
                return _own(rows)
            written += kept
    return "\n".join(written) + "\n"


def _own(rows: Rows) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*_OWN, *rows.label_names])
    for at in range(len(rows)):
        names = [str(column[at]) for column in (rows.images, rows.patients, rows.studies, rows.views)]
        table.writerow([*names, *("" if math.isnan(value) else f"{value:g}" for value in rows.labels[at].tolist())])
    return text.getvalue()


def write_rows(place: Located, rows: Rows, file: Path) -> None:
    """Write rows to a file, whole or not at all."""
    aside = file.with_name(f".{file.name}.tmp")
    aside.write_text(text_of(place, rows), encoding="utf-8", newline="")
    aside.replace(file)
