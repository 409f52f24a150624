"""Files as people have them: read for what they are, or refused in one sentence that names the line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.errors import ReportError
from orchestrator.report.files.blocks import read_block
from orchestrator.report.files.sheet import read_sheet

PLAIN = "image,patient,label,truth,score\n0001,7,edema,1,0.5\n0002,8,edema,0,-1.25\n"


def write(folder: Path, content: str | bytes, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r\n\r\n"),
        PLAIN.rstrip("\n"),
        "\ufeff" + PLAIN,
        PLAIN.encode("utf-16"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        gzip.compress(PLAIN.encode(), mtime=0),
        PLAIN.replace("0001,7", ' "0001" , 7 ').replace(' "0001" ', '"0001"'),
        PLAIN.replace(",1,", ",1.0,").replace(",0,", ",False,"),
        PLAIN.replace("patient", " patient "),
    ],
    ids=["plain", "windows", "blank lines", "no last newline", "bom", "utf-16", "semicolons", "tabs", "gzip", "quotes", "truths", "blanks"],
)
def test_every_common_way_of_writing_it_is_the_same_table(tmp_path: Path, content: str | bytes) -> None:
    block = read_block(read_sheet(write(tmp_path, content)))
    assert block.image.texts[block.image.codes].tolist() == ["0001", "0002"]
    assert block.owners["patient"].texts.tolist() == ["7", "8"]
    assert block.values["truth"].tolist() == [1, 0]
    assert block.values["score"].tolist() == [0.5, -1.25]


def test_parquet_of_any_types_is_the_same_table(tmp_path: Path) -> None:
    table = pa.table(
        {
            "image": pa.array(["0001", "0002"]).dictionary_encode(),
            "patient": np.array([7, 8]),
            "label": ["edema", "edema"],
            "truth": [True, False],
            "score": np.array([0.5, -1.25], np.float32),
        }
    )
    pq.write_table(table, tmp_path / "odd name")
    block = read_block(read_sheet(tmp_path / "odd name"))
    assert block.owners["patient"].texts.tolist() == ["7", "8"]
    assert (block.values["truth"].tolist(), block.values["score"].tolist()) == ([1, 0], [0.5, -1.25])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("image,patient,label,truth,score\n", "has a header and no rows"),
        (PLAIN.replace("score", "prob"), "no column 'score' among image, patient, label, truth, prob: add it: the model's number"),
        (PLAIN.replace("label", "Label "), "no column 'label' among.*rename 'Label'"),
        (PLAIN.replace("patient", "image"), "column 'image' stands there twice"),
        (PLAIN.replace(",1,0.5", ",2,0.5"), r"a\.csv, line 2: 'truth' is 2 \(1 such rows\); write 1 or 0"),
        (PLAIN.replace(",0,-1.25", ",,-1.25"), r"a\.csv, line 3: 'truth' is empty"),
        (PLAIN.replace(",0,-1.25", ",maybe,-1.25"), r"a\.csv, line 3: 'truth' is 'maybe', which is no number; write 0 or 1"),
        (PLAIN.replace("-1.25", "nan"), r"a\.csv, line 3: 'score' is NaN or empty \(1 such rows\); no measure can rank it"),
        (PLAIN.replace("-1.25", ""), r"a\.csv, line 3: 'score' is NaN or empty"),
        (PLAIN.replace("-1.25", "-inf"), r"a\.csv, line 3: 'score' is -inf"),
        (PLAIN.replace("-1.25", "1_0"), "'score' is '1_0', which is no number"),
        (PLAIN.replace(",", ";").replace("0.5", "0,5"), "'score' is '0,5', which is no number; write a number; write a decimal point, not"),
        (PLAIN.replace("0002", ""), r"a\.csv, line 3: 'image' is empty; every row needs one"),
        (PLAIN.replace("8,edema", "8,ede,ma"), r"line 3 has 6 entries and the header 5; put quotes around"),
        (PLAIN.replace("0002", "0\0002"), r"a\.csv, line 3: holds a NUL byte"),
        (PLAIN.encode().replace(b"8,edema", b"8,\xe9dema"), r"a\.csv, line 3: is not in UTF-8 \(byte 0xe9\); save it as CSV in UTF-8"),
        (b"PK\x03\x04rest", "is a spreadsheet or a zip file; save it as CSV in UTF-8"),
        (b"PAR1torn", "is no whole parquet file"),
        (gzip.compress(PLAIN.encode(), mtime=0)[:-9], "is a torn gzip file"),
        (
            PLAIN.replace("score\n", "score,split\n").replace("0.5\n", "0.5,test\n").replace("5\n", "5,train\n"),
            "'split' is 'train'; write test",
        ),
        (
            PLAIN.replace("score\n", "score,fraction\n").replace("0.5\n", "0.5,1.5\n").replace("25\n", "25,1\n"),
            "'fraction' is 1.5; it is which",
        ),
        (PLAIN.replace("score\n", "score,n_labeled\n").replace("0.5\n", "0.5,2.5\n").replace("25\n", "25,1\n"), "'n_labeled' is 2.5"),
    ],
)
def test_what_cannot_be_trusted_is_refused_by_line(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(ReportError, match=said) as caught:
        read_block(read_sheet(write(tmp_path, content)))
    assert "a.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    content = 'image,label,truth,score\n\n"a\nb",edema,1,0.5\n\nc,edema,3,0.1\n'
    with pytest.raises(ReportError, match=r"a\.csv, line 6: 'truth' is 3"):
        read_block(read_sheet(write(tmp_path, content)))


def test_a_row_of_parquet_is_named(tmp_path: Path) -> None:
    table = pa.table({"image": ["a", "b"], "label": ["x", "x"], "truth": [1, None], "score": [0.1, 0.2]})
    pq.write_table(table, tmp_path / "b.parquet")
    with pytest.raises(ReportError, match=r"b\.parquet, row 2: 'truth' is empty"):
        read_block(read_sheet(tmp_path / "b.parquet"))
    pq.write_table(table.set_column(0, "image", pa.array([[1], [2]])), tmp_path / "b.parquet")
    with pytest.raises(ReportError, match=r"column 'image' holds list<.*>, which is no text"):
        read_block(read_sheet(tmp_path / "b.parquet"))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="there is no such file"):
        read_sheet(tmp_path / "none.csv")
    with pytest.raises(ReportError, match="is a folder; name the files in it"):
        read_sheet(tmp_path)
