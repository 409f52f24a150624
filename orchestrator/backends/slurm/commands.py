"""Slurm's commands: one place that runs them, with what they say when they cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from orchestrator.errors import BackendError

#: Seconds that a command may take; Slurm's own time-outs are shorter.
PATIENCE = 120.0
#: Variables by which a job would hand its own CPUs, memory and names on to what is submitted from inside it.
_OF_A_JOB = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SUBMITIT_")
#: What a controller says that is busy and not wrong. The command may have done its work all the same.
_BUSY = (
    "Socket timed out",
    "Unable to contact slurm controller",
    "Resource temporarily unavailable",
    "Slurm temporarily unable to accept job",
    "Zero Bytes were transmitted or received",
    "Connection refused",
)


def run(*command: str) -> str:
    """Run one of Slurm's commands and return what it prints.

    Raises BackendError when it is not installed or fails; `transient` when the controller did not answer in time.
    """
    done = call(*command)
    if done.returncode != 0:
        raise refusal(command, done.stderr or done.stdout)
    return done.stdout


def call(*command: str) -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's commands, whatever it returns. Raises BackendError when it is not installed or does not end in time."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except FileNotFoundError:
        raise _absent(command[0]) from None
    except subprocess.TimeoutExpired:
        raise BackendError(f"`{command[0]}` did not answer within {PATIENCE:.0f} s; try again", transient=True) from None


def require(*names: str) -> None:
    """Raise BackendError for the first of Slurm's commands that is not installed here."""
    for name in names:
        if shutil.which(name) is None:
            raise _absent(name)


def _absent(name: str) -> BackendError:
    return BackendError(
        f"backend 'slurm': there is no `{name}` here; type this on a login node of the cluster, or choose `--cluster local`"
    )


def refusal(command: Sequence[str], said: str) -> BackendError:
    """Make the error for a command that failed, out of what it said."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return BackendError(f"`{command[0]}` failed: {' '.join(lines[-3:]) or 'it said nothing'}", transient=is_busy(said))


def is_busy(said: str) -> bool:
    """Tell whether a command failed because the controller was too busy to answer, so that it may have done its work."""
    return any(words in said for words in _BUSY)


@contextmanager
def without_job() -> Iterator[None]:
    """Hide from sbatch that it is called from inside a job: it would hand that job's CPUs and memory on."""
    inside = "SLURM_JOB_ID" in os.environ
    hidden = {name: value for name, value in os.environ.items() if inside and name.startswith(_OF_A_JOB) and name != "SLURM_CONF"}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)
