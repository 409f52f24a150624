"""What a plan says of jobs that share work: those of a frozen backbone whose features are computed once."""

from __future__ import annotations

from collections.abc import Iterable

from jobs.spec import JobSpec, Stage, canonical_json

#: Config key of a trainer that asks for features of whole splits, shared by all jobs on the same network and data.
PACKED = "packed"
_DRAW = "draw"


def packed_notes(phase: str, jobs: Iterable[JobSpec]) -> list[str]:
    """Say how many train jobs of a phase share features, and of how many frozen networks and data sets these are."""
    packed = [job for job in jobs if job.stage is Stage.TRAIN and job.config.get(PACKED) is True]
    if not packed:
        return []
    shared = {
        canonical_json(
            [
                [[item.role, item.job, item.run] for item in job.inputs],
                dict(job.weights),
                {key: value for key, value in job.data.items() if key != _DRAW},
                {key: job.config.get(key) for key in ("arch", "init", "px", "channels", "normalization", "precision")},
                # A network without a parent and without a file is drawn by the seed of its job.
                None if job.inputs or job.weights else job.seed,
            ]
        )
        for job in packed
    }
    times = "once" if len(shared) == 1 else f"{len(shared):,} times, once for every network and data set,"
    return [f"{phase}: packed: {len(packed):,} jobs share features, which are computed {times} and not by every job"]
