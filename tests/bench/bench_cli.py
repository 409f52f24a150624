"""How long the command line takes to answer: wall seconds of a fresh process, the best of five, beside a Python that does nothing.

`plan` loads `sweeps/quickstart.yaml`, expands it to its jobs, computes their ids and sets them against an empty run root.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.rows import Row

ROOT = Path(__file__).parents[2]
TIMES = 5
AIM = "aim 0.4 s"


def best(arguments: list[str]) -> tuple[float, float]:
    """Return the least wall seconds and the least CPU seconds of a Python process."""
    wall, cpu = [], []
    for _ in range(TIMES):
        before, start = os.times(), time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        wall.append(time.perf_counter() - start)
        after = os.times()
        cpu.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(wall), min(cpu)


def measure() -> list[Row]:
    """Return the start-up of `--help`, of the help of a command, and of a plan."""
    nothing, _ = best(["-c", "pass"])
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        config = Path(folder) / "here.yaml"
        config.write_text(f"backend: inline\nrun_root: {folder}/runs\n", encoding="utf-8")
        commands = {
            "`orchestrate --help`": ["--help"],
            "`orchestrate submit --help`": ["submit", "--help"],
            "`orchestrate plan sweeps/quickstart.yaml`": ["plan", "sweeps/quickstart.yaml", "--cluster", str(config)],
        }
        rows: list[Row] = []
        for what, arguments in commands.items():
            wall, cpu = best(["-m", "orchestrator", *arguments])
            rows.append(
                Row(what=what, ours=f"{wall:.2f} s", beside=f"{nothing:.2f} s (`python -c pass`)", against=AIM, note=f"{cpu:.2f} s of CPU")
            )
    return rows
