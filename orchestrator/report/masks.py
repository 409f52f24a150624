"""Segmentations from disk: what two masks share, an image and a structure. The masks themselves stay with the trainer.

`predictions.parquet` of a segmentation is a long table with one row for each image and structure:

    image, patient, study, structure    text
    intersection, predicted, true       whole numbers: pixels in both masks, in the predicted one, in the true one
    hd95                                the 95th percentile of surface distances; null where a mask is empty. May be absent
    diagonal                            of the image, in the unit of hd95: what a structure that was not found counts. With hd95 only
    further columns                     what is known of the image, such as sex: what a report can be split by
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.errors import ReportError
from orchestrator.report.frames import Coded, Frame, of_units, twice, two_values

#: The column that tells a table of masks from one of scores.
MARK = "intersection"
STRUCTURE = "structure"
NEEDED = ("image", "patient", "study", STRUCTURE, MARK, "predicted", "true")
COUNTS = (MARK, "predicted", "true")
#: Columns that have a meaning of their own; what else there is are traits of the image.
_OWN = (*NEEDED, "hd95", "diagonal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Masks(Frame):
    """What one run drew on one test set. `labels` are structures, and `truth` is 1 where the structure is in the image."""

    #: (units, labels), pixels; 0 where the pair was not scored (its `truth` is -1).
    intersection: np.ndarray
    predicted: np.ndarray
    true: np.ndarray
    #: (units, labels), NaN where a mask is empty; None when no distance was measured.
    hd95: np.ndarray | None
    #: (units,); None without distances.
    diagonal: np.ndarray | None

    def holds(self) -> str:
        """Return what the run left of each unit."""
        return "masks"

    def of_label(self) -> tuple[str, ...]:
        """Name the further arrays of shape (units, labels)."""
        return (*COUNTS, *(("hd95",) if self.hd95 is not None else ()))

    def of_unit(self) -> tuple[str, ...]:
        """Name the further arrays of shape (units,)."""
        return ("diagonal",) if self.diagonal is not None else ()

    def known(self) -> tuple[str, ...]:
        """Name what must be the same in every run besides ids and truths."""
        return ("true", *self.of_unit())


def masks_of(table: Any, name: str) -> Masks:
    """Lay a long table of masks out as matrices, whatever the order of its rows.

    `name` is what errors call the run. Raises ReportError on counts that cannot be of two masks, a distance without two masks or beyond
    the diagonal, a unit of two patients, or the same (image, structure) twice.
    """
    image, label = Coded.of(table.column("image")), Coded.of(table.column(STRUCTURE))
    columns = {what: _numbers(table, what) for what in (*COUNTS, "hd95", "diagonal") if what in table.column_names}
    owners = {what: Coded.of(table.column(what)) for what in ("patient", "study")}
    traits = {what: Coded.of(table.column(what).cast("string").fill_null("")) for what in table.column_names if what not in _OWN}
    fault = fault_of(columns)
    if fault is not None:
        row, said = fault
        raise ReportError(f"predictions of {name}: {label.texts[label.codes[row]]} in image '{image.texts[image.codes[row]]}': {said}")
    if twice(image, label) is not None:
        raise ReportError(f"predictions of {name}: an image is scored twice for one structure; delete the file and evaluate again")
    for what, column in (owners | traits).items():
        if two_values(image, column) is not None:
            raise ReportError(f"predictions of {name}: an image belongs to two values of '{what}'; delete the file and evaluate again")
    return matrices(image, label, columns, owners, f"predictions of {name}", traits)


def matrices(
    image: Coded,
    label: Coded,
    columns: Mapping[str, np.ndarray],
    owners: Mapping[str, Coded],
    name: str,
    traits: Mapping[str, Coded] | None = None,
) -> Masks:
    """Lay checked rows out as matrices. Raises ReportError when an image has two diagonals."""
    shape = (len(image.texts), len(label.texts))

    def laid(values: np.ndarray, empty: float) -> np.ndarray:
        found = np.full(shape, empty, values.dtype)
        found[image.codes, label.codes] = values
        return found

    counts = {what: laid(columns[what].astype(np.int64), 0) for what in COUNTS}
    diagonal = None
    if "hd95" in columns:
        diagonal = np.zeros(shape[0])
        diagonal[image.codes] = columns["diagonal"]
        differ = np.flatnonzero(diagonal[image.codes] != columns["diagonal"])
        if len(differ):
            raise ReportError(f"{name}: image '{image.texts[image.codes[differ[0]]]}' has two diagonals; an image has one")
    return Masks(
        units=image.texts,
        patients=of_units(image, owners["patient"]),
        studies=of_units(image, owners["study"]),
        labels=tuple(label.texts.tolist()),
        truth=laid((columns["true"] > 0).astype(np.int8), -1),
        hd95=laid(columns["hd95"], np.nan) if "hd95" in columns else None,
        diagonal=diagonal,
        traits={what: of_units(image, column) for what, column in sorted((traits or {}).items())},
        intersection=counts[MARK],
        predicted=counts["predicted"],
        true=counts["true"],
    )


def _numbers(table: Any, name: str) -> np.ndarray:
    return np.asarray(table.column(name).to_numpy(), np.float64)


def fault_of(columns: Mapping[str, np.ndarray]) -> tuple[int, str] | None:
    """Return the first row that cannot be of two masks, and why."""
    both, predicted, true = (columns[what] for what in COUNTS)
    for what in COUNTS:
        counts = columns[what]
        bad = ~(np.isfinite(counts) & (counts >= 0) & (counts == np.round(counts)))
        if bad.any():
            return _row(bad), f"'{what}' is {counts[_row(bad)]:g}, which is no number of pixels"
    more = both > np.minimum(predicted, true)
    if more.any():
        return _row(more), f"the masks share {both[_row(more)]:g} pixels, more than one of them has"
    if "hd95" not in columns:
        return None
    if "diagonal" not in columns:
        return 0, "there is 'hd95' and no 'diagonal' of the image, which a structure that was not found counts"
    distance, diagonal = columns["hd95"], columns["diagonal"]
    drawn = (predicted > 0) & (true > 0)
    for bad, said in (
        (~(np.isfinite(diagonal) & (diagonal > 0)), "'diagonal' is no length"),
        (drawn & ~np.isfinite(distance), "both masks are there and 'hd95' is not"),
        (~drawn & ~np.isnan(distance), "'hd95' is there and a mask is empty"),
        (drawn & ~((distance >= 0) & (distance <= diagonal)), "'hd95' is negative or beyond the diagonal"),
    ):
        if bad.any():
            return _row(bad), said
    return None


def _row(bad: np.ndarray) -> int:
    return int(np.flatnonzero(bad)[0])
