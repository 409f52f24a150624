"""Which labels a classifier outputs, and what it learns them from."""

from __future__ import annotations

import difflib

import numpy as np
from numpy.typing import NDArray

from trainers.api import Setup
from trainers.data.access import Rows
from trainers.data.policies import targets, truths
from trainers.errors import Error

#: Value of a config's `uncertain` that leaves uncertain labels to the card.
CARD = "card"
_UNCERTAIN = "uncertain"


def outputs_of(setup: Setup) -> tuple[str, ...]:
    """Return the labels to output, in order: the setup's, else the config's, else the card's.

    Raises Error when the config names a label that the card does not have.
    """
    if setup.predict_only:
        return setup.labels
    names = tuple(setup.labels or setup.config.labels or setup.data.label_names)
    for name in names:
        if name not in setup.data.label_names:
            near = difflib.get_close_matches(name, setup.data.label_names, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(setup.data.label_names)}"
            raise Error(f"config.labels: card '{setup.data.card}' has no label '{name}'; {hint}")
    return names


def learnt(rows: Rows, setup: Setup, names: tuple[str, ...], *, epoch: int | None = None) -> NDArray[np.float32]:
    """Return what training learns, (n, len(names)): 1, 0, or NaN for what the card's policies leave out.

    A config's `uncertain` other than `card` stands for what the card says of uncertain labels, those with a policy of their own too.
    Soft targets are fixed, or those of an `epoch` and of the setup's seed.
    """
    uncertain = getattr(setup.config, "uncertain", CARD)
    policies = setup.data.policies
    if uncertain != CARD:
        policies = {key: value for key, value in policies.items() if not key.startswith(f"{_UNCERTAIN}/")} | {_UNCERTAIN: uncertain}
    if epoch is None:
        return targets(rows.select(names), policies)
    return targets(rows.select(names), policies, epoch=epoch, seed=setup.seed)


def refuse_other_classes(rows: Rows, setup: Setup, names: tuple[str, ...]) -> None:
    """Raise Error when labels are not the classes of a softmax: all of the card's, of which every image has one, or none known."""
    missing = [name for name in setup.data.label_names if name not in names]
    if missing:
        raise Error(
            f"config.loss: cross_entropy needs every class, and config.labels leaves out '{missing[0]}': name all, or set loss: bce"
        )
    counts = (rows.labels == 1).sum(axis=1)
    bad = np.flatnonzero((counts != 1) & ~np.isnan(rows.labels).all(axis=1))
    if len(bad):
        raise Error(
            f"config.loss: cross_entropy takes images of one class each, and {rows.images[bad[0]]} of card '{setup.data.card}' has "
            f"{counts[bad[0]]} of {len(names)} labels: set loss: bce"
        )


def measured(rows: Rows, setup: Setup, names: tuple[str, ...]) -> NDArray[np.float32]:
    """Return what scores are measured against, (n, len(names)): uncertain labels are always left out."""
    return truths(rows.select(names), setup.data.policies)
