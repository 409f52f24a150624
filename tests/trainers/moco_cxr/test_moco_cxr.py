"""Momentum contrast: the step in the paper's order, keys that do not leak, and a run that learns, resumes and repeats."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.trainers.made_data import made_access
from tests.trainers.made_host import run
from trainers.api import Setup, Trainer
from trainers.errors import Collapsed, Error
from trainers.moco_cxr import config as declaration
from trainers.moco_cxr import train
from trainers.moco_cxr.config import Config
from trainers.parts.batchnorm import group_batchnorm
from trainers.weights import fingerprint

TINY = Config(
    arch="slim",
    px=32,
    epochs=6,
    batch_size=16,
    queue_size=32,
    optimizer="adamw",
    lr=1e-3,
    weight_decay=0.05,
    decay_norms=False,
    schedule="cosine",
    momentum=0.99,
    augment="cxr_plus",
)


def _setup(config: Config = TINY, *, seed: int = 0, images: int = 96) -> Setup:
    return Setup(config=config, seed=seed, data=made_access(n=images + 4, sizes=(images, 4)), device=torch.device("cpu"))


def _ready(config: Config = TINY, **others: Any) -> train.MomentumContrast:
    """Return the method as the loop has it before its first step."""
    trainer = train.build(_setup(config, **others))
    trainer.module.train()
    trainer.optimizer()
    return trainer


def test_it_learns_to_tell_images_apart(tmp_path: Path) -> None:
    host, outcome, trainer = run(train, _setup(), tmp_path)
    assert outcome.finished and isinstance(trainer, Trainer)
    losses, accuracy = host.values("epoch/loss"), host.values("epoch/queue_accuracy")
    assert losses[-1] < losses[0] < math.log(33)
    assert accuracy[-1] > 3 / 33


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    config = replace(TINY, epochs=2)
    digests = [run(train, _setup(config, seed=seed), tmp_path / name)[0].digests for seed, name in ((1, "a"), (1, "b"), (2, "c"))]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_stopped_run_goes_on_to_the_same_bytes(tmp_path: Path, precision: Any) -> None:
    config = replace(TINY, epochs=2, precision=precision)
    whole, _, _ = run(train, _setup(config), tmp_path / "whole")
    _, outcome, _ = run(train, _setup(config), tmp_path / "cut", stop_after=5)
    assert not outcome.finished and outcome.step == 5
    resumed, outcome, trainer = run(train, _setup(config), tmp_path / "cut")
    assert outcome.finished
    assert resumed.digests["epoch-0002"] == whole.digests["epoch-0002"]
    assert resumed.values("epoch/queue_accuracy")[-1] == whole.values("epoch/queue_accuracy")[-1]
    assert trainer.queue.keys.dtype == torch.float32


def test_a_step_takes_the_queue_before_it_and_the_slow_copy_after_its_move() -> None:
    trainer = _ready(replace(TINY, key_bn_groups=1, drop_path=0.0))
    batch = next(iter(trainer.batches(0)))
    trainer.before_step(0)
    with torch.no_grad():
        for parameter in trainer.module.parameters():
            parameter.add_(0.01)
    slow = [p.clone() for p in trainer.key_encoder.parameters()]
    trainer.before_step(1)
    for old, new, fast in zip(slow, trainer.key_encoder.parameters(), trainer.module.parameters(), strict=True):
        assert torch.allclose(new, 0.99 * old + 0.01 * fast, atol=1e-7)
    queue = trainer.queue.keys.clone()
    with torch.no_grad():
        found = trainer.loss(batch)["loss"]
        assert torch.equal(trainer.queue.keys, queue)
        # The naive way: encode again, normalise, compare with every key.
        query, key = trainer.module(batch["query"]), trainer.key_encoder(batch["key"])
    logits = torch.cat([(query * key).sum(1, keepdim=True), query @ queue.T], dim=1) / 0.2
    assert found.item() == pytest.approx(functional.cross_entropy(logits, torch.zeros(16, dtype=torch.long)).item(), abs=1e-5)
    pointer = trainer.queue.pointer
    trainer.after_step(1)
    assert trainer.queue.pointer == (pointer + 16) % 32
    assert torch.allclose(trainer.queue.ordered()[-16:], key, atol=1e-5)


def test_query_and_key_start_equal_and_only_the_query_is_handed_on() -> None:
    trainer = _ready()
    assert fingerprint(trainer.key_encoder) == fingerprint(trainer.module)
    assert {name.split(".")[0] for name in trainer.module.state_dict()} == {"backbone", "head"}
    assert not any(p.requires_grad for p in trainer.key_encoder.parameters())


def test_the_queue_holds_keys_of_images_before_the_first_step_whatever_divides() -> None:
    for size in (32, 40):
        trainer = _ready(replace(TINY, queue_size=size))
        assert not trainer.queue.is_full
        trainer.before_step(0)
        assert trainer.queue.is_full
        keys = trainer.queue.keys
        assert torch.allclose(keys.norm(dim=1), torch.ones(size), atol=1e-5)
        # Keys of images of one kind lie together; random directions in 128 dimensions do not.
        assert (keys @ keys.T).mean() > 0.2


def test_a_random_queue_is_there_for_the_release() -> None:
    trainer = _ready(replace(TINY, queue_init="random"))
    assert trainer.queue.is_full
    assert (trainer.queue.keys @ trainer.queue.keys.T).mean().item() == pytest.approx(1 / 32, abs=0.02)


def test_keys_keep_their_order_and_come_from_sub_batches() -> None:
    views = next(iter(_ready().batches(0)))["key"]
    seen: list[list[int]] = []

    class Spy(torch.nn.Module):
        def forward(self, some: torch.Tensor) -> torch.Tensor:
            seen.append([int(value) for value in some.flatten(1).long().sum(1)])
            return some.flatten(1).double().sum(1, keepdim=True) + 0 * len(seen)

    sums = views.flatten(1).long().sum(1).tolist()
    for groups, sizes in ((1, [16]), (2, [8, 8]), (3, [6, 5, 5])):
        trainer = _ready(replace(TINY, key_bn_groups=groups))
        trainer.key_encoder = Spy()
        seen.clear()
        assert trainer._encode_keys(views, 3, 0)[:, 0].tolist() == sums
        assert [len(part) for part in seen] == sizes
        assert sorted(value for part in seen for value in part) == sorted(sums)
        first = [list(part) for part in seen]
        seen.clear()
        trainer._encode_keys(views, 3, 0)
        assert seen == first
        seen.clear()
        trainer._encode_keys(views, 4, 0)
        assert (seen == first) == (groups == 1)


def test_split_statistics_differ_from_the_querys_and_whole_ones_do_not() -> None:
    """The leak in the statistic: with one group the key encoder normalises over the very images that the query encoder does."""
    means: dict[int, list[torch.Tensor]] = {}
    for groups in (1, 2):
        trainer = _ready(replace(TINY, key_bn_groups=groups))
        found: list[torch.Tensor] = []
        stem = trainer.key_encoder.get_submodule("backbone.bn1")
        stem.register_forward_pre_hook(lambda _, inputs, found=found: found.append(inputs[0].mean((0, 2, 3)).detach()))
        trainer._encode_keys(next(iter(trainer.batches(0)))["query"], 0, 0)
        means[groups] = found
    query = _ready()
    whole: list[torch.Tensor] = []
    query.module.get_submodule("backbone.bn1").register_forward_pre_hook(lambda _, inputs: whole.append(inputs[0].mean((0, 2, 3)).detach()))
    query.module(next(iter(query.batches(0)))["query"])
    assert torch.allclose(means[1][0], whole[0], atol=1e-5)
    assert len(means[2]) == 2
    assert all((part - whole[0]).abs().max() > 1e-2 for part in means[2])


def test_micro_batches_of_whole_groups_see_the_same_keys_and_loss() -> None:
    config = replace(TINY, bn_images=8, key_bn_groups=2)
    whole, parts = _ready(config), _ready(config)
    for trainer in (whole, parts):
        # What the loop does with bn_images before it asks for the optimizer, which copies the encoder.
        group_batchnorm(trainer.module, 8)
        group_batchnorm(trainer.key_encoder, 8)
        trainer.before_step(0)
    batch = next(iter(whole.batches(0)))
    with torch.no_grad():
        one = whole.loss(batch)["loss"]
        two = [parts.loss({name: value[start : start + 8] for name, value in batch.items()})["loss"] for start in (0, 8)]
    whole.after_step(0)
    parts.after_step(0)
    assert torch.stack(two).mean().item() == pytest.approx(one.item(), abs=1e-5)
    assert torch.allclose(whole.queue.keys, parts.queue.keys, atol=1e-5)


def test_views_differ_between_query_key_and_epoch_and_cover_the_images() -> None:
    trainer = _ready()
    batches = [list(trainer.batches(epoch)) for epoch in (0, 0, 1)]
    assert len(batches[0]) == trainer.steps_per_epoch == 6
    assert all(torch.equal(a[name], b[name]) for a, b in zip(batches[0], batches[1], strict=True) for name in a)
    assert not torch.equal(batches[0][0]["query"], batches[0][0]["key"])
    assert not torch.equal(batches[0][0]["query"], batches[2][0]["query"])
    late = list(trainer.batches(0, start=4))
    assert torch.equal(late[0]["query"], batches[0][4]["query"])
    order = trainer._order(train._ORDER, 0)
    assert sorted(order.tolist()) == list(range(96))


def test_scrambled_images_are_other_images_of_the_same_brightness() -> None:
    real, scrambled = _ready(), _ready(replace(TINY, images="scrambled"))
    one, other = real.store.image(5).astype(float), scrambled.store.image(5).astype(float)
    assert other.mean() == pytest.approx(one.mean(), abs=4)
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.5
    with torch.no_grad():
        for trainer in (real, scrambled):
            trainer.before_step(0)
            assert torch.isfinite(trainer.loss(next(iter(trainer.batches(0))))["loss"])


@pytest.mark.parametrize(("loss", "accuracy", "collapsed"), [(math.log(513), 0.0, True), (math.log(513), 0.01, False), (5.9, 0.0, False)])
def test_the_guard_wants_both_chance_accuracy_and_chance_loss(loss: float, accuracy: float, collapsed: bool) -> None:
    if collapsed:
        with pytest.raises(Collapsed, match=r"loss 6.240 against ln\(K \+ 1\) = 6.240.*lower lr"):
            train.raise_if_collapsed(loss, accuracy, 512)
    else:
        train.raise_if_collapsed(loss, accuracy, 512)


def test_a_collapsed_run_ends_as_collapsed_unless_the_guard_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def constant(self: train.Encoder, views: torch.Tensor) -> torch.Tensor:
        features = self.backbone(self._normalize(views)) * 0 + 1
        return functional.normalize(features @ torch.ones(192, 128) + 0 * self.head(features), dim=1)

    monkeypatch.setattr(train.Encoder, "forward", constant)
    with pytest.raises(Collapsed):
        run(train, _setup(), tmp_path / "on")
    assert run(train, _setup(replace(TINY, epochs=1, collapse_guard=False)), tmp_path / "off")[1].finished


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batch_size": 97, "queue_size": 97}, "config.batch_size: 97 is more than the 96 training images"),
        ({"queue_size": 97}, r"config.queue_size: 97 keys are more than the 96 training images of card 'made'.*set it to 24"),
    ],
)
def test_settings_that_the_data_cannot_meet_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Error, match=sentence):
        train.build(_setup(replace(TINY, **changes)))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"queue_size": 8}, "queue_size: 8 cannot take a batch of 16 keys; set it to 16 or more"),
        ({"key_bn_groups": 9}, "key_bn_groups: 9 sub-batches of 16 images leave BatchNorm less than 2 each"),
        ({"bn_images": 4, "key_bn_groups": 4}, "key_bn_groups: 4 sub-batches of 4 images"),
        ({"key_bn_groups": 0}, "key_bn_groups: is 0, and must be 1 or more"),
        ({"temperature": 0.0}, "temperature: is 0.0, and must be above 0"),
        ({"momentum": 1.5}, "momentum: is 1.5, and must be between 0 and 1"),
    ],
)
def test_settings_that_no_data_can_meet_are_refused_when_planned(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        replace(TINY, **changes)


def test_it_predicts_no_labels() -> None:
    setup = _setup()
    trainer = train.build(setup)
    assert trainer.validate() is None
    with pytest.raises(Error, match="follow it with a phase"):
        trainer.predict(setup.data.rows("val"))


def test_the_momentum_and_the_rate_follow_their_schedules() -> None:
    trainer = _ready(replace(TINY, momentum=0.9, momentum_end=1.0, schedule="milestones", milestones=(2, 4)))
    total = 36
    assert trainer._momentum() == pytest.approx(0.9)
    trainer._step = total // 2
    assert trainer._momentum() == pytest.approx(0.95)
    assert [trainer.learning_rate_factor(step) for step in (0, 11, 12, 23, 24)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    cosine = _ready(replace(TINY, warmup=0.5))
    assert cosine.learning_rate_factor(0) == pytest.approx(1 / 18)
    assert cosine.learning_rate_factor(18) == 1.0


def test_what_departs_from_the_release_is_what_the_declaration_says() -> None:
    config = Config()
    for name, (theirs, ours, why) in declaration.DEPARTURES.items():
        assert getattr(config, name) == ours, name
        assert theirs != ours and why
    assert all(hasattr(config, name) for name in declaration.SAMPLE)
    assert not declaration.LABELS
