"""Vectors that somebody else computed: a table of image ids and numbers, joined on the images of a card, or refused.

Parquet and csv hold an id column and either one column of lists or a column for each number; npz holds one array of ids and one of
vectors. Where there is a column `card`, only the rows of the card at hand count.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pyarrow.types as kinds
from numpy.typing import NDArray

from trainers.errors import DataError

_LOG = logging.getLogger(__name__)
#: Columns that hold ids, most telling first, and columns that hold no feature whatever their type.
IDS = ("image", "image_id", "imageid", "id", "ids", "filename", "file", "path", "name", "dicom_id")
_ASIDE = frozenset({"card", "patient", "patient_id", "study", "study_id", "split", "label", "unnamed: 0", "", "index", "__index_level_0__"})
_CARD = "card"
_FILE_ENDING = re.compile(r"\.(png|jpe?g|dcm|dicom|tiff?|bmp|npy|gz)$", re.IGNORECASE)
#: A column that holds one number of a vector: `e0000`, `feature_12`, `7`.
_NUMBERED = re.compile(r"(.*?)(\d+)")
#: How many ids an error names.
_NAMED = 3


@dataclass(slots=True, kw_only=True)
class Vectors:
    """The vectors of a table, by image id."""

    file: Path
    card: str
    ids: list[str]
    values: NDArray[np.float32]  # (n, d)
    _rows: dict[str, int] = field(default_factory=dict)
    _by_stem: dict[str, list[int]] = field(default_factory=dict)
    _used: set[int] = field(default_factory=set)
    _by_name: int = 0

    def __post_init__(self) -> None:
        self._rows = {name: row for row, name in enumerate(self.ids)}
        if len(self._rows) < len(self.ids):
            twice = list(dict.fromkeys(name for row, name in enumerate(self.ids) if self._rows[name] != row))
            raise DataError(f"{self.file}: {len(twice):,} ids are there more than once, the first is {twice[0]}; keep one row of each")

    @property
    def dimension(self) -> int:
        """Return how many numbers a vector has."""
        return self.values.shape[1]

    def sentence(self) -> str:
        """Return what the table is, as one line for a log."""
        return f"{self.file}: {len(self.ids):,} vectors of {self.dimension:,} numbers"

    def facts(self) -> dict[str, Any]:
        """Return counts for a result: vectors there, their width, how many were asked for, how many of these by a shorter name."""
        used = len(self._used)
        return {
            "vectors": len(self.ids),
            "dimension": self.dimension,
            "used": used,
            "unused": len(self.ids) - used,
            "joined_by_file_name": self._by_name,
        }

    def of(self, images: NDArray[np.str_]) -> NDArray[np.float32]:
        """Return the vectors of images, (n, d), in their order.

        An id is the card's name of the image, or ends as it does: folders that one of the two leaves out, and the ending of an image
        file, do not count where a single vector fits. Raises DataError naming images without a vector, or with several, and vectors
        that are not finite.
        """
        found = [self._row_of(name) for name in images.tolist()]
        self._refuse_missing(images.tolist(), found)
        rows = np.array([row for row in found if row is not None], np.int64)
        self._refuse_shared(images.tolist(), rows)
        vectors = self.values[rows]
        faulty = np.flatnonzero(~np.isfinite(vectors).all(1))
        if len(faulty):
            raise DataError(
                f"{self.file}: the vectors of {len(faulty):,} of {len(rows):,} images hold NaN or infinity, the first is "
                f"{images[faulty[0]]}; leave no gap in the table"
            )
        before = len(self._used)
        self._used.update(rows.tolist())
        if not before and len(self._used) < len(self.ids):
            _LOG.info("%s: %s vectors are of images that are not asked for here", self.file, f"{len(self.ids) - len(self._used):,}")
        return vectors

    def _row_of(self, name: str) -> int | None:
        row = self._rows.get(name)
        if row is not None:
            return row
        if not self._by_stem:
            for other, place in self._rows.items():
                self._by_stem.setdefault(_parts(other)[-1], []).append(place)
        parts = _parts(name)
        fitting = [row for row in self._by_stem.get(parts[-1], ()) if _end_alike(parts, _parts(self.ids[row]))]
        if len(fitting) > 1:
            names = ", ".join(self.ids[row] for row in fitting[:_NAMED])
            raise DataError(
                f"{self.file}: image {name} of card '{self.card}' may be any of {names}: give the ids the card's names of its images"
            )
        self._by_name += len(fitting)
        return fitting[0] if fitting else None

    def _refuse_missing(self, names: Sequence[str], found: Sequence[int | None]) -> None:
        gone = [name for name, row in zip(names, found, strict=True) if row is None]
        if gone:
            raise DataError(
                f"{self.file}: {len(gone):,} of {len(names):,} images of card '{self.card}' have no vector, the first are "
                f"{', '.join(gone[:_NAMED])} (ids here look like {', '.join(self.ids[:2]) or 'nothing'}): embed these images too, or give "
                "the ids the card's names of its images"
            )

    def _refuse_shared(self, names: Sequence[str], rows: NDArray[np.int64]) -> None:
        values, counts = np.unique(rows, return_counts=True)
        if (counts > 1).any():
            row = values[counts > 1][0]
            alike = [names[int(at)] for at in np.flatnonzero(rows == row)[:_NAMED]]
            raise DataError(
                f"{self.file}: id {self.ids[row]} fits several images of card '{self.card}' ({', '.join(alike)}): give the ids the card's "
                "names of its images"
            )


def _parts(name: str) -> list[str]:
    """Return the folders and the name of a file, without its ending."""
    *folders, last = name.replace("\\", "/").strip("/").split("/")
    while _FILE_ENDING.search(last):
        last = _FILE_ENDING.sub("", last)
    return [*folders, last]


def _end_alike(one: list[str], other: list[str]) -> bool:
    shared = min(len(one), len(other))
    return one[-shared:] == other[-shared:]


def read_vectors(file: Path, card: str, id_column: str = "") -> Vectors:
    """Read a table of vectors. Raises DataError, saying what to change, for one that is not ids and numbers."""
    name = file.name.lower()
    try:
        if name.endswith(".npz"):
            ids, values = _of_arrays(file, id_column)
            return Vectors(file=file, card=card, ids=ids, values=values)
        if name.endswith((".parquet", ".pq")):
            table = pq.read_table(file)
        elif name.endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz")):
            table = _of_text(file, id_column, "\t" if ".tsv" in name else ",")
        else:
            raise DataError(f"{file}: a table of embeddings is .parquet, .csv, .tsv or .npz")
    except (pa.ArrowException, OSError, ValueError, BadZipFile, EOFError) as error:
        raise DataError(f"{file}: cannot be read as a table of embeddings: {str(error).splitlines()[0]}") from error
    ids_in = _id_column(file, table.schema, id_column)
    if _CARD in table.column_names and _is_text(table.schema.field(_CARD).type):
        said = table.column(_CARD).to_pylist()
        there = sorted(set(said) - {None})
        table = table.filter(pa.array([one == card for one in said], pa.bool_()))
        if not len(table):
            raise DataError(f"{file}: its column 'card' never says '{card}', it says {', '.join(there[:6])}: correct it, or drop it")
    ids = table.column(ids_in).cast(pa.string())
    if ids.null_count:
        raise DataError(f"{file}: {ids.null_count:,} rows have no id in column '{ids_in}': drop them")
    return Vectors(file=file, card=card, ids=ids.to_pylist(), values=_values(file, table, ids_in))


def _id_column(file: Path, schema: pa.Schema, asked: str) -> str:
    """Return the column of ids: the one asked for, or one of a telling name, or the only one that can be nothing else."""
    names = schema.names
    if asked:
        if asked not in names:
            raise DataError(f"{file}: there is no column '{asked}' (config.id_column); there are {', '.join(names[:8])}")
        return asked
    lower = {name.lower(): name for name in reversed(names)}
    for name in IDS:
        if name in lower:
            return lower[name]
    spare = [item.name for item in schema if not (_is_list(item.type) or item.name.lower() in _ASIDE or _NUMBERED.fullmatch(item.name))]
    if len(spare) == 1:
        return spare[0]
    raise DataError(f"{file}: which column holds the image ids? Set id_column; there are {', '.join(names[:8])}")


def _of_text(file: Path, id_column: str, delimiter: str) -> pa.Table:
    """Read a csv file with ids as text, whatever they look like: `00012` is no number."""
    options = csv.ParseOptions(delimiter=delimiter)
    with csv.open_csv(str(file), parse_options=options) as reader:
        found = reader.schema
    read = csv.ConvertOptions(column_types={_id_column(file, found, id_column): pa.string()}, strings_can_be_null=False)
    return csv.read_csv(str(file), parse_options=options, convert_options=read)


def _values(file: Path, table: pa.Table, ids_in: str) -> NDArray[np.float32]:
    """Return the numbers of a table, (n, d): those of its one column of lists, or of all columns that are numbers."""
    fields = [item for item in table.schema if item.name != ids_in and item.name.lower() not in _ASIDE]
    lists = [item for item in fields if _is_list(item.type)]
    if len(lists) > 1:
        raise DataError(f"{file}: {len(lists)} columns hold vectors ({', '.join(item.name for item in lists)}): keep one of them")
    if lists:
        return _of_lists(file, table.column(lists[0].name), lists[0].name)
    words = [item.name for item in fields if not _is_number(item.type)]
    if words:
        raise DataError(f"{file}: column '{words[0]}' is no number: drop it, or correct what is in it")
    if not fields:
        raise DataError(f"{file}: there is no number besides the ids in '{ids_in}'")
    numbered = {item.name: _NUMBERED.fullmatch(item.name) for item in fields}
    prefixes = [found.group(1) for found in numbered.values() if found]
    usual = max(prefixes, key=prefixes.count) if prefixes else ""
    others = [name for name, found in numbered.items() if found is None or found.group(1) != usual]
    if others:
        like = f"{usual}0, {usual}1, ..."
        raise DataError(f"{file}: column '{others[0]}' is not one of the numbered columns {like}: drop it, for no feature comes in unseen")
    columns = [table.column(item.name).to_numpy().astype(np.float32) for item in fields]
    return np.stack(columns, axis=1)


def _of_lists(file: Path, column: pa.ChunkedArray, name: str) -> NDArray[np.float32]:
    if column.null_count:
        raise DataError(f"{file}: {column.null_count:,} rows have no vector in '{name}': drop them")
    parts: list[NDArray[np.float32]] = []
    lengths: set[int] = set()
    for chunk in column.chunks:
        lengths |= {chunk.type.list_size} if kinds.is_fixed_size_list(chunk.type) else set(chunk.value_lengths().to_pylist())
        parts.append(chunk.flatten().to_numpy(zero_copy_only=False).astype(np.float32))
    if len(lengths) != 1:
        raise DataError(
            f"{file}: the vectors in '{name}' differ in length ({', '.join(map(str, sorted(lengths)[:4])) or 'there are none'})"
        )
    return np.concatenate(parts).reshape(len(column), lengths.pop())


def _is_text(kind: pa.DataType) -> bool:
    return kinds.is_string(kind) or kinds.is_large_string(kind)


def _is_list(kind: pa.DataType) -> bool:
    return kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind)


def _is_number(kind: pa.DataType) -> bool:
    return kinds.is_floating(kind) or kinds.is_integer(kind) or kinds.is_null(kind)


def _of_arrays(file: Path, id_column: str) -> tuple[list[str], NDArray[np.float32]]:
    """Return the ids and the vectors of an npz file: its one array of texts, and its one array of rows of numbers."""
    with np.load(file, allow_pickle=False) as opened:
        arrays = {name: opened[name] for name in opened.files}
    flat = {name: array for name, array in arrays.items() if array.ndim == 1 and array.dtype.kind in "USiu"}
    wide = {name: array for name, array in arrays.items() if array.ndim == 2 and array.dtype.kind in "fiu"}
    if not flat or len(wide) != 1:
        shapes = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items())
        raise DataError(f"{file}: one array of ids (n,) and one of vectors (n, d) are wanted, and there are {shapes or 'none'}")
    chosen = _id_column(file, pa.schema([(name, pa.string()) for name in flat]), id_column)
    ids, (values,) = arrays[chosen], wide.values()
    if len(ids) != len(values):
        raise DataError(f"{file}: there are {len(ids):,} ids and {len(values):,} vectors")
    texts = [one.decode() for one in ids.tolist()] if ids.dtype.kind == "S" else [str(one) for one in ids.tolist()]
    return texts, values.astype(np.float32)
