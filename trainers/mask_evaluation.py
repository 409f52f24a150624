"""The evaluate stage of masks: the choice written first, and only then the test split.

Nothing is chosen on validation: a pixel is inside where its probability is above 0.5, which the choice declares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file

from trainers.api import Overlaps, Solver, Trainer
from trainers.data.access import Access, Rows
from trainers.data.cards import Card
from trainers.errors import DataError, Error
from trainers.parts.overlaps import measure, overlap_table
from trainers.prediction_files import digest_of, table_digest, write_table
from trainers.training import used
from trainers.weights import load_matching

if TYPE_CHECKING:
    from trainers.evaluation import EvaluateRequest

THRESHOLD = 0.5


def evaluate_masks(
    request: EvaluateRequest,
    choose: Callable[[Mapping[str, Any]], None],
    predictions: Path,
    *,
    card: Card,
    access: Access,
    method: Trainer | Solver,
    structures: tuple[str, ...],
    picture: Callable[[Rows], Mapping[str, Any]],
) -> dict[str, Any]:
    """Declare the threshold, hand the choice to `choose` (which makes it durable), then open the test split and measure what is drawn.

    Writes `predictions` (parquet, one row an image and structure), has pictures made of what was scored (`picture`, which returns their
    captions), and returns the content of the result. Raises Error for several
    checkpoints, whose masks are not averaged, and for a unit other than the image.
    """
    units = {key: request.units.get(key) or getattr(card, key) for key in ("score_per", "views", "cluster")}
    if units["score_per"] != "image":
        raise Error(f"masks are compared image by image, and score_per is '{units['score_per']}': set score_per: image")
    if len(request.files) != 1:
        raise Error(f"the pick hands on {len(request.files)} checkpoints, and masks are not averaged: set pick.checkpoints to best")
    load_matching(method.module, load_file(request.files[0]), what=str(request.files[0]))
    choose({"thresholds": {}, "probability_above": THRESHOLD, "labels": list(structures)})
    rows = access.find(request.split)
    if rows is None:
        raise DataError(f"card '{card.name}' has no '{request.split}' split; evaluate another split or name its list in the card")
    drawn = method.predict(rows)
    if not isinstance(drawn, Overlaps):
        raise Error(f"card '{card.name}' is one of structures, and the trainer gives scores: evaluate on a card of labels")
    table = overlap_table(drawn, tuple(request.traits))
    write_table(table, predictions)
    return {
        "card": card.name,
        "split": str(request.split),
        "labels": list(drawn.structures),
        "units": units,
        "metrics": measure(drawn, prefix=f"{request.split}/{card.name}"),
        "n_images": len(rows),
        "n_units": len(rows),
        "n_patients": len(set(rows.patients.tolist())),
        "test_digest": digest_of(rows.images),
        "predictions_digest": table_digest(table),
        "data": [used(access)],
        **picture(rows),
    }
