"""One start of one element: what it runs, and as which of how many processes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from jobs.company import leave_word
from jobs.paths import RunPaths
from jobs.spec import SHORT_ID
from orchestrator import intents
from orchestrator.intents import Intent

#: Seconds by which Slurm may send the signal before a time limit earlier than it was told to, and a start may be late.
_EARLY = 75.0
_LATE = 0.1


class Allocation:
    """What Slurm gave to this process, and what the submission wants done with it."""

    def __init__(self, run: RunPaths, intent: Intent, environment: Mapping[str, str]) -> None:
        self.run = run
        self.intent = intent
        self.index = int(environment.get("SLURM_ARRAY_TASK_ID", "0"))
        self.restart = int(environment.get("SLURM_RESTART_COUNT", "0"))
        self.rank = int(environment.get("SLURM_PROCID", "0"))
        self.world = int(environment.get("SLURM_NTASKS", "1"))
        self.local_rank = int(environment.get("SLURM_LOCALID", "0"))
        self.native = environment.get("SLURM_JOB_ID", "0")
        self.nodes = environment.get("SLURM_JOB_NODELIST", "")
        self.lead = float(intent.terms.get("signal_lead", 0.0))
        self._begun = time.monotonic()

    @classmethod
    def of(cls, intent_file: Path) -> Allocation | None:
        """Read the intent; None when it was put away."""
        run = RunPaths(intent_file.parents[1])
        intent = intents.read(run, intent_file.stem)
        return None if intent is None else cls(run, intent, os.environ)

    @property
    def element(self) -> tuple[tuple[str, ...], ...]:
        """Return the lanes of this element."""
        return self.intent.elements[self.index]

    @property
    def place(self) -> str:
        """Return what Slurm's commands call this element alone: the number of a job may be that of its whole array."""
        native = self.intent.native
        if native is None:
            return self.native
        return f"{native['id']}_{self.index}" if native["array"] else str(native["id"])

    @property
    def is_first(self) -> bool:
        """Tell whether this process is the one that writes for all processes of the allocation."""
        return self.rank == 0

    def is_at_its_limit(self) -> bool:
        """Tell whether the time that was asked for is nearly over, so that a signal to save means just that and no preemption."""
        limit = 60.0 * float(self.intent.terms.get("minutes", float("inf")))
        return time.monotonic() - self._begun >= limit * (1.0 - _LATE) - self.lead - _EARLY

    def command(self, job: str, attempt: int) -> list[str]:
        """Return the command that runs one attempt of a job in this process of the allocation."""
        words = [sys.executable, "-m", "jobs", "run", str(self.run.job(job).job), "--attempt", str(attempt)]
        if self.world > 1:
            words += ["--rank", str(self.rank), "--world", str(self.world), "--local-rank", str(self.local_rank)]
            words += ["--meeting", self._meeting(job)]
        return words

    def dismiss(self, job: str, code: int) -> None:
        """Let the other processes of the allocation know that the first one does not start a job: they may be waiting for it."""
        if self.world > 1 and self.is_first:
            leave_word(self.run.job(job).meeting(self._meeting(job)), code)

    def _meeting(self, job: str) -> str:
        """Return the name under which the processes of this very start meet for a job."""
        return f"{self.native}-{self.restart}-{job[:SHORT_ID]}"
