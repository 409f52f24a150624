"""Methods of several cards: what a source must have, and validation by source.

A method that learns from several cards is measured on each by itself, and by the mean over them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping

import numpy as np

from trainers.api import Scores
from trainers.data.access import Access
from trainers.errors import DataError

_LOG = logging.getLogger(__name__)
_PREFIX = "val/"
#: Metric of one source -> what its mean over the sources is called.
MEANS: Mapping[str, str] = {"auroc_macro": "mean_auroc", "loss": "mean_loss"}


def number_of(card: str) -> int:
    """Return a number that stands for a card, so that what is drawn for a source does not depend on the others."""
    return int.from_bytes(hashlib.sha256(card.encode()).digest()[:7], "big")


def refuse_source(access: Access, trainer: str) -> None:
    """Raise DataError when a source cannot be learnt from and validated."""
    if not access.label_names:
        raise DataError(f"source '{access.card}' has no labels, and {trainer} learns from labels: leave it out")
    if not len(access.rows("train")):
        raise DataError(f"source '{access.card}' has no training image: leave it out, or raise the fraction of the draw")
    if access.find("val") is None:
        raise DataError(
            f"source '{access.card}' has no validation split, and every source is validated: write `patients_by_hash: {{val: 0.1}}` under "
            "`splits` of its card, or leave it out"
        )


def measured_by_source(measure: Callable[[str, Scores], Mapping[str, float]], scores: Mapping[str, Scores]) -> dict[str, float]:
    """Measure the scores of each source: `val/<source>/auroc_macro`, `val/<source>/loss` and so on, and `val/mean_auroc`, `val/mean_loss`.

    `measure` gives the metrics `val/...` of one card by its name. A further network's scores have names `<source>/<network>`, metrics
    `val/<source>/<network>/...` and means of their own, `val/<network>/mean_auroc`. Every source has the same weight, however large it
    is: a mean over images would be one over the largest. A source without a value is left out of a mean, said by a warning and counted in
    `..._not_estimable`; which one it is shows in its own metrics.
    """
    found: dict[str, float] = {}
    for name, one in scores.items():
        found |= {f"{_PREFIX}{name}/{key.removeprefix(_PREFIX)}": value for key, value in measure(source_of(name), one).items()}
    for network in dict.fromkeys(network_of(name) for name in scores):
        names = [name for name in scores if network_of(name) == network]
        for metric, mean in MEANS.items():
            found |= _mean({name: found.get(f"{_PREFIX}{name}/{metric}") for name in names}, f"{_PREFIX}{network}{mean}", metric)
    return found


def source_of(name: str) -> str:
    """Return the card of a name of scores, `<source>` or `<source>/<network>`."""
    return name.partition("/")[0]


def network_of(name: str) -> str:
    """Return how the metrics of a name's network begin: empty, or `<network>/`."""
    network = name.partition("/")[2]
    return f"{network}/" if network else ""


def _mean(values: Mapping[str, float | None], name: str, metric: str) -> dict[str, float]:
    without = [source for source, value in values.items() if value is None]
    if without:
        _LOG.warning("%s is the mean without %s: their validation images give no %s", name, ", ".join(without), metric)
    known = [value for value in values.values() if value is not None]
    counted = {f"{name}_not_estimable": float(len(without))}
    return {name: float(np.mean(known)), **counted} if known else counted
