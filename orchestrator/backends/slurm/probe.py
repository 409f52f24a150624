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
_IMPORTS = ("submitit", "jobs.main", "orchestrator.backends.slurm.supervisor", "torch", "timm")
#: Runs in a process of its own, because nothing in this package imports torch: names that cannot be imported, then the GPUs.
_LOOK = """
import importlib, json, sys
failed = []
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception:
        failed.append(name)
torch = sys.modules.get("torch")
gpus = torch.cuda.device_count() if torch is not None and torch.cuda.is_available() else 0
print(json.dumps([failed, gpus]))
"""


def main(folder: Path) -> None:
    """Look around on this node, and leave what was found in the folder, which shows by itself that the node sees it."""
    asked: dict[str, Json] = json.loads((folder / ASKED).read_text(encoding="utf-8"))
    failed, gpus = _look()
    found: dict[str, Json] = {
        "node": platform.node(),
        "python": platform.python_version(),
        "failed_imports": failed,
        "gpus": gpus,
        "missing": [place for place in asked["places"] if not os.access(place, os.R_OK | os.X_OK)],
        "cpus": len(os.sched_getaffinity(0)),
    }
    write_atomically(folder / ANSWER, pretty_json(found).encode())


def _look() -> tuple[list[str], int]:
    done = subprocess.run([sys.executable, "-c", _LOOK, *_IMPORTS], capture_output=True, text=True, check=False)
    try:
        failed, gpus = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        return list(_IMPORTS), 0
    return failed, gpus


if __name__ == "__main__":
    main(Path(sys.argv[1]))
