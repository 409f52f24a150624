"""Replicates: draws, folds and seeds of a phase, and how they pair with those of the phase before."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from jobs.spec import Json, Scalar, canonical_json
from orchestrator.model import Draws, Phase

FRACTION, KFOLD, LEAVE_PAIR_OUT = "fraction", "kfold", "leave_pair_out"
#: Replicate labels that say how large a draw is; they tell cells apart and are never averaged over.
SIZE_LABELS = frozenset({"fraction", "count"})
DRAW, FOLD, SEED = "draw", "fold", "seed"
_SEED_RANGE = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicate:
    """One repetition of a phase: its labels, what its training seed is hashed from, and which patients it may learn from."""

    labels: Mapping[str, Scalar] = field(default_factory=dict)
    index: tuple[int, ...] = ()
    draw: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """How own replicates meet those that a parent brings: (parent's label, own label) that must be equal; the rest are crossed."""

    equal: tuple[tuple[str, str], ...] = ()


def has_folds(phase: Phase) -> bool:
    """Tell whether the number of replicates depends on the data."""
    return phase.draws is not None and phase.draws.scheme in (KFOLD, LEAVE_PAIR_OUT)


def replicates_of(phase: Phase, folds: int = 0) -> list[Replicate]:
    """List the replicates of a phase; one without labels when it has none. `folds` counts those of a scheme with folds."""
    drawn = [Replicate()] if phase.draws is None else _drawn(phase.draws, folds)
    if phase.seeds is None:
        return drawn
    return [
        Replicate(labels={**one.labels, SEED: seed}, index=(*one.index, seed), draw=one.draw)
        for one in drawn
        for seed in range(phase.seeds)
    ]


def repeats_of(draws: Draws) -> tuple[int, ...]:
    """Return the number of repeats by position of the sizes; a single one counts for all."""
    return draws.repeats * len(draws.fractions) if len(draws.repeats) == 1 else draws.repeats


def _drawn(draws: Draws, folds: int) -> list[Replicate]:
    if draws.scheme == FRACTION:
        return [
            Replicate(labels={draws.size_label: _size(draws, size), DRAW: index}, index=(index,), draw=_fraction(draws, size, index))
            for size, repeats in zip(draws.fractions, repeats_of(draws), strict=True)
            for index in range(repeats)
        ]
    shown = folds if draws.first_folds is None else min(folds, draws.first_folds)
    if draws.scheme == LEAVE_PAIR_OUT:
        return [
            Replicate(labels={FOLD: fold}, index=(fold,), draw={"scheme": draws.scheme, "by": draws.by, "fold": fold})
            for fold in range(shown)
        ]
    repeats = repeats_of(draws)[0]
    found: list[Replicate] = []
    for index in range(repeats):
        for fold in range(shown):
            draw = {"scheme": draws.scheme, "by": draws.by, "folds": folds, "fold": fold, "index": index, "seed": draws.seed}
            labels = {FOLD: fold} if repeats == 1 else {DRAW: index, FOLD: fold}
            found.append(Replicate(labels=labels, index=tuple(labels.values()), draw=draw))
    return found


def _size(draws: Draws, size: float) -> Scalar:
    return int(size) if draws.counted else float(size)


def _fraction(draws: Draws, size: float, index: int) -> dict[str, Json]:
    draw: dict[str, Json] = {
        "scheme": draws.scheme,
        "by": draws.by,
        draws.size_label: _size(draws, size),
        "index": index,
        "nested_fractions": draws.nested_fractions,
        "seed": draws.seed,
    }
    # Only where it is asked for, so that other draws are what they were. One stream runs through all fractions and their draws.
    if draws.sizes != "exact":
        draw |= {"sizes": draws.sizes}
    if draws.sizes == "random":
        draw |= {"of": [[size, repeats] for size, repeats in zip(draws.fractions, repeats_of(draws), strict=True)]}
    return draw


def training_seed(sweep_seed: int, phase: str, index: tuple[int, ...]) -> int:
    """Return the training seed of a replicate: a hash of (sweep seed, phase, replicate), the same for every arm."""
    text = canonical_json([sweep_seed, phase, *(index or (0,))])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % _SEED_RANGE


def pairing_of(phase: Phase, carried: Mapping[str, Draws | int]) -> Pairing:
    """Return how a phase's replicates meet those it inherits.

    `carried` maps each inherited replicate label to the draws, or the number of seeds, that it came from. The same draws are the same
    replicates; as many pretraining seeds as draws make replicate r = (pretraining r, draw r); anything else is crossed.
    """
    equal: list[tuple[str, str]] = []
    seeds = {name: origin for name, origin in carried.items() if isinstance(origin, int)}
    taken: set[str] = set()
    if phase.draws is not None:
        own = _labels_of(phase.draws)
        same = [name for name, origin in carried.items() if origin == phase.draws and isinstance(origin, Draws)]
        equal += [(name, name) for name in same if name in own]
        if not same and phase.draws.scheme == FRACTION:
            wanted = max(repeats_of(phase.draws))
            paired = [name for name, count in seeds.items() if count == wanted]
            equal += [(name, DRAW) for name in paired]
            taken.update(paired)
    if phase.seeds is not None:
        equal += [(name, SEED) for name, count in seeds.items() if count == phase.seeds and name == SEED and name not in taken]
    return Pairing(equal=tuple(equal))


def origins_of(phase: Phase) -> dict[str, Draws | int]:
    """Return a phase's own replicate labels and where each comes from."""
    found: dict[str, Draws | int] = {}
    if phase.draws is not None:
        found |= dict.fromkeys(_labels_of(phase.draws), phase.draws)
    if phase.seeds is not None:
        found[SEED] = phase.seeds
    return found


def _labels_of(draws: Draws) -> tuple[str, ...]:
    if draws.scheme == FRACTION:
        return (draws.size_label, DRAW)
    return (DRAW, FOLD) if draws.scheme == KFOLD and repeats_of(draws)[0] > 1 else (FOLD,)
