"""Points of long series as rows of a sqlite store: MLflow's own way makes an object of each, which takes a hundred times as long.

Only the table of points is written to, and the last point of every series is left to MLflow, which keeps what a page shows first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from orchestrator.mirror.entries import Point

#: Below so many rows a connection of its own costs more than it saves.
FEWEST = 50
#: Milliseconds that a reader, such as the UI, may hold the file.
_PATIENCE = 20_000
#: The table of points, since MLflow's first database but for `is_nan` and `step`; a test compares with its API.
_COLUMNS = frozenset({"key", "value", "timestamp", "run_uuid", "step", "is_nan"})
_ROW = "insert or ignore into metrics (key, value, timestamp, run_uuid, step, is_nan) values (?, ?, ?, ?, ?, 0)"


def write_all_but_last(database: Path, identity: str, points: Sequence[Point]) -> Sequence[Point]:
    """Write points of a run in one transaction, and return those that are left to send: the last of each series.

    What is there already is not written again. All are left where they are few, or where the table is another than is known here. Raises
    sqlite3.Error when the file cannot be written.
    """
    last: dict[str, Point] = {}
    for point in points:
        known = last.get(point.key)
        # As MLflow chooses what it shows of a series.
        if known is None or (point.step, point.time, point.value) > (known.step, known.time, known.value):
            last[point.key] = point
    early = [point for point in points if last[point.key] is not point]
    if len(early) < FEWEST:
        return points
    with closing(sqlite3.connect(database, timeout=_PATIENCE / 1000)) as connection:
        if {row[1] for row in connection.execute("pragma table_info(metrics)")} != _COLUMNS:
            return points
        # As for MLflow's own connections: the whole file is made durable when a sync ends.
        connection.execute("pragma synchronous=off")
        with connection:
            connection.executemany(_ROW, ((point.key, point.value, point.time, identity, point.step) for point in early))
    return list(last.values())
