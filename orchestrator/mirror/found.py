"""Which runs of ours an experiment holds: the key of each, the digest of what it was sent, and which stand for a key a second time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KIND, DIGEST, JOB = "orch.kind", "orch.digest", "job"
_KINDS = ("trial", "sweep")
#: Three tags of every run of an experiment. The tables are MLflow's own since its first database; a test compares with its API.
_QUESTION = f"""
select run.run_uuid, run.lifecycle_stage, run.start_time, job.value, kind.value, digest.value
from runs run
join tags job on job.run_uuid = run.run_uuid and job.key = '{JOB}'
join tags kind on kind.run_uuid = run.run_uuid and kind.key = '{KIND}'
left join tags digest on digest.run_uuid = run.run_uuid and digest.key = '{DIGEST}'
where run.experiment_id = ?
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A run of ours."""

    identity: str
    #: A job's id, or `entries.SWEEP`.
    key: str
    #: Of the entry that it was sent; empty while not all of it was.
    digest: str
    is_deleted: bool
    started: int
    #: All of it, where whoever was asked brought that along.
    run: Any = None


def found_in_file(database: Path, experiment: str) -> list[Found] | None:
    """Read our runs from a sqlite store: MLflow's own search brings every param and metric along, which takes seconds for 1000 runs.

    Returns None when the file has other tables than are known here.
    """
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute(_QUESTION, (int(experiment),)).fetchall()
    except (sqlite3.Error, ValueError):
        return None
    return [
        Found(identity=identity, key=key, digest=digest or "", is_deleted=stage == "deleted", started=started or 0)
        for identity, stage, started, key, kind, digest in rows
        if kind in _KINDS
    ]


def found_of(runs: Iterable[Any]) -> list[Found]:
    """Return those of MLflow's runs that are ours."""
    return [
        Found(
            identity=one.info.run_id,
            key=one.data.tags[JOB],
            digest=one.data.tags.get(DIGEST, ""),
            is_deleted=one.info.lifecycle_stage == "deleted",
            started=one.info.start_time or 0,
            run=one,
        )
        for one in runs
        if JOB in one.data.tags and one.data.tags.get(KIND) in _KINDS
    ]


def without_twins(found: Iterable[Found]) -> tuple[dict[str, Found], list[Found]]:
    """Return one run for each key, and those that stand for a key a second time.

    Of several the first one stands, or the first that is not deleted: whoever looks comes to the same choice.
    """
    known: dict[str, Found] = {}
    spare: list[Found] = []
    for one in sorted(found, key=lambda each: (each.is_deleted, each.started, each.identity)):
        if one.key in known:
            spare.append(one)
        else:
            known[one.key] = one
    return known, spare
