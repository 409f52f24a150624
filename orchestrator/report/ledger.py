"""The ledger: one row a planned evaluation, there or not."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report.board import Board
from orchestrator.report.cells import Planned
from orchestrator.report.values import LedgerRow


def ledger(every: Sequence[Planned], board: Board | None) -> list[LedgerRow]:
    """Return a row for every run of a test set."""
    rows: list[LedgerRow] = []
    for planned in every:
        for run in planned.runs:
            scored = board.scored.get(run.job) if board else None
            rows.append(
                LedgerRow(
                    job=run.job,
                    train_job=run.picked.train_job,
                    trial=run.trial,
                    test_set=planned.test_set,
                    arm=planned.arm,
                    size=planned.size,
                    replicate=run.place.replicate,
                    present=run.predictions is not None,
                    value=scored.areas[None].value if scored and None in scored.areas else None,
                    n_labeled_patients=run.draw.patients,
                    n_labeled_images=run.draw.images,
                    draw=run.draw.sha256,
                    checkpoint=run.picked.checkpoint,
                    by_label=run.picked.by_label,
                    epoch=run.picked.epoch,
                    picked=run.picked.tuned,
                    picked_value=run.picked.value,
                    candidates=run.picked.candidates,
                    stopped=run.picked.stopped,
                    lost=run.picked.lost,
                    at_edge=run.picked.at_edge,
                )
            )
    return rows
