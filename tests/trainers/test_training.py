"""The train stage: what a method is given, what is measured, what is kept, and what the result says was used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import log_loss, roc_auc_score

from jobs.checkpoints import CheckpointStore
from tests.trainers.made_data import LABELS, made_access, made_rows
from tests.trainers.toy import FolderHost
from trainers.api import Scores, Setup
from trainers.classification import train as classification
from trainers.classification.config import Config as Classifier
from trainers.data.access import Access
from trainers.data.cards import Card, SplitRule
from trainers.errors import Diverged, Error, SplitClosed
from trainers.training import DataRequest, TrainRequest, device_for, measured, train, used

CARD = Card(
    name="made",
    title="Made",
    reader="none",
    labels={name: name for name in LABELS},
    primary="signal",
    groups={"both": LABELS, "one": ("noise",)},
    score_per="patient",
    splits=SplitRule(official={"": "train"}),
    label_files=(),
)
POLICIES = {"uncertain": "ignore", "missing": "zeros"}
TINY = Classifier(arch="slim", px=32, epochs=4, batch_size=10, keep_best=1)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, Access]:
    """Let every data request open the card in memory, by the card that a source names; returns what was opened."""
    found: dict[str, Access] = {}

    def open_source(request: DataRequest, source: Mapping[str, Any]) -> Access:
        seed = int(source.get("seed", 0))
        access = made_access(n=80, px=32, seed=seed, sizes=(40, 20), flaws=True)
        access._is_open = request.is_open
        access.card = source["card"]
        found[source["card"]] = access
        return access

    monkeypatch.setattr(DataRequest, "open", open_source)
    monkeypatch.setattr(DataRequest, "card", lambda request, source: replace(CARD, name=source["card"]))
    return found


def request_of(method: ModuleType, config: Any, **more: Any) -> TrainRequest:
    sources = more.pop("sources", ({"card": "made"},))
    data = DataRequest(sources=sources, draw=None, roots=lambda *_: Path(), cache=Path(), is_open=lambda split: split in ("train", "val"))
    return TrainRequest(method=method, config=config, seed=5, threads=1, gpus=0, data=data, **more)


def method_of(build: Any) -> ModuleType:
    method = ModuleType("method")
    method.build = build  # type: ignore[attr-defined]
    return method


# --- what is kept -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "metric"), [("max", "val/auroc/signal"), ("min", "val/loss")])
def test_the_best_by_the_monitor_and_the_last_are_kept_with_the_predictions_behind_their_numbers(
    tmp_path: Path, opened: dict[str, Access], mode: str, metric: str
) -> None:
    every = FolderHost(tmp_path / "every")
    train(request_of(classification, replace(TINY, keep_best=-1)), every)
    values = {entry["name"]: entry["metrics"][metric] for entry in every.store.kept()}
    assert len(values) == 4 and len(set(values.values())) > 1
    best = (max if mode == "max" else min)(values, key=lambda name: values[name])
    host = FolderHost(tmp_path / "best")
    train(request_of(classification, TINY, monitor={"metric": metric, "mode": mode}), host)
    assert [entry["name"] for entry in host.store.kept()] == sorted({best, "epoch-0004"})
    for entry in host.store.kept():
        assert entry["files"] == next(other["files"] for other in every.store.kept() if other["name"] == entry["name"])
        table = pq.read_table(host.store.file(entry["name"], "val.parquet")).to_pylist()
        assert len(table) == 20
        assert by_hand(table, opened["made"]) == pytest.approx({k: entry["metrics"][k] for k in by_hand(table, opened["made"])}, abs=1e-9)


def by_hand(table: list[dict[str, Any]], access: Access) -> dict[str, float]:
    """Measure stored logits by scikit-learn: a patient has the largest logit, and the card's policies decide the truth."""
    rows = access.rows("val")
    labels = {str(name): values for name, values in zip(rows.images, rows.labels, strict=True)}
    found: dict[str, float] = {}
    losses: list[float] = []
    for column, label in enumerate(LABELS):
        truth: list[float] = []
        score: list[float] = []
        for patient in dict.fromkeys(row["patient"] for row in table):
            mine = [row for row in table if row["patient"] == patient]
            values = [float(labels[row["image"]][column]) for row in mine]
            if 1 in values or -1 not in values:
                truth.append(float(1 in values))
                score.append(max(row[f"logit/{label}"] for row in mine))
        found[f"val/auroc/{label}"] = float(roc_auc_score(truth, score))
        losses.append(log_loss(truth, [1 / (1 + math.exp(-value)) for value in score], labels=[0, 1]))
    areas = [found[f"val/auroc/{label}"] for label in LABELS]
    return found | {
        "val/auroc_macro": float(np.mean(areas)),
        "val/auroc_both": float(np.mean(areas)),
        "val/auroc_one": areas[1],
        "val/loss": float(np.mean(losses)),
    }


def test_the_result_says_what_determined_it(tmp_path: Path, opened: dict[str, Access]) -> None:
    host = FolderHost(tmp_path)
    outcome, result = train(request_of(classification, replace(TINY, labels=("noise",), epochs=2)), host)
    assert outcome.finished
    assert (result["steps"], result["epochs"], result["labels"]) == (8, 2, ["noise"])
    assert result["config"]["arch"] == "slim" and result["config"]["labels"] == ("noise",)
    assert result["metrics"] == host.store.kept()[-1]["metrics"]
    assert result["data"] == [
        {
            "card": "made",
            "splits": {"train": {"images": 40, "patients": 20}, "val": {"images": 20, "patients": 10}},
            "draw": None,
        }
    ]
    assert load_file(host.store.file("epoch-0002", "safetensors"))["head.weight"].shape == (1, 192)


# --- what a method is given -------------------------------------------------------------------------------------------------------------


class Looking:
    """A solver that remembers its setup and the state of its process."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.module = setup, torch.nn.Linear(2, 2)
        self.first_draw = (float(torch.rand(())), float(np.random.rand()))
        self.threads = torch.get_num_threads()

    def solve(self) -> dict[str, float]:
        return {"train/images": float(sum(len(source.rows("train")) for source in self.setup.sources))}

    def validate(self) -> None:
        return None

    def predict(self, rows: Any) -> Scores:
        raise AssertionError("there is no validation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    value: int = 1


def test_a_method_is_given_all_sources_and_a_process_that_was_prepared(tmp_path: Path, opened: dict[str, Access]) -> None:
    built: list[Looking] = []

    def build(setup: Setup) -> Looking:
        built.append(Looking(setup))
        return built[-1]

    sources = ({"card": "a", "seed": 1}, {"card": "b", "seed": 2})
    for folder in ("one", "two"):
        torch.rand(7)
        outcome, result = train(request_of(method_of(build), Plain(), sources=sources), FolderHost(tmp_path / folder))
        assert outcome.metrics == {"train/images": 80.0}
        assert [item["card"] for item in result["data"]] == ["a", "b"]
    first, second = built
    # The same random numbers from the first on, whatever the process did before.
    assert first.first_draw == second.first_draw
    assert first.threads == 1
    assert first.setup.data is first.setup.sources[0]
    assert [source.card for source in first.setup.sources] == ["a", "b"]
    assert (first.setup.labels, first.setup.seed, first.setup.predict_only) == (LABELS, 5, False)


def test_a_method_that_asks_for_the_test_split_is_refused(tmp_path: Path, opened: dict[str, Access]) -> None:
    with pytest.raises(SplitClosed, match="split 'test' of card 'made' is shut here"):
        train(request_of(method_of(lambda setup: setup.data.rows("test")), Plain()), FolderHost(tmp_path))


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_for(0) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Error, match="torch sees none on this machine"):
        device_for(1)


def test_each_process_of_a_machine_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [device_for(2, rank) for rank in range(2)] == [torch.device("cuda", 0), torch.device("cuda", 1)]
    with pytest.raises(Error, match="3 GPUs were asked for and process 2 of this machine sees 2"):
        device_for(3, 2)
    # Where the scheduler shows each process its own alone.
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert device_for(2, 1) == torch.device("cuda", 0)
    assert taken == [0, 1, 0]
    assert device_for(1) == torch.device("cuda")


# --- what is measured -------------------------------------------------------------------------------------------------------------------


def scores_with(value: float) -> Scores:
    rows = made_rows(12)
    logits = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
    logits[3, 1] = value
    return Scores(rows=rows, logits=logits, labels=LABELS)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_have_diverged(value: float) -> None:
    assert "val/auroc_macro" in measured(CARD, POLICIES, scores_with(0.5))
    with pytest.raises(Diverged, match=r"validation: 1 of 12 images have scores that are not finite \(noise\); lower lr"):
        measured(CARD, POLICIES, scores_with(value))


def test_a_run_whose_validation_diverges_keeps_what_it_had(tmp_path: Path, opened: dict[str, Access]) -> None:
    """Finite weights may overflow in a prediction; the epoch is not kept, and its save is there for who wants to look."""

    def build(setup: Setup) -> Any:
        method = classification.build(setup)
        predict, epochs = method.predict, iter(range(10))

        def late(rows: Any) -> Scores:
            scores = predict(rows)
            return scores if next(epochs) < 2 else replace(scores, logits=scores.logits * np.float32(math.inf))

        method.predict = late  # type: ignore[method-assign]
        return method

    with pytest.raises(Diverged, match="20 of 20 images"):
        train(request_of(method_of(build), TINY), FolderHost(tmp_path))
    assert [entry["name"] for entry in CheckpointStore(tmp_path).kept()] == ["epoch-0002"]


def test_what_was_used_counts_images_and_patients_of_opened_splits_alone() -> None:
    access = made_access(n=60, sizes=(30, 15))
    assert used(access) == {"card": "made", "splits": {}, "draw": None}
    access.rows("val")
    # Images 30 to 44, two a patient.
    assert used(access)["splits"] == {"val": {"images": 15, "patients": 8}}
