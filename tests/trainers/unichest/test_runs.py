"""Conquer and divide through the loop: what is learnt, what is frozen, where a run goes on, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.trainers.unichest.made_sources import CARDS, DIVIDE, TINY, parent, run, setup_of, source
from trainers.api import Parent, Source, Trainer
from trainers.errors import DataError, WeightsError
from trainers.unichest import train
from trainers.unichest.gates import figure, separation
from trainers.unichest.losses import asymmetric, contrastive
from trainers.unichest.material import Material
from trainers.unichest.prompts import Prompts
from trainers.weights import load_matching

LONG = replace(TINY, epochs=8, contrast="as_published", clip_ratio=0.0)


@pytest.fixture(scope="module")
def conquered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("conquer")
    host, outcome, _ = run(setup_of(LONG), folder)
    assert outcome.finished
    return folder, host


def divided(conquered: tuple[Path, Any], folder: Path, **changes: Any) -> tuple[Any, Any, Any]:
    config = replace(DIVIDE, contrast="as_published", clip_ratio=0.0, epochs=2, **changes)
    return run(setup_of(config, parents={"init": parent(conquered[0], LONG)}), folder)


def test_conquer_learns_one_concept_of_two_sources_that_call_it_differently(conquered: tuple[Path, Any]) -> None:
    last = conquered[1].logged[-1][1]
    for name in ("val/alpha/auroc/pleural_effusion", "val/beta/auroc/effusion"):
        assert max(metrics.get(name, 0.0) for _, metrics in conquered[1].logged) > 0.75
    assert last["val/mean_auroc"] == pytest.approx(np.mean([last[f"val/{card}/auroc_macro"] for card in CARDS]))
    assert isinstance(train.build(setup_of(LONG)), Trainer)


def test_in_conquer_experts_stay_as_they_were_drawn_unless_they_decay(conquered: tuple[Path, Any], tmp_path: Path) -> None:
    start = train.build(setup_of(LONG)).module.state_dict()
    found = load_file(max(conquered[0].glob("epoch-*.safetensors")))
    experts = [name for name in start if name.startswith("queries.experts.")]
    assert experts and all(torch.equal(found[name], start[name]) for name in experts)
    assert not torch.equal(found["queries.main.head.weight"], start["queries.main.head.weight"])
    _, _, decayed = run(setup_of(replace(LONG, epochs=1, conquer_experts="zero_weight")), tmp_path)
    steps, name = decayed.steps_per_epoch, "queries.experts.layers.0.linear1.weight"
    factors = [1 - 2e-3 * decayed.learning_rate_factor(step) * 0.02 for step in range(steps)]
    assert torch.allclose(decayed.module.state_dict()[name], start[name] * float(np.prod(factors)), atol=1e-7)


@pytest.mark.parametrize("frozen", ["image", "image_weights", "all_but_experts"])
def test_divide_freezes_what_it_says(conquered: tuple[Path, Any], tmp_path: Path, frozen: Any) -> None:
    _, outcome, method = divided(conquered, tmp_path, frozen=frozen)
    before = load_file(max(conquered[0].glob("epoch-*.safetensors")))
    after = method.module.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    drift = {name for name in moved if name.startswith("backbone.")}
    weights = {name for name, _ in method.module.named_parameters()}
    assert outcome.finished and not {name for name in moved & weights if name.startswith(("backbone.", "projection."))}
    assert bool(drift) is (frozen == "image_weights") and all("running" in name or "num_batches" in name for name in drift)
    main = {name for name in moved if name.startswith(("queries.main.", "queries.norm."))}
    assert bool(main) is (frozen != "all_but_experts")
    assert {"queries.experts.head.weight", "queries.gate.weight", "queries.gate_projection.weight"} <= moved


def test_the_gate_is_measured_and_drawn(conquered: tuple[Path, Any], tmp_path: Path) -> None:
    host, outcome, method = divided(conquered, tmp_path, pictures_every_epochs=2)
    assert 0.0 <= outcome.metrics["val/gate_separation"] <= 1.0
    assert set(host.pictures) == {*(f"attention-{index}-2" for index in range(1, 5)), "gate-2"} and len(method.captions) == 5
    assert "pleural effusion" in method.captions["attention-1"]


@pytest.mark.parametrize("stop", [1, 5, 7])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(conquered: tuple[Path, Any], tmp_path: Path, stop: int) -> None:
    changes: dict[str, Any] = {"fourier": "low", "augment": "published", "text_mode": "as_published"}
    config = replace(DIVIDE, epochs=2, contrast="as_published", **changes)
    setup = setup_of(config, parents={"init": parent(conquered[0], LONG)})
    whole, _, _ = run(setup, tmp_path / "whole")
    _, outcome, _ = run(setup, tmp_path / "cut", stop_after=stop)
    assert not outcome.finished
    resumed, outcome, _ = run(setup, tmp_path / "cut")
    assert outcome.finished and resumed.digests["epoch-0002"] == whole.digests["epoch-0002"]


def test_the_loss_of_a_batch_by_hand(conquered: tuple[Path, Any]) -> None:
    config = replace(DIVIDE, contrast="as_published", reduction="sum", dropout=0.0)
    method = train.build(setup_of(config, parents={"init": parent(conquered[0], LONG)}))
    assert isinstance(method, train.UniChest)
    batch = next(iter(method.batches(0)))
    method.module.eval()
    with torch.no_grad():
        found = method.loss(batch)
        tokens = method.module.tokens(method.module.pixels(batch["views"]))
        prompts = method.encoder.encode(["pleural effusion", "nodule", "Tuberculosis"])
        p = method.module.answer(tokens, prompts).probabilities
        by_entry = sum(
            float(asymmetric(p[row : row + 1, column : column + 1], batch["targets"][row : row + 1, column : column + 1]))
            for row in range(16)
            for column in range(3)
            if not batch["targets"][row, column].isnan()
        )
        texts = [method.material.texts[method.material.text_of[row]] for row in next(method.material.order(0))[1]]
        clip = contrastive(tokens.mean(1), method.encoder.encode(texts))
    assert found["image"].item() == pytest.approx(by_entry, rel=1e-4)
    assert found["clip"].item() == pytest.approx(clip.item(), rel=1e-3)
    total = found["image"] + found["text"] + found["clip"] + found["source"]
    assert found["loss"].item() == pytest.approx(total.item(), rel=1e-5)
    # The mean over known labels, times their number.
    per_image = train.build(setup_of(replace(config, reduction="per_image"), parents={"init": parent(conquered[0], LONG)}))
    per_image.module.eval()
    with torch.no_grad():
        mean = per_image.loss(batch)["image"].item()  # type: ignore[union-attr]
    assert mean == pytest.approx(by_entry * 3 / int((~batch["targets"].isnan()).sum()), rel=1e-4)


def test_labels_of_other_sources_and_uncertain_ones_are_unknown() -> None:
    material = Material(setup_of(TINY, accesses=(source("alpha", uncertain=True), source("beta"))), Prompts())
    assert material.concepts == ("pleural_effusion", "nodule", "tuberculosis")
    alpha, beta = material.targets[material.source == 0], material.targets[material.source == 1]
    assert np.isnan(alpha[:, 2]).all() and np.isnan(beta[:, 1]).all() and not np.isnan(beta[:, [0, 2]]).any()
    rows = source("alpha", uncertain=True).rows("train")
    assert np.isnan(alpha[rows.labels[:, 1] == -1, 1]).all() and (rows.labels[:, 1] == -1).any()


def test_an_epoch_takes_each_image_once_and_goes_on_anywhere() -> None:
    material = Material(setup_of(replace(TINY, fourier="all", fourier_p=1.0)), Prompts())
    steps = list(material.order(3))
    taken = np.concatenate([images for _, images in steps])
    assert material.steps == len(steps) == 5 and len(np.unique(taken)) == len(taken) == 80
    assert [images.tolist() for _, images in material.order(3, 2)] == [images.tolist() for _, images in steps[2:]]
    partner, share = material.mix(3, 2) or (np.empty(0), np.empty(0))
    assert sorted(partner.tolist()) == list(range(16)) and 0 <= share.min() <= share.max() < 1
    assert material.mix(3, 2)[0].tolist() == partner.tolist()  # type: ignore[index]


# --- what is predicted -------------------------------------------------------------------------------------------------------------------


def test_any_label_is_predicted_by_its_prompt_and_zero_shot_is_said(conquered: tuple[Path, Any]) -> None:
    access = source("gamma")
    other = {"gamma": ("kerley_lines", "effusion")}
    access.label_names = other["gamma"]
    learnt = {card: Source(labels=labels) for card, (labels, _) in CARDS.items()}
    setup = replace(setup_of(LONG, accesses=(access,), predict_only=True), learnt_from=learnt)
    method = train.build(setup)
    load_matching(method.module, load_file(max(conquered[0].glob("epoch-*.safetensors"))))
    rows = replace(access.rows("test"), label_names=other["gamma"])
    scores = method.predict(rows)
    assert scores.labels == other["gamma"] and scores.logits.shape == (10, 2) and bool(np.isfinite(scores.logits).all())
    assert method.asked() == {"kerley_lines": [], "effusion": ["alpha", "beta"]}
    assert train.OPEN_LABELS


# --- gates -------------------------------------------------------------------------------------------------------------------------------


def test_gates_apart_are_told_apart_and_twins_are_at_chance() -> None:
    random = np.random.default_rng(0)

    def gate(centre: list[float], n: int = 60) -> Any:
        return (np.array(centre) + random.normal(0, 0.02, (n, 3))).astype(np.float32)

    assert separation({"a": gate([0.8, 0.1, 0.1]), "b": gate([0.1, 0.8, 0.1])}) == 1.0
    twins = [separation({"a": gate([0.3, 0.3, 0.4]), "b": gate([0.3, 0.3, 0.4])}) for _ in range(40)]
    assert np.mean([one for one in twins if one is not None]) == pytest.approx(0.5, abs=0.03)
    same = np.full((10, 3), 1 / 3, np.float32)
    assert separation({"a": same, "b": same}) == 0.5 and separation({"a": same}) is None
    picture = figure({"a": gate([0.8, 0.1, 0.1]), "b": same})
    assert picture.dtype == np.uint8 and picture[60, 215] < picture[60, 311]


# --- what is refused ---------------------------------------------------------------------------------------------------------------------


def test_divide_wants_a_conquer_of_its_own_shape(conquered: tuple[Path, Any]) -> None:
    with pytest.raises(WeightsError, match="divide starts from a conquer phase or from a published checkpoint"):
        train.build(setup_of(DIVIDE))
    own = parent(conquered[0], LONG)
    for changes, message in (
        ({"trainer": "simmim"}, "divide starts from conquer, and its parent is simmim"),
        ({"config": {**own.config, "stage": "divide"}}, "its parent is unichest .stage divide."),
        ({"config": {**own.config, "width": 64}}, r"config.width: conquer has 64, divide 32: set width: 64"),
        ({"files": (own.files[0], own.files[0])}, "set pick.checkpoints to best"),
    ):
        wrong = Parent(**{"files": own.files, "trainer": own.trainer, "config": own.config, **changes})
        with pytest.raises(WeightsError, match=message):
            train.build(setup_of(replace(DIVIDE, contrast="as_published"), parents={"init": wrong}))


def test_divide_can_take_the_bias_of_the_projection_away(conquered: tuple[Path, Any]) -> None:
    own = parent(conquered[0], LONG)
    for start, zero in (("drawn", False), ("zero", True)):
        method = train.build(setup_of(replace(DIVIDE, contrast="as_published", projection_bias=start), parents={"init": own}))
        assert bool((method.module.state_dict()["queries.gate_projection.bias"] == 0).all()) is zero


def test_another_number_of_experts_is_drawn_anew(conquered: tuple[Path, Any]) -> None:
    config = replace(DIVIDE, contrast="as_published", experts=5)
    method = train.build(setup_of(config, parents={"init": parent(conquered[0], LONG)}))
    before = load_file(max(conquered[0].glob("epoch-*.safetensors")))
    state = method.module.state_dict()
    assert torch.equal(state["queries.main.head.weight"], before["queries.main.head.weight"])
    assert len(state["queries.experts.head.weight"]) == 5


def test_sources_that_cannot_be_learnt_from_are_named() -> None:
    with pytest.raises(DataError, match="source 'beta' has no validation split"):
        train.build(setup_of(TINY, accesses=(source("alpha"), source("beta", val=False))))
