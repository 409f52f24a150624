"""What a node is asked by `doctor --deep`, in a job of its own: `python -m orchestrator.backends.slurm.probe FOLDER`."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from jobs.paths import write_atomically
from jobs.spec import Json, pretty_json

ANSWER = "answer.json"
ASKED = "asked.json"
_IMPORTS = ("submitit", "jobs.main", "orchestrator.backends.slurm.supervisor", "timm", "torch")
_COUNT_GPUS = "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"


def main(folder: Path) -> None:
    """Look around on this node, and leave what was found in the folder, which shows by itself that the node sees it."""
    asked: dict[str, Json] = json.loads((folder / ASKED).read_text(encoding="utf-8"))
    found: dict[str, Json] = {
        "node": platform.node(),
        "python": platform.python_version(),
        "failed_imports": [name for name in _IMPORTS if not _runs(f"import {name}")],
        "gpus": int(_printed(_COUNT_GPUS) or 0) if asked["gpus"] else 0,
        "missing": [place for place in asked["places"] if not os.access(place, os.R_OK | os.X_OK)],
        "cpus": len(os.sched_getaffinity(0)),
    }
    write_atomically(folder / ANSWER, pretty_json(found).encode())


def _runs(code: str) -> bool:
    return _call(code).returncode == 0


def _printed(code: str) -> str:
    done = _call(code)
    return done.stdout.strip() if done.returncode == 0 else ""


def _call(code: str) -> subprocess.CompletedProcess[str]:
    # In processes of their own: nothing in this package imports torch.
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
