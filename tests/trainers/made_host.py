"""A host in memory, for tests that run a method through the loop."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainers.api import Outcome, Setup, WriteFile
from trainers.loop import fit, prepare
from trainers.parts.metrics import measure


class MemoryHost:
    """Remembers what was logged and kept; keeps resume files under a folder; asks to stop after `stop_after` steps."""

    def __init__(self, folder: Path, stop_after: int | None = None) -> None:
        self.folder = folder
        self.stop_after = stop_after
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.digests: dict[str, str] = {}
        self.pictures: dict[str, bytes] = {}
        self._asked = 0

    def log(self, step: int, epoch: int, metrics: Mapping[str, float]) -> None:
        self.logged.append((step, dict(metrics)))

    def should_stop(self) -> bool:
        self._asked += 1
        return self.stop_after is not None and self._asked > self.stop_after

    def latest_state(self) -> Path | None:
        return max(self.folder.glob("state-*.pt"), default=None)

    def save_state(self, step: int, epoch: int, write: WriteFile) -> None:
        write(self.folder / f"state-{step:06d}-{epoch:04d}.pt")

    def keep(self, name: str, metrics: Mapping[str, float], files: Mapping[str, WriteFile], info: Mapping[str, Any]) -> None:
        path = self.folder / f"{name}.safetensors"
        files["safetensors"](path)
        self.digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()

    def keep_pictures(self, epoch: int, pictures: Mapping[str, bytes]) -> None:
        self.pictures |= {f"{name}-{epoch}": content for name, content in pictures.items()}

    def values(self, name: str) -> list[float]:
        """Return every value that was logged under a name."""
        return [metrics[name] for _, metrics in self.logged if name in metrics]


def run(method: Any, setup: Setup, folder: Path, *, stop_after: int | None = None) -> tuple[MemoryHost, Outcome, Any]:
    """Build a method, `method.build(setup)`, and train it to the end or to the stop."""
    folder.mkdir(exist_ok=True)
    host = MemoryHost(folder, stop_after)
    prepare(setup.seed, 1, torch.device("cpu"))
    built = method.build(setup)
    outcome = fit(built, setup.config, host, device=setup.device, measure=lambda scores: measure(scores, policies=setup.data.policies))
    return host, outcome, built
