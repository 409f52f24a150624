"""What sites say of themselves, as their commands print it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.backends.slurm.examine import filesystem_of
from orchestrator.backends.slurm.site import minutes_of, read_partitions, read_settings

#: Partitions of sites: GPUs by type with their sockets, several kinds of node in one partition, none at all, one that is down.
SINFO = """\
gpu|up|2-00:00:00|64|515000|gpu:a100:4(S:0-1)|gpu*
gpu|up|2-00:00:00|128|1031000|gpu:h100:8(S:0-3),nvme:1|gpu*
cpu|up|infinite|96+|190000+|(null)|cpu
old|down|12:00:00|16|64000|gpu:2|old
mixed|up|30:00|32|128000|gpu:v100:2,gpu:t4:2|mixed
"""


def test_partitions_are_read_as_their_largest_kind_of_node_has_it() -> None:
    gpu, cpu, old, mixed = read_partitions(SINFO)
    assert (gpu.gpus, gpu.gpu_types, gpu.cpus, gpu.memory_mb, gpu.max_time_minutes, gpu.default) == (8, ("h100",), 128, 1031000, 2880, True)
    assert (cpu.gpus, cpu.cpus, cpu.memory_mb, cpu.max_time_minutes, cpu.default) == (0, 96, 190000, None, False)
    assert (old.up, old.gpus, old.max_time_minutes) == (False, 2, 720)
    assert (mixed.gpus, mixed.gpu_types, mixed.max_time_minutes) == (4, ("v100", "t4"), 30)


@pytest.mark.parametrize(("limit", "minutes"), [("infinite", None), ("7-12:00:00", 10800), ("12:00:00", 720), ("45:00", 45), ("n/a", None)])
def test_time_limits(limit: str, minutes: int | None) -> None:
    assert minutes_of(limit) == minutes


def test_settings_are_read_by_name() -> None:
    found = read_settings("Configuration data as of now\nMaxArraySize            = 1001\nJobRequeue = 1\nSlurmctldHost[0] = a(b=c)\n")
    assert (found["MaxArraySize"], found["JobRequeue"], found["SlurmctldHost[0]"]) == ("1001", "1", "a(b=c)")


def test_the_file_system_of_a_path_is_that_of_the_deepest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "overlay / overlay rw 0 0\nserver:/vol /scratch nfs4 rw 0 0\ntmpfs /scratch/ram tmpfs rw 0 0\nx /my\\040disk xfs rw 0 0\n",
        encoding="utf-8",
    )
    kinds = {
        place: filesystem_of(Path(place), mounts) for place in ("/home/x", "/scratch/me/runs", "/scratch/ram/x", "/scratchy", "/my disk/a")
    }
    assert kinds == {
        "/home/x": "overlay",
        "/scratch/me/runs": "nfs4",
        "/scratch/ram/x": "tmpfs",
        "/scratchy": "overlay",
        "/my disk/a": "xfs",
    }
    assert filesystem_of(tmp_path, tmp_path / "absent") == ""
