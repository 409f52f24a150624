"""Whether the kernel killed something of this allocation for want of memory."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


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
