"""Ark: schedules, the teacher's way, losses and orders held against naive loops; what it refuses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.trainers.ark.made_sources import CARDS, TINY, setup_of, source
from tests.trainers.made_host import MemoryHost
from trainers.api import Outcome, Setup
from trainers.ark import config as declaration
from trainers.ark import train
from trainers.ark.config import PRESETS, Config
from trainers.ark.material import Material
from trainers.ark.network import Network, head, projector
from trainers.ark.train import coupled, supervised
from trainers.devices import part_of
from trainers.errors import DataError, Error
from trainers.loop import fit, prepare
from trainers.parts import backbones, ema
from trainers.parts.inputs import Normalizer
from trainers.parts.losses import masked_bce
from trainers.parts.metrics import measure
from trainers.sources import measured_by_source
from trainers.weights import fingerprint


def run(setup: Setup, folder: Path, *, stop_after: int | None = None) -> tuple[MemoryHost, Outcome, train.Ark]:
    """Train through the loop, each source measured by itself."""
    folder.mkdir(exist_ok=True)
    host = MemoryHost(folder, stop_after)
    prepare(setup.seed, 1, torch.device("cpu"))
    method: Any = train.build(setup)

    def each(scores: Any) -> Mapping[str, float]:
        return measured_by_source(lambda card, one: measure(one, policies=setup.data.policies), scores)

    return host, fit(method, setup.config, host, device=setup.device, measure=each), method


def ready(config: Config = TINY, *cards: str, **more: Any) -> train.Ark:
    """Return the method as the loop has it before its first step."""
    method = train.build(setup_of(config, *cards, **more))
    method.module.train()
    method.optimizer()
    return method


# --- schedules ---------------------------------------------------------------------------------------------------------------------------

AT = (0, 1, 5, 6, 60, 300, 600, 900, 1199)
MOMENTA = (0.9, 0.90000017, 0.90000428, 0.90000617, 0.90061558, 0.91464466, 0.95, 0.98535534, 0.99999983)
WEIGHTS = (0, 8.6e-7, 2.142e-5, 3.084e-5, 0.00307791, 0.0732233, 0.25, 0.4267767, 0.49999914)


def test_momentum_and_weight_are_those_of_200_cycles_over_six_sources() -> None:
    for step, momentum, weight in zip(AT, MOMENTA, WEIGHTS, strict=True):
        found = coupled(step, 1200, 0.9, 0.5)
        assert found == (pytest.approx(momentum, abs=5e-9), pytest.approx(weight, abs=5e-9))
        assert found[1] == pytest.approx(5 * (found[0] - 0.9), abs=1e-12)


def test_what_is_left_of_a_teacher_that_starts_on_its_own() -> None:
    slow, fast = nn.Linear(1, 1, bias=False).double(), nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(slow.weight)
    nn.init.zeros_(fast.weight)
    left = []
    for step in range(120):
        ema.update(slow, fast, coupled(step, 1200, 0.9, 0.5)[0])
        left.append(float(slow.weight.detach()))
    assert [left[5], left[59], left[119]] == [
        pytest.approx(0.5314466, abs=5e-8),
        pytest.approx(0.0018212, abs=5e-8),
        pytest.approx(3.596e-6, abs=5e-10),
    ]


@pytest.mark.parametrize(("loss", "lr"), [(0.1, 0.001500995), (0.16, 0.002400992), (0.3, 0.004500985), (0.69, 0.0103509655)])
def test_the_released_rate_is_a_function_of_the_students_validation_loss(loss: float, lr: float) -> None:
    released = {key: value for key, (value, _) in PRESETS["release"].items()}
    method = ready(replace(Config(**released), arch="slim", px=32, crop_pct=1.0, test_views="centre", drop_path=0.0))
    assert 0.3 * method.learning_rate_factor(0) == pytest.approx(1e-6)
    method.validated({"val/mean_loss": 9.0, "val/student/mean_loss": loss})
    assert 0.3 * method.learning_rate_factor(method.steps_per_epoch) == pytest.approx(lr, rel=1e-8)
    restored = ready(method.config)
    restored.load_state_dict(method.state_dict())
    assert restored.learning_rate_factor(5) == method.learning_rate_factor(5)


def test_the_sane_rate_rises_over_cycles_and_falls_to_nothing() -> None:
    method = ready(replace(TINY, warmup=0.25, epochs=4))
    steps = method.steps_per_epoch
    assert method.learning_rate_factor(0) == pytest.approx(1 / steps)
    assert method.learning_rate_factor(steps) == 1.0
    assert method.learning_rate_factor(4 * steps) == pytest.approx(0.0, abs=1e-12)


# --- networks ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "published"), [("linear", 89_250_228), ("mlp", 91_144_980)])
def test_the_network_of_ark_6_has_the_published_number_of_parameters(kind: str, published: int) -> None:
    with torch.device("meta"):
        backbone = backbones.build("swin_base_patch4_window7_224", 3, 224)
        heads = {str(index): head(1376, labels, seed=index) for index, labels in enumerate((14, 14, 14, 3, 6, 1))}
        network = Network(backbone, projector(1024, 1376, kind=kind, seed=0), heads, Normalizer("imagenet", 3))
    unused = 1000 * (1024 + 1)  # The classifier of ImageNet, which the release carries along.
    assert sum(parameter.numel() for parameter in network.parameters()) == published - unused
    assert {name.split(".")[0] for name in network.state_dict()} == {"backbone", "projector", "heads"}


def test_a_teacher_starts_as_a_copy_or_with_a_projector_and_heads_of_its_own() -> None:
    copied, own = ready(), ready(replace(TINY, teacher_start="independent"))
    assert fingerprint(copied.teacher) == fingerprint(copied.module)
    assert not any(parameter.requires_grad for parameter in copied.teacher.parameters())
    student, teacher = own.module.state_dict(), own.teacher.state_dict()
    assert student.keys() == teacher.keys()
    assert not torch.equal(student["projector.weight"], teacher["projector.weight"])
    assert not torch.equal(student["heads.alpha.weight"], teacher["heads.alpha.weight"])
    assert fingerprint(own.module) == fingerprint(copied.module)


def test_a_source_starts_the_same_whoever_else_is_there() -> None:
    together, alone = ready(TINY, "alpha", "beta"), ready(TINY, "beta")
    assert torch.equal(together.module.heads["beta"].weight, alone.module.heads["beta"].weight)  # type: ignore[arg-type]


def test_the_teacher_is_in_eval_mode_but_in_the_first_cycle_of_the_release() -> None:
    method = ready()
    method.before_step(0)
    assert not method.teacher.training
    method = ready(replace(TINY, teacher_mode="as_published"))
    method.before_step(0)
    assert method.teacher.training and method.teacher.backbone.training
    norms = [part for part in method.teacher.modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms and not any(part.training for part in norms)
    method.before_step(method.steps_per_epoch)
    assert not method.teacher.training


# --- losses ------------------------------------------------------------------------------------------------------------------------------


def test_in_turn_the_loss_is_the_mean_over_known_labels_however_the_batch_is_cut() -> None:
    method = ready(replace(TINY, consistency=0.0, export="student"), "beta")
    method.material.targets[3:9, 1] = np.nan
    batch = next(iter(method.batches(0)))
    step = next(method.material.cycle(0))
    known = torch.from_numpy(method.material.targets[step.images])
    assert int(known.isnan().sum()) > 0
    with torch.no_grad():
        method.module.eval()
        logits = method.module.logits(method.module.embed(batch["student"]), "beta")
        whole = method.loss(batch)["loss"]
        parts = [part_of(batch, start, stop) for start, stop in ((0, 3), (3, 8))]
        cut = sum(method.loss(part)["loss"] * len(part["student"]) / 8 for part in parts)
    assert whole.item() == pytest.approx(masked_bce(logits, known).item(), abs=1e-6)
    assert float(cut) == pytest.approx(whole.item(), abs=1e-6)


def test_mixed_the_loss_is_the_mean_over_images_each_by_its_own_head() -> None:
    method = ready(replace(TINY, mode="concurrent", consistency=0.0, export="student"))
    method.material.targets[1, 0] = np.nan
    assert method.steps_per_epoch == (48 + 24 + 30) // 8
    batch, step = next(iter(method.batches(0))), next(method.material.cycle(0))
    assert len(step.sources) > 1
    method.module.eval()
    with torch.no_grad():
        embedding = method.module.embed(batch["student"])
        found = method.loss(batch)["loss"]
        total = 0.0
        for row, image in enumerate(step.images):
            card = list(CARDS)[method.material.source[image]]
            columns = method.material.columns[method.material.source[image]]
            target = torch.from_numpy(method.material.targets[image, columns])
            logits = method.module.logits(embedding[row : row + 1], card)[0]
            if card == "gamma":
                total += float(functional.cross_entropy(logits[None], target[None]))
            else:
                known = ~target.isnan()
                total += float(functional.binary_cross_entropy_with_logits(logits[known], target[known]))
    assert found.item() == pytest.approx(total / 8, abs=1e-5)


def test_classes_are_one_softmax_or_as_released_three_labels() -> None:
    logits, target = torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    even = torch.full((1, 3), 1 / 3)
    assert supervised(logits, target, even, exclusive=True).item() == pytest.approx(math.log(3))
    assert supervised(logits, target, even, exclusive=False).item() == pytest.approx(math.log(2))
    logits = torch.tensor([[1.0, -2.0, 0.5]])
    by_hand = (math.log1p(math.exp(1.0)) + math.log1p(math.exp(2.0)) + math.log1p(math.exp(0.5))) / 3
    assert supervised(logits, target, even, exclusive=False).item() == pytest.approx(by_hand, abs=1e-6)
    assert ready().outputs.exclusive == (False, False, True)
    assert ready(replace(TINY, loss="bce")).outputs.exclusive == (False, False, False)


def test_the_loss_joins_labels_and_consistency_by_the_weight_of_the_step() -> None:
    method = ready(replace(TINY, teacher_start="independent", ema="step"))
    middle = method.config.epochs * method.steps_per_epoch // 2
    batch = next(iter(method.batches(0)))
    method.before_step(middle)
    method.module.eval()
    with torch.no_grad():
        found = method.loss(batch)
        distance = (method.module.embed(batch["student"]) - method.teacher.embed(batch["teacher"])).square().mean()
    _, weight = coupled(middle, 3 * method.steps_per_epoch, 0.9, 0.5)
    assert found["consistency"].item() == pytest.approx(distance.item(), rel=1e-5)
    joined = (1 - weight) * found["supervised"] + weight * found["consistency"]
    assert found["loss"].item() == pytest.approx(joined.item(), rel=1e-6)
    assert found["consistency_weight"].item() == pytest.approx(weight, abs=1e-7)


# --- orders ------------------------------------------------------------------------------------------------------------------------------


def test_a_cycle_passes_over_every_source_once_in_whole_batches() -> None:
    material = Material(setup_of())
    assert material.steps == (6, 3, 3)
    for epoch in range(3):
        steps = list(material.cycle(epoch))
        assert len(steps) == 12 and all(len(step.images) == 8 and len(step.sources) == 1 for step in steps)
        passed = [step.sources[0] for step in steps]
        assert [source for source, before in zip(passed, [None, *passed], strict=False) if source != before] == material.order(epoch)
        taken = np.concatenate([step.images for step in steps])
        assert len(np.unique(taken)) == len(taken) == 96
        for start in (1, 6, 7, 11):
            tail = list(material.cycle(epoch, start))
            assert [one.images.tolist() for one in tail] == [one.images.tolist() for one in steps[start:]]


def test_the_order_of_sources_is_as_written_or_anew_in_every_cycle() -> None:
    fixed = Material(setup_of(replace(TINY, order="fixed")))
    assert all(fixed.order(epoch) == [0, 1, 2] for epoch in range(5))
    shuffled = Material(setup_of())
    assert len({tuple(shuffled.order(epoch)) for epoch in range(20)}) > 3
    first, second = (np.concatenate([step.images for step in shuffled.cycle(epoch)]) for epoch in (0, 1))
    assert first.tolist() != second.tolist()


def test_a_source_that_is_smaller_than_a_batch_is_one_batch() -> None:
    material = Material(setup_of(replace(TINY, batch_size=40)))
    assert material.steps == (1, 1, 1)
    assert sorted(len(step.images) for step in material.cycle(0)) == [24, 30, 40]


def test_soft_targets_are_one_an_image_and_label_and_a_source_may_have_its_own_policy() -> None:
    opened = (source("alpha", uncertain=True), source("beta", uncertain=True))
    config = replace(TINY, uncertain="lsr_ones", uncertain_of={"beta": "ones"})
    material = Material(setup_of(config, accesses=opened))
    unsure = opened[0].rows("train").labels[:, 1] == -1
    soft = material.targets[:48][unsure, 1]
    assert len(soft) > 4 and len(set(soft.tolist())) == len(soft) and soft.min() >= 0.55 and soft.max() <= 0.85
    again = Material(setup_of(config, accesses=opened, seed=7))
    assert np.array_equal(material.targets, again.targets, equal_nan=True)
    unsure = opened[1].rows("train").labels[:, 1] == -1
    assert unsure.any() and (material.targets[48:][unsure, 3] == 1).all()


# --- the teacher's way -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["pass", "step", "step_as_released"])
def test_the_teacher_follows_as_a_naive_loop_has_it(how: Any) -> None:
    config = replace(TINY, ema=how, epochs=2, order="shuffled")
    prepare(0, 1, torch.device("cpu"))
    method = ready(config)
    optimizer = method.optimizer()
    naive = {name: value.clone().double() for name, value in method.module.state_dict().items()}
    count, total = 0, (2 * 3 if how == "pass" else 2 * 12)
    moved = 0
    # As released: a counter of passes, to which the steps of a pass add while it lasts; the consistency loss reads it at the start.
    begun, inside = 0, 0
    for epoch in range(2):
        ends = np.cumsum([method.material.steps[index] for index in method.material.order(epoch)])
        for index, batch in enumerate(method.batches(epoch)):
            step = epoch * method.steps_per_epoch + index
            before = fingerprint(method.teacher)
            method.before_step(step)
            moved += before != fingerprint(method.teacher)
            optimizer.zero_grad()
            found = method.loss(batch)
            found["loss"].backward()
            optimizer.step()
            method.after_step(step)
            place = begun if how == "step_as_released" else count
            weight = 0.5 - 0.25 * (1 + math.cos(math.pi * place / total))
            assert found["consistency_weight"].item() == pytest.approx(weight, abs=1e-7)
            if how != "pass" or index + 1 in ends:
                place = begun + inside if how == "step_as_released" else count
                momentum = 1 - 0.5 * (1 - 0.9) * (1 + math.cos(math.pi * place / total))
                for name, value in method.module.state_dict().items():
                    if value.is_floating_point():
                        naive[name] = momentum * naive[name] + (1 - momentum) * value.double()
                count += 1
                inside += 1
            if index + 1 in ends:
                begun, inside = begun + 1, 0
        method.after_epoch(epoch)
        # The last of a cycle follows at its end, not before the next step.
    assert count == total and moved == total - 2
    for name, value in method.teacher.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value.double(), naive[name], atol=1e-6), name


# --- refusals ----------------------------------------------------------------------------------------------------------------------------


def test_a_source_that_cannot_be_learnt_from_is_named_before_anything_trains() -> None:
    with pytest.raises(DataError, match="source 'beta' has no validation split"):
        train.build(setup_of(accesses=(source("alpha"), source("beta", val=False))))
    with pytest.raises(DataError, match="source 'beta' has no labels"):
        train.build(setup_of(accesses=(source("alpha"), source("beta", labels=()))))
    with pytest.raises(Error, match=r"config.uncertain_of: there is no source 'alpa'; did you mean 'alpha'\?"):
        train.build(setup_of(replace(TINY, uncertain_of={"alpa": "ones"})))
    with pytest.raises(Error, match="bn_images: 40 is more than the 24 training images of source 'beta'"):
        train.build(setup_of(replace(TINY, bn_images=40)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"teacher_view": "nearest"}, "set student_view: ark"),
        ({"optimizer": "adamw", "nesterov": True}, "nesterov"),
        ({"schedule": "cosine_of_val_loss", "save_every_epochs": 2}, "save_every_epochs: 1"),
        ({"schedule": "cosine_of_val_loss", "validated": "exported"}, "validated: both"),
        ({"warmup": 1.5}, "warmup"),
        ({"uncertain_of": {"alpha": "twos"}}, "uncertain_of.alpha: 'twos' is none of"),
        ({"val_views": "ten_crop"}, "crop_pct: 0.875"),
        ({"consistency": 1.5}, "consistency"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(TINY, **change)


def test_departures_and_presets_are_of_this_config() -> None:
    config = Config()
    for name, (theirs, ours, why) in declaration.DEPARTURES.items():
        assert getattr(config, name) == ours and theirs != ours and why, name
    assert set(PRESETS) == {"paper", "release", "plus", "recommended"}
    for settings in PRESETS.values():
        Config(**{key: value for key, (value, _) in settings.items()})
