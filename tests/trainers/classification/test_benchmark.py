"""What the benchmark of transformers asks of classification: classes, ten crops, soft targets, released rates, and an early end."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainers.made_data import MemoryStore, made_access, made_images, made_rows
from tests.trainers.made_host import MemoryHost, run
from trainers.api import Scores, Setup
from trainers.classification import train
from trainers.classification.config import PRESETS, Config
from trainers.data.access import Access
from trainers.data.cards import load_card
from trainers.errors import Error
from trainers.loop import fit, prepare
from trainers.parts import backbones
from trainers.parts.metrics import measure

CPU = torch.device("cpu")
TINY = Config(arch="slim", px=32, epochs=8, batch_size=16, lr=2e-3, augment="none", warmup=0.0)
CLASSES = replace(TINY, loss="cross_entropy")
RELEASED = replace(TINY, optimizer="sgd", nesterov=True, schedule="cosine_of_val_loss", lr=0.05, min_lr=1e-5, weight_decay=0.0)


def classes_access(n: int = 240, unknown: int = 0) -> Access:
    """Open a card of three classes: the corner is dark, as it is, or bright; of the first `unknown` images nothing is known."""
    rows = made_rows(n)
    right = np.random.default_rng(3).integers(0, 3, n)
    labels = np.eye(3, dtype=np.float32)[right]
    labels[:unknown] = np.nan
    rows = replace(rows, labels=labels, label_names=("dark", "plain", "bright"))
    images = made_images(replace(rows, labels=np.zeros((n, 1), np.float32)), 32).astype(np.int64)
    images[:, :11, :11] += 60 * (right - 1)[:, None, None]
    pixels = np.clip(images, 0, 255).astype(np.uint8)
    bounds = {"train": (0, 144), "val": (144, 192), "test": (192, n)}
    return Access(
        card="classes",
        label_names=rows.label_names,
        rows_of=lambda split: rows.take(np.arange(*bounds[split])) if split in bounds else None,
        store=lambda px: MemoryStore(pixels, [(32, 32)] * n),
        is_open=lambda split: True,
        policies={"uncertain": "ignore", "missing": "zeros"},
    )


def setup_of(config: Config, data: Access | None = None, *, seed: int = 0, **more: Any) -> Setup:
    return Setup(config=config, seed=seed, data=data or made_access(n=160, sizes=(96, 48)), device=CPU, **more)


def trained(config: Config, folder: Path, data: Access, *, stop_after: int | None = None) -> tuple[MemoryHost, Any, Any]:
    """Train on classes, where accuracy is measured too."""
    folder.mkdir(exist_ok=True)
    setup, host = setup_of(config, data), MemoryHost(folder, stop_after)
    prepare(0, 1, CPU)
    method = train.build(setup)
    return host, fit(method, config, host, device=CPU, measure=partial(measure, policies=data.policies, one_class=True)), method


# --- classes ------------------------------------------------------------------------------------------------------------------------------


def test_a_softmax_learns_classes_and_its_scores_are_probabilities_that_exclude_each_other(tmp_path: Path) -> None:
    data = classes_access(unknown=5)
    _, outcome, method = trained(CLASSES, tmp_path, data)
    assert outcome.metrics["val/accuracy"] > 0.7
    assert outcome.metrics["val/auroc_macro"] > 0.85
    scores = method.predict(data.rows("test"))
    assert scores.exclusive
    assert scores.logits.dtype == np.float32
    np.testing.assert_allclose((1 / (1 + np.exp(-scores.logits.astype(float)))).sum(axis=1), 1, atol=1e-5)


def test_val_loss_is_what_torch_makes_of_the_networks_own_outputs(tmp_path: Path) -> None:
    data = classes_access()
    _, outcome, method = trained(replace(CLASSES, epochs=1), tmp_path, data)
    rows = data.rows("val")
    method.module.eval()
    with torch.no_grad():
        z = method.module(torch.from_numpy(data.images(32)._store.images[rows.position, None]))  # type: ignore[attr-defined]
    wanted = nn.functional.cross_entropy(z, torch.from_numpy(rows.labels.argmax(axis=1))).item()
    assert outcome.metrics["val/loss"] == pytest.approx(wanted, abs=1e-5)


def test_images_without_a_known_class_move_nothing() -> None:
    method = train.build(setup_of(CLASSES, classes_access(unknown=40)))
    assert isinstance(method, train.FineTuning)
    batch = next(iter(method.batches(0)))
    out = method.loss(batch)
    assert int(out["weight"]) == int((batch["targets"].sum(1) == 1).sum()) < len(batch["targets"])


def test_a_softmax_of_labels_that_do_not_exclude_each_other_is_refused() -> None:
    with pytest.raises(Error, match=r"takes images of one class each, and image\d+ of card 'made' has [02] of 2 labels"):
        train.build(setup_of(CLASSES))
    with pytest.raises(Error, match=r"cross_entropy needs every class, and config\.labels leaves out 'plain'"):
        train.build(setup_of(replace(CLASSES, labels=("dark", "bright")), classes_access()))


def test_a_frozen_backbone_has_a_softmax_by_steps_and_one_against_the_rest_without(tmp_path: Path) -> None:
    data, probe = classes_access(), replace(CLASSES, freeze="backbone")
    by_sgd = replace(probe, solver="sgd", lr=0.05, epochs=10)
    _, steps, by_steps = trained(by_sgd, tmp_path / "steps", data)
    _, packed, by_packed = trained(replace(by_sgd, packed=True), tmp_path / "packed", _with_features(tmp_path))
    _, solved, by_solver = trained(probe, tmp_path / "solved", data)
    assert (by_steps.predict(data.rows("test")).exclusive, by_solver.predict(data.rows("test")).exclusive) == (True, False)
    assert by_packed.predict(by_packed.setup.data.rows("val")).exclusive
    assert packed.metrics["val/accuracy"] == pytest.approx(steps.metrics["val/accuracy"], abs=0.05)
    assert min(steps.metrics["val/accuracy"], solved.metrics["val/accuracy"]) > 0.45


def _with_features(folder: Path) -> Access:
    data = classes_access()
    data.features = lambda px, exact: folder / "features" / f"{px}-{exact}"
    return data


# --- views --------------------------------------------------------------------------------------------------------------------------------


def wide_access() -> Access:
    """Open the made card with images of 36 by 44 pixels, more than a view of 32 shows."""
    rows = made_rows(60)
    images = np.random.default_rng(0).integers(0, 256, (60, 36, 44), dtype=np.uint8)
    return Access(
        card="made",
        label_names=rows.label_names,
        rows_of=lambda split: rows.take(np.arange(*{"train": (0, 30), "val": (30, 45), "test": (45, 60)}[split])),
        store=lambda px, exact=False: MemoryStore(images, [(36, 44)] * 60),
        is_open=lambda split: True,
    )


@pytest.mark.parametrize("loss", ["bce", "cross_entropy"])
def test_an_evaluation_takes_the_mean_probability_of_ten_crops(loss: Any) -> None:
    config = replace(TINY, loss=loss, crop_pct=0.875, test_views="ten_crop")
    access = wide_access()
    method = train.build(setup_of(config, access, predict_only=True, labels=access.label_names))
    rows = access.rows("test")
    method.module.eval()
    for index in (0, 7):
        image = access.images(36).image(int(rows.position[index]))
        crops = [
            side[top : top + 32, left : left + 32]
            for side in (image, image[:, ::-1])
            for top, left in ((0, 0), (0, 12), (4, 0), (4, 12), (2, 6))
        ]
        with torch.no_grad():
            z = method.module(torch.from_numpy(np.stack(crops)[:, None]))
        p = (z.softmax(1) if config.loss == "cross_entropy" else z.sigmoid()).mean(0).numpy()
        found = 1 / (1 + np.exp(-method.predict(rows).logits[index].astype(float)))
        np.testing.assert_allclose(found, p, atol=1e-5)


def test_training_watches_the_centre_alone() -> None:
    access = wide_access()
    ten, one = (train.build(setup_of(replace(TINY, crop_pct=0.875, test_views=views), access)) for views in ("ten_crop", "centre"))  # type: ignore[arg-type]
    mine, other = ten.validate(), one.validate()
    assert isinstance(mine, Scores)
    assert isinstance(other, Scores)
    np.testing.assert_array_equal(mine.logits, other.logits)


# --- soft targets -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("soft_targets", "anew"), [("fixed", False), ("every_epoch", True)])
def test_soft_targets_stay_or_are_drawn_anew(soft_targets: Any, anew: bool) -> None:
    config = replace(TINY, uncertain="lsr_ones", soft_targets=soft_targets)
    data = made_access(n=160, sizes=(96, 48), flaws=True)
    method, other = (train.build(setup_of(config, data, seed=seed)) for seed in (0, 1))
    assert isinstance(method, train.FineTuning)
    assert isinstance(other, train.FineTuning)
    first, again, later = (method._targets_of(epoch) for epoch in (0, 0, 1))
    soft = data.rows("train").labels == -1
    assert soft.any()
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[~soft], later[~soft])
    assert ((first[soft] >= 0.55) & (first[soft] <= 0.85)).all()
    assert (first[soft] != later[soft]).all() == anew
    assert (first[soft] != other._targets_of(0)[soft]).all() == anew


# --- rates and the end --------------------------------------------------------------------------------------------------------------------


def rates(host: MemoryHost) -> list[float]:
    """Return the learning rate of the last step of every epoch that was logged."""
    return host.values("train/lr")


def test_the_released_rate_follows_the_validation_loss(tmp_path: Path) -> None:
    config = replace(RELEASED, epochs=4, warmup_epochs=3)
    host, _, method = run(train, setup_of(config), tmp_path)
    losses = host.values("val/loss")
    assert method.learning_rate_factor(0) * 0.05 == pytest.approx(1e-6 + losses[-1] * (0.05 - 1e-6) / 3)
    fresh = train.build(setup_of(config))
    assert isinstance(fresh, train.FineTuning)
    assert fresh.learning_rate_factor(0) * 0.05 == pytest.approx(1e-6), "the first epoch of a warm-up stands at its start"
    # Steps 1, 10 and 20 are logged: of the first epoch, the second and the fourth (6 steps each).
    assert rates(host) == pytest.approx([1e-6, *(1e-6 + losses[at] * (0.05 - 1e-6) / 3 for at in (0, 2))])


def test_without_warm_up_the_released_rate_stays_about_where_it_starts(tmp_path: Path) -> None:
    host, _, _ = run(train, setup_of(replace(RELEASED, epochs=4)), tmp_path)
    assert rates(host) == pytest.approx([0.05] * 3, rel=0.2)


def test_the_mended_rate_falls_epoch_by_epoch() -> None:
    method = train.build(setup_of(replace(RELEASED, schedule="cosine_by_epoch", epochs=4)))
    assert isinstance(method, train.FineTuning)
    found = [method.learning_rate_factor(step) for step in range(24)]
    wanted = [(1e-5 + 0.5 * (0.05 - 1e-5) * (1 + np.cos(np.pi * epoch / 4))) / 0.05 for epoch in range(4)]
    assert found == pytest.approx(np.repeat(wanted, 6).tolist())


@pytest.mark.parametrize("stop_after", [6, 8, 13, 18])
def test_a_run_whose_rate_follows_the_loss_resumes_to_the_same_bytes(tmp_path: Path, stop_after: int) -> None:
    config = replace(RELEASED, epochs=3, warmup_epochs=2, patience=5)
    whole, _, _ = run(train, setup_of(config), tmp_path / "whole")
    _, outcome, _ = run(train, setup_of(config), tmp_path / "cut", stop_after=stop_after)
    assert not outcome.finished
    resumed, _, _ = run(train, setup_of(config), tmp_path / "cut")
    assert resumed.digests["epoch-0003"] == whole.digests["epoch-0003"]


def test_a_loss_that_gets_no_better_ends_the_run(tmp_path: Path) -> None:
    # So high a rate that the loss is best early.
    host, outcome, _ = run(train, setup_of(replace(TINY, optimizer="sgd", lr=0.3, epochs=60, patience=3, schedule="constant")), tmp_path)
    losses = host.values("val/loss")
    assert outcome.finished
    assert outcome.epoch == len(losses) == int(np.argmin(losses)) + 1 + 4 < 60


def test_a_rate_that_follows_validation_needs_some() -> None:
    with pytest.raises(Error, match=r"config\.schedule: card 'made' has no val split whose loss it could follow: set cosine_by_epoch"):
        train.build(setup_of(RELEASED, made_access(val=False)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nesterov": True}, "nesterov: adamw has no such momentum: set optimizer: sgd, or nesterov: false"),
        ({"test_views": "ten_crop"}, "test_views: ten crops of an image that is no larger than a view are the same: set crop_pct: 0.875"),
        ({"crop_pct": 0.5}, "crop_pct: is 0.5, and must be between 0.67 and 1"),
        ({"schedule": "cosine_of_val_loss", "save_every_epochs": 2}, "schedule: the rate follows the validation loss of every epoch"),
        ({"schedule": "cosine_of_val_loss", "save_every_examples": 16}, "schedule: goes by looks at validation at the end of epochs"),
        ({"patience": 1, "save_every_examples": 16}, "patience: goes by looks at validation"),
        ({"patience": 1, "stop_on": "test/loss"}, "stop_on: 'test/loss' is measured on no validation image"),
        ({"packed": True, "freeze": "backbone", "crop_pct": 0.875}, "packed: features are of centre squares"),
        ({"patience": -1}, "patience: is -1, and must be 0 or more"),
    ],
)
def test_what_cannot_be_is_said_when_planned(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(TINY, **changes)


# --- figures of the original --------------------------------------------------------------------------------------------------------------


def test_swin_b_with_fourteen_findings_has_as_many_parameters_as_published() -> None:
    with torch.device("meta"):
        backbone = backbones.build("swin_base_patch4_window7_224", 3, 224)
        head = nn.Linear(backbones.width(backbone), 14)
    assert sum(p.numel() for part in (backbone, head) for p in part.parameters()) == 86_757_574


def test_the_five_findings_of_chexpert_are_those_at_8_2_6_5_and_10() -> None:
    card = load_card("chexpert")
    assert sorted(card.label_names.index(name) for name in card.groups["competition"]) == sorted([8, 2, 6, 5, 10])


def test_the_six_labels_of_vindr_are_positive_by_any_of_three_radiologists() -> None:
    card = load_card("vindr")
    assert card.options["raters"] == "any"
    assert list(card.labels.values()) == ["Pleural effusion", "Lung tumor", "Pneumonia", "Tuberculosis", "Other diseases", "No finding"]


# --- presets ------------------------------------------------------------------------------------------------------------------------------


def preset(name: str, **more: Any) -> Config:
    return Config(**{**{key: value for key, (value, _) in PRESETS[name].items()}, **more})


@pytest.mark.parametrize(
    ("name", "first", "later"),
    [("benchmark_release", 0.01, 9.99998e-3), ("benchmark_release_vit21k", 1e-6, 8.0099e-4)],
)
def test_the_readmes_two_commands_are_two_rows_with_their_rates(name: str, first: float, later: float) -> None:
    config = preset(name, arch="slim", px=32)
    method = train.build(setup_of(config, wide_access()))
    assert isinstance(method, train.FineTuning)
    assert method.learning_rate_factor(0) * config.lr == pytest.approx(first)
    method.validated({"val/loss": 0.16})
    assert method.learning_rate_factor(10**6) * config.lr == pytest.approx(later, rel=1e-5)


def test_the_presets_of_the_benchmark_differ_where_their_names_say() -> None:
    release, vit, paper = (PRESETS[f"benchmark_{name}"] for name in ("release", "release_vit21k", "paper"))
    assert {key for key in release if release[key][0] != vit[key][0]} == {"lr", "warmup_epochs", "drop_path"}
    assert {key for key in release if release[key][0] != paper[key][0]} == {"schedule", "soft_targets", "augment"}


@pytest.mark.parametrize("name", sorted(name for name in PRESETS if name.startswith("benchmark_")))
def test_every_preset_of_the_benchmark_trains_and_predicts(name: str, tmp_path: Path) -> None:
    config = preset(name, arch="slim", px=32, epochs=1, batch_size=16)
    access = wide_access()
    _, outcome, _ = run(train, setup_of(config, access), tmp_path)
    assert outcome.finished
    method = train.build(setup_of(config, access, predict_only=True, labels=access.label_names))
    assert np.isfinite(method.predict(access.rows("test")).logits).all()
