"""Tables of vectors: every layout gives the same vectors, ids meet the card's names or are refused, and nothing comes in unseen."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainers.data.vectors import read_vectors
from trainers.errors import DataError

N, D = 12, 5
IDS = [f"{index:05d}" for index in range(N)]
VALUES = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


def frame(ids: list[str] = IDS, column: str = "image") -> pd.DataFrame:
    return pd.DataFrame({column: ids, **{f"e{index:04d}": VALUES[: len(ids), index] for index in range(D)}})


def in_lists(kind: pa.DataType, path: Path) -> None:
    lists = pa.array(VALUES.tolist(), kind)
    pq.write_table(pa.table({"patient": ["p"] * N, "age": list(range(N)), "image_id": IDS, "vector": lists}), path, row_group_size=5)


def in_csv(path: Path, sep: str = ",") -> None:
    frame().assign(split="train", patient=7).to_csv(path, index=False, sep=sep)


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "columns.parquet": lambda path: frame().to_parquet(path),
    "fixed.parquet": lambda path: in_lists(pa.list_(pa.float32(), D), path),
    "lists.pq": lambda path: in_lists(pa.list_(pa.float64()), path),
    "large.parquet": lambda path: in_lists(pa.large_list(pa.float32()), path),
    "table.csv": in_csv,
    "table.tsv": lambda path: in_csv(path, sep="\t"),
    "table.csv.gz": in_csv,
    "arrays.npz": lambda path: np.savez(path, ids=np.array(IDS), vectors=VALUES.astype(np.float64), when=np.array(3)),
    "bytes.npz": lambda path: np.savez(path, image=np.array(IDS, "S5"), other=np.array(["x"]), vectors=VALUES),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_vectors_in_the_order_asked_for(name: str, tmp_path: Path) -> None:
    LAYOUTS[name](tmp_path / name)
    table = read_vectors(tmp_path / name, "made")
    order = np.random.default_rng(1).permutation(N)[:7]
    found = table.of(np.array(IDS)[order])
    assert found.dtype == np.float32 and np.allclose(found, VALUES[order], atol=1e-6)
    assert table.facts() == {"vectors": N, "dimension": D, "used": 7, "unused": 5, "joined_by_file_name": 0}


def written(tmp_path: Path, ids: list[str], **columns: object) -> Path:
    frame(ids).assign(**columns).to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


def test_ids_may_leave_out_folders_and_endings_or_have_more_of_them(tmp_path: Path) -> None:
    file = written(tmp_path, ["a/one.dcm", "two", "CheXpert/train/p1/s1/view1_frontal.jpg", "p1/s2/view1_frontal", "1.2.840.7"])
    table = read_vectors(file, "made")
    wanted = ["x/a/one.png", "b/two.jpeg", "p1/s1/view1_frontal.jpg", "p1/s2/view1_frontal.jpg", "1.2.840.7.dcm"]
    assert np.allclose(table.of(np.array(wanted)), VALUES[:5], atol=1e-6)
    assert table.facts()["joined_by_file_name"] == 5


def test_an_exact_id_comes_before_one_of_the_same_file_name(tmp_path: Path) -> None:
    table = read_vectors(written(tmp_path, ["a/x.png", "x.png", "b/x.png"]), "made")
    assert np.allclose(table.of(np.array(["x.png", "b/x.png"])), VALUES[[1, 2]], atol=1e-6)


@pytest.mark.parametrize(
    ("ids", "wanted", "said"),
    [
        (
            ["a", "b"],
            ["a", "c", "d", "e", "f"],
            "4 of 5 images of card 'made' have no vector, the first are c, d, e (ids here look like a, b)",
        ),
        (["p1/x.png", "p2/x.png"], ["x.png"], "image x.png of card 'made' may be any of p1/x.png, p2/x.png"),
        (["p1/x.png"], ["p2/x.png"], "1 of 1 images of card 'made' have no vector"),
        (["x"], ["p1/x.png", "p2/x.png"], "id x fits several images of card 'made' (p1/x.png, p2/x.png)"),
        (["a", "b", "a", "b", "a"], ["a"], "2 ids are there more than once, the first is a; keep one row of each"),
    ],
)
def test_ids_that_do_not_fit_are_refused(ids: list[str], wanted: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_vectors(written(tmp_path, ids), "made").of(np.array(wanted))
    assert said in str(caught.value) and str(tmp_path / "t.csv") in str(caught.value)


@pytest.mark.parametrize("value", [None, "nan", "inf"])
def test_a_gap_is_an_error_where_it_is_asked_for(value: str | None, tmp_path: Path) -> None:
    table = frame()
    table["e0002"] = table["e0002"].astype(object)
    table.loc[3, "e0002"] = value
    table.to_csv(tmp_path / "t.csv", index=False)
    found = read_vectors(tmp_path / "t.csv", "made")
    assert len(found.of(np.array([name for name in IDS if name != IDS[3]]))) == N - 1
    with pytest.raises(DataError, match=f"vectors of 1 of 12 images hold NaN or infinity, the first is {IDS[3]}"):
        found.of(np.array(IDS))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"Sex": "F"}, "column 'Sex' is no number: drop it, or correct what is in it"),
        ({"Age": 60}, "column 'Age' is not one of the numbered columns e0, e1, ...: drop it, for no feature comes in unseen"),
        ({"f0001": 60}, "column 'f0001' is not one of the numbered columns e0, e1"),
    ],
)
def test_no_column_becomes_a_feature_by_accident(columns: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        read_vectors(written(tmp_path, IDS, **columns), "made")


def test_a_column_of_cards_keeps_the_tables_of_two_apart(tmp_path: Path) -> None:
    both = pd.concat([frame().assign(card="made"), frame().assign(card="other", e0000=9.0)])
    both.to_parquet(tmp_path / "t.parquet")
    assert np.allclose(read_vectors(tmp_path / "t.parquet", "made").of(np.array(IDS)), VALUES)
    assert (read_vectors(tmp_path / "t.parquet", "other").of(np.array(IDS))[:, 0] == 9).all()
    with pytest.raises(DataError, match="never says 'third', it says made, other"):
        read_vectors(tmp_path / "t.parquet", "third")


def test_the_id_column_is_asked_for_where_it_is_not_plain(tmp_path: Path) -> None:
    frame(column="dicom").assign(more="x").to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match="which column holds the image ids"):
        read_vectors(tmp_path / "t.csv", "made")
    frame(column="dicom").to_csv(tmp_path / "t.csv", index=False)
    for asked in ("", "dicom"):
        assert np.allclose(read_vectors(tmp_path / "t.csv", "made", asked).of(np.array(IDS)), VALUES, atol=1e-6)
    with pytest.raises(DataError, match="there is no column 'image'"):
        read_vectors(tmp_path / "t.csv", "made", "image")


def test_what_is_no_table_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"")[:-4])
    (tmp_path / "c.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "d.txt").write_text("a 1")
    (tmp_path / "e.csv").write_text("")
    np.savez(tmp_path / "f.npz", ids=np.array(IDS[:3]), vectors=VALUES)
    np.savez(tmp_path / "g.npz", vectors=VALUES)
    np.savez(tmp_path / "h.npz", ids=np.array([{"a": 1}], dtype=object), vectors=VALUES)
    pq.write_table(pa.table({"image": ["a", "b"], "v": [[1.0], [1.0, 2.0]]}), tmp_path / "i.parquet")
    pq.write_table(pa.table({"image": ["a", "b"], "v": [[1.0], None]}), tmp_path / "j.parquet")
    pq.write_table(pa.table({"image": ["a", None], "v": [[1.0], [2.0]]}), tmp_path / "k.parquet")
    pq.write_table(pa.table({"image": ["a"], "v": [[1.0]], "w": [[1.0]]}), tmp_path / "l.parquet")
    pq.write_table(pa.table({"image": ["a"]}), tmp_path / "m.parquet")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(DataError, match=path.name):
            read_vectors(path, "made")
