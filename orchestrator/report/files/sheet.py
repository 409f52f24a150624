"""A table from somebody's disk, CSV or parquet: columns of text and of numbers, and where each row stands for errors to name."""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.errors import ReportError
from orchestrator.report.frames import Coded

SEPARATORS = (",", ";", "\t")
_SAVE_AS = "save it as CSV in UTF-8, or as parquet"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One file's table. Columns are read when they are asked for."""

    #: The file's name, without its folder.
    name: str
    table: Any
    #: The text of a CSV and its separator, to count lines in; None for parquet.
    text: str | None
    separator: str = ","

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        return tuple(self.table.column_names)

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return int(self.table.num_rows)

    def at(self, row: int) -> str:
        """Say where a row stands: the line of a CSV, header included, or the row of a parquet file; both count from 1."""
        if self.text is None:
            return f"{self.name}, row {row + 1}"
        lines = _records(self.text, self.separator)
        filled = 0
        for cells in lines:
            filled += bool(cells)
            if filled == row + 2:
                break
        return f"{self.name}, line {lines.line_num}"

    def require(self, names: Sequence[str], advice: dict[str, str]) -> None:
        """Refuse a file without a column. Raises ReportError naming what there is instead."""
        for name in names:
            if name in self.columns:
                continue
            near = difflib.get_close_matches(name, [one.strip().lower() for one in self.columns], n=1, cutoff=0.7)
            written = next((one for one in self.columns if near and one.strip().lower() == near[0]), None)
            hint = f"rename '{written}'" if written is not None else advice[name]
            raise ReportError(f"{self.name}: no column '{name}' among {', '.join(self.columns)}: {hint}")

    def texts(self, name: str) -> Coded:
        """Return a column as texts without blanks around them. Raises ReportError at an empty one."""
        found = self.texts_or_blank(name)
        if len(found.texts) and found.texts[0] == "":
            row = int(np.flatnonzero(found.codes == 0)[0])
            raise ReportError(f"{self.at(row)}: '{name}' is empty; every row needs one")
        return found

    def texts_or_blank(self, name: str) -> Coded:
        """Return a column as texts, empty where there is none."""
        import pyarrow as pa
        import pyarrow.compute as pc

        column = self.table.column(name)
        try:
            text = pc.call_function("cast", [column], pc.CastOptions(target_type=pa.string()))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ReportError(f"{self.name}: column '{name}' holds {column.type}, which is no text; write it as text") from error
        filled = pc.call_function("coalesce", [text, pa.scalar("")])
        return Coded.of(pc.call_function("utf8_trim_whitespace", [filled]))

    def numbers(self, name: str, what: str) -> np.ndarray:
        """Return a column as float64; an empty entry is NaN. Raises ReportError at what is no number, saying `what` it must be."""
        import pyarrow as pa

        column = self.table.column(name)
        if pa.types.is_boolean(column.type) or pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), np.float64)
        coded = self.texts_or_blank(name)
        values = np.array([_number(text) for text in coded.texts.tolist()], dtype=object)
        bad = np.array([value is None for value in values], dtype=bool)
        if bad.any():
            row = int(np.flatnonzero(bad[coded.codes])[0])
            text = str(coded.texts[coded.codes[row]])
            comma = "; write a decimal point, not a comma" if _number(text.replace(",", ".")) is not None else ""
            raise ReportError(f"{self.at(row)}: '{name}' is '{text}', which is no number; write {what}{comma}")
        return values.astype(np.float64)[coded.codes]


def _number(text: str) -> float | None:
    if text == "":
        return float("nan")
    if text.lower() in ("true", "false"):
        return float(text.lower() == "true")
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def read_sheet(path: Path) -> Sheet:
    """Read a file by what it is, not by what it is called. Raises ReportError on what is no table, with what to do."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ReportError(f"{path}: there is no such file") from error
    except IsADirectoryError as error:
        raise ReportError(f"{path}: is a folder; name the files in it, such as {path}/*.csv") from error
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror or error})") from error
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise ReportError(f"{path}: is a torn gzip file ({error}); copy it again") from error
    if not content.strip():
        raise ReportError(f"{path}: is empty; write a header line and one row for each image and label")
    try:
        sheet = _parquet(path.name, content) if content.startswith(b"PAR1") else _csv(path.name, content)
    except csv.Error as error:
        raise ReportError(f"{path}: is no CSV file ({error}); {_SAVE_AS}") from error
    twice = [name for name, count in Counter(sheet.columns).items() if count > 1]
    if twice:
        raise ReportError(f"{path}: column '{twice[0]}' stands there twice; remove one")
    if not sheet.rows:
        raise ReportError(f"{path}: has a header and no rows; write one row for each image and label")
    return sheet


def _parquet(name: str, content: bytes) -> Sheet:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return Sheet(name=name, table=parquet.read_table(pa.BufferReader(content)), text=None)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise ReportError(f"{name}: is no whole parquet file ({_first_line(error)}); write it again") from error


def _csv(name: str, content: bytes) -> Sheet:
    text = _decoded(name, content)
    header = next((line for line in re.split(r"[\r\n]+", text) if line.strip()), "")
    separator = max(SEPARATORS, key=lambda one: (_cells(header, one).count("image"), header.count(one)))
    return Sheet(name=name, table=_csv_table(name, text, separator), text=text, separator=separator)


def _records(text: str, separator: str) -> Any:
    """Read a text record by record, whatever ends its lines."""
    return csv.reader(io.StringIO(text, newline=None), delimiter=separator)


def _cells(header: str, separator: str) -> list[str]:
    return [cell.strip().lower() for cell in next(csv.reader([header], delimiter=separator), [])]


def _decoded(name: str, content: bytes) -> str:
    if content.startswith(b"PK\x03\x04"):
        raise ReportError(f"{name}: is a spreadsheet or a zip file; {_SAVE_AS}")
    try:
        if content.startswith(_WIDE_BOMS):
            return content.decode("utf-16")
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ReportError(f"{name}, line {line}: is not in UTF-8 (byte {content[error.start]:#04x}); {_SAVE_AS}") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ReportError(f"{name}, line {line}: holds a NUL byte, so it is no text; {_SAVE_AS}")
    return text


def _csv_table(name: str, text: str, separator: str) -> Any:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    lines = _records(text, separator)
    header = next((cells for cells in lines if cells), [])
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(text.encode()),
            read_options=arrow_csv.ReadOptions(use_threads=False, block_size=max(1 << 20, len(text.encode()) + 1)),
            parse_options=arrow_csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            # All is text: an id such as 0001 must not become a number, and a wrong number is named by its row.
            convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False),
        )
    except pa.ArrowInvalid as error:
        raise ReportError(f"{name}: {_ragged(text, separator) or _first_line(error)}") from error
    return table.rename_columns([one.strip() for one in table.column_names])


def _ragged(text: str, separator: str) -> str:
    """Say which line first has another number of entries than the header."""
    lines = _records(text, separator)
    wanted = 0
    for cells in lines:
        wanted = wanted or len(cells)
        if cells and len(cells) != wanted:
            hint = "put quotes around an entry that holds the separator"
            return f"line {lines.line_num} has {len(cells)} entries and the header {wanted}; {hint}"
    return ""


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
