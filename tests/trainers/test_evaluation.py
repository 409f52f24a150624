"""Evaluation: units, thresholds, truths, ensembles and digests, each against a naive way to the same number."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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

from orchestrator.report.stats.operating import thresholds_of
from tests.trainers.test_thresholds import naive_youden
from trainers import prediction_files
from trainers.api import Scores, Setup
from trainers.data.access import Access, Rows
from trainers.data.cards import Card, SplitRule
from trainers.errors import DataError, Error
from trainers.evaluation import (
    EvaluateRequest,
    digest_of,
    evaluate,
    prediction_table,
    table_digest,
    thresholds,
    write_table,
)
from trainers.parts.metrics import aggregate
from trainers.training import DataRequest

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


# --- the stage ----------------------------------------------------------------------------------------------------------------------------


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


# --- traits -------------------------------------------------------------------------------------------------------------------------------


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


def test_a_card_that_lost_a_trait_of_the_job_is_refused_before_anything_is_scored(world: World) -> None:
    with pytest.raises(
        DataError, match="trait 'sex' was column 'Sex' when this job was planned, and is not there any more; submit the sweep"
    ):
        world.evaluate(world.weights((1.0, 1.0)), traits={"sex": "Sex"})
    assert world.said == []


def test_what_the_job_does_not_name_is_not_in_the_predictions() -> None:
    rows = rows_of(24)
    told = replace(rows, traits={"sex": np.full(len(rows), "F"), "age": np.full(len(rows), "50")})
    assert prediction_table(scores_of(told), LABELS, POLICIES, ("age",)).column_names[6:] == ["age"]


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
