"""Label files read strictly: every fault is named with its file and line, and nothing is guessed.

Readers find columns by name and collect rows in `Collected`, which refuses an image that is named twice.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.data.access import Rows
from trainers.data.cards import Card
from trainers.errors import DataError

if TYPE_CHECKING:
    import numpy as np

#: What stands for "not mentioned"; the words are what spreadsheets and pandas write for an empty cell.
BLANK = frozenset({"", "nan", "na", "n/a", "null", "none"})
_NUMBERS: Mapping[str, float] = {"1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0, "-1": -1.0, "-1.0": -1.0}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a table: cells by column name, and where it stands."""

    file: Path
    number: int
    cells: Mapping[str, str]

    @property
    def place(self) -> str:
        """Return where the row stands, for a sentence."""
        return f"{self.file}:{self.number}"

    def text(self, column: str) -> str:
        """Return a cell without the blanks around it. Raises DataError when it is empty."""
        value = self.cells[column].strip()
        if not value:
            raise DataError(f"{self.place}: '{column}' is empty")
        return value

    def label(self, column: str) -> float:
        """Return 1, 0, -1 (uncertain) or NaN (nothing there). Raises DataError for anything else."""
        value = self.cells[column].strip()
        if value.lower() in BLANK:
            return math.nan
        if value not in _NUMBERS:
            raise DataError(f"{self.place}: '{column}' is '{value}', and may be 1, 0, -1 or nothing")
        return _NUMBERS[value]

    def finite(self, column: str) -> float:
        """Return a cell as a number. Raises DataError when it is none, or not finite."""
        value = self.text(column)
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise DataError(f"{self.place}: '{column}' is '{value}', and has to be a number")
        return number


def read_table(card: Card, file: Path, needed: Sequence[str] = (), *, delimiter: str = ",") -> Iterator[Line]:
    """Yield the rows of a CSV file (`.gz` is unpacked), blank lines left out. Raises DataError with file, line and what to do.

    Columns are found by their names without the blanks around them. Lines may end as they do on Windows; text is UTF-8, with or without
    a byte-order mark. A row of too few or too many cells, a column that is there twice and a NUL byte are faults; columns without a name at
    the end of a header, which spreadsheets leave, may be missing from rows.
    """
    rows = csv.reader(io.StringIO(read_text(card, file), newline=""), delimiter=delimiter, strict=True)
    try:
        header = next((cells for cells in rows if cells), None)
        if header is None:
            raise DataError(f"{file}: is empty: copy it again from the release of '{card.name}'")
        names = _header(file, header, needed)
        named = max(at for at, name in enumerate(names, start=1) if name) if any(names) else 0
        for cells in rows:
            if not cells:
                continue
            if named <= len(cells) < len(names):
                cells += [""] * (len(names) - len(cells))
            if len(cells) != len(names):
                raise DataError(f"{file}:{rows.line_num}: has {len(cells)} fields, the header has {len(names)}")
            yield Line(file, rows.line_num, dict(zip(names, cells, strict=True)))
    except csv.Error as error:
        raise DataError(f"{file}:{rows.line_num}: is not a CSV file: {error}") from error


def read_lines(card: Card, file: Path, needed: Sequence[str] = ()) -> tuple[str, Iterator[tuple[Line, str]]]:
    """Return the header of a CSV file as it stands there, and each row with its text, for a copy of some of its rows."""
    # As the reader of the table counts them.
    lines = [line.rstrip("\r\n") for line in io.StringIO(read_text(card, file), newline="")]
    start = next((at for at, line in enumerate(lines) if line.strip()), 0)

    def rows() -> Iterator[tuple[Line, str]]:
        done = start + 1
        for line in read_table(card, file, needed):
            yield line, "\n".join(lines[done : line.number]).lstrip("\n")
            done = line.number

    return lines[start] if lines else "", rows()


def read_text(card: Card, file: Path) -> str:
    """Return a text file (`.gz` is unpacked). Raises DataError when it is not there, cannot be read, or is not UTF-8."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise DataError(f"data set '{card.name}' has no {file.name} in {file.parent}: is this the folder that holds it?") from None
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}): check the disk and the permissions") from error
    if file.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, ValueError) as error:
            raise DataError(f"{file}: is no whole gzip file: copy it again from the release of '{card.name}'") from error
    if content.startswith(_UTF16):
        raise DataError(f"{file}: is UTF-16: save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{file}:{line}: is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    if "\0" in text:
        raise DataError(f"{file}:{text[: text.index(chr(0))].count(chr(10)) + 1}: holds a NUL byte: copy it again from the release")
    return text


def _header(file: Path, header: Sequence[str], needed: Sequence[str]) -> list[str]:
    names = [name.strip() for name in header]
    for name in names:
        if name and names.count(name) > 1:
            raise DataError(f"{file}: has the column '{name}' twice: remove one")
    for name in needed:
        if name not in names:
            raise DataError(f"{file}: has no column '{name}' (it has {', '.join(filter(None, names))})")
    return names


@dataclass(slots=True)
class Collected:
    """Rows as a reader finds them, image by image."""

    card: Card
    images: list[str] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    studies: list[str] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    labels: list[Sequence[float] | np.ndarray] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    traits: dict[str, list[str]] = field(default_factory=dict)
    #: Image -> where it was named, for the sentence about a second time.
    seen: dict[str, str] = field(default_factory=dict)

    def add(
        self,
        image: str,
        *,
        patient: str,
        labels: Sequence[float] | np.ndarray,
        place: str,
        study: str = "",
        view: str = "frontal",
        given: str = "",
        traits: Mapping[str, str] | None = None,
    ) -> None:
        """Add one image; its study is itself unless one is named. Raises DataError when it was named before."""
        if image in self.seen:
            raise DataError(f"{place}: {image} is already named at {self.seen[image]}: remove one of the two lines")
        self.seen[image] = place.rpartition("/")[2]
        self.images.append(image)
        self.patients.append(patient)
        self.studies.append(study or image)
        self.views.append(view)
        self.labels.append(labels)
        self.given.append(given)
        for name, column in self.card.traits.items():
            self.traits.setdefault(name, []).append((traits or {}).get(column, "").strip())

    def rows(self) -> Rows:
        """Return what was collected, in that order."""
        import numpy as np

        count, names = len(self.images), self.card.label_names
        return Rows(
            card=self.card.name,
            images=np.array(self.images, dtype=str),
            patients=np.array(self.patients, dtype=str),
            studies=np.array(self.studies, dtype=str),
            views=np.array(self.views, dtype=str),
            labels=np.array(self.labels, dtype=np.float32).reshape(count, len(names)),
            label_names=names,
            position=np.arange(count, dtype=np.int64),
            traits={name: np.array(self.traits.get(name, []), dtype=str) for name in self.card.traits},
            given=np.array(self.given, dtype=str) if any(self.given) else None,
        )
