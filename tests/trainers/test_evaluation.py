"""The evaluate stage: what it opens when, ensembles, refusals."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.trainers.test_prediction_table import LABELS, POLICIES, rows_of
from trainers import prediction_files
from trainers.api import Scores, Setup
from trainers.data.access import Access, Rows
from trainers.data.cards import Card, SplitRule
from trainers.errors import DataError, Error
from trainers.evaluation import (
    EvaluateRequest,
    digest_of,
    evaluate,
    thresholds,
)
from trainers.parts.metrics import aggregate
from trainers.training import DataRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    scale: float = 1.0
    pictures_every_epochs: int = 0


class Linear(torch.nn.Module):
    """Logits of a position, by one weight a label."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(len(LABELS)))


class Method:
    """Predicts from the weights that were loaded and from each row's position."""

    def __init__(self, setup: Setup) -> None:
        assert setup.predict_only
        self.setup, self.module = setup, Linear()

    def predict(self, rows: Rows) -> Scores:
        logits = np.outer(wave(rows.position), self.module.weight.detach().numpy())
        return Scores(rows=rows, logits=(self.setup.config.scale * logits).astype(np.float32), labels=self.setup.labels)


def wave(position: np.ndarray) -> np.ndarray:
    return np.sin(position.astype(np.float64))


METHOD = ModuleType("method")
METHOD.build = Method  # type: ignore[attr-defined]


class World:
    """A card of 60 images in memory: 20 train, 20 val, 20 test, behind a gate that opens the test split by `choose`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, val: bool = True) -> None:
        self.rows, self.folder, self.said, self.val = rows_of(60, 2), tmp_path, [], val
        self.choices: list[dict[str, Any]] = []
        self.pictured: list[Mapping[str, bytes]] = []
        self.card = Card(
            name="made",
            title="Made",
            reader="none",
            labels={name: name for name in LABELS},
            primary="effusion",
            splits=SplitRule(official={"": "train"}),
            label_files=(),
        )
        monkeypatch.setattr(DataRequest, "card", lambda request, source: self.card)
        monkeypatch.setattr(DataRequest, "open", lambda request, source: self.access())

    def access(self) -> Access:
        def rows_in(split: str) -> Rows | None:
            self.said.append(f"{split} opened")
            first = {"train": 0, "val": 20, "test": 40}.get(split)
            return None if first is None or (split == "val" and not self.val) else self.rows.take(np.arange(first, first + 20))

        def no_images(px: int) -> Any:
            raise AssertionError("this method looks at no image")

        return Access(
            card="made",
            label_names=LABELS,
            rows_of=rows_in,
            store=no_images,
            is_open=lambda split: split == "val" or bool(self.choices),
            policies=POLICIES,
        )

    def choose(self, choice: Mapping[str, Any]) -> None:
        self.said.append("chosen")
        self.choices.append(dict(choice))

    def weights(self, *weights: tuple[float, float]) -> tuple[Path, ...]:
        files = tuple(self.folder / f"{index}.safetensors" for index in range(len(weights)))
        for file, values in zip(files, weights, strict=True):
            save_file({"weight": torch.tensor(values)}, file)
        return files

    def evaluate(self, files: tuple[Path, ...], *, labels: tuple[str, ...] = LABELS, split: str = "test", **more: Any) -> dict[str, Any]:
        request = EvaluateRequest(
            method=METHOD,
            config=Config(scale=more.pop("scale", 1.0), pictures_every_epochs=more.pop("pictures_every_epochs", 0)),
            threads=1,
            gpus=0,
            data=DataRequest(
                sources=({"card": "made"},), draw=None, roots=lambda *_: self.folder, cache=self.folder, is_open=lambda _: True
            ),
            files=files,
            labels=labels,
            split=split,
            traits=more.pop("traits", {}),
            keep_pictures=self.pictured.append,
            units={"score_per": None, "views": None, "cluster": None, **more},
        )
        return evaluate(request, self.choose, self.folder / "predictions.parquet")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    return World(monkeypatch, tmp_path)


def test_validation_comes_first_then_the_choice_then_the_test_split(world: World) -> None:
    result = world.evaluate(world.weights((1.0, -2.0)))
    assert world.said == ["val opened", "chosen", "test opened"]
    (choice,) = world.choices
    val = Scores(
        rows=world.rows.take(np.arange(20, 40)), logits=np.outer(wave(np.arange(20, 40)), [1, -2]).astype(np.float32), labels=LABELS
    )
    assert choice == {"thresholds": thresholds(aggregate(val, "study", "max_logit"), LABELS, POLICIES), "labels": list(LABELS)}
    assert result["units"] == {"score_per": "study", "views": "max_logit", "cluster": "patient"}
    test = world.rows.take(np.arange(40, 60))
    assert (result["n_images"], result["n_units"]) == (20, len(set(zip(test.patients, test.studies, strict=True))))
    assert result["n_patients"] == len(set(test.patients))
    assert set(result["data"][0]["splits"]) == {"val", "test"}


def test_the_sweeps_units_come_before_the_cards(world: World) -> None:
    result = world.evaluate(world.weights((1.0, 1.0)), score_per="image", views="first", cluster="image")
    assert result["units"] == {"score_per": "image", "views": "first", "cluster": "image"}
    assert result["n_units"] == 20
    assert result["test_digest"] == digest_of(world.rows.images[40:60])


def test_several_checkpoints_are_averaged_as_probabilities(world: World) -> None:
    weights = [(1.0, -2.0), (3.0, 0.5), (-1.0, 4.0)]
    world.evaluate(world.weights(*weights), score_per="image")
    position = {str(name): index for index, name in enumerate(world.rows.images)}
    for row in pq.read_table(world.folder / "predictions.parquet").to_pylist():
        column = LABELS.index(row["label"])
        by_hand = np.mean([1 / (1 + math.exp(-pair[column] * math.sin(position[row["image"]]))) for pair in weights])
        assert 1 / (1 + math.exp(-row["score"])) == pytest.approx(by_hand, rel=1e-6)


def test_an_ensemble_keeps_apart_what_is_far_from_even(world: World) -> None:
    """As probabilities in float64 all of these would be 0 or 1, and tied."""
    world.evaluate(world.weights((900.0, -900.0), (800.0, -800.0)), score_per="image")
    table = [row for row in pq.read_table(world.folder / "predictions.parquet").to_pylist() if row["label"] == "effusion"]
    position = {str(name): index for index, name in enumerate(world.rows.images)}
    ranked = sorted(table, key=lambda row: math.sin(position[row["image"]]))
    assert all(one["score"] < other["score"] for one, other in pairwise(ranked))


@pytest.mark.parametrize("scale", [math.nan, math.inf])
def test_scores_that_are_not_finite_end_it_before_the_choice(world: World, scale: float) -> None:
    with pytest.raises(Error, match=r"split 'val' of card 'made': 20 of 20 images have scores that are not finite \(effusion, edema\)"):
        world.evaluate(world.weights((1.0, 1.0)), scale=scale)
    assert world.said == ["val opened"]
    assert not (world.folder / "predictions.parquet").exists()


def test_without_a_validation_split_there_is_no_threshold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world = World(monkeypatch, tmp_path, val=False)
    world.evaluate(world.weights((1.0, 1.0)))
    assert world.choices == [{"thresholds": {}, "labels": list(LABELS)}]


def test_a_model_of_other_labels_and_a_card_without_the_split_are_refused(world: World) -> None:
    with pytest.raises(DataError, match=r"card 'made' has none of the labels that the model was trained on \(fracture\)"):
        world.evaluate(world.weights((1.0, 1.0)), labels=("fracture",))
    assert world.said == []
    with pytest.raises(DataError, match="card 'made' has no 'held_out' split"):
        world.evaluate(world.weights((1.0, 1.0)), split="held_out")


def test_only_shared_labels_are_scored(world: World) -> None:
    result = world.evaluate(world.weights((1.0, 2.0)), labels=("fracture", "edema"))
    assert result["labels"] == ["edema"]
    assert {row["label"] for row in pq.read_table(world.folder / "predictions.parquet").to_pylist()} == {"edema"}
    assert {name for name in result["metrics"] if "auroc/" in name} == {"test/made/auroc/edema"}


def test_weights_of_another_shape_are_refused_and_a_table_is_whole_or_absent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    file = world.folder / "other.safetensors"
    save_file({"weight": torch.zeros(3), "more": torch.zeros(1)}, file)
    with pytest.raises(Error, match=r"unexpected: 1 \(more\); of another shape: 1"):
        world.evaluate((file,))

    def torn(table: pa.Table, path: Path, **more: Any) -> None:
        path.write_bytes(b"PAR1")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prediction_files.pq, "write_table", torn)
    with pytest.raises(OSError, match="No space left"):
        world.evaluate(world.weights((1.0, 1.0)))
    assert sorted(path.suffix for path in world.folder.iterdir()) == [".safetensors"] * 2


def test_a_card_that_lost_a_trait_of_the_job_is_refused_before_anything_is_scored(world: World) -> None:
    with pytest.raises(
        DataError, match="trait 'sex' was column 'Sex' when this job was planned, and is not there any more; submit the sweep"
    ):
        world.evaluate(world.weights((1.0, 1.0)), traits={"sex": "Sex"})
    assert world.said == []


# --- pictures -----------------------------------------------------------------------------------------------------------------------------


def test_overlays_are_asked_for_after_the_choice_of_the_first_test_images_by_the_first_checkpoint(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overlays(method: Method, rows: Rows) -> dict[str, np.ndarray]:
        assert world.choices and not method.module.training
        assert rows.position.tolist() == [40, 41, 42, 43]
        return {"overlay": np.full((2, 2), int(method.module.weight[0] * 100), np.uint8)}

    files = world.weights((0.5, 1.0), (0.7, 2.0))
    plain = world.evaluate(files, pictures_every_epochs=1)
    monkeypatch.setattr(Method, "overlays", overlays, raising=False)
    monkeypatch.setattr(Method, "captions", {"overlay": "what was found"}, raising=False)
    assert world.evaluate(files) == plain and world.pictured == []
    result = world.evaluate(files, pictures_every_epochs=1)
    assert result == {**plain, "captions": {"overlay": "what was found"}}
    (pictured,) = world.pictured
    with Image.open(io.BytesIO(pictured["overlay"])) as image:
        assert np.asarray(image).tolist() == [[50, 50], [50, 50]]
