"""Segmentation: it learns made lungs, goes on exactly, and measures what it draws where it says that it does."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.catalog import declaration_of
from tests.trainers.data.test_made_cards import parameters_of
from tests.trainers.made_host import MemoryHost
from trainers.api import Outcome, Overlaps, Parent, Setup, Trainer
from trainers.data.access import Access
from trainers.data.cards import load_card
from trainers.data.open import open_data
from trainers.data.phantom.layout import write_made
from trainers.errors import Diverged, Error, WeightsError
from trainers.loop import fit, prepare
from trainers.parts import backbones
from trainers.parts.overlaps import measure
from trainers.parts.surfaces import hd95
from trainers.segmentation import config as declaration
from trainers.segmentation import train
from trainers.segmentation.config import Config
from trainers.weights import fingerprint, load_matching

CPU = torch.device("cpu")
TINY = Config(arch="slim", channels=1, px=32, width=16, epochs=2, batch_size=8, drop_path=0.0, lr=1e-3)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JSRT's layout with 40 made patients at 64 pixels, one raw image among them."""
    root = tmp_path_factory.mktemp("jsrt") / "made"
    card = load_card("jsrt_lung")
    write_made(root, parameters_of(card, patients_train=36, patients_valid=4), card.made["layout"])
    return root


def opened(made: Path, name: str = "jsrt_lung", draw: dict[str, Any] | None = None) -> Access:
    source = {"card": name, "made": {"generator": "phantom"}}
    return open_data(source, draw, lambda place: made, made.parent / "cache", lambda split: True)


def setup_of(made: Path, config: Config, *, seed: int = 0, card: str = "jsrt_lung", **changes: Any) -> Setup:
    return Setup(**{"config": config, "seed": seed, "data": opened(made, card), "device": CPU, **changes})


def run(setup: Setup, folder: Path, stop_after: int | None = None) -> tuple[MemoryHost, Outcome, train.Segmentation]:
    folder.mkdir(exist_ok=True)
    host = MemoryHost(folder, stop_after)
    prepare(setup.seed, 1, CPU)
    method = train.build(setup)
    outcome = fit(method, setup.config, host, device=CPU, measure=lambda found: measure(found, prefix="val"))  # pyright: ignore[reportArgumentType]
    return host, outcome, method


def test_it_learns_made_lungs(made: Path, tmp_path: Path) -> None:
    config = replace(TINY, epochs=12, lr=2e-3)
    host, outcome, method = run(setup_of(made, config), tmp_path)
    assert isinstance(method, Trainer)
    assert outcome.metrics["val/dice"] > 0.75
    assert host.values("epoch/loss")[-1] < 0.5 * host.values("epoch/loss")[0]
    test = measure(method.predict(method.setup.data.rows("test")), prefix="test")
    assert test["test/dice"] > 0.7
    # A constant mask, the mean of the training masks, is the floor.
    store, train_rows = method.masks, method.setup.data.rows("train")
    mean = np.mean([store.mask(int(at))[0] for at in train_rows.position], axis=0) > 127
    truths = [store.mask(int(at))[0] > 127 for at in method.setup.data.rows("val").position]
    floor = np.mean([2 * (mean & true).sum() / (mean.sum() + true.sum()) for true in truths])
    assert outcome.metrics["val/dice"] > floor, (outcome.metrics["val/dice"], floor, test)


@pytest.mark.parametrize(
    "changes",
    [{}, {"arch": "slim_swin", "decoder": "upernet_published"}, {"arch": "slim_vit"}, {"precision": "bf16", "last_batch": "drop"}],
)
def test_a_stopped_run_goes_on_to_the_same_bytes(made: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    config = replace(TINY, drop_path=0.1, **changes)
    whole, _, method = run(setup_of(made, config), tmp_path / "whole")
    assert method.steps_per_epoch >= 2
    _, outcome, _ = run(setup_of(made, config), tmp_path / "cut", stop_after=2)
    assert not outcome.finished
    resumed, _, _ = run(setup_of(made, config), tmp_path / "cut")
    assert resumed.digests["epoch-0002"] == whole.digests["epoch-0002"]


def test_patience_ends_a_run_that_gets_no_better(made: Path, tmp_path: Path) -> None:
    # At a rate of all but nothing validation stays where it is: three looks in a row that are no better follow the first one.
    config = replace(TINY, epochs=9, lr=1e-12, drop_path=0.0, patience=2, stop_on="val/dice")
    _, outcome, _ = run(setup_of(made, config), tmp_path)
    assert outcome.finished and 4 <= outcome.epoch < 9


def test_the_same_seed_gives_the_same_bytes_and_another_others(made: Path, tmp_path: Path) -> None:
    short = replace(TINY, epochs=1)
    digests = [run(setup_of(made, short, seed=seed), tmp_path / name)[0].digests for seed, name in ((1, "a"), (1, "b"), (2, "c"))]
    assert digests[0] == digests[1] != digests[2]


def test_the_last_batch_is_kept_or_dropped(made: Path) -> None:
    kept, dropped = (train.build(setup_of(made, replace(TINY, batch_size=7, last_batch=how))) for how in ("keep", "drop"))
    n = len(kept.setup.data.rows("train"))
    assert n % 7
    assert [len(batch["pair"]) for batch in kept.batches(0)] == [7] * (n // 7) + [n % 7]
    assert [len(batch["pair"]) for batch in dropped.batches(0)] == [7] * (n // 7)
    # Every image once, and from where a run was cut.
    assert torch.equal(list(kept.batches(1))[1]["pair"], next(iter(kept.batches(1, start=1)))["pair"])


def test_a_draw_cuts_training_alone(made: Path) -> None:
    whole, few = opened(made), opened(made, draw={"count": 4, "by": "patient", "seed": 1})
    assert len(few.rows("train")) == 4
    for split in ("val", "test"):
        assert few.rows(split).images.tolist() == whole.rows(split).images.tolist()


def test_one_training_image_makes_batches_of_one(made: Path, tmp_path: Path) -> None:
    config = replace(TINY, arch="slim_swin", px=64, decoder="upernet_published", batch_size=1, epochs=1)
    data = opened(made, draw={"count": 2, "by": "patient", "seed": 1})
    _, outcome, _ = run(setup_of(made, config, data=data), tmp_path)
    assert outcome.finished and outcome.step == 2 and math.isfinite(outcome.metrics["epoch/loss"])


def test_a_batch_of_one_whose_deepest_map_is_one_pixel_is_one_sentence(made: Path, tmp_path: Path) -> None:
    method = train.build(setup_of(made, TINY))
    method.module.train()
    batch = next(iter(method.batches(0)))
    with pytest.raises(Error, match=r"the last batch has one image.*set last_batch: drop"):
        method.loss({name: value[:1] for name, value in batch.items()})


def test_several_structures_are_learnt_at_once(made: Path, tmp_path: Path) -> None:
    both = write_card(tmp_path, "lungs: left lung + right lung, heart: heart")
    source = {"card": "jsrt_both", "made": {"generator": "phantom"}}
    data = open_data(source, None, lambda place: made, made.parent / "cache", lambda split: True, [both])
    _, outcome, method = run(setup_of(made, TINY, data=data), tmp_path / "job")
    assert method.labels == ("lungs", "heart")
    assert {"val/dice/lungs", "val/dice/heart", "val/dice", "val/loss"} <= set(outcome.metrics)
    assert outcome.metrics["val/dice"] == pytest.approx((outcome.metrics["val/dice/lungs"] + outcome.metrics["val/dice/heart"]) / 2)


def write_card(folder: Path, labels: str) -> Path:
    text = (Path(declaration.__file__).parents[1] / "data/cards/jsrt_lung.yaml").read_text(encoding="utf-8")
    text = text.replace("name: jsrt_lung", "name: jsrt_both").replace("lungs: left lung + right lung", labels)
    (folder / "jsrt_both.yaml").write_text(text, encoding="utf-8")
    return folder


# --- what is measured ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score_at", ["file", "input"])
def test_test_masks_are_compared_where_the_config_says(made: Path, score_at: Any) -> None:
    method = train.build(setup_of(made, replace(TINY, score_at=score_at)))
    rows = method.setup.data.rows("test")
    found = method.predict(rows)
    for at, position in enumerate(rows.position.tolist()[:3]):
        pair = method._pair(np.array([position]), 0, "none", 0)
        method.module.eval()
        with torch.no_grad():
            logits = method.module(pair[:, :1])[0, 0].numpy()
        full = method.masks.full(position)["lungs"]
        if score_at == "file":
            drawn = (cv2.resize(logits, full.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0).astype(np.uint8)
            true = full
        else:
            drawn, true = (logits > 0).astype(np.uint8), (method.masks.mask(position)[0] > 127).astype(np.uint8)
        assert found.true[at, 0] == true.sum() and found.predicted[at, 0] == drawn.sum()
        assert found.intersection[at, 0] == (drawn & true).sum()
        assert found.hd95 is not None and found.diagonal is not None
        np.testing.assert_equal(found.hd95[at, 0], hd95(drawn, true))
        assert found.diagonal[at] == math.hypot(*true.shape)


def test_rows_are_measured_in_their_order_whatever_the_batch(made: Path) -> None:
    method = train.build(setup_of(made, replace(TINY, batch_size=5)))
    rows = method.setup.data.rows("test")
    forwards, backwards = method.predict(rows), method.predict(rows.take(np.arange(len(rows))[::-1]))
    for name in ("known", "true"):
        np.testing.assert_array_equal(getattr(forwards, name), getattr(backwards, name)[::-1])
    # Sums in another order may move a logit that is all but 0.
    assert np.abs(forwards.predicted - backwards.predicted[::-1]).max() <= 2
    assert method.module.training


def test_validation_is_augmented_where_asked_and_differs_by_epoch(made: Path) -> None:
    plain, random = (train.build(setup_of(made, replace(TINY, augment_validation=asked))) for asked in (False, True))
    found = []
    for method in (plain, random):
        for epoch in (0, 1, 0):
            method.after_epoch(epoch)
            overlaps = method.validate()
            assert overlaps is not None
            found.append(overlaps.true.tolist())
    assert found[0] == found[1] == found[2]
    assert found[3] == found[5] != found[4]


def test_the_loss_of_validation_is_the_mean_over_images(made: Path) -> None:
    method = train.build(setup_of(made, replace(TINY, batch_size=2)))
    overlaps = method.validate()
    assert overlaps is not None and overlaps.loss is not None
    rows = method.setup.data.rows("val")
    method.module.eval()
    with torch.no_grad():
        parts = [rows.position[first : first + 2] for first in range(0, len(rows), 2)]
        pairs = [(len(part), {"pair": method._pair(part, 0, "none", 0), "known": method._known(part)}) for part in parts]
        losses = [count * float(method.loss(batch)["loss"]) for count, batch in pairs]
    assert overlaps.loss == pytest.approx(sum(losses) / len(rows), rel=1e-5)


def test_logits_that_are_not_finite_stop_the_run(made: Path) -> None:
    method = train.build(setup_of(made, TINY))
    method.module.decoder.head.bias.data.fill_(torch.nan)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    with pytest.raises(Diverged, match="logits that are not finite"):
        method.validate()


# --- schedule, starts, presets ------------------------------------------------------------------------------------------------------------


def test_the_published_rates_are_those_of_its_formula() -> None:
    rates = {epoch: 0.05 * train.published_factor(epoch, 500) for epoch in (0, 1, 10, 19, 20, 100, 260, 499)}
    known = {0: 0, 1: 0.0025, 10: 0.025, 19: 0.0475, 20: 0.05, 100: 0.04665064, 260: 0.025, 499: 5.4e-7}
    for epoch, rate in known.items():
        assert rates[epoch] == pytest.approx(rate, rel=1e-2 if epoch == 499 else 1e-6), epoch


def test_in_the_published_first_epoch_statistics_move_alone(made: Path, tmp_path: Path) -> None:
    config = replace(TINY, epochs=1, schedule="published", optimizer="sgd", lr=0.05, weight_decay=0.0, decoder_lr_factor=1.0)
    before = train.build(setup_of(made, config)).module
    _, _, method = run(setup_of(made, config), tmp_path)
    for (name, old), (_, new) in zip(before.named_parameters(), method.module.named_parameters(), strict=True):
        assert torch.equal(old, new), name
    moved = [name for name, old in before.named_buffers() if not torch.equal(old, method.module.get_buffer(name))]
    assert moved == [name for name, _ in before.named_buffers()]


def test_the_decoder_moves_ten_times_as_fast(made: Path) -> None:
    method = train.build(setup_of(made, replace(TINY, arch="slim_vit")))
    rates = {id(p): group["lr"] for group in method.optimizer().param_groups for p in group["params"]}
    names = {name: rates[id(p)] for name, p in method.module.named_parameters()}
    assert len(names) == len(rates)
    for name, rate in names.items():
        assert rate == pytest.approx(1e-3 if name.startswith("pyramid.backbone.") else 1e-2), name


def test_a_child_starts_from_its_parents_backbone_strictly(made: Path, tmp_path: Path) -> None:
    parent = backbones.build("slim", 1, 32, seed=77)
    save_file({f"backbone.{name}": value.contiguous() for name, value in parent.state_dict().items()}, tmp_path / "p.safetensors")
    handed = Parent(files=(tmp_path / "p.safetensors",), trainer="moco_cxr", config={"arch": "slim", "channels": 1})
    method = train.build(setup_of(made, TINY, parents={"init": handed}))
    assert fingerprint(method.module.pyramid.get_submodule("backbone")) == fingerprint(parent)
    with pytest.raises(WeightsError, match=r"config\.arch: the moco_cxr parent has slim"):
        train.build(setup_of(made, replace(TINY, arch="slim_swin"), parents={"init": handed}))


def test_weights_come_back_for_prediction_without_training_rows_or_a_start(made: Path, tmp_path: Path) -> None:
    _, _, trained = run(setup_of(made, replace(TINY, epochs=1)), tmp_path)
    fresh = setup_of(made, replace(TINY, init="/no/such/file"), predict_only=True, labels=("lungs",))
    method = train.build(fresh)
    load_matching(method.module, load_file(tmp_path / "epoch-0001.safetensors"))
    rows = fresh.data.rows("test")
    ours, theirs = method.predict(rows), trained.predict(trained.setup.data.rows("test"))
    assert isinstance(ours, Overlaps)
    np.testing.assert_array_equal(ours.predicted, theirs.predicted)
    assert set(fresh.data.opened) == {"test"}


def test_presets_are_whole_and_the_published_one_is_the_published_network() -> None:
    declared = declaration_of("trainers.segmentation")
    for name, settings in declared.presets.items():
        config = declared.configured({key: value for key, (value, _) in settings.items()})
        assert config.decoder == ("upernet" if name == "recommended" else "upernet_published")
        assert all(why for _, why in settings.values())
    for name, (theirs, ours, why) in declaration.DEPARTURES.items():
        assert getattr(Config(), name) == ours, name
        assert theirs != ours and why


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"decoder": "upernet_published"}, "takes the maps of a Swin, and arch is 'slim': set decoder: upernet"),
        ({"px": 16}, "px: is 16, and must be 32 or more"),
        ({"lr": 0.0}, "lr: is 0.0, and must be above 0"),
        ({"patience": 2, "stop_on": "val/auroc"}, "stop_on: no 'val/auroc' is measured: name one of val/dice"),
    ],
)
def test_what_cannot_be_is_said_when_planned(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(TINY, **changes)


def test_an_empty_draw_and_a_wrong_structure_are_refused(made: Path) -> None:
    with pytest.raises(Error, match="has no label 'lung'; did you mean 'lungs'"):
        train.build(setup_of(made, replace(TINY, labels=("lung",))))


# --- pictures --------------------------------------------------------------------------------------------------------------------------


def test_pictures_are_of_the_first_validation_images_and_say_so(made: Path) -> None:
    method = train.build(setup_of(made, TINY))
    pictures, rows = method.pictures(1), method.setup.data.rows("val")
    assert list(pictures) == list(method.captions) == [f"val-{at}" for at in range(1, min(4, len(rows)) + 1)]
    assert str(rows.images[0]) in method.captions["val-1"]
    again = method.pictures(2)
    assert all(np.array_equal(picture, again[name]) for name, picture in pictures.items())
    assert set(method.setup.data.opened) == {"train", "val"}, "no test image is looked at in training"


def test_overlays_are_of_the_rows_that_they_are_asked_for(made: Path) -> None:
    method = train.build(setup_of(made, TINY, predict_only=True, labels=("lungs",)))
    rows = method.setup.data.rows("test").take(np.arange(2))
    assert list(method.overlays(rows)) == list(method.captions) == ["test-1", "test-2"]
    assert str(rows.images[1]) in method.captions["test-2"]
