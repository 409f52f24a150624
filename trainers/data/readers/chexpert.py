"""CheXpert's layout on disk: `{train,valid,test}.csv` beside `{train,valid,test}/patientNNNNN/studyN/viewM_{frontal,lateral}.jpg`.

The first column, `Path`, starts with the name that the release's folder had (`CheXpert-v1.0-small/`, `CheXpert-v1.0/`), which is taken
off, so that both releases give the same image names. Labels are found by column name: 1, 0, -1 (uncertain) or nothing.
"""

from __future__ import annotations

import re
from pathlib import Path

from trainers.data.access import Rows
from trainers.data.cards import Card
from trainers.data.tables import Collected, Line, read_table
from trainers.errors import DataError

_FOLDERS = ("CheXpert-v1.0-small", "CheXpert-v1.0")
_PREFIX = re.compile(r"(.*/)?CheXpert-v1\.0[^/]*/")
#: Which column names an image; `image_of` reads it.
IMAGE_COLUMN = "Path"
_VIEWS = {"frontal": "frontal", "lateral": "lateral"}
_VIEW_COLUMN = "Frontal/Lateral"


def base(card: Card, root: Path) -> Path:
    """Return the folder that holds the label files: the root, or the release's folder in it."""
    for folder in (root, *(root / name for name in _FOLDERS)):
        if (folder / card.label_files[0]).is_file():
            return folder
    return root


def read(card: Card, root: Path) -> Rows:
    """Return the rows of all label files of a card, in file order. Raises DataError with file and line."""
    folder, found = base(card, root), Collected(card)
    for name in card.label_files:
        for line in read_table(card, folder / name, ("Path", *card.labels.values())):
            _add(card, line, found)
    return found.rows()


def image_of(line: Line) -> str:
    """Return what a line of a label file, or of a list in its columns, calls its image. Paths may be absolute."""
    return _PREFIX.sub("", line.text(IMAGE_COLUMN), count=1)


def _add(card: Card, line: Line, found: Collected) -> None:
    image = image_of(line)
    parts = image.split("/")
    if len(parts) < 4:
        raise DataError(f"{line.place}: path '{line.cells['Path']}' is not like train/patient00001/study1/view1_frontal.jpg")
    found.add(
        image,
        patient=parts[-3],
        study=f"{parts[-3]}/{parts[-2]}",
        view=_view(line.cells.get(_VIEW_COLUMN, parts[-1]), line),
        labels=[line.label(column) for column in card.labels.values()],
        place=line.place,
        # Released test labels have none of these columns.
        traits=line.cells,
    )


def _view(text: str, line: Line) -> str:
    """Read the view from its column, or from a file name such as `view1_frontal.jpg` (the released test labels have no column)."""
    view = _VIEWS.get(text.strip().lower()) or _VIEWS.get(Path(text).stem.rpartition("_")[2].lower())
    if view is None:
        raise DataError(f"{line.place}: view '{text}' is neither Frontal nor Lateral")
    return view
