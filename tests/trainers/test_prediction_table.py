"""What an evaluation writes of each unit: predictions, thresholds, traits and digests, each against a naive way to the same number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.report.stats.operating import thresholds_of
from tests.trainers.test_thresholds import naive_youden
from trainers.api import Scores
from trainers.data.access import Rows
from trainers.evaluation import (
    digest_of,
    prediction_table,
    table_digest,
    thresholds,
    write_table,
)
from trainers.parts.metrics import aggregate

LABELS = ("effusion", "edema")
POLICIES = {"uncertain": "ignore", "missing": "zeros", "missing/edema": "ignore"}


def rows_of(n: int, seed: int = 0) -> Rows:
    """Return images of about n / 4 patients with one or two studies, with uncertain (-1) and missing (NaN) labels, not in order."""
    random = np.random.default_rng(seed)
    patients, studies = random.integers(0, max(n // 4, 1), n), random.integers(0, 2, n)
    return Rows(
        card="made",
        images=np.array([f"p{p}/s{s}/{i}" for i, (p, s) in enumerate(zip(patients, studies, strict=True))]),
        patients=np.array([f"p{p}" for p in patients]),
        studies=np.array([f"s{s}" for s in studies]),
        views=np.array(["frontal"] * n),
        labels=random.choice(np.array([1, 0, -1, np.nan], np.float32), (n, 2), p=[0.35, 0.35, 0.15, 0.15]),
        label_names=LABELS,
        position=np.arange(n),
    )


def scores_of(rows: Rows, seed: int = 0) -> Scores:
    """Return coarse logits, so that there are ties."""
    logits = np.random.default_rng(seed).integers(-8, 8, (len(rows), len(LABELS))) / 4
    return Scores(rows=rows, logits=logits.astype(np.float32), labels=LABELS)


def unit_of(rows: Rows, index: int, per: str) -> tuple[str, ...]:
    return {"image": (rows.images[index],), "study": (rows.patients[index], rows.studies[index]), "patient": (rows.patients[index],)}[per]


def naive_truth(values: Sequence[float], label: str) -> float:
    """Positive before uncertain before negative before missing; uncertain is left out, missing by policy."""
    if 1 in values:
        return 1.0
    if -1 in values:
        return math.nan
    if 0 in values:
        return 0.0
    return 0.0 if POLICIES.get(f"missing/{label}", POLICIES["missing"]) == "zeros" else math.nan


def naive_score(logits: Sequence[float], views: str) -> float:
    if views == "first":
        return logits[0]
    if views == "max_logit":
        return max(logits)
    mean = sum(1 / (1 + math.exp(-z)) for z in logits) / len(logits)
    return math.log(mean / (1 - mean))


@pytest.mark.parametrize("views", ["max_logit", "mean_prob", "first"])
@pytest.mark.parametrize("per", ["image", "study", "patient"])
@pytest.mark.parametrize("seed", range(3))
def test_predictions_are_those_of_a_naive_table(per: str, views: str, seed: int) -> None:
    rows = rows_of(60, seed)
    scores = scores_of(rows, seed)
    table = prediction_table(aggregate(scores, per, views), LABELS, POLICIES).to_pylist()
    units: dict[tuple[str, ...], list[int]] = {}
    for index in range(len(rows)):
        units.setdefault(unit_of(rows, index, per), []).append(index)
    expected = []
    for column, label in enumerate(LABELS):
        for members in units.values():
            truth = naive_truth([float(rows.labels[i, column]) for i in members], label)
            if not math.isnan(truth):
                score = naive_score([float(scores.logits[i, column]) for i in members], views)
                expected.append(
                    (str(rows.images[members[0]]), str(rows.patients[members[0]]), label, truth, pytest.approx(score, abs=1e-6))
                )
    assert [(row["image"], row["patient"], row["label"], row["truth"], row["score"]) for row in table] == expected


# --- thresholds ---------------------------------------------------------------------------------------------------------------------------


def test_thresholds_leave_out_the_unknown_and_labels_of_one_class() -> None:
    rows = rows_of(80, 4)
    rows.labels[:, 1] = np.where(rows.labels[:, 1] == 0, np.nan, rows.labels[:, 1])
    scores = scores_of(rows, 4)
    found = thresholds(scores, LABELS, POLICIES)
    # Edema has positives and, as its missing are ignored, no negatives.
    assert set(found) == {"effusion"}
    truth = np.array([naive_truth([float(value)], "effusion") for value in rows.labels[:, 0]])
    known = ~np.isnan(truth)
    assert found["effusion"] == {
        # The report's own, which is tested against trying every score, says the same of the same rows.
        **thresholds_of(truth[known], scores.logits[known, 0]),
        "youden": naive_youden(truth[known], scores.logits[known, 0]),
        "n_pos": int((truth == 1).sum()),
        "n_neg": int((truth == 0).sum()),
    }


# --- digests ------------------------------------------------------------------------------------------------------------------------------


def test_the_digest_of_what_was_scored_depends_on_ids_alone() -> None:
    rows = rows_of(30)
    order = np.random.default_rng(1).permutation(len(rows))
    assert digest_of(rows.images) == digest_of(rows.take(order).images)
    assert digest_of(rows.images) != digest_of(rows.images[:-1])
    assert digest_of(np.array(["a", "b"])) != digest_of(np.array(["a", "c"]))


def test_the_digest_of_predictions_changes_with_any_cell(tmp_path: Path) -> None:
    table = prediction_table(aggregate(scores_of(rows_of(20)), "study", "max_logit"), LABELS, POLICIES)
    known = table_digest(table)
    path = tmp_path / "predictions.parquet"
    write_table(table, path)
    assert table_digest(pq.read_table(path)) == known
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    # In pieces, as a reader of large files has it, it is the same table.
    assert table_digest(pa.concat_tables([table.slice(0, 3), table.slice(3)])) == known
    for name in table.column_names:
        column = table.column(name).to_pylist()
        column[0] = f"{column[0]}x" if isinstance(column[0], str) else column[0] + 1
        changed = table.set_column(table.column_names.index(name), name, pa.array(column, table.schema.field(name).type))
        assert table_digest(changed) != known, name


def test_predictions_carry_what_the_card_declares_of_a_unit() -> None:
    rows = rows_of(24)
    sex = np.array(["F" if index % 2 else "M" for index in range(len(rows))])
    told = replace(rows, traits={"sex": sex})
    table = prediction_table(scores_of(told), LABELS, POLICIES, ("sex",))
    assert table.column_names[-1] == "sex"
    by_image = dict(zip(rows.images.tolist(), sex.tolist(), strict=True))
    assert all(row["sex"] == by_image[row["image"]] for row in table.to_pylist())
    merged = aggregate(scores_of(told), "study", "max_logit").rows
    units = list(zip(rows.patients, rows.studies, strict=True))
    for unit, found in zip(zip(merged.patients, merged.studies, strict=True), merged.traits["sex"], strict=True):
        said = {value for one, value in zip(units, sex.tolist(), strict=True) if one == unit}
        assert found == (said.pop() if len(said) == 1 else "mixed")
    assert (told.take(np.arange(3)).traits["sex"] == sex[:3]).all()
    assert prediction_table(scores_of(rows), LABELS, POLICIES).column_names == ["image", "patient", "study", "label", "truth", "score"]


def test_what_the_job_does_not_name_is_not_in_the_predictions() -> None:
    rows = rows_of(24)
    told = replace(rows, traits={"sex": np.full(len(rows), "F"), "age": np.full(len(rows), "50")})
    assert prediction_table(scores_of(told), LABELS, POLICIES, ("age",)).column_names[6:] == ["age"]
