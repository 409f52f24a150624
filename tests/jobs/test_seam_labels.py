"""Checkpoints of each label's own, from training to predictions, at the real seam."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs.spec import Stage
from orchestrator.mirror.outcomes import outcomes_of
from orchestrator.report.analysis import build
from orchestrator.report.results import read_runs
from orchestrator.report.tables import ledger
from tests.jobs.study import Study, lay
from trainers.parts.metrics import mean_probability

LABELS = ("pleural_effusion", "cardiomegaly", "edema")
SWEEP = """sweep: labels
data: tiny
phases:
  own:
    trainer: classification
    config: {arch: slim, px: 32, epochs: 4, batch_size: 8, keep_best: -1, lr: 1e-2}
    pick: {metric: val/auroc_macro, per: label, top: 2}
    evaluate: [{data: same, split: val}, {data: same, split: test}]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Study:
    laid = lay(tmp_path_factory.mktemp("labels"), SWEEP)
    laid.run()
    return laid


def members_of(study: Study) -> dict[str, list[str]]:
    """Return the two checkpoints of each label that its stored validation numbers rank first."""
    kept = study.result(study.job(Stage.TRAIN))["checkpoints"]
    found: dict[str, list[str]] = {}
    for label in LABELS:
        ranked = sorted(kept, key=lambda entry: (-entry["metrics"][f"val/auroc/{label}"], entry["step"]))
        found[label] = [entry["name"] for entry in ranked[:2]]
    return found


def test_what_each_label_takes_stands_in_the_choice_and_in_the_result(made: Study) -> None:
    expected = members_of(made)
    assert len({tuple(names) for names in expected.values()}) > 1, "the labels of this study agree, and a test of them shows nothing"
    picked = made.result(made.job(Stage.PICK))["choice"]["runs"][""]
    assert {label: chosen["checkpoints"] for label, chosen in picked["labels"].items()} == expected
    for job in made.jobs(Stage.EVALUATE):
        choice, result = json.loads(made.paths(job).choice.read_text()), made.result(job)
        assert choice["checkpoints_by_label"] == result["checkpoints_by_label"] == expected
        assert set(choice["checkpoints"]) == {name for names in expected.values() for name in names}
        assert set(choice["thresholds"]) == set(LABELS)


def test_a_label_is_scored_by_the_mean_probability_of_its_own_checkpoints(made: Study) -> None:
    train, expected = made.job(Stage.TRAIN), members_of(made)
    names = [entry["name"] for entry in made.result(train)["checkpoints"]]
    stored = {name: pq.read_table(made.store(train).file(name, "val.parquet")).to_pylist() for name in names}
    job = next(job for job in made.jobs(Stage.EVALUATE) if made.result(job)["split"] == "val")
    rows = pq.read_table(made.paths(job).predictions).to_pylist()
    assert {row["label"] for row in rows} == set(LABELS)
    for label, own in expected.items():
        by_study: dict[tuple[str, str], list[float]] = defaultdict(list)
        for at, row in enumerate(stored[own[0]]):
            mean = np.mean([1 / (1 + np.exp(-float(stored[name][at][f"logit/{label}"]))) for name in own])
            by_study[row["patient"], row["study"]].append(float(np.log(mean / (1 - mean))))
        for row in (row for row in rows if row["label"] == label):
            assert row["score"] == pytest.approx(max(by_study[row["patient"], row["study"]]), abs=1e-4)


def test_report_and_mlflow_say_which(made: Study) -> None:
    expected = {label: ", ".join(names) for label, names in members_of(made).items()}
    assert [run.picked.by_label for run in read_runs(made.plan, made.workspace.run)] == [expected, expected]
    report = build(made.plan, made.workspace.run)
    row = json.loads(json.dumps([asdict(row) for row in report.ledger], default=str))[0]
    assert row["by_label"] == expected
    shown = ledger(report).rows[0].entries
    (entry,) = [entry for entry in shown if entry.text == "checkpoints by label"]
    assert all(f"{label}: {names}" in entry.title for label, names in expected.items())
    (outcome,) = outcomes_of(made.plan, made.workspace.run).values()
    assert outcome.checkpoint == "; ".join(f"{label}: {','.join(names)}" for label, names in sorted(members_of(made).items()))


def test_one_checkpoint_alone_is_itself_to_the_bit() -> None:
    logits = np.array([[-30.0, 0.1], [12.5, 3e-7]], np.float32)
    assert mean_probability([logits]) is logits
    np.testing.assert_allclose(mean_probability([logits, logits]), logits, rtol=1e-6)
