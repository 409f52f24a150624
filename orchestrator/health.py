"""What a machine needs to run a study, checked one by one: each finding is ok, or says what to type."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator

from jobs.stages import data_root
from orchestrator import scheduler
from orchestrator.backends import base
from orchestrator.checks import Check
from orchestrator.errors import Error
from orchestrator.model import ClusterConfig
from orchestrator.workspace import Workspace

_NEEDED_GB = 5
_LIBRARIES = ("torch", "timm", "ray", "submitit", "mlflow", "scikit-learn", "filelock")


def examine(cluster: str | None, *, deep: bool = False) -> list[Check]:
    """Check this machine for a cluster config; nothing is changed. `deep` also runs a job of a minute where a scheduler keeps a queue."""
    checks = [_python(), *_libraries(), _gpu()]
    try:
        workspace = Workspace.open(cluster)
    except Error as error:
        return [*checks, Check(what="cluster", ok=False, text=str(error))]
    config = workspace.cluster
    checks.append(Check(what="cluster", ok=True, text=f"'{config.name}': backend {config.backend}, runs in {config.run_root.absolute()}"))
    return [*checks, *_backend(config, deep=deep), _disk(config), *_data(workspace)]


def _python() -> Check:
    good = sys.version_info >= (3, 11)
    return Check(
        what="python", ok=good, text=platform.python_version() + ("" if good else ": install Python 3.11 or newer, then `make setup`")
    )


def _libraries() -> Iterator[Check]:
    for name in _LIBRARIES:
        try:
            yield Check(what=name, ok=True, text=importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Check(what=name, ok=False, text="is not installed: type `make setup`")


def _gpu() -> Check:
    """Ask the driver's own tool, so that nothing here imports torch."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Check(what="gpu", ok=True, text="none on this machine; phases with `gpus: 0` run on the CPU")
    asked = subprocess.run([tool, "--query-gpu=name,memory.total", "--format=csv,noheader"], capture_output=True, text=True, check=False)
    names = "; ".join(line.strip() for line in asked.stdout.splitlines() if line.strip())
    return Check(what="gpu", ok=asked.returncode == 0, text=names or asked.stderr.strip() or "nvidia-smi lists none: look at the driver")


def _backend(config: ClusterConfig, *, deep: bool) -> Iterator[Check]:
    try:
        backend, keeper = base.load(config), scheduler.of(config)
    except Error as error:
        yield Check(what="backend", ok=False, text=str(error))
        return
    if keeper is not None:
        yield Check(what="backend", ok=True, text=f"{backend.name}: jobs run on when this machine is left")
        yield from keeper.examine(deep=deep)
        return
    text = f"{backend.name}: {base.machine_cpus(config)} CPUs, {base.machine_gpus(config)} GPUs for jobs"
    yield Check(what="backend", ok=True, text=text)


def _disk(config: ClusterConfig) -> Check:
    folder = config.run_root.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    if not os.access(folder, os.W_OK):
        return Check(what="disk", ok=False, text=f"{folder} cannot be written: set `run_root` in the cluster config")
    text = f"{free:.0f} GB free at {folder}"
    return Check(
        what="disk", ok=free > _NEEDED_GB, text=text if free > _NEEDED_GB else f"{text}: free some, or set `run_root` to another disk"
    )


def _data(workspace: Workspace) -> Iterator[Check]:
    """Check only the data sets that the cluster config names: a group has some of them, never all."""
    for name in sorted(workspace.cluster.data):
        root = data_root({"card": name}, name, workspace.machine())
        text = str(root) if root.is_dir() else f"{root} is not there: correct `data: {{{name}: ...}}` in the cluster config"
        yield Check(what=f"data {name}", ok=root.is_dir(), text=text)
