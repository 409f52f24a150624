"""Draws: which units of the training rows one replicate may learn from.

A draw is a mapping of plain values, as it stands in a job:

    {scheme: fraction, by: patient|study|image, fraction: 0.01 | count: 64, index: 3, nested_fractions: true, seed: 0}
    {scheme: fraction, sizes: random, by: image, fraction: 0.01, index: 3, of: [[0.001, 5], [0.01, 5]], seed: 0}
    {scheme: fraction, sizes: shuffled, by: image, fraction: 0.25, index: 0, seed: 99}
    {scheme: kfold, folds: 5, fold: 2, index: 0, seed: 0}
    {scheme: leave_pair_out, fold: 17}

Units are ordered by a hash of their id, so a draw depends on neither the order of the rows nor the machine. Draws are stratified on the
card's primary label: a unit is positive when any of its images is.

`sizes: random` are the draws of MoCo-CXR's `reorganize_files.py` instead: each unit is in or out by a number of its own, whatever the
others are, so that sizes are random and nothing is stratified. One stream of Python's random numbers goes through the units in the order
of the label file and, at each, through every draw of every fraction (`of`: fraction and how many draws, in order).

`sizes: shuffled` are those of the benchmark of transformers: units in their order, shuffled by Python's `random.Random(seed + index)`, of
which the first `int(n * fraction)` are drawn. Nothing is stratified, and the draws of one index lie inside each other.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.data.cards import Card
from trainers.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from trainers.data.access import Rows

SCHEMES = ("fraction", "kfold", "leave_pair_out")
EXACT, RANDOM, SHUFFLED = "exact", "random", "shuffled"
#: Random numbers that are held at once.
_AT_ONCE = 1 << 20
UNITS = ("patient", "study", "image")
#: Keys a draw may have, with what stands for one that is absent.
DEFAULTS: Mapping[str, Any] = {
    "scheme": "fraction",
    "by": "patient",
    "fraction": None,
    "count": None,
    "index": 0,
    "nested_fractions": False,
    "sizes": EXACT,
    "of": None,
    "folds": None,
    "fold": 0,
    "seed": 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What a draw gives: rows to learn from, rows held out (schemes with folds), and what names the draw."""

    rows: Rows
    held_out: Rows | None
    #: sha256 of the sorted ids of the drawn units; arms are matched when it is the same.
    digest: str
    by: str
    n_units: int
    n_patients: int
    n_studies: int
    n_images: int
    n_positive: int
    #: Units of the training rows that were drawn from: two draws share about `n_units / n_pool` of theirs.
    n_pool: int

    def facts(self) -> dict[str, Any]:
        """Return the draw's record for a job's result, as plain values."""
        return {
            "sha256": self.digest,
            "by": self.by,
            "n_units": self.n_units,
            "n_patients": self.n_patients,
            "n_studies": self.n_studies,
            "n_images": self.n_images,
            "n_positive_units": self.n_positive,
            "n_pool_units": self.n_pool,
        }


@dataclass(slots=True)
class _Units:
    """The units of some rows: sorted ids, and for each whether it is positive and whether it can serve as a negative."""

    ids: np.ndarray  # (u,) str
    of_row: np.ndarray  # (n,) int64
    positive: np.ndarray  # (u,) bool
    negative: np.ndarray  # (u,) bool: has an image that training would count as negative, and none that is positive


def select(rows: Rows, draw: Mapping[str, Any], primary: str, policies: Mapping[str, str] | None = None) -> Drawn:
    """Apply a draw to the training rows; kept rows stay in their order. Raises DataError when it cannot be had from them."""
    plan = _checked(draw)
    units = _units_of(rows, plan["by"], primary, policies or {})
    held_out = None
    if plan["sizes"] == RANDOM:
        kept = _independent(units, plan)
    elif plan["sizes"] == SHUFFLED:
        kept = _first_of_shuffle(units, plan)
    elif plan["scheme"] == "fraction":
        kept = _fraction(units, plan, primary)
    else:
        out = _kfold(units, plan, primary) if plan["scheme"] == "kfold" else _pair(units, plan["fold"], primary)
        held_out = rows.take(out[units.of_row])
        kept = ~out
    return _drawn(rows, units, kept, held_out, plan["by"])


def folds(card: Card, root: Path, draw: Mapping[str, Any]) -> int:
    """Return how many folds a scheme has on a card: what a plan expands to. Raises DataError for a draw without folds."""
    plan = _checked({**draw, "fold": 0})
    if plan["scheme"] == "kfold":
        return plan["folds"]
    if plan["scheme"] != "leave_pair_out":
        raise DataError(f"draws.scheme '{plan['scheme']}' has no folds: use kfold or leave_pair_out")
    from trainers.data.index import base_of, read_index
    from trainers.data.splits import split_of

    rows = read_index(card, root)
    rows = rows.take(split_of(card, rows, base_of(card, root)) == "train")
    units = _units_of(rows, plan["by"], card.primary, card.policies)
    return _pairs(units, card.primary)


def draw_digest(rows: Rows, by: str = "patient") -> str:
    """Return the sha256 of the sorted ids of the units that rows belong to: arms with the same one learnt from the same draw."""
    import numpy as np

    ids = np.unique(_ids(rows, by))
    return hashlib.sha256("\n".join(str(unit) for unit in ids).encode()).hexdigest()


def size_of(n_units: int, fraction: float) -> int:
    """Return how many of some units a fraction is: rounded half up, at least two, at most all."""
    return min(n_units, max(2, math.floor(fraction * n_units + 0.5)))


def _checked(draw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a draw with its defaults. Raises DataError for a key or value that no draw has."""
    unknown = sorted(set(draw) - set(DEFAULTS))
    if unknown:
        raise DataError(f"draws.{unknown[0]}: unknown key; a draw has {', '.join(DEFAULTS)}")
    plan = {**DEFAULTS, **draw}
    if plan["scheme"] not in SCHEMES:
        raise DataError(f"draws.scheme: '{plan['scheme']}' is none of {', '.join(SCHEMES)}")
    if plan["by"] not in UNITS:
        raise DataError(f"draws.by: '{plan['by']}' is none of {', '.join(UNITS)}")
    if plan["sizes"] not in (EXACT, RANDOM, SHUFFLED):
        raise DataError(f"draws.sizes: '{plan['sizes']}' is none of {EXACT}, {RANDOM}, {SHUFFLED}")
    if plan["sizes"] != EXACT:
        _check_fraction(plan)
    if plan["sizes"] == RANDOM:
        _check_random(plan)
    if plan["scheme"] == "fraction":
        _check_size(plan)
    elif plan["by"] != "patient":
        raise DataError(f"draws.by: '{plan['by']}' would put images of one patient on both sides of a fold: use patient")
    if plan["scheme"] == "kfold" and (not isinstance(plan["folds"], int) or plan["folds"] < 2 or not 0 <= plan["fold"] < plan["folds"]):
        raise DataError(f"draws: fold {plan['fold']} of {plan['folds']}: folds is 2 or more, and fold counts from 0")
    return plan


def _check_fraction(plan: Mapping[str, Any]) -> None:
    if plan["scheme"] != "fraction" or plan["fraction"] is None:
        raise DataError(f"draws.sizes: {plan['sizes']} sizes come of fractions: give `fraction`, or leave sizes out")
    if plan["nested_fractions"]:
        why = "every draw is on its own" if plan["sizes"] == RANDOM else "smaller draws lie inside larger ones anyway"
        raise DataError(f"draws.nested_fractions: with {plan['sizes']} sizes {why}: leave it out")


def _check_random(plan: Mapping[str, Any]) -> None:
    if not any(fraction == plan["fraction"] and 0 <= plan["index"] < repeats for fraction, repeats in _columns(plan)):
        raise DataError(f"draws.of: {plan['of']} has no draw {plan['index']} of the fraction {plan['fraction']}")


def _columns(plan: Mapping[str, Any]) -> list[tuple[float, int]]:
    """Return every fraction and how many draws it has, in the order of the stream."""
    return [(float(fraction), int(repeats)) for fraction, repeats in plan["of"] or [[plan["fraction"], plan["index"] + 1]]]


def _check_size(plan: Mapping[str, Any]) -> None:
    fraction, count = plan["fraction"], plan["count"]
    if (fraction is None) == (count is None):
        raise DataError("draws: give one of fraction and count")
    if fraction is not None and not 0 < fraction <= 1:
        raise DataError(f"draws.fraction: {fraction} is not between 0 and 1")
    if count is not None and (count != int(count) or count < 2):
        raise DataError(f"draws.count: {count} is not a whole number of at least 2")


def _ids(rows: Rows, by: str) -> np.ndarray:
    return {"patient": rows.patients, "study": rows.studies, "image": rows.images}[by]


def _units_of(rows: Rows, by: str, primary: str, policies: Mapping[str, str]) -> _Units:
    import numpy as np

    ids, of_row = np.unique(_ids(rows, by), return_inverse=True)
    if not primary:
        nothing = np.zeros(len(ids), dtype=bool)
        return _Units(ids=ids, of_row=of_row, positive=nothing, negative=nothing)
    values = rows.labels[:, rows.label_names.index(primary)]
    counts_as_zero = values == 0
    if policies.get(f"missing/{primary}", policies.get("missing", "zeros")) == "zeros":
        counts_as_zero |= np.isnan(values)
    if policies.get(f"uncertain/{primary}", policies.get("uncertain", "ignore")) == "zeros":
        counts_as_zero |= values == -1
    positive = np.bincount(of_row, values == 1, minlength=len(ids)) > 0
    negative = (np.bincount(of_row, counts_as_zero, minlength=len(ids)) > 0) & ~positive
    return _Units(ids=ids, of_row=of_row, positive=positive, negative=negative)


def _shuffled(ids: np.ndarray, where: np.ndarray, key: str) -> np.ndarray:
    """Return unit numbers `where` in an order that is a hash of the key and each unit's id."""
    hashes = [hashlib.sha256(f"{key}|{ids[unit]}".encode()).digest() for unit in where]
    return where[sorted(range(len(where)), key=hashes.__getitem__)] if len(where) else where


def _need_both(units: _Units, primary: str) -> None:
    if not units.positive.any() or not units.negative.any():
        kind = "positive" if not units.positive.any() else "negative"
        raise DataError(f"no {kind} unit of '{primary}' in the training rows: a draw needs one of each, so draw the fraction 1.0 only")


def _fraction(units: _Units, plan: Mapping[str, Any], primary: str) -> np.ndarray:
    """Return the drawn units (u,) bool: exactly the size, positives in proportion, at least one of each."""
    import numpy as np

    total = len(units.ids)
    if plan["fraction"] == 1:
        return np.ones(total, dtype=bool)
    size = size_of(total, plan["fraction"]) if plan["fraction"] is not None else int(plan["count"])
    if size > total:
        raise DataError(f"draws.count: {size} {plan['by']} units asked for, and the training rows have {total}")
    # One order for all sizes makes smaller draws subsets of larger ones; else each size has its own.
    key = f"{plan['seed']}|{plan['index']}" + ("" if plan["nested_fractions"] else f"|{size}")
    if not primary:
        kept = np.zeros(total, dtype=bool)
        kept[_shuffled(units.ids, np.arange(total), key)[:size]] = True
        return kept
    _need_both(units, primary)
    positives = _shuffled(units.ids, np.flatnonzero(units.positive), key)
    others = _shuffled(units.ids, np.flatnonzero(~units.positive), key)
    # A unit of which everything is uncertain is no negative: the first that is one comes first, so that every size has one.
    first = int(np.flatnonzero(units.negative[others])[0])
    others = np.concatenate([others[first : first + 1], np.delete(others, first)])
    n_positive = math.floor(size * len(positives) / total + 0.5)
    n_positive = min(max(n_positive, 1), size - 1)
    kept = np.zeros(total, dtype=bool)
    kept[positives[:n_positive]] = True
    kept[others[: size - n_positive]] = True
    return kept


def _independent(units: _Units, plan: Mapping[str, Any]) -> np.ndarray:
    """Return the drawn units (u,) bool: each by a random number of its own below the fraction. Raises DataError when none is."""
    import numpy as np

    columns = _columns(plan)
    width = sum(repeats for _, repeats in columns)
    here = sum(repeats for _, repeats in columns[: [fraction for fraction, _ in columns].index(plan["fraction"])]) + plan["index"]
    order = _in_order(units)
    stream = _twister(plan["seed"])
    kept = np.zeros(len(units.ids), dtype=bool)
    rows_at_once = max(1, _AT_ONCE // width)
    for start in range(0, len(order), rows_at_once):
        some = order[start : start + rows_at_once]
        kept[some] = stream.random_sample((len(some), width))[:, here] < plan["fraction"]
    if not kept.any():
        raise DataError(
            f"draws.fraction: no {plan['by']} of {len(kept)} came up in draw {plan['index']} of the fraction {plan['fraction']:g}, "
            "whose sizes are random: raise the fraction, or leave `sizes: random` out"
        )
    return kept


def _in_order(units: _Units) -> np.ndarray:
    """Return unit numbers in the order in which the rows name them first."""
    import numpy as np

    _, first = np.unique(units.of_row, return_index=True)
    return np.argsort(first, kind="stable")


def _first_of_shuffle(units: _Units, plan: Mapping[str, Any]) -> np.ndarray:
    """Return the drawn units (u,) bool: the first of all, shuffled (BenchmarkTransformers `dataloader.py`). Raises DataError for none."""
    import numpy as np

    places = list(range(len(units.ids)))
    random.Random(plan["seed"] + plan["index"]).shuffle(places)
    chosen = places[: int(len(places) * plan["fraction"])]
    if not chosen:
        raise DataError(f"draws.fraction: {plan['fraction']:g} of {len(places)} {plan['by']} units is none: raise the fraction")
    kept = np.zeros(len(places), dtype=bool)
    kept[_in_order(units)[chosen]] = True
    return kept


def _twister(seed: int) -> np.random.RandomState:
    """Return the stream of Python's `random.seed(seed)`, many numbers at a time."""
    import numpy as np

    *state, at = random.Random(seed).getstate()[1]
    stream = np.random.RandomState()
    stream.set_state(("MT19937", np.array(state, dtype=np.uint32), at, 0, 0.0))
    return stream


def _kfold(units: _Units, plan: Mapping[str, Any], primary: str) -> np.ndarray:
    """Return the held-out units (u,) bool of one fold: positives are dealt out first, then the rest goes on where they ended."""
    import numpy as np

    if plan["folds"] > len(units.ids):
        raise DataError(f"draws.folds: {plan['folds']} folds of {len(units.ids)} patients: use fewer")
    if primary:
        _need_both(units, primary)
    key = f"{plan['seed']}|{plan['index']}|kfold"
    dealt = np.concatenate([_shuffled(units.ids, np.flatnonzero(side), key) for side in (units.positive, ~units.positive)])
    out = np.zeros(len(units.ids), dtype=bool)
    out[dealt[plan["fold"] :: plan["folds"]]] = True
    return out


def _pairs(units: _Units, primary: str) -> int:
    _need_both(units, primary)
    return int(units.positive.sum()) * int(units.negative.sum())


def _pair(units: _Units, fold: int, primary: str) -> np.ndarray:
    """Return the held-out units (u,) bool: one positive and one negative patient, pairs in order of their ids."""
    import numpy as np

    total = _pairs(units, primary)
    if not 0 <= fold < total:
        raise DataError(f"draws.fold: {fold} is not below {total}, the number of pairs of a positive and a negative patient")
    positives, negatives = np.flatnonzero(units.positive), np.flatnonzero(units.negative)
    out = np.zeros(len(units.ids), dtype=bool)
    out[[positives[fold // len(negatives)], negatives[fold % len(negatives)]]] = True
    return out


def _drawn(rows: Rows, units: _Units, kept: np.ndarray, held_out: Rows | None, by: str) -> Drawn:
    import numpy as np

    chosen = rows.take(kept[units.of_row])
    return Drawn(
        rows=chosen,
        held_out=held_out,
        digest=draw_digest(chosen, by),
        by=by,
        n_units=int(kept.sum()),
        n_patients=len(np.unique(chosen.patients)),
        n_studies=len(np.unique(chosen.studies)),
        n_images=len(chosen),
        n_positive=int((kept & units.positive).sum()),
        n_pool=len(kept),
    )
