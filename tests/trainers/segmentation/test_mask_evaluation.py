"""The evaluate stage of masks: the choice first, then the test split, and a table that a report reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from orchestrator.report.masks import Masks
from orchestrator.report.predictions import read_predictions
from tests.trainers.data.test_made_cards import parameters_of
from tests.trainers.segmentation.test_segmentation import TINY, run, setup_of
from trainers.data.cards import load_card
from trainers.data.phantom.layout import write_made
from trainers.errors import DataError, Error
from trainers.evaluation import EvaluateRequest, evaluate
from trainers.parts.overlaps import measure
from trainers.segmentation import train
from trainers.training import DataRequest


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with made data in JSRT's layout, `made`, and a trained network, `epoch-0001.safetensors`."""
    root, card = tmp_path_factory.mktemp("trained"), load_card("jsrt_lung")
    write_made(root / "made", parameters_of(card, patients_train=36, patients_valid=4), card.made["layout"])
    run(setup_of(root / "made", replace(TINY, epochs=1)), root)
    return root


def request_of(root: Path, said: list[str], *, card: str = "jsrt_lung", **changes: Any) -> EvaluateRequest:
    data = DataRequest(
        sources=({"card": card, "made": {"generator": "phantom"}},),
        draw=None,
        roots=lambda *_: root / "made",
        cache=root / "cache",
        is_open=lambda split: split == "val" or "chosen" in said,
    )
    units: Mapping[str, str | None] = {"score_per": None, "views": None, "cluster": None}
    asked = {"method": train, "config": TINY, "threads": 1, "gpus": 0, "files": (root / "epoch-0001.safetensors",), "labels": ("lungs",)}
    return EvaluateRequest(**{**asked, "data": data, "split": "test", "units": units, **changes})


def test_the_choice_is_written_before_the_test_split_opens(trained: Path, tmp_path: Path) -> None:
    said: list[str] = []
    choices: list[Mapping[str, Any]] = []

    def choose(choice: Mapping[str, Any]) -> None:
        assert not (tmp_path / "predictions.parquet").exists()
        choices.append(choice)
        said.append("chosen")

    # The gate of the request refuses the test split until then.
    result = evaluate(request_of(trained, said), choose, tmp_path / "predictions.parquet")
    assert choices == [{"thresholds": {}, "probability_above": 0.5, "labels": ["lungs"]}]
    assert result["n_images"] == result["n_units"] == result["n_patients"] > 10
    assert result["data"][0]["splits"].keys() == {"test"}, "validation is not looked at again"


def test_the_table_and_the_metrics_are_of_what_was_drawn(trained: Path, tmp_path: Path) -> None:
    said: list[str] = []
    traits = {"sex": "sex"}
    result = evaluate(request_of(trained, said, traits=traits), lambda choice: said.append("chosen"), tmp_path / "p.parquet")
    frame = read_predictions(tmp_path / "p.parquet", "made")
    assert isinstance(frame, Masks) and frame.labels == ("lungs",)
    assert set(frame.traits["sex"].tolist()) == {"F", "M"}
    setup = setup_of(trained / "made", TINY, predict_only=True, labels=("lungs",))
    method = train.build(setup)
    from trainers.weights import load_matching, read

    load_matching(method.module, read(trained / "epoch-0001.safetensors"))
    assert result["metrics"] == measure(method.predict(setup.data.rows("test")), prefix="test/jsrt_lung")
    assert {"test/jsrt_lung/dice", "test/jsrt_lung/dice_pooled", "test/jsrt_lung/hd95", "test/jsrt_lung/dice/lungs"} <= set(
        result["metrics"]
    )
    # 64 pixels on disk but for one raw image, and 32 where the network works.
    assert sorted(set(pq.read_table(tmp_path / "p.parquet").column("diagonal").to_pylist()))[0] == pytest.approx(64 * 2**0.5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"units": {"score_per": "patient", "views": None, "cluster": None}},
            "masks are compared image by image, and score_per is 'patient'",
        ),
        ({"files": (Path("a"), Path("b"))}, "hands on 2 checkpoints, and masks are not averaged: set pick.checkpoints to best"),
        ({"labels": ("heart",)}, "has none of the labels that the model was trained on"),
        ({"split": "held_out"}, "has no 'held_out' split"),
    ],
)
def test_what_cannot_be_evaluated_is_said(trained: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    chosen: list[str] = []
    with pytest.raises((Error, DataError), match=said):
        evaluate(request_of(trained, chosen, **changes), lambda choice: chosen.append("chosen"), tmp_path / "p.parquet")
    assert not (tmp_path / "p.parquet").exists()
