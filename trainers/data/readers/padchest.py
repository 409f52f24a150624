"""PadChest's layout: one table, and 16-bit PNGs in numbered folders (`0/`, `1/` ...) or in one.

`Labels` is a list as Python writes it, with blanks around some names; 103 of the 160,861 rows have none, which is not the same as normal.
Each row says how its labels were found (`MethodLabel`): read by a physician, or predicted from the report by a network.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.data.cards import Card
from trainers.data.places import files_by_name
from trainers.data.tables import BLANK, Collected, Line, read_table
from trainers.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from trainers.data.access import Rows

#: Which column names an image.
IMAGE_COLUMN = "ImageID"

#: `MethodLabel` as it is written.
PHYSICIAN, NETWORK = "Physician", "RNN_model"
#: What `given` says of a row that a network labelled, of a patient of whom a physician read another image.
NETWORK_OF_TEST = "RNN_model, of a patient that a physician read"
#: The column that says how many bits the DICOM files had that the PNGs were made of.
BITS_COLUMN = "BitsStored_DICOM"
_FULL_BITS = 16
_NEEDED = ("ImageID", "StudyID", "PatientID", "Projection", "MethodLabel", "Labels")
_OPTIONS = ("projections", "leave_out", "unknown_labels", "bits")


def base(card: Card, root: Path) -> Path:
    """Return the folder that holds the table."""
    return root


def check(card: Card) -> str | None:
    """Say what is wrong with a card's options, or None."""
    options = card.options
    if strange := next(iter(set(options) - set(_OPTIONS)), None):
        return f".{strange}: unknown key; there are {', '.join(_OPTIONS)}"
    views = options.get("projections")
    if not isinstance(views, Mapping) or not views or any(view not in ("frontal", "lateral") for view in views.values()):
        return ".projections: says which Projection is frontal and which lateral, such as {PA: frontal, L: lateral}"
    if both := next((name for name in options.get("leave_out", ()) if name in views), None):
        return f".leave_out: '{both}' has a view in projections; take one of the two out"
    if options.get("unknown_labels", "refuse") not in ("refuse", "leave_out"):
        return f".unknown_labels: is '{options['unknown_labels']}', and may be refuse or leave_out"
    bits = options.get("bits", _FULL_BITS)
    if bits == BITS_COLUMN or (isinstance(bits, int) and 1 <= bits <= _FULL_BITS):
        return None
    return f".bits: is {bits!r}, and a PNG has 1 to {_FULL_BITS}; {BITS_COLUMN} reads that column of the table"


def read(card: Card, root: Path) -> Rows:
    """Return the rows of the table whose projection the card uses. Raises DataError with file and line."""
    lines: list[Line] = []
    labels, columns = _Labels(card), (*_NEEDED, *(column for column in card.traits.values() if column != _AGE))
    for name in card.label_files:
        lines += read_table(card, base(card, root) / name, columns)
    views, left_out = card.options["projections"], card.options.get("leave_out", ())
    read_by = {line.text("PatientID") for line in lines if _method(line) == PHYSICIAN}
    found = Collected(card)
    for line in lines:
        projection, patient = line.text("Projection"), line.text("PatientID")
        if projection in left_out:
            continue
        if projection not in views:
            raise DataError(f"{line.place}: Projection is '{projection}', and the card knows {', '.join((*views, *left_out))}")
        method = _method(line)
        found.add(
            line.text("ImageID"),
            patient=patient,
            # One study id stands for two patients.
            study=f"{patient}/{line.text('StudyID')}",
            view=views[projection],
            labels=labels.of(line),
            place=line.place,
            given=NETWORK_OF_TEST if method == NETWORK and patient in read_by else method,
            traits=_traits(card, line),
        )
    return found.rows()


def files(card: Card, base: Path, images: Sequence[str]) -> list[Path]:
    """Return the file of each image, in the data set's folder or in a folder of it."""
    return files_by_name(base, images, ("*", "*/*"))


def bits(card: Card, base: Path, images: Sequence[str]) -> list[int]:
    """Return how many bits the numbers of each PNG have: 16, unless the card says another number or that the table's column is right."""
    said = card.options.get("bits", _FULL_BITS)
    if said != BITS_COLUMN:
        return [said] * len(images)
    stored = {
        line.text("ImageID"): int(line.finite(BITS_COLUMN))
        for name in card.label_files
        for line in read_table(card, base / name, ("ImageID", BITS_COLUMN))
    }
    return [stored[image] for image in images]


_AGE = "age"


def _method(line: Line) -> str:
    method = line.text("MethodLabel")
    if method not in (PHYSICIAN, NETWORK):
        raise DataError(f"{line.place}: MethodLabel is '{method}', and may be {PHYSICIAN} or {NETWORK}")
    return method


def _traits(card: Card, line: Line) -> Mapping[str, str]:
    """Return the columns of a row, with the age in the year of the study where it says when the patient was born."""
    if _AGE not in card.traits.values():
        return line.cells
    born, taken = line.cells.get("PatientBirth", "")[:4], line.cells.get("StudyDate_DICOM", "")[:4]
    age = str(int(taken) - int(born)) if born.isdigit() and taken.isdigit() else ""
    return {**line.cells, _AGE: age}


class _Labels:
    """Lists of label names as rows of numbers; equal lists share one."""

    def __init__(self, card: Card) -> None:
        self._places = {written: place for place, written in enumerate(card.labels.values())}
        self._leaves_out = card.options.get("unknown_labels") == "leave_out"
        self._known: dict[str, np.ndarray] = {}

    def of(self, line: Line) -> np.ndarray:
        """Return 1 for each label that a row names and 0 for the others; NaN for all of a row that names none at all."""
        written = line.cells["Labels"].strip()
        if written not in self._known:
            self._known[written] = self._read(line, written)
        return self._known[written]

    def _read(self, line: Line, written: str) -> np.ndarray:
        import numpy as np

        names = [] if written.lower() in BLANK else [name for name in map(str.strip, _names(line, written)) if name]
        if not names:
            return np.full(len(self._places), np.nan, np.float32)
        values = np.zeros(len(self._places), np.float32)
        for name in names:
            if name in self._places:
                values[self._places[name]] = 1
            elif not self._leaves_out:
                raise DataError(
                    f"{line.place}: '{name}' is no label of the card; add it, or write `unknown_labels: leave_out` under options"
                )
        return values


def _names(line: Line, written: str) -> list[str]:
    try:
        names = ast.literal_eval(written)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{line.place}: Labels is {written[:60]!r}, and has to be a list of names such as ['normal']")
    return names
