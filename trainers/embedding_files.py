"""Embeddings on disk: a vector an image, with the names that it is joined on.

A parquet file: `card`, `image`, `patient`, `study`, `split` and `embedding`, a list of fixed size of float32, in the order of the splits
and of the card's index. One split is held in memory at a time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trainers.api import Solver, Trainer
from trainers.data.access import Access, Rows
from trainers.errors import Error

#: Columns with few values, which parquet keeps once each.
_REPEATED = ["card", "patient", "study", "split"]


@runtime_checkable
class Embedder(Protocol):
    """A method that has vectors to hand out."""

    def embed(self, rows: Rows, of: str) -> NDArray[np.float32]:
        """Return what a network makes of rows, (n, d) float32, in their order: `of` is one of `EMBEDDINGS` of its declaration."""
        ...


def hand_out(method: Trainer | Solver, of: str, access: Access, splits: Sequence[str], path: Path) -> dict[str, Any]:
    """Write the embeddings of each split that the card has, and return what a result says of them.

    Opens the splits in their order. Raises Error for a method without `embed`, or one whose vectors are not finite.
    """
    if not isinstance(method, Embedder):
        raise Error("the trainer has no embeddings to hand out: leave `embeddings` out of its outputs")
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    digest = hashlib.sha256()
    counts: dict[str, int] = {}
    dimension = 0
    writer: pq.ParquetWriter | None = None
    try:
        for split in splits:
            rows = access.find(split)
            if rows is None:
                continue
            vectors = _checked(method.embed(rows, of), rows, split)
            counts[split], dimension = len(rows), vectors.shape[1]
            digest.update("\n".join([split, *rows.images.tolist()]).encode() + vectors.tobytes())
            table = table_of(rows, split, vectors)
            if writer is None:
                writer = pq.ParquetWriter(aside, table.schema, compression="zstd", use_dictionary=_REPEATED)  # pyright: ignore[reportArgumentType]
            writer.write_table(table)
        if writer is None:
            raise Error(f"card '{access.card}' has none of the splits {', '.join(splits)}: there is nothing to embed")
        writer.close()
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return {"of": of, "dimension": dimension, "images": counts, "digest": digest.hexdigest()}


def table_of(rows: Rows, split: str, vectors: NDArray[np.float32]) -> pa.Table:
    """Return the table of some rows' embeddings, (n, d)."""
    names = {"card": [rows.card] * len(rows), "image": rows.images.tolist(), "patient": rows.patients.tolist()}
    names |= {"study": rows.studies.tolist(), "split": [split] * len(rows)}
    values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    return pa.table({**{name: pa.array(texts, pa.string()) for name, texts in names.items()}, "embedding": values})


def _checked(vectors: NDArray[np.float32], rows: Rows, split: str) -> NDArray[np.float32]:
    if vectors.shape[:1] != (len(rows),) or vectors.ndim != 2 or vectors.dtype != np.float32:
        raise RuntimeError(f"embed returned {vectors.dtype} {vectors.shape} for {len(rows)} rows")
    faulty = np.flatnonzero(~np.isfinite(vectors).all(1))
    if len(faulty):
        raise Error(
            f"the embedding of {len(faulty):,} of {len(rows):,} images of split '{split}' is not finite, the first is "
            f"{rows.images[faulty[0]]}; train with a lower lr or with precision: fp32"
        )
    return np.ascontiguousarray(vectors)
