"""The evaluate stage: thresholds and calibration from validation, the choice written, and only then the test split.

What is scored is a unit (image, study or patient); its truth follows the card's policy, and a unit whose truth is uncertain or
missing for a label is left out of that label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.torch import load_file

from trainers.api import Overlaps, Scores, Setup, Solver, Source, Trainer
from trainers.array_files import write_arrays
from trainers.data.access import Access, Rows
from trainers.data.cards import Card
from trainers.data.policies import truths
from trainers.embedding_files import hand_out
from trainers.errors import DataError, Error
from trainers.localisation import localisation
from trainers.loop import prepare
from trainers.mask_evaluation import evaluate_masks
from trainers.parts.metrics import aggregate, mean_probability, measure, nonfinite
from trainers.pictures import drawn, shown
from trainers.prediction_files import digest_of, table_digest, write_table
from trainers.training import DataRequest, captions_of, device_for, used
from trainers.weights import load_matching


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest:
    """All that the evaluate stage needs."""

    method: ModuleType
    config: Any
    threads: int
    gpus: int
    data: DataRequest
    #: The chosen checkpoint, or several whose probabilities are averaged.
    files: tuple[Path, ...]
    #: What the trained model outputs, in order.
    labels: tuple[str, ...]
    split: str
    #: score_per, views, cluster; None takes the card's.
    units: Mapping[str, str | None]
    #: Label -> which of the files are averaged for it; a label that is not here takes all of them.
    members: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    #: Slug -> column on disk: what the predictions carry of each unit.
    traits: Mapping[str, str] = field(default_factory=dict)
    #: Keeps PNG files by name, where a method has `overlays` and its config says `pictures_every_epochs`.
    keep_pictures: Callable[[Mapping[str, bytes]], None] | None = None
    #: Of a model that learnt from several sources, card -> `labels` and `task` of each, as its result has them.
    learnt_from: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: Whose head of such a model predicts: `auto`, `mean`, or a source (`trainers.api.Setup.heads`).
    heads: str = "auto"
    #: Which embeddings to hand out (`backbone`, `projector`), and where to; None hands out none.
    embeddings: tuple[str, Path] | None = None
    #: Where truths and probabilities are written as arrays too; None writes none.
    arrays: Path | None = None
    #: Whether the split that is scored gives thresholds of its own too, as UniChest's F1 and accuracy have them.
    thresholds_as_published: bool = False
    #: Files by config key that prediction reads, already checked against their sha256.
    weights: Mapping[str, Path] = field(default_factory=dict)


def evaluate(request: EvaluateRequest, choose: Callable[[Mapping[str, Any]], None], predictions: Path) -> dict[str, Any]:
    """Predict validation, hand the choice to `choose` (which makes it durable), then open and predict the test split.

    Writes `predictions` (parquet, long: image, patient, study, label, truth, score) and returns the content of the result.
    """
    device = device_for(request.gpus)
    prepare(0, request.threads, device)
    source = request.data.sources[0]
    card, access = request.data.card(source), request.data.open(source)
    _check_traits(request.traits, card)
    shared = tuple(name for name in request.labels if name in access.label_names)
    is_open = getattr(request.method, "OPEN_LABELS", False)
    if not shared and not is_open:
        raise DataError(
            f"card '{card.name}' has none of the labels that the model was trained on ({', '.join(request.labels)}); "
            "evaluate on a card that shares a label"
        )
    setup = Setup(
        config=request.config,
        seed=0,
        data=access,
        sources=(access,),
        parents={},
        weights=request.weights,
        device=device,
        predict_only=True,
        labels=request.labels,
        learnt_from={card: Source(labels=tuple(one["labels"]), task=one["task"]) for card, one in request.learnt_from.items()},
        heads=request.heads,
    )
    method = request.method.build(setup)
    method.module.to(device)
    if card.task == "segmentation":
        picture = partial(_picture, method, request)
        return evaluate_masks(request, choose, predictions, card=card, access=access, method=method, structures=shared, picture=picture)
    # A method with a head for each source may have none for some labels of another card; one that is asked by prompts has all of them.
    shared = tuple(name for name in (access.label_names if is_open else shared) if name in getattr(method, "labels", request.labels))
    units = {key: request.units.get(key) or getattr(card, key) for key in ("score_per", "views", "cluster")}

    def score(split: str) -> Scores | None:
        rows = access.find(split)
        if rows is None:
            return None
        scores = _ensemble(method, request.files, rows, request.members)
        if fault := nonfinite(scores):
            raise Error(f"split '{split}' of card '{card.name}': {fault}; train with a lower lr or with precision: fp32")
        return aggregate(scores, units["score_per"], units["views"])

    validation = score("val")
    # What the test set itself gives is no choice, and is not in it.
    choose({"thresholds": {} if validation is None else thresholds(validation, shared, access.policies), "labels": list(shared)})
    scored = score(request.split)
    if scored is None:
        raise DataError(f"card '{card.name}' has no '{request.split}' split; evaluate another split or name its list in the card")
    table = prediction_table(scored, shared, access.policies, tuple(request.traits))
    write_table(table, predictions)
    arrays = {} if request.arrays is None else {"arrays": write_arrays(scored, shared, access.policies, request.arrays)}
    pictured = _picture(method, request, access.rows(request.split))
    embedded = _handed_out(request, method, card, access)
    looked = _located(method, request, access, shared)
    return {
        "card": card.name,
        "split": str(request.split),
        "labels": list(shared),
        "units": units,
        "metrics": {
            **measure(
                scored,
                card.groups,
                prefix=f"{request.split}/{card.name}",
                labels=shared,
                policies=access.policies,
                one_class=card.task == "multiclass",
            ),
            **looked.pop("metrics", {}),
        },
        "n_images": len(access.rows(request.split)),
        "n_units": len(scored.rows),
        "n_patients": len(set(scored.rows.patients.tolist())),
        "test_digest": digest_of(scored.rows.images),
        "predictions_digest": table_digest(table),
        **arrays,
        **_on_test(request, scored, shared, access.policies),
        **embedded,
        "data": [used(access)],
        **pictured,
        **_asked(method, card.name, shared),
        **looked,
    }


def _on_test(request: EvaluateRequest, scored: Scores, labels: tuple[str, ...], policies: Mapping[str, str]) -> dict[str, Any]:
    """Return the thresholds of the largest F1 on the split that is scored, and that they are: only where they were asked for."""
    if not request.thresholds_as_published:
        return {}
    found = {label: {name: row[name] for name in ("f1", "n_pos", "n_neg")} for label, row in thresholds(scored, labels, policies).items()}
    return {"thresholds": "as_published", "thresholds_on_test": found}


def _located(method: Any, request: EvaluateRequest, access: Access, labels: tuple[str, ...]) -> dict[str, Any]:
    """Measure where the first checkpoint looked, on the split that was scored, where the method says so and the card has boxes."""
    if len(request.files) > 1 and hasattr(method, "located"):
        load_matching(method.module, load_file(request.files[0]), what=str(request.files[0]))
    return localisation(method, access, access.rows(request.split), labels, f"{request.split}/{access.card}")


def _handed_out(request: EvaluateRequest, method: Trainer | Solver, card: Card, access: Access) -> dict[str, Any]:
    """Write the embeddings that were asked for, by the checkpoint that predicted; only where they were, so that other results stay."""
    if request.embeddings is None:
        return {}
    of, file = request.embeddings
    if len(request.files) != 1:
        raise Error(f"the pick hands on {len(request.files)} checkpoints, and embeddings are of one: set pick.checkpoints to best")
    splits = dict.fromkeys([*(split for split in ("train", "val") if split in card.split_names), str(request.split)])
    return {"embeddings": hand_out(method, of, access, list(splits), file)}


def _asked(method: Any, card: str, labels: tuple[str, ...]) -> dict[str, Any]:
    """Return which sources of a method with several speak for each label, and whether the card is none of them (zero-shot)."""
    ask = getattr(method, "asked", None)
    if ask is None:
        return {}
    heads = {label: sources for label, sources in ask().items() if label in labels}
    return {"heads": heads, "zero_shot": all(card not in sources for sources in heads.values())}


def _picture(method: Any, request: EvaluateRequest, rows: Rows) -> dict[str, Any]:
    """Keep what the first checkpoint makes of a few images of the split that was scored, and return the captions."""
    make = getattr(method, "overlays", None)
    if request.keep_pictures is None or make is None or not getattr(request.config, "pictures_every_epochs", 0):
        return {}
    if len(request.files) > 1:
        load_matching(method.module, load_file(request.files[0]), what=str(request.files[0]))
    request.keep_pictures(drawn(method.module, partial(make, shown(rows))))
    return captions_of(method)


def _check_traits(traits: Mapping[str, str], card: Card) -> None:
    for name, column in traits.items():
        if card.traits.get(name) != column:
            now = f"is '{card.traits[name]}' now" if name in card.traits else "is not there any more"
            raise DataError(
                f"card '{card.name}': trait '{name}' was column '{column}' when this job was planned, and {now}; "
                "submit the sweep again, which plans with the card as it is"
            )


def _ensemble(method: Trainer | Solver, files: tuple[Path, ...], rows: Any, members: Mapping[str, tuple[int, ...]]) -> Scores:
    """Predict with each checkpoint; several are averaged as probabilities (MoCo-CXR test.py) and handed back as logits.

    `members` says of a label which checkpoints count for it; all do where it says nothing. Summed as logarithms of a probability and of
    its complement, so that scores far from 0 are not all tied.
    """
    scores: list[Scores] = []
    for file in files:
        load_matching(method.module, load_file(file), what=str(file))
        predicted = method.predict(rows)
        if isinstance(predicted, Overlaps):
            raise Error(f"card '{rows.card}' is one of labels, and the trainer draws masks: evaluate on a card of structures")
        scores.append(predicted)
    if len(scores) == 1:
        return scores[0]
    labels = scores[0].labels
    if not members:
        return Scores(rows=rows, logits=mean_probability([one.logits for one in scores]), labels=labels, exclusive=scores[0].exclusive)
    columns: list[np.ndarray] = []
    for column, label in enumerate(labels):
        own = members.get(label, tuple(range(len(scores))))
        columns.append(mean_probability([scores[index].logits[:, column] for index in own]))
    return Scores(rows=rows, logits=np.stack(columns, axis=1), labels=labels)


def thresholds(scores: Scores, labels: tuple[str, ...], policies: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Return the thresholds (logits) of each label on validation, where both classes are there: Youden's, and those of `targets`."""
    found: dict[str, dict[str, float]] = {}
    known_truths = truths(scores.rows, policies)
    for label in labels:
        truth, score = known_truths[:, scores.rows.label_names.index(label)], scores.logits[:, scores.labels.index(label)]
        known = ~np.isnan(truth)
        truth, score = truth[known], score[known]
        positives, negatives = int((truth == 1).sum()), int((truth == 0).sum())
        if not positives or not negatives:
            continue
        found[label] = {"youden": youden(truth, score), **targets(truth, score), "n_pos": positives, "n_neg": negatives}
    return found


def youden(truth: np.ndarray, score: np.ndarray) -> float:
    """Return the score from which on a unit is called positive for the largest sensitivity + specificity (Youden 1950).

    Compared in whole numbers, so that equals are equal: the smallest of them is returned. Both classes must be there.
    """
    positive, negative = np.sort(score[truth == 1]), np.sort(score[truth == 0])
    candidates = np.unique(score)
    true_positives = len(positive) - np.searchsorted(positive, candidates, side="left")
    true_negatives = np.searchsorted(negative, candidates, side="left")
    return float(candidates[np.argmax(true_positives * len(negative) + true_negatives * len(positive))])


def targets(truth: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """Return the largest score with a sensitivity of at least 0.9, the smallest with a specificity of at least 0.9 where there is one, and
    the one with the largest F1, the smallest of equals.

    In whole numbers, so that 9 of 10 is 0.9. Both classes must be there.
    """
    positive, negative = np.sort(score[truth == 1]), np.sort(score[truth == 0])
    candidates = np.unique(score)
    hits = len(positive) - np.searchsorted(positive, candidates, side="left")
    passed = np.searchsorted(negative, candidates, side="left")
    found, spared = 10 * hits >= 9 * len(positive), 10 * passed >= 9 * len(negative)
    limits = {"sensitivity_90": float(candidates[np.flatnonzero(found)[-1]])}
    # Quotients of whole numbers: equal ones round to the same float.
    limits["f1"] = float(candidates[np.argmax(2 * hits / (hits + len(negative) - passed + len(positive)))])
    return {**limits, "specificity_90": float(candidates[np.flatnonzero(spared)[0]])} if spared.any() else limits


def prediction_table(scores: Scores, labels: tuple[str, ...], policies: Mapping[str, str], traits: tuple[str, ...] = ()) -> pa.Table:
    """Return the long table of a test split: one row a unit and label with a known truth, in the order of the split.

    What the card declares of a unit stands in further columns, those that `traits` names.
    """
    parts: list[dict[str, np.ndarray]] = []
    rows, known_truths = scores.rows, truths(scores.rows, policies)
    for label in labels:
        truth, score = known_truths[:, rows.label_names.index(label)], scores.logits[:, scores.labels.index(label)]
        known = ~np.isnan(truth)
        parts.append(
            {
                "image": rows.images[known],
                "patient": rows.patients[known],
                "study": rows.studies[known],
                "label": np.full(int(known.sum()), label),
                "truth": truth[known].astype(np.int8),
                "score": score[known].astype(np.float32),
                **{name: rows.traits[name][known] for name in traits},
            }
        )
    names = ("image", "patient", "study", "label", "truth", "score", *traits)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
    text = ("image", "patient", "study", "label", *traits)
    return pa.table({name: pa.array(columns[name].tolist() if name in text else columns[name]) for name in names})
