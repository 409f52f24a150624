"""What training and evaluation make of labels that are uncertain (-1) or not mentioned (NaN)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from trainers.data.access import Rows
from trainers.data.cards import LSR_RANGES

_ACTIONS: Mapping[str, float] = {"ignore": np.nan, "ones": 1.0, "zeros": 0.0}


def targets(rows: Rows, policies: Mapping[str, str], *, epoch: int = 0, seed: int | None = None) -> np.ndarray:
    """Return what training learns from, float32 (n, labels): 1, 0, a soft target, or NaN for entries that the loss leaves out.

    `policies` is flat, as `Access.policies`: `uncertain`, `missing`, and `uncertain/<label>`, `missing/<label>` where a label has its own.
    A soft target (`lsr_ones`, `lsr_zeros`) is uniform in its range and depends on the image, the label, `epoch` and `seed` alone: the same
    for every order and draw. One that stays the same from epoch to epoch, whatever the seed, leaves both out.
    """
    learnt = rows.labels.copy()
    for column, name in enumerate(rows.label_names):
        values = rows.labels[:, column]
        learnt[np.isnan(values), column] = _missing(policies, name)
        uncertain = np.flatnonzero(values == -1)
        if len(uncertain):
            learnt[uncertain, column] = _uncertain(
                policies, name, rows.images[uncertain], f"{epoch}" if seed is None else f"{epoch}|{seed}"
            )
    return learnt


def truths(rows: Rows, policies: Mapping[str, str]) -> np.ndarray:
    """Return what scores are measured against, as `targets`, but with uncertain entries always NaN: they are dropped for their label."""
    measured = targets(rows, policies)
    measured[rows.labels == -1] = np.nan
    return measured


def _uncertain(policies: Mapping[str, str], label: str, images: np.ndarray, key: str) -> np.ndarray | float:
    written = policies.get(f"uncertain/{label}", policies.get("uncertain", "ignore"))
    if written in _ACTIONS:
        return _ACTIONS[written]
    name, _, given = written.partition("(")
    if name not in LSR_RANGES:
        raise ValueError(f"label policy uncertain: '{written}' is none of {', '.join([*_ACTIONS, *LSR_RANGES])}")
    low, high = map(float, given.rstrip(")").split(",")) if given else LSR_RANGES[name]
    shares = [int.from_bytes(hashlib.sha256(f"{label}|{image}|{key}".encode()).digest()[:8], "big") / 2**64 for image in images]
    return low + (high - low) * np.array(shares)


def _missing(policies: Mapping[str, str], label: str) -> float:
    name = policies.get(f"missing/{label}", policies.get("missing", "zeros"))
    if name not in _ACTIONS:
        raise ValueError(f"label policy missing: '{name}' is none of {', '.join(_ACTIONS)}")
    return _ACTIONS[name]
