"""Numbers of labels: the columns of the headline table, in order, with titles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.report import wording
from orchestrator.report.cells import Planned
from orchestrator.report.values import SizeInfo

#: The size of runs that drew no part of their labels.
ALL = "all"


def sizes(planned: Sequence[Planned]) -> tuple[SizeInfo, ...]:
    """Return the numbers of labels of some planned runs, smallest first, everything last."""
    found: list[SizeInfo] = []
    for key in sorted({one.size for one in planned}, key=size_rank):
        draws = [run.draw for one in planned if one.size == key for run in one.runs]
        images = [draw.images for draw in draws if draw.images is not None]
        patients = [draw.patients for draw in draws if draw.patients is not None]
        shares = [draw.share for draw in draws if draw.share is not None]
        if key == ALL and _differ(planned):
            # Arms that learn from other data sets have other numbers, of which a mean says nothing.
            images, patients = [], []
        picks = [run.picked for one in planned if one.size == key for run in one.runs]
        validated = [pick.val_patients for pick in picks if pick.val_patients is not None and pick.metric is not None]
        found.append(
            SizeInfo(
                key=key,
                title=_size_title(key, patients),
                n_labeled=float(np.mean(images)) if images else None,
                n_labeled_patients=float(np.mean(patients)) if patients else None,
                overlap=float(np.mean(shares)) if shares else None,
                n_val_patients=max(validated, default=None),
                drawn_range=_range([draw.units for draw in draws if draw.units is not None]),
            )
        )
    return tuple(found)


def _differ(planned: Sequence[Planned]) -> bool:
    """Tell whether arms that use all labels have other numbers of patients than each other."""
    found = {
        float(np.mean(known))
        for one in planned
        if one.size == ALL and (known := [run.draw.patients for run in one.runs if run.draw.patients is not None])
    }
    return len(found) > 1


def _range(counts: Sequence[int]) -> tuple[int, int] | None:
    return (min(counts), max(counts)) if len(set(counts)) > 1 else None


def _size_title(key: str, patients: Sequence[int]) -> str:
    if key.startswith("fraction="):
        return f"{wording.percent(float(key.removeprefix('fraction=')))} of the labels"
    if key.startswith("count="):
        return f"{float(key.removeprefix('count=')):,g} labelled patients"
    if key.startswith("n_labeled="):
        return f"{float(key.removeprefix('n_labeled=')):,g} labelled images"
    return "all labels" if not patients else f"{np.mean(patients):,.0f} labelled patients"


def size_rank(key: str) -> tuple[int, float]:
    """Return how a number of labels is sorted: numbers ascending, then everything."""
    _, _, value = key.partition("=")
    return (1, float(value)) if value else (2, 0.0)
