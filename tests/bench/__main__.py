"""Measure, and write `docs/benchmarks.md` with the machine: `python -m tests.bench [NAME ...]`.

Without names, all run but the long ones and those that need a GPU.

Each bench runs in a process of its own, one after another. A section of the page is replaced when its bench ran to the end.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from subprocess import run

from tests.bench.page import Section, machine, write_page
from tests.bench.rows import ONE_THREAD, Row

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
#: A bench that takes longer than this hangs; they are made to take less than a minute.
LONGEST_SECONDS = 600
#: Those that take longer, and run only when they are named; `make test-all` writes the section of `faults` too.
LONG = {"benchmark": 3600, "faults": 3600, "moco": 1800, "packed": 1800, "tracker_away": 1200}
#: Those that need a machine of another kind, and run only when they are named.
ELSEWHERE = ("gpu",)


def names() -> list[str]:
    """Return the benches of this folder."""
    return sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))


def section_of(name: str) -> Section | None:
    """Run a bench, and return what it found, or None when it failed."""
    load, started = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "tests.bench.rows", name, str(file)]
        done = run(command, cwd=ROOT, env={**os.environ, **ONE_THREAD}, timeout=LONG.get(name, LONGEST_SECONDS), check=False)
        if done.returncode != 0:
            return None
        rows = tuple(Row(**row) for row in json.loads(file.read_text(encoding="utf-8")))
    return Section(name=name, when=datetime.now(UTC), machine=machine(), load=load, seconds=time.monotonic() - started, rows=rows)


def main(asked: Sequence[str]) -> int:
    """Run benches, write the page and print their tables; return 1 when one of them failed."""
    known = names()
    if strange := sorted(set(asked) - set(known)):
        sys.stderr.write(f"no bench {strange[0]!r}: there are {', '.join(known)}\n")
        return 2
    failed: list[str] = []
    for name in asked or [name for name in known if name not in (*LONG, *ELSEWHERE)]:
        section = section_of(name)
        if section is None:
            failed.append(name)
            continue
        write_page(PAGE, section, known)
        sys.stdout.write(section.text() + "\n")
    if failed:
        sys.stderr.write(f"failed, and left as they were on the page: {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
