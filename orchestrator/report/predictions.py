"""Predictions from disk: one matrix of scores a run, all on the same rows, or a refusal that names the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from orchestrator.errors import ReportError
from orchestrator.report.frames import Coded, Frame, of_units, twice, two_values
from orchestrator.report.masks import COUNTS, MARK, NEEDED, STRUCTURE, Masks, masks_of

TEXTS = ("image", "patient", "study", "label")
COLUMNS = (*TEXTS, "truth", "score")
IDS = frozenset({*TEXTS, STRUCTURE})
NUMBERS = frozenset({"truth", "score", *COUNTS, "hd95", "diagonal"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions(Frame):
    """What one run said of one test set."""

    #: (units, labels): float32 from a trainer, float64 from anybody's file; NaN where the truth is not known.
    score: np.ndarray
    #: Whether scores are probabilities; else they are logits.
    is_probability: bool = False

    def probability(self, score: np.ndarray) -> np.ndarray:
        """Return some scores as probabilities, float64: of a logit its sigmoid."""
        wide = score.astype(np.float64)
        return wide if self.is_probability else special.expit(wide)

    def holds(self) -> str:
        """Return what the run left of each unit."""
        return "probabilities" if self.is_probability else "logits"

    def of_label(self) -> tuple[str, ...]:
        """Name the further arrays of shape (units, labels)."""
        return ("score",)


def read_predictions(path: Path, name: str) -> Predictions | Masks:
    """Read a long table of scores or of masks into matrices, whatever the order of its rows.

    `name` is what errors call the run. Raises ReportError on a missing column, a truth other than 0 and 1, a score that is not finite, a
    unit that two patients share, or the same (unit, label) twice.
    """
    table = _table(path, name)
    return masks_of(table, name) if MARK in table.column_names else _scores(table, name)


def _scores(table: Any, name: str) -> Predictions:
    image, label = Coded.of(table.column("image")), Coded.of(table.column("label"))
    # Compared before it is made a whole number, which would turn a half into 0 and a null into anything.
    truth = table.column("truth").to_numpy()
    score = table.column("score").to_numpy().astype(np.float32)
    if not ((truth == 0) | (truth == 1)).all():
        raise ReportError(f"predictions of {name}: a truth is neither 0 nor 1; leave rows without a known truth out, then evaluate again")
    truth = truth.astype(np.int64)
    if not np.isfinite(score).all():
        raise ReportError(f"predictions of {name}: {int((~np.isfinite(score)).sum())} scores are not finite; look at the training run")
    if twice(image, label) is not None:
        raise ReportError(f"predictions of {name}: a unit is scored twice for one label; delete the file and evaluate again")
    owners = {what: Coded.of(table.column(what)) for what in ("patient", "study")}
    for what, owner in owners.items():
        if two_values(image, owner) is not None:
            raise ReportError(f"predictions of {name}: a unit belongs to two values of '{what}'; delete the file and evaluate again")
    traits = {what: Coded.of(table.column(what).cast("string").fill_null("")) for what in table.column_names if what not in COLUMNS}
    for what, column in traits.items():
        if two_values(image, column) is not None:
            raise ReportError(f"predictions of {name}: a unit belongs to two values of '{what}'; delete the file and evaluate again")
    return matrices(image, label, truth, score, owners, traits)


def matrices(
    image: Coded, label: Coded, truth: np.ndarray, score: np.ndarray, owners: Mapping[str, Coded], traits: Mapping[str, Coded] | None = None
) -> Predictions:
    """Lay checked rows out as matrices. `owners` holds patient and study, `traits` the declared columns; each has one value a unit."""
    shape = (len(image.texts), len(label.texts))
    place = image.codes * shape[1] + label.codes
    truths, scores = np.full(shape[0] * shape[1], -1, np.int8), np.full(shape[0] * shape[1], np.nan, score.dtype)
    truths[place], scores[place] = truth, score
    return Predictions(
        units=image.texts,
        patients=of_units(image, owners["patient"]),
        studies=of_units(image, owners["study"]),
        labels=tuple(label.texts.tolist()),
        truth=truths.reshape(shape),
        score=scores.reshape(shape),
        traits={name: of_units(image, column) for name, column in sorted((traits or {}).items())},
    )


def _table(path: Path, name: str) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        texts = set(parquet.read_schema(path).names) & {*TEXTS, STRUCTURE}
        table = parquet.read_table(path, read_dictionary=sorted(texts))
    except (pa.ArrowInvalid, OSError) as error:
        raise ReportError(f"predictions of {name} cannot be read ({path}): {str(error).splitlines()[0]}; evaluate again") from error
    needed = NEEDED if MARK in table.column_names else COLUMNS
    lacking = [column for column in needed if column not in table.column_names]
    if lacking:
        raise ReportError(f"predictions of {name} cannot be read ({path}): there is no column '{lacking[0]}'; evaluate again")
    if not table.num_rows:
        raise ReportError(f"predictions of {name}: the file has no row ({path}); the split is empty, or has no known truth of any label")
    for column in table.column_names:
        _check_column(table.column(column), column, name)
    return table


def _check_column(values: Any, column: str, name: str) -> None:
    """Refuse a column of the wrong kind, and one of ids with a gap. Raises ReportError naming the run."""
    import pyarrow as pa

    kind = values.type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if column in NUMBERS and not is_number:
        raise ReportError(f"predictions of {name}: column '{column}' holds {kind} and must hold numbers; evaluate again")
    if column in IDS and values.null_count:
        raise ReportError(f"predictions of {name}: '{column}' is empty in {values.null_count:,} rows; evaluate again")
