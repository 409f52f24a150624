"""Predictions that cannot be trusted are refused in one sentence that names the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.errors import ReportError
from orchestrator.report.predictions import read_predictions

GOOD: dict[str, Any] = {
    "image": ["b", "a", "a", "c"],
    "patient": ["p2", "p1", "p1", "p1"],
    "study": ["s", "s", "s", "t"],
    "label": ["edema", "edema", "mass", "mass"],
    "truth": np.array([1, 0, 1, 0], np.int8),
    "score": np.array([0.5, -1.0, 2.0, 0.25], np.float32),
}


def write(folder: Path, **changed: Any) -> Path:
    columns = {name: values for name, values in {**GOOD, **changed}.items() if values is not None}
    pq.write_table(pa.table(columns), folder / "predictions.parquet")
    return folder / "predictions.parquet"


def test_long_rows_become_matrices_in_the_order_of_ids(tmp_path: Path) -> None:
    found = read_predictions(write(tmp_path), "a run")
    assert found.units.tolist() == ["a", "b", "c"]
    assert found.patients.tolist() == ["p1", "p2", "p1"]
    assert found.labels == ("edema", "mass")
    assert found.truth.tolist() == [[0, 1], [1, -1], [-1, 0]]
    np.testing.assert_array_equal(found.score, np.array([[-1.0, 2.0], [0.5, np.nan], [np.nan, 0.25]], np.float32))
    assert found.clusters("patient").tolist() == [0, 1, 0]
    assert found.only(["edema"]).units.tolist() == ["a", "b"]
    assert found.only(["edema"]).frame_digest() != found.frame_digest()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"truth": np.array([1, 0, 2, 0], np.int8)}, "a truth is neither 0 nor 1"),
        ({"truth": np.array([1, 0, 0.5, 0])}, "a truth is neither 0 nor 1"),
        ({"score": np.array([0.5, np.nan, 2.0, 0.1], np.float32)}, "1 scores are not finite"),
        ({"label": ["edema", "edema", "edema", "mass"]}, "a unit is scored twice for one label"),
        ({"patient": ["p2", "p1", "p9", "p1"]}, "a unit belongs to two values of 'patient'"),
        ({"score": None}, "cannot be read"),
    ],
)
def test_what_cannot_be_trusted_is_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ReportError, match=message) as caught:
        read_predictions(write(tmp_path, **changed), "made/x (0123)")
    assert "made/x (0123)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    path.write_bytes(b"PAR1 torn")
    with pytest.raises(ReportError, match="cannot be read"):
        read_predictions(path, "a run")


def test_texts_that_no_row_has_are_no_units(tmp_path: Path) -> None:
    """A table written with categories, in two row groups with dictionaries of their own, is read as the same of plain text."""
    plain = {
        "image": ["b", "a", "c", "b", "a", "c"],
        "patient": ["q", "p", "q", "q", "p", "q"],
        "study": ["s", "r", "s", "s", "r", "s"],
        "label": ["x", "x", "x", "y", "y", "y"],
    }
    numbers = {"truth": [1, 0, 1, 0, 0, 1], "score": [0.5, -1.0, 2.0, 0.0, 1.0, 0.25]}
    pq.write_table(pa.table({**plain, **numbers}), tmp_path / "plain.parquet", row_group_size=2)
    names = ["none", "c", "b", "a", "q", "p", "s", "r", "y", "x"]
    coded = {name: pa.DictionaryArray.from_arrays([names.index(one) for one in column], names) for name, column in plain.items()}
    pq.write_table(pa.table({**coded, **numbers}), tmp_path / "coded.parquet", row_group_size=4)
    one, other = (read_predictions(tmp_path / f"{name}.parquet", name) for name in ("plain", "coded"))
    assert one.units.tolist() == ["a", "b", "c"]
    assert other.labels == one.labels == ("x", "y")
    assert other.frame_digest() == one.frame_digest()
    np.testing.assert_array_equal(other.score, one.score)
    pq.write_table(pa.table({**plain, **numbers}).slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(ReportError, match="predictions of empty: the file has no row"):
        read_predictions(tmp_path / "empty.parquet", "empty")
