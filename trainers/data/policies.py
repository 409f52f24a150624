"""What training and evaluation make of labels that are uncertain (-1) or not mentioned (NaN)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trainers.data.access import Rows

_ACTIONS: Mapping[str, float] = {"ignore": np.nan, "ones": 1.0, "zeros": 0.0}


def targets(rows: Rows, policies: Mapping[str, str]) -> np.ndarray:
    """Return what training learns from, float32 (n, labels): 1, 0, or NaN for entries that the loss leaves out.

    `policies` is flat, as `Access.policies`: `uncertain`, `missing`, and `uncertain/<label>`, `missing/<label>` where a label has its own.
    """
    learnt = rows.labels.copy()
    for column, name in enumerate(rows.label_names):
        values = rows.labels[:, column]
        learnt[values == -1, column] = _action(policies, "uncertain", name)
        learnt[np.isnan(values), column] = _action(policies, "missing", name)
    return learnt


def truths(rows: Rows, policies: Mapping[str, str]) -> np.ndarray:
    """Return what scores are measured against, as `targets`, but with uncertain entries always NaN: they are dropped for their label."""
    measured = targets(rows, policies)
    measured[rows.labels == -1] = np.nan
    return measured


def _action(policies: Mapping[str, str], kind: str, label: str) -> float:
    name = policies.get(f"{kind}/{label}", policies.get(kind, {"uncertain": "ignore", "missing": "zeros"}[kind]))
    if name not in _ACTIONS:
        raise ValueError(f"label policy {kind}: '{name}' is none of {', '.join(_ACTIONS)}")
    return _ACTIONS[name]
