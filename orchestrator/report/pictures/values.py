"""What a report says of a picture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture that a job left, by name; its pixels are in a file."""

    job: str
    #: train or evaluate.
    stage: str
    phase: str
    trial: str
    #: Of an evaluation, what was scored; empty for a train job, whose pictures are of validation images.
    test_set: str
    #: The arms that it is of: those whose first run this job is, or rests on.
    arms: tuple[str, ...]
    name: str
    #: None for an evaluation.
    epoch: int | None
    caption: str
    #: Below `pictures/` beside the report.
    file: str
    sha256: str
    bytes: int
