"""What every Python of a test node starts with: the stage is the stand-in of `tests.orchestrator.standin`, which needs no torch.

On the path by a `setup` line of the test's cluster config; nothing else of the seam is replaced.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

STAGES = "jobs.stages"


class _StandInStage(Loader):
    def __init__(self, real: Loader) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)

        def run_stage(node: Any) -> Any:
            from tests.orchestrator.standin import stage

            return stage(node)

        vars(module)["run_stage"] = run_stage


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != STAGES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _StandInStage(spec.loader)
        return spec


sys.meta_path.insert(0, _Finder())
