"""CheXpert's layout on disk: `{train,valid,test}.csv` beside `{train,valid,test}/patientNNNNN/studyN/viewM_{frontal,lateral}.jpg`.

The first column, `Path`, starts with the name that the release's folder had (`CheXpert-v1.0-small/`, `CheXpert-v1.0/`), which is taken
off, so that both releases give the same image names. Labels are found by column name: 1, 0, -1 (uncertain) or nothing.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trainers.data.access import Rows
from trainers.data.cards import Card
from trainers.errors import DataError

_FOLDERS = ("CheXpert-v1.0-small", "CheXpert-v1.0")
_PREFIX = re.compile(r"CheXpert-v1\.0[^/]*/")
_VIEWS = {"frontal": "frontal", "lateral": "lateral"}
_VALUES = {"": np.nan, "1.0": 1.0, "0.0": 0.0, "-1.0": -1.0, "1": 1.0, "0": 0.0, "-1": -1.0}
_VIEW_COLUMN = "Frontal/Lateral"


def base(card: Card, root: Path) -> Path:
    """Return the folder that holds the label files: the root, or the release's folder in it."""
    for folder in (root, *(root / name for name in _FOLDERS)):
        if (folder / card.label_files[0]).is_file():
            return folder
    return root


@dataclass(slots=True)
class _Columns:
    images: list[str] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    studies: list[str] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    labels: list[list[float]] = field(default_factory=list)
    traits: dict[str, list[str]] = field(default_factory=dict)
    #: Image -> where it was named, for the sentence about a second time.
    seen: dict[str, str] = field(default_factory=dict)


def read(card: Card, root: Path) -> Rows:
    """Return the rows of all label files of a card, in file order. Raises DataError with file and line."""
    folder = base(card, root)
    columns = _Columns(traits={name: [] for name in card.traits})
    for name in card.label_files:
        _read_file(card, folder / name, columns)
    return Rows(
        card=card.name,
        images=np.array(columns.images, dtype=str),
        patients=np.array(columns.patients, dtype=str),
        studies=np.array(columns.studies, dtype=str),
        views=np.array(columns.views, dtype=str),
        labels=np.array(columns.labels, dtype=np.float32).reshape(len(columns.images), len(card.labels)),
        label_names=card.label_names,
        position=np.arange(len(columns.images), dtype=np.int64),
        traits={name: np.array(texts, dtype=str) for name, texts in columns.traits.items()},
    )


def _read_file(card: Card, file: Path, into: _Columns) -> None:
    lines = _lines(card, file)
    _, header = next(lines, (1, []))
    where = {name.strip(): index for index, name in enumerate(header)}
    if not where:
        raise DataError(f"{file}: is empty: copy it again from the release of '{card.name}'")
    for needed in ("Path", *card.labels.values()):
        if needed not in where:
            raise DataError(f"{file}: has no column '{needed}' (it has {', '.join(where)})")
    path_at, view_at = where["Path"], where.get(_VIEW_COLUMN)
    labels_at = [where[column] for column in card.labels.values()]
    for line, cells in lines:
        if len(cells) != len(header):
            raise DataError(f"{file}:{line}: has {len(cells)} fields, the header has {len(header)}")
        image = _PREFIX.sub("", cells[path_at], count=1)
        parts = image.split("/")
        if len(parts) < 4:
            raise DataError(f"{file}:{line}: path '{cells[path_at]}' is not like train/patient00001/study1/view1_frontal.jpg")
        if image in into.seen:
            raise DataError(f"{file}:{line}: {image} is already named at {into.seen[image]}: remove one of the two lines")
        into.seen[image] = f"{file.name}:{line}"
        into.images.append(image)
        into.patients.append(parts[-3])
        into.studies.append(f"{parts[-3]}/{parts[-2]}")
        for name, column in card.traits.items():
            # Released test labels have none of these columns.
            into.traits[name].append(cells[where[column]].strip() if column in where else "")
        into.views.append(_view(cells[view_at] if view_at is not None else parts[-1], file, line))
        try:
            into.labels.append([_VALUES[cells[at].strip()] for at in labels_at])
        except KeyError as error:
            column = next(name for name, at in zip(card.labels.values(), labels_at, strict=True) if cells[at].strip() not in _VALUES)
            raise DataError(f"{file}:{line}: '{column}' is {error}, and may be 1, 0, -1 or nothing") from None


def _lines(card: Card, file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of a CSV without its blank lines."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text)
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
    except FileNotFoundError:
        raise DataError(f"data set '{card.name}' has no {file.name} in {file.parent}: is this the folder that holds it?") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{file}: is not a CSV file: {error}") from error


def _view(text: str, file: Path, line: int) -> str:
    """Read the view from its column, or from a file name such as `view1_frontal.jpg` (the released test labels have no column)."""
    view = _VIEWS.get(text.strip().lower()) or _VIEWS.get(Path(text).stem.rpartition("_")[2].lower())
    if view is None:
        raise DataError(f"{file}:{line}: view '{text}' is neither Frontal nor Lateral")
    return view
