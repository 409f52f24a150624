"""Whether something was killed for want of memory: by the kernel, as control groups count it, or by Slurm, as a step's log says."""

from __future__ import annotations

import re
from pathlib import Path

#: The exit codes of what was ended by SIGKILL: that of a shell, and the one that Slurm may make of it.
KILLED = frozenset({9, 137})
_ROOT = Path("/sys/fs/cgroup")
#: Bytes at the end of a log in which Slurm's last words stand.
_TAIL = 8192
#: What Slurm's daemons write: where they watch the memory themselves, and where the kernel does.
_SAID = re.compile(r"^(?:slurmstepd|slurmd|srun)[\w.-]*: .*(?:exceeded (?:\w+ )?memory limit|oom[-_ ]kill|out of memory)", re.I | re.M)


def kills_for_memory(membership: Path = Path("/proc/self/cgroup"), root: Path = _ROOT) -> int:
    """Return how many processes of this control group, or of those above it, the kernel has killed for memory; 0 where nothing tells."""
    try:
        lines = membership.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    total = 0
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            total = max(total, _count(root / path.lstrip("/") / "memory.events"))
        elif "memory" in controllers.split(","):
            total = max(total, _count(root / "memory" / path.lstrip("/") / "memory.oom_control"))
    return total


def _count(file: Path) -> int:
    try:
        fields = dict(line.split() for line in file.read_text(encoding="ascii").splitlines())
        return int(fields.get("oom_kill", 0))
    except (OSError, ValueError):
        return 0


def tells_of_memory(log: Path) -> bool:
    """Tell whether a step's log ends with Slurm's word that it used more memory than it had asked for."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL))
            return _SAID.search(file.read().decode(errors="replace")) is not None
    except OSError:
        return False
