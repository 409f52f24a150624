"""What it costs when a client is killed in the middle of a submission to a real Slurm: SIGKILL at every step, one run for each.

Points are counted by recording runs: before each open for writing, write, half of a write, fsync, rename, link, folder, touch and lock, and
before, in and after each command. The plan has a shared parent, a canary, three points with a second training each, a pick and its
evaluation: 9 jobs in 6 arrays. At a point of a submission the first client dies there; at a point of a recovery one dies that was taking
over from another, which had died half-way. Then the plan is submitted again and followed to its end. `make test-all` writes this section.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.rows import Row
from tests.slurm import crash_points
from tests.slurm.cluster import running_cluster
from tests.slurm.crash_points import Ground, Outcome
from tests.slurm.nursery import Nursery

NAME = "faults"


def measure() -> list[Row]:
    """Kill a client at every point, on a cluster of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="slurm-") as home,
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        running_cluster(Path(home)) as cluster,
        Nursery(cluster.env) as nursery,
    ):
        ground = Ground.prepare(nursery, Path(folder))
        begun = time.monotonic()
        found = ground.outcomes(ground.points)
        return rows(found, time.monotonic() - begun)


def rows(found: Sequence[Outcome], seconds: float) -> list[Row]:
    """Return the rows for what came of all points."""
    table: list[Row] = []
    for what, recovering in (("submission", False), ("recovery", True)):
        some = [one for one in found if one.point.recovering is recovering]
        wrong = crash_points.problems(some)
        table.append(
            Row(
                what=f"points of a {what}",
                ours=f"{len(some)}, and {sum(one.died for one in some)} clients died there",
                against=f"{len(wrong)} wrong; aim 0",
                note="a body that ran twice, a job lost, or other bytes in a result" if not wrong else wrong[0],
            )
        )
    each = seconds / max(1, len(found))
    table.append(Row(what="a point", ours=f"{each:.1f} s", note=f"{crash_points.AT_ONCE} side by side; {seconds:.0f} s in all"))
    return table
