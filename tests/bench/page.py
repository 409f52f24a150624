"""The page of benchmarks: a section a bench, each with when and on what it was measured."""

from __future__ import annotations

import ast
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path

from tests.bench.rows import Row

HEAD = """# Benchmarks

Written by `make bench`; `python -m tests.bench NAME` measures one section again. Each says when, on what and at what load it was measured.
A ratio is of two measurements of one run.
"""
HEADS = ("what", "here", "beside it", "ratio or aim", "note")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What one bench found, and in which circumstances."""

    name: str
    when: datetime
    machine: str
    #: Processes that wanted to run in the minute before it started.
    load: float
    seconds: float
    rows: tuple[Row, ...]
    cores: int = os.cpu_count() or 1

    @property
    def was_busy(self) -> bool:
        """Tell whether others may have had every core."""
        return self.load >= self.cores

    def text(self) -> str:
        """Return the section as Markdown."""
        busy = " **The machine was busy: seconds are too many, ratios are fairer.**" if self.was_busy else ""
        lines = [
            f"## {self.name}",
            "",
            about(self.name),
            "",
            f"Measured {self.when:%Y-%m-%d %H:%M} UTC in {self.seconds:.0f} s on {self.machine}; "
            f"load average {self.load:.2f} at the start.{busy}",
            "",
            *(_line(cells) for cells in (HEADS, ("---",) * len(HEADS))),
            *(_line((row.what, row.ours, row.beside, row.against, row.note)) for row in self.rows),
        ]
        return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def about(name: str) -> str:
    """Return what a bench says of itself: its module's docstring, read and not imported."""
    source = (Path(__file__).parent / f"bench_{name}.py").read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source)) or ""


def write_page(path: Path, section: Section, known: Sequence[str]) -> None:
    """Replace a section of the page, and leave those of other known benches as they are, in alphabetical order."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    parts = re.split(r"(?m)^## (.+)\n", text)
    kept = {name: f"## {name}\n{body.rstrip()}\n" for name, body in zip(parts[1::2], parts[2::2], strict=True) if name in known}
    kept[section.name] = section.text()
    path.write_text("\n".join([HEAD, *(kept[name] for name in sorted(kept))]), encoding="utf-8")


def machine() -> str:
    """Say what this machine is, and what it runs."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{cpu_model()}, {os.cpu_count()} cores, {memory:.0f} GiB; {platform.system()}, Python {platform.python_version()}, "
        f"torch {metadata.version('torch')}{_gpus()}"
    )


def _gpus() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    listed = subprocess.run([program, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=False).stdout
    return "".join(f"; {name}" for name in listed.splitlines())


def cpu_model(listing: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's name where the system tells, else its architecture."""
    text = listing.read_text(encoding="utf-8") if listing.exists() else ""
    found = re.search(r"(?m)^model name\s*:\s*(.+)$", text)
    return found[1].strip() if found else platform.machine()
