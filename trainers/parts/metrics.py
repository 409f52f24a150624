"""Measures of scores against labels, and the step from images to studies and patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trainers.api import Scores
from trainers.data.access import Rows
from trainers.data.policies import truths
from trainers.slugs import slug

Floats = NDArray[np.floating]

_UNITS = {"study": "studies", "patient": "patients", "image": "images"}


def auroc(truth: Floats, score: Floats) -> float | None:
    """Return the area under the ROC curve, a tie counting one half; None unless both classes are there.

    Exact by ranks: (sum of the positives' mid-ranks - P(P+1)/2) / PN (Mann and Whitney 1947). NaN in `truth` (n,) is left out.
    """
    known = ~np.isnan(truth)
    truth, score = truth[known], score[known]
    positive = truth == 1
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if n_positive == 0 or n_negative == 0:
        return None
    values, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    del values
    middle = np.cumsum(counts) - (counts - 1) / 2.0
    ranks = middle[inverse]
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2.0) / (n_positive * n_negative))


def log_loss(truth: Floats, logit: Floats) -> float | None:
    """Return the mean binary cross-entropy of logits where `truth` is not NaN; None when it always is."""
    known = ~np.isnan(truth)
    if not known.any():
        return None
    logit = logit[known].astype(np.float64)
    return float(np.mean(np.logaddexp(0.0, logit) - truth[known] * logit))


def measure(
    scores: Scores,
    groups: Mapping[str, Sequence[str]] | None = None,
    *,
    prefix: str = "val",
    labels: Sequence[str] | None = None,
    policies: Mapping[str, str] | None = None,
    one_class: bool = False,
) -> dict[str, float]:
    """Measure scores: `<prefix>/auroc/<label>`, `<prefix>/auroc_macro` over estimable labels, `auroc_<group>`, `loss`, counts.

    Uncertain labels are left out; missing ones follow `policies` (`Access.policies`), and are negative without. What cannot be estimated
    is absent, and counted in `..._not_estimable`; a group, like the macro average, is the mean over its labels that can be. `loss` is the
    mean over labels of their mean cross-entropy; of a softmax (`Scores.exclusive`), the mean over images of -log p of their class. With
    `one_class`, of a card whose labels exclude each other, there is `accuracy` too: the share of images whose class scores highest, the
    first of equals. Labels of the model that are not in `labels` do not count, and without one of the card's there is no class to find.
    """
    names = tuple(name for name in (labels if labels is not None else scores.labels) if name in scores.rows.label_names)
    areas: dict[str, float] = {}
    losses: list[float] = []
    known = truths(scores.rows, policies or {})
    for name in names:
        truth = known[:, scores.rows.label_names.index(name)]
        logit = scores.logits[:, scores.labels.index(name)]
        area, loss = auroc(truth, logit), log_loss(truth, logit)
        if area is not None:
            areas[name] = area
        if loss is not None:
            losses.append(loss)
    found = {f"{prefix}/auroc/{slug(name)}": area for name, area in areas.items()}
    found[f"{prefix}/auroc_not_estimable"] = float(len(names) - len(areas))
    if areas:
        found[f"{prefix}/auroc_macro"] = float(np.mean(list(areas.values())))
    if losses:
        found[f"{prefix}/loss"] = float(np.mean(losses))
    if (one_class or scores.exclusive) and len(names) == len(scores.rows.label_names):
        found |= {f"{prefix}/{name}": value for name, value in _of_classes(scores, known, names, one_class=one_class).items()}
    for group, members in (groups or {}).items():
        there = [areas[name] for name in members if name in areas]
        if there:
            found[f"{prefix}/auroc_{slug(group)}"] = float(np.mean(there))
            found[f"{prefix}/auroc_{slug(group)}_not_estimable"] = float(len(members) - len(there))
    return found


def _of_classes(scores: Scores, known: Floats, names: Sequence[str], *, one_class: bool) -> dict[str, float]:
    """Return `accuracy` of classes that exclude each other, and the `loss` of a softmax, over images of which one class is known."""
    truth = known[:, [scores.rows.label_names.index(name) for name in names]]
    rows = np.flatnonzero((truth == 1).sum(axis=1) == 1)
    if not len(rows):
        return {}
    logits = scores.logits[:, [scores.labels.index(name) for name in names]][rows].astype(np.float64)
    right = truth[rows].argmax(axis=1)
    found = {"accuracy": float((logits.argmax(axis=1) == right).mean())} if one_class else {}
    if scores.exclusive:
        found["loss"] = float(np.logaddexp(0.0, -logits[np.arange(len(rows)), right]).mean())
    return found


def mean_probability(logits: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the logit of the mean probability of some logits of one shape, float32; of one alone, itself.

    Summed as logarithms of a probability and of its complement, so that scores far from 0 are not all tied.
    """
    if len(logits) == 1:
        return logits[0]
    stacked = np.stack([one.astype(np.float64) for one in logits])
    positive, negative = (np.logaddexp.reduce(-np.logaddexp(0.0, sign * stacked), axis=0) for sign in (-1, 1))
    return (positive - negative).astype(np.float32)


def nonfinite(scores: Scores) -> str:
    """Say which scores are NaN or infinite, which no measure may rank; empty when none is."""
    wrong = ~np.isfinite(scores.logits)
    if not wrong.any():
        return ""
    named = ", ".join(scores.labels[column] for column in np.flatnonzero(wrong.any(axis=0)))
    return f"{np.count_nonzero(wrong.any(axis=1))} of {len(wrong)} images have scores that are not finite ({named})"


def aggregate(scores: Scores, per: str, views: str, label: str = "any") -> Scores:
    """Return one score a unit: `per` image, study or patient; `views` max_logit, mean_prob (as a logit) or first.

    `label` makes the unit's truth: `any` (positive before uncertain before negative before missing), `first`, or `must_agree`.
    Units keep the order of their first image, which also gives their id and position. Raises ValueError on an unknown word, and with
    `must_agree` when the images of a unit differ.
    """
    if per not in _UNITS:
        raise ValueError(f"score_per '{per}': there are image, study and patient")
    if per == "image":
        return scores
    rows = scores.rows
    keys = rows.patients if per == "patient" else np.char.add(np.char.add(rows.patients.astype(str), "\0"), rows.studies.astype(str))
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    unit = np.empty_like(order)
    unit[order] = np.arange(len(order))
    unit = unit[inverse]
    first = first[order]
    logits = _views(scores.logits.astype(np.float64), unit, first, views)
    merged = rows.take(first)
    truth = _merged(rows.labels, unit, first, label)
    rows = Rows(
        card=rows.card,
        images=merged.images,
        patients=merged.patients,
        studies=merged.studies,
        views=merged.views,
        labels=truth,
        label_names=rows.label_names,
        position=merged.position,
        traits={name: _agreed(texts, unit, first) for name, texts in rows.traits.items()},
    )
    return Scores(rows=rows, logits=logits.astype(np.float32), labels=scores.labels, exclusive=scores.exclusive)


def _agreed(texts: NDArray[np.str_], unit: NDArray[np.integer], first: NDArray[np.integer]) -> NDArray[np.str_]:
    """Return what all images of a unit say of it; `mixed` where they differ."""
    differs = np.zeros(len(first), dtype=bool)
    np.logical_or.at(differs, unit, texts != texts[first][unit])
    return np.where(differs, "mixed", texts[first])


def _views(logits: Floats, unit: NDArray[np.integer], first: NDArray[np.integer], how: str) -> Floats:
    if how == "first":
        return logits[first]
    shape = (len(first), logits.shape[1])
    if how == "max_logit":
        found = np.full(shape, -np.inf)
        np.maximum.at(found, unit, logits)
        return found
    if how == "mean_prob":
        # log of the mean probability less log of the mean of its complement: exact where a probability rounds to 0 or 1.
        positive, negative = np.full(shape, -np.inf), np.full(shape, -np.inf)
        np.logaddexp.at(positive, unit, -np.logaddexp(0.0, -logits))
        np.logaddexp.at(negative, unit, -np.logaddexp(0.0, logits))
        return positive - negative
    raise ValueError(f"views '{how}': there are max_logit, mean_prob and first")


def _merged(labels: Floats, unit: NDArray[np.integer], first: NDArray[np.integer], how: str) -> NDArray[np.float32]:
    if how == "first":
        return labels[first].astype(np.float32)
    if how not in ("any", "must_agree"):
        raise ValueError(f"label '{how}': there are any, first and must_agree")
    # Ranked so that the maximum is the truth of `any`: missing 0, negative 1, uncertain 2, positive 3.
    ranks = np.select([np.isnan(labels), labels == 0, labels == -1], [0, 1, 2], default=3)
    highest = np.zeros((len(first), labels.shape[1]), dtype=np.int64)
    np.maximum.at(highest, unit, ranks)
    if how == "must_agree" and (highest[unit] != ranks).any():
        raise ValueError("label 'must_agree': the images of a unit carry different labels; choose any or first")
    return np.array([np.nan, 0.0, -1.0, 1.0], dtype=np.float32)[highest]
