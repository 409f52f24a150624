"""A table of one's own: a row an image, with columns for its path, patient, labels and what else there is.

Which column is what stands under `options` of the card; labels are found by the column that the card names for each. Paths start from the
folder of the data set, or from `images` in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from trainers.data.cards import Card
from trainers.data.tables import Collected, Line, read_table
from trainers.errors import DataError

if TYPE_CHECKING:
    from trainers.data.access import Rows

_COLUMNS = ("path", "patient", "study", "view", "split", "class")
_OPTIONS = (*_COLUMNS, "views", "images", "delimiter")
_VIEWS = {"frontal": "frontal", "lateral": "lateral", "pa": "frontal", "ap": "frontal"}


def base(card: Card, root: Path) -> Path:
    """Return the root."""
    return root


def check(card: Card) -> str | None:
    """Say what is wrong with a card's options, or None."""
    options = card.options
    if strange := next(iter(set(options) - set(_OPTIONS)), None):
        return f".{strange}: unknown key; there are {', '.join(_OPTIONS)}"
    if missing := next((name for name in ("path", "patient") if name not in options), None):
        return f".{missing}: there is none; name the column that holds the {missing}"
    if wrong := next((name for name in (*_COLUMNS, "images", "delimiter") if not isinstance(options.get(name, ""), str)), None):
        return f".{wrong}: is {options[wrong]!r}, and has to be a text"
    views = options.get("views", {})
    if not isinstance(views, Mapping) or any(view not in ("frontal", "lateral") for view in views.values()):
        return ".views: says what a cell of the view's column means, frontal or lateral, such as {PA: frontal, LL: lateral}"
    if len(options.get("delimiter", ",")) != 1:
        return f".delimiter: is {options['delimiter']!r}, and has to be one character"
    if "class" in options and card.task != "multiclass":
        return ".class: a column that names one class is of a card with `task: multiclass`"
    return (
        ".split: splits.given says what the words of that column mean; write it" if "split" in options and not card.splits.given else None
    )


def read(card: Card, root: Path) -> Rows:
    """Return the rows of all label files of a card. Raises DataError with file and line."""
    if not card.options:
        raise DataError(f"card '{card.name}': options: there are none; name the columns, such as `options: {{path: file, patient: id}}`")
    found, options = Collected(card), card.options
    labels = () if "class" in options else tuple(card.labels.values())
    needed = (*(options[name] for name in _COLUMNS if name in options), *labels, *card.traits.values())
    for name in card.label_files:
        for line in read_table(card, root / name, needed, delimiter=options.get("delimiter", ",")):
            patient, image = line.text(options["patient"]), _image(line, options["path"])
            found.add(
                image,
                patient=patient,
                study=f"{patient}/{line.text(options['study'])}" if "study" in options else "",
                view=_view(line, options) if "view" in options else "frontal",
                labels=_class(card, line, options["class"]) if "class" in options else [line.label(column) for column in labels],
                place=line.place,
                given=line.text(options["split"]) if "split" in options else "",
                traits=line.cells,
            )
    return found.rows()


def files(card: Card, base: Path, images: Sequence[str]) -> list[Path]:
    """Return the file of each image."""
    return [base / card.options.get("images", "") / image for image in images]


def _image(line: Line, column: str) -> str:
    path = PurePosixPath(line.text(column).replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise DataError(f"{line.place}: path '{path}' does not lie in the data set's folder: write it as it is below that folder")
    return path.as_posix()


def _view(line: Line, options: Mapping[str, str | Mapping[str, str]]) -> str:
    written = line.text(str(options["view"]))
    views = options.get("views")
    view = views.get(written) if isinstance(views, Mapping) else _VIEWS.get(written.lower())
    if view is None:
        raise DataError(
            f"{line.place}: '{options['view']}' is '{written}', which is no view that is known: say under options.views what it is"
        )
    return view


def _class(card: Card, line: Line, column: str) -> list[float]:
    written = line.text(column)
    if written not in card.labels.values():
        raise DataError(f"{line.place}: '{column}' is '{written}', and the card has the classes {', '.join(card.labels.values())}")
    return [float(written == other) for other in card.labels.values()]
