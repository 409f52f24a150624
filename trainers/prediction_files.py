"""Predictions on disk, and what names them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def write_table(table: pa.Table, path: Path) -> None:
    """Write a parquet file aside, fsync it and rename it into place."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(table, aside, compression="zstd")
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def digest_of(names: np.ndarray) -> str:
    """Return the sha256 of the sorted ids of what was scored: two runs are compared only when it is the same."""
    return hashlib.sha256("\n".join(sorted(map(str, names.tolist()))).encode()).hexdigest()


def table_digest(table: pa.Table) -> str:
    """Return a digest of the predictions themselves, whatever wrote the file."""
    digest = hashlib.sha256()
    for name in table.column_names:
        digest.update(name.encode())
        column = table.column(name).combine_chunks()
        values = column.to_numpy(zero_copy_only=False)
        digest.update(values.tobytes() if values.dtype != object else "\n".join(values).encode())
    return digest.hexdigest()
