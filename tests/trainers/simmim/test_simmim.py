"""Masked image modelling: the published rates, a run that learns, resumes and repeats, what it measures, and what it shows."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.trainers.data.test_made_cards import parameters_of
from tests.trainers.made_data import MemoryStore, made_access
from tests.trainers.made_host import run
from trainers.api import Parent, Setup, Trainer
from trainers.data.access import Access
from trainers.data.cards import load_card
from trainers.data.phantom.layout import write_made
from trainers.errors import Collapsed, Error, WeightsError
from trainers.simmim import config as declaration
from trainers.simmim import train
from trainers.simmim.config import Config
from trainers.weights import fingerprint

TINY = Config(
    arch="slim_swin", px=32, window=None, mask_patch=8, epochs=8, batch_size=16, lr=2e-3, lr_images=0, warmup=0.1, collapse_guard=False
)


def smooth_access(count: int = 68, px: int = 32, sizes: tuple[int, int] = (48, 16), *, val: bool = True, waves: float = 1.0) -> Access:
    """Open a card of smooth images: waves that go on below a mask, each with its own direction and phase."""
    access = made_access(n=count, px=px, sizes=sizes, val=val)
    random = np.random.default_rng(5)
    row, column = np.mgrid[0:px, 0:px] / px
    images = [
        127 + 80 * np.sin(2 * np.pi * waves * (math.cos(angle) * row + math.sin(angle) * column) + phase)
        for angle, phase in random.uniform(0, 2 * np.pi, (count, 2))
    ]
    store = MemoryStore(np.rint(images).astype(np.uint8), [(400, 400)] * count)
    access._store = lambda size: store
    return access


def setup_of(config: Config = TINY, *, seed: int = 0, data: Access | None = None, **more: Any) -> Setup:
    return Setup(config=config, seed=seed, data=data or smooth_access(), device=torch.device("cpu"), **more)


# --- rates --------------------------------------------------------------------------------------------------------------------------------


def paper(schedule: str = "cosine_released", **more: Any) -> Config:
    return Config(schedule=schedule, **more)  # type: ignore[arg-type]


def test_rates_grow_with_the_batch() -> None:
    """2,048 images have four times the rates of 512: 8e-4, 4e-6 and 4e-5 (facts C2)."""
    config = replace(TINY, batch_size=16, lr=2e-4, lr_images=4, warmup_lr=1e-6, min_lr=1e-5, epochs=10)
    trainer = train.build(setup_of(config))
    optimizer = trainer.optimizer()
    scaled = [group["lr"] for group in optimizer.param_groups]
    assert scaled == pytest.approx([8e-4, 8e-4])
    assert optimizer.defaults["betas"] == (0.9, 0.999) and optimizer.defaults["eps"] == 1e-8
    total = config.epochs * trainer.steps_per_epoch
    assert scaled[0] * trainer.learning_rate_factor(0) == pytest.approx(4e-6)
    assert scaled[0] * trainer.learning_rate_factor(round(0.1 * total)) == pytest.approx(8e-4)
    assert scaled[0] * trainer.learning_rate_factor(total) == pytest.approx(4e-5)
    assert [group["lr"] for group in train.build(setup_of(replace(config, lr_images=0))).optimizer().param_groups] == [2e-4, 2e-4]


def test_the_released_cosine_is_that_of_timm_driven_as_it_is_there() -> None:
    from timm.scheduler.cosine_lr import CosineLRScheduler

    config, steps = paper(), 13
    total, rising = 100 * steps, 10 * steps
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config.lr)
    theirs = CosineLRScheduler(
        optimizer, t_initial=total, lr_min=config.min_lr, warmup_lr_init=config.warmup_lr, warmup_t=rising, cycle_limit=1, t_in_epochs=False
    )
    for step in range(total):
        assert train.rate(step, total, config, steps) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), step
        theirs.step_update(step)


def test_ours_has_no_jump_where_the_rise_ends() -> None:
    total, rising = 1000, 100
    ours = [train.rate(step, total, paper("cosine"), 10) for step in range(total + 1)]
    assert ours[0] == pytest.approx(1e-6) and ours[rising] == pytest.approx(2e-4) == max(ours) and ours[-1] == pytest.approx(1e-5)
    assert max(abs(a - b) for a, b in pairwise(ours)) < 2.1e-6
    # As released it rises to lr, and falls at once to where a cosine from step 0 is by then.
    released = [train.rate(step, total, paper(), 10) for step in range(total)]
    assert released[rising] > 1.9e-4 and released[rising] - released[rising + 1] > 2e-6


def test_milestones_fall_to_a_tenth() -> None:
    """SimMIM's 800 epochs on ImageNet: 1e-4 to epoch 700, then a tenth."""
    config = paper("milestones", lr=1e-4, warmup=10 / 800, warmup_lr=5e-7, epochs=800, milestones=(700,))
    rates = [train.rate(epoch * 3, 2400, config, 3) for epoch in (0, 10, 699, 700, 799)]
    assert rates == pytest.approx([5e-7, 1e-4, 1e-4, 1e-5, 1e-5])
    assert train.rate(5, 100, paper("constant", warmup=0.0), 10) == 2e-4


# --- a run --------------------------------------------------------------------------------------------------------------------------------


#: Epochs, rate, turns of a wave, training images, and the share of a constant image's loss. A ViT has to learn first where its tokens are.
LEARNT = {"slim_swin": (20, 2e-3, 1.0, 48, 0.5), "slim_vit": (14, 1e-3, 0.4, 160, 0.96)}


@pytest.mark.parametrize("arch", LEARNT)
def test_it_learns_what_stands_below_a_mask(tmp_path: Path, arch: str) -> None:
    epochs, lr, waves, images, share = LEARNT[arch]
    config = replace(TINY, arch=arch, epochs=epochs, lr=lr, mask_ratio=0.4)
    host, outcome, trainer = run(train, setup_of(config, data=smooth_access(images + 20, sizes=(images, 16), waves=waves)), tmp_path)
    assert outcome.finished and isinstance(trainer, Trainer)
    losses, constant, held_out = (host.values(name) for name in ("epoch/loss", "epoch/constant", "val/reconstruction"))
    # Less than a share of what constant images cost, on images that it has not seen too.
    assert losses[-1] < share * constant[-1] and held_out[-1] < share * constant[-1]
    assert losses[0] > 0.8 * constant[0]


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    config = replace(TINY, epochs=2)
    digests = [run(train, setup_of(config, seed=seed), tmp_path / name)[0].digests for seed, name in ((1, "a"), (1, "b"), (2, "c"))]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(("precision", "stop_after"), [("fp32", 4), ("bf16", 4), ("fp32", 3)])
def test_a_stopped_run_goes_on_to_the_same_bytes(tmp_path: Path, precision: Any, stop_after: int) -> None:
    config = replace(TINY, epochs=2, precision=precision, pictures_every_epochs=1)
    whole, _, _ = run(train, setup_of(config), tmp_path / "whole")
    stopped, outcome, _ = run(train, setup_of(config), tmp_path / "cut", stop_after=stop_after)
    assert not outcome.finished
    resumed, outcome, _ = run(train, setup_of(config), tmp_path / "cut")
    assert outcome.finished and resumed.digests["epoch-0002"] == whole.digests["epoch-0002"]
    for name in ("epoch/loss", "epoch/constant", "val/reconstruction"):
        assert resumed.values(name)[-1] == whole.values(name)[-1]
    assert {**stopped.pictures, **resumed.pictures} == whole.pictures and len(whole.pictures) == 2


def test_what_is_measured_and_shown_moves_nothing(tmp_path: Path) -> None:
    plain = replace(TINY, epochs=2, validate_images=0)
    looked = replace(plain, validate_images=9, pictures_every_epochs=1, watch_every_epochs=1, watch_images=40)
    first, second = (run(train, setup_of(config), tmp_path / name)[0] for config, name in ((plain, "a"), (looked, "b")))
    assert first.digests == second.digests
    assert first.values("val/reconstruction") == [] and len(second.values("val/reconstruction")) == 2


def test_micro_batches_give_the_gradient_of_the_whole_batch() -> None:
    trainer = train.build(setup_of())
    batch = next(iter(trainer.batches(0)))
    trainer.loss(batch)["loss"].backward()
    whole = {name: p.grad.clone() for name, p in trainer.module.named_parameters() if p.grad is not None}
    trainer.module.zero_grad()
    for part in (slice(0, 5), slice(5, 16)):
        size = part.stop - part.start
        (trainer.loss({name: value[part] for name, value in batch.items()})["loss"] * (size / 16)).backward()
    for name, p in trainer.module.named_parameters():
        assert p.grad is not None and torch.allclose(p.grad, whole[name], atol=1e-6 * max(1.0, float(whole[name].abs().max()))), name


def test_views_and_masks_follow_the_epoch_and_batches_the_seed() -> None:
    trainer = train.build(setup_of())
    batches = [list(trainer.batches(epoch)) for epoch in (0, 0, 1)]
    assert len(batches[0]) == trainer.steps_per_epoch == 3
    assert all(torch.equal(a[name], b[name]) for a, b in zip(batches[0], batches[1], strict=True) for name in a)
    assert not torch.equal(batches[0][0]["hidden"], batches[2][0]["hidden"])
    assert torch.equal(next(iter(trainer.batches(0, start=2)))["hidden"], batches[0][2]["hidden"])
    assert batches[0][0]["hidden"].flatten(1).sum(1).tolist() == [math.ceil(0.6 * 16)] * 16


# --- what is measured and shown -----------------------------------------------------------------------------------------------------------


def test_the_reconstruction_of_validation_images_is_the_naive_one_and_the_same_for_every_seed() -> None:
    found: list[float] = []
    for seed, size in ((0, 5), (0, 16), (7, 16)):
        trainer = train.build(setup_of(replace(TINY, batch_size=16, micro_batch=size, validate_images=11), seed=seed))
        torch.manual_seed(0)
        with torch.no_grad():
            for p in trainer.module.parameters():
                p.copy_(torch.randn(p.shape) * 0.02)
        trainer.module.train()
        found.append(trainer.after_epoch(0)["val/reconstruction"])
        assert trainer.module.training
    assert found[1:] == pytest.approx([found[0]] * 2, rel=1e-6)
    module, losses = trainer.module.eval(), []
    for position in range(48, 59):
        image = torch.from_numpy(trainer.store.image(position))[None, None]
        hidden = trainer.masking.drawn(np.array([position]), seed=train._FIXED, epoch=0)
        with torch.no_grad():
            target, rebuilt = module(image, hidden)
        below = trainer.masking.of_pixels(hidden)
        losses.append(((target - rebuilt).abs()[below]).mean().item())
    assert found[0] == pytest.approx(np.mean(losses), rel=1e-5)


def picture_of(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


@pytest.mark.parametrize(("channels", "px", "tile"), [(1, 32, 32), (3, 32, 32), (1, 144, 128)])
def test_a_picture_shows_the_image_what_was_seen_of_it_and_the_rest_as_rebuilt(tmp_path: Path, channels: Any, px: int, tile: int) -> None:
    config = replace(TINY, px=px, channels=channels, mask_patch=px // 4, epochs=1, pictures_every_epochs=1, batch_size=8)
    host, _, trainer = run(train, setup_of(config, data=smooth_access(24, px, (16, 5))), tmp_path)
    (picture,) = [picture_of(content) for content in host.pictures.values()]
    assert picture.shape == (4 * tile, 3 * tile)
    hidden = trainer.masking.drawn(np.arange(16, 20), seed=train._FIXED, epoch=0)
    for row in range(4):
        whole, seen, filled = (picture[row * tile : (row + 1) * tile, k * tile : (k + 1) * tile].astype(int) for k in range(3))
        side = tile // 4
        if tile == px:
            assert np.array_equal(whole, trainer.store.image(16 + row))
        for (i, j), gone in np.ndenumerate(hidden[row].numpy()):
            square = np.s_[i * side + 1 : (i + 1) * side - 1, j * side + 1 : (j + 1) * side - 1]
            assert (seen[square] == 128).all() if gone else (seen[square] == whole[square]).all()
            if not gone:
                assert np.array_equal(filled[square], whole[square])
    assert trainer.captions["reconstruction"].startswith("validation images, what the network saw")


def test_a_pool_without_validation_shows_training_images_and_says_so(tmp_path: Path) -> None:
    config = replace(TINY, epochs=1, pictures_every_epochs=1)
    host, _, trainer = run(train, setup_of(config, data=smooth_access(val=False)), tmp_path)
    assert host.values("val/reconstruction") == [] and len(host.pictures) == 1
    assert trainer.captions["reconstruction"].startswith("training images")
    assert trainer.facts() == {
        "masking": {"squares": 16, "masked": 10, "tokens": 256, "masked_tokens": 160},
        "reconstructed": 0,
        "shown": "training",
    }


def test_the_guard_ends_a_run_that_rebuilds_no_more_than_a_mean(tmp_path: Path) -> None:
    with pytest.raises(Collapsed, match=r"nothing is rebuilt: loss 0\.9900 against 1\.0000 of constant images; lower lr"):
        train.raise_if_collapsed(0.99, 1.0)
    train.raise_if_collapsed(0.97, 1.0)
    frozen = replace(TINY, epochs=2, lr=1e-9, min_lr=0.0, warmup_lr=0.0, collapse_guard=True)
    with pytest.raises(Collapsed):
        run(train, setup_of(frozen), tmp_path / "on")
    assert run(train, setup_of(replace(frozen, collapse_guard=False)), tmp_path / "off")[1].finished


# --- starts -------------------------------------------------------------------------------------------------------------------------------


def test_it_starts_from_another_of_its_own_and_hands_its_encoder_to_a_classifier(tmp_path: Path) -> None:
    from trainers.classification import train as classification
    from trainers.classification.config import Config as Classifier

    config = replace(TINY, epochs=1)
    run(train, setup_of(config), tmp_path)
    parent = Parent(files=(tmp_path / "epoch-0001.safetensors",), trainer="simmim", config={"arch": "slim_swin", "channels": 1})
    learnt = train.build(setup_of(config, seed=9, parents={"init": parent})).module
    fresh = train.build(setup_of(config, seed=9)).module
    assert fingerprint(learnt.backbone) != fingerprint(fresh.backbone)
    classifier = classification.build(setup_of(Classifier(arch="slim_swin", px=32), data=made_access(), parents={"init": parent}))  # type: ignore[arg-type]
    assert fingerprint(classifier.module.backbone) == fingerprint(learnt.backbone)
    with pytest.raises(WeightsError, match=r"config\.arch: the simmim parent has slim_swin, this job slim_vit: set arch: slim_swin"):
        train.build(setup_of(replace(config, arch="slim_vit"), parents={"init": parent}))


def test_a_classifier_with_larger_windows_has_its_tables_stretched(tmp_path: Path) -> None:
    from trainers.classification import train as classification
    from trainers.classification.config import Config as Classifier

    data = made_access(n=40, px=64, sizes=(20, 10))
    config = replace(TINY, px=64, mask_patch=16, window=2, epochs=1, batch_size=8)
    run(train, setup_of(config, data=data), tmp_path)
    parent = Parent(files=(tmp_path / "epoch-0001.safetensors",), trainer="simmim", config={"arch": "slim_swin", "channels": 1})
    classifier = classification.build(setup_of(Classifier(arch="slim_swin", px=64), data=data, parents={"init": parent}))  # type: ignore[arg-type]
    assert classifier.report is not None and "5 relative-position tables, window 2 -> 4" in classifier.report.sentence()


def test_a_network_that_draws_masks_starts_from_its_encoder(tmp_path: Path) -> None:
    from tests.trainers.segmentation import test_segmentation as drawing
    from trainers.segmentation import train as segmentation

    card = load_card("jsrt_lung")
    write_made(tmp_path / "jsrt" / "made", parameters_of(card, patients_train=10, patients_valid=2), card.made["layout"])
    run(train, setup_of(replace(TINY, epochs=1)), tmp_path / "run")
    file = tmp_path / "run" / "epoch-0001.safetensors"
    parent = Parent(files=(file,), trainer="simmim", config={"arch": "slim_swin", "channels": 1})
    setup = drawing.setup_of(tmp_path / "jsrt" / "made", replace(drawing.TINY, arch="slim_swin"), parents={"init": parent})
    drawn = dict(segmentation.build(setup).module.named_parameters())
    learnt = {name.removeprefix("backbone."): value for name, value in load_file(file).items() if name.startswith("backbone.layers.1.")}
    found = {name: next(value for other, value in drawn.items() if other.endswith(name)) for name in learnt}
    assert len(learnt) > 10 and all(torch.equal(found[name], value) for name, value in learnt.items())


# --- refusals -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"arch": "slim"}, r"config\.arch: 'slim' is no Swin and no ViT"),
        ({"batch_size": 49}, r"config\.batch_size: 49 is more than the 48 training images of card 'made': set it to 48 or less"),
        ({"mask_patch": 1}, r"config\.mask_patch: 1 px are no whole tokens of 2 px of 'slim_swin': set a multiple"),
        ({"px": 40, "mask_patch": 8}, r"config\.px: 40 is no multiple of the 16 px that a feature of 'slim_swin' stands for"),
        ({"arch": "slim_vit", "window": 4}, r"config\.window: 'slim_vit' has no windows"),
    ],
)
def test_settings_that_network_or_data_cannot_meet_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Error, match=sentence):
        train.build(setup_of(replace(TINY, **changes)))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"mask_patch": 5}, "mask_patch: squares of 5 px do not tile a view of 32"),
        ({"mask_ratio": 1.0}, "mask_ratio: is 1, which leaves nothing to look at"),
        ({"mask_ratio": 0.0}, "mask_ratio: is 0.0, and must be above 0"),
        ({"mask_ratio": 1.5}, "mask_ratio: is 1.5, and must be between 0 and 1"),
        ({"min_lr": 1.0}, "min_lr: the rate would rise to 1 from lr 0.002"),
        ({"milestones": (3,)}, "milestones: schedule 'cosine' reads none: set schedule: milestones"),
        ({"watch_every_epochs": 3, "save_every_epochs": 2}, "watch_every_epochs: 3 is no multiple"),
    ],
)
def test_settings_that_no_data_can_meet_are_refused_when_planned(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        replace(TINY, **changes)


def test_it_predicts_no_labels() -> None:
    setup = setup_of()
    trainer = train.build(setup)
    assert trainer.validate() is None
    with pytest.raises(Error, match="follow it with a phase"):
        trainer.predict(setup.data.rows("val"))


def test_what_departs_from_the_release_is_what_the_declaration_says() -> None:
    config = Config()
    for name, (theirs, ours, why) in declaration.DEPARTURES.items():
        assert getattr(config, name) == ours, name
        assert theirs != ours and why
    assert all(hasattr(config, name) for name in declaration.SAMPLE)
    assert set(declaration.PRESETS) == {"paper", "release", "recommended"} and not declaration.LABELS
    assert all(hasattr(config, key) for key in declaration.MONITORS.values())
