"""What a bench returns: rows of a table, and the process that measures them: `python -m tests.bench.rows NAME FILE`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

#: One thread for every library that counts cores, as a job with `cpus: 1` has it.
ONE_THREAD: Mapping[str, str] = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a bench: what was measured, here and beside it, and what that is against."""

    what: str
    ours: str
    #: The same by other means, in the same run.
    beside: str = ""
    #: The ratio of the two, or the aim.
    against: str = ""
    note: str = ""


def measured(name: str, file: Path) -> list[Row]:
    """Run a bench by name (`expand` is `tests/bench/bench_expand.py`) and leave its rows in a file, as JSON."""
    rows: list[Row] = import_module(f"tests.bench.bench_{name}").measure()
    file.write_text(json.dumps([asdict(row) for row in rows]), encoding="utf-8")
    return rows


if __name__ == "__main__":
    os.environ.update(ONE_THREAD)
    measured(sys.argv[1], Path(sys.argv[2]))
