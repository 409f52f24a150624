"""AG-CNN: stages hand on what they should and leave alone what they should; it goes on exactly, and learns made lesions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from jobs.catalog import declaration_of
from tests.trainers.ag_cnn.made_lesions import TINY, handed_on, made_lesions, parents_of, setup_of
from tests.trainers.made_host import run
from trainers.ag_cnn import train
from trainers.ag_cnn.config import PRESETS, Config
from trainers.api import Parent, Trainer
from trainers.errors import Error, WeightsError
from trainers.weights import fingerprint

ATTENTION = {"statistic": "l2", "threshold": 0.5}


def built(folder: Path, branch: Any, **changes: Any) -> train.AgCnnTraining:
    """Build a stage with the parents that it needs."""
    found = parents_of(folder, replace(TINY, px=changes.get("px", TINY.px)), **ATTENTION)
    roles = {"global": (), "local": ("global",), "fusion": ("global", "local"), "joint": ()}[branch]
    return train.build(setup_of(replace(TINY, branch=branch, **changes), parents={role: found[role] for role in roles}, seed=2))


@pytest.mark.parametrize("branch", ["global", "local", "fusion", "joint"])
def test_a_stopped_run_goes_on_to_the_same_bytes(tmp_path: Path, branch: Any) -> None:
    found = parents_of(tmp_path)
    parents = {role: found[role] for role in {"local": ["global"], "fusion": ["global", "local"]}.get(branch, [])}
    setup = setup_of(replace(TINY, branch=branch), parents=parents)
    whole, _, method = run(train, setup, tmp_path / "whole")
    assert isinstance(method, Trainer) and method.steps_per_epoch >= 3
    _, outcome, _ = run(train, setup, tmp_path / "cut", stop_after=4)
    assert not outcome.finished
    resumed, _, _ = run(train, setup, tmp_path / "cut")
    assert resumed.digests["epoch-0002"] == whole.digests["epoch-0002"]


@pytest.mark.parametrize("freeze", ["all", "gradients"])
def test_frozen_branches_stay_to_the_bit(tmp_path: Path, freeze: Any) -> None:
    found = parents_of(tmp_path)
    for branch, kept in (("local", ["global"]), ("fusion", ["global", "local"])):
        parents = {role: found[role] for role in kept}
        config: Any = replace(TINY, branch=branch, freeze=freeze, weight_decay=0.5)
        before = train.build(setup_of(config, parents=parents)).module
        _, _, method = run(train, setup_of(config, parents=parents), tmp_path / f"{branch}-{freeze}")
        for name in kept:
            for (key, old), (_, new) in zip(
                before.branch(name).state_dict().items(), method.module.branch(name).state_dict().items(), strict=True
            ):
                moves = freeze == "gradients" and key.endswith(("running_mean", "running_var", "num_batches_tracked"))
                assert torch.equal(old, new) is not moves, (branch, key)
        own = method.module.parts[-1]
        assert fingerprint(before.get_submodule(own)) != fingerprint(method.module.get_submodule(own))


def test_a_branch_that_moves_while_it_should_not_is_found_out(tmp_path: Path) -> None:
    method = built(tmp_path, "local")
    method.after_epoch(0)
    with torch.no_grad():
        method.module.branch("global").head.bias.add_(1)
    with pytest.raises(RuntimeError, match="a frozen branch changed"):
        method.after_epoch(1)


def gradients(method: train.AgCnnTraining) -> dict[str, bool]:
    """Return by part whether a gradient reaches it."""
    method.module.zero_grad(set_to_none=True)
    method.module.train()
    method.loss(next(iter(method.batches(0))))["loss"].backward()
    parts = {name: method.module.get_submodule(name) for name in method.module.parts}
    return {name: any(p.grad is not None and bool(p.grad.any()) for p in part.parameters()) for name, part in parts.items()}


def test_each_loss_reaches_its_own_part(tmp_path: Path) -> None:
    released = {"fusion_gradients": False}
    joint = built(tmp_path, "joint", **released)
    assert gradients(joint) == {"global": True, "local": True, "fusion": True}
    # The three losses by themselves, whatever their weights: none reaches another part.
    for name, reached in (("global", ["global"]), ("local", ["local"]), ("fusion", ["fusion"])):
        joint.module.zero_grad(set_to_none=True)
        batch = next(iter(joint.batches(0)))
        functional.binary_cross_entropy_with_logits(joint.module(batch["views"]).logits[name], batch["targets"]).backward()
        parts = {part for part, _, p in _named(joint.module) if p.grad is not None and bool(p.grad.any())}
        assert parts == set(reached)
    # Where the fusion's loss goes through, it reaches both branches, and never the global one through a patch.
    whole = built(tmp_path, "joint", loss_weights=(0.0, 0.0, 1.0))
    assert gradients(whole) == {"global": True, "local": True, "fusion": True}
    assert not any(p.requires_grad for name in ("global", "local") for p in whole.module.branch(name).head.parameters())
    assert gradients(built(tmp_path, "local")) == {"global": False, "local": True}
    assert gradients(built(tmp_path, "fusion")) == {"global": False, "local": False, "fusion": True}
    assert gradients(built(tmp_path, "fusion", freeze="nothing")) == {"global": True, "local": True, "fusion": True}


def _named(module: nn.Module) -> list[tuple[str, str, nn.Parameter]]:
    return [(name.partition(".")[0], name, p) for name, p in module.named_parameters()]


def test_the_joint_loss_is_the_weighted_sum(tmp_path: Path) -> None:
    method = built(tmp_path, "joint", loss_weights=(0.8, 0.1, 0.1))
    batch = next(iter(method.batches(0)))
    method.module.eval()
    with torch.no_grad():
        found, logits = method.loss(batch), method.module(batch["views"]).logits
    each = {name: functional.binary_cross_entropy_with_logits(logits[name], batch["targets"]) for name in logits}
    assert float(found["loss"]) == pytest.approx(0.8 * float(each["global"]) + 0.1 * float(each["local"]) + 0.1 * float(each["fusion"]))
    assert {name for name in found if name.startswith("loss_")} == {"loss_global", "loss_local", "loss_fusion"}


def test_a_fusion_looks_where_its_local_branch_does_and_says_so(tmp_path: Path) -> None:
    method = built(tmp_path, "fusion", px=64)
    assert method.facts()["attention"]["statistic"] == "l2" and method.facts()["attention"]["threshold"] == 0.5
    # Who predicts has the weights and the config of the fusion, whose own values are other ones.
    reader = train.build(setup_of(method.config, predict_only=True, data=method.setup.data))
    reader.module.load_state_dict(method.module.state_dict())
    rows = method.setup.data.rows("test")
    np.testing.assert_array_equal(reader.predict(rows).logits, method.predict(rows).logits)
    assert reader.module.how == method.module.how != train.build(setup_of(TINY)).module.how


def test_the_parts_of_a_fusion_are_the_parents_own(tmp_path: Path) -> None:
    found = parents_of(tmp_path)
    both = train.build(setup_of(replace(TINY, branch="fusion"), parents=found, seed=5))
    alone = train.build(setup_of(replace(TINY, branch="fusion"), parents={"local": found["local"]}, seed=5))
    assert fingerprint(both.module) == fingerprint(alone.module)
    first = train.build(setup_of(replace(TINY, branch="global")))
    assert fingerprint(both.module.branch("global")) == fingerprint(first.module.branch("global"))
    second = train.build(setup_of(replace(TINY, branch="local", local_init="global"), parents={"global": found["global"]}, seed=9))
    assert fingerprint(second.module.branch("local")) == fingerprint(second.module.branch("global"))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "changes",
    [
        {"patch_px": 64},
        {"boxes": "per_class", "statistic": "sum"},
        {"no_finding": True, "pooling": "lse"},
        {"contrast": "clahe"},
        {"thresholding": "otsu"},
    ],
)
def test_every_way_predicts_rows_in_their_order(tmp_path: Path, channels: Any, changes: Any) -> None:
    method = train.build(setup_of(replace(TINY, branch="joint", channels=channels, **changes)))
    rows = method.setup.data.rows("test")
    forwards, backwards = method.predict(rows), method.predict(rows.take(np.arange(len(rows))[::-1]))
    assert forwards.logits.shape == (len(rows), 2) and method.module.training
    np.testing.assert_allclose(forwards.logits, backwards.logits[::-1], atol=2e-3)
    assert gradients(method) == {"global": True, "local": True, "fusion": True}


def test_a_box_for_each_label_gives_it_a_patch_of_its_own() -> None:
    method = train.build(setup_of(replace(TINY, branch="joint", boxes="per_class")))
    method.module.eval()
    with torch.no_grad():
        head = method.module.branch("global").head
        head.weight[1].copy_(-head.weight[0])
        views = next(iter(method.batches(0)))["views"]
        seen = method.module(views)
        assert seen.patches is not None and seen.patches.shape[:2] == (8, 2)
        # The logit of a label is what its own patch makes it, whatever the patch of the other.
        _, vectors = method.module.branch("local")(method.module._normalize(seen.patches[:, 1]))
        local = method.module.branch("local").head
        torch.testing.assert_close(seen.logits["local"][:, 1], vectors @ local.weight[1] + local.bias[1], rtol=1e-4, atol=1e-4)


def test_a_finer_view_shows_the_same_image() -> None:
    data = made_lesions()
    coarse, fine = (train.build(setup_of(replace(TINY, patch_px=side, augment="cxr_plus"), data=data)) for side in (0, 64))
    views = [next(iter(method.batches(0)))["views"].float() for method in (coarse, fine)]
    assert views[1].shape[2] == 64
    small = functional.avg_pool2d(views[1], 2)
    # Drawn twice from stores of two sizes they are near; the image of the finer one is its mean to the last digit, by design.
    assert float((small - views[0]).abs().mean()) < 12


def test_no_finding_is_learnt_and_not_scored() -> None:
    targets = np.array([[0, 0], [1, 0], [np.nan, 0], [np.nan, 1]], np.float32)
    np.testing.assert_array_equal(train.with_no_finding(targets)[:, 2], [1, 0, np.nan, 0])
    method = train.build(setup_of(replace(TINY, no_finding=True)))
    assert method.module.branch("global").head.out_features == 3
    assert method.predict(method.setup.data.rows("val")).labels == ("signal", "noise")


def test_stages_learn_made_lesions(tmp_path: Path) -> None:
    data = made_lesions(n=160, sizes=(96, 32))
    config = replace(TINY, epochs=8, lr=3e-3, batch_size=16, local_init="global")
    _, first, stage = run(train, setup_of(config, data=data), tmp_path / "g")
    parents: dict[str, Parent] = {"global": handed_on(stage, tmp_path, "g")}
    _, second, stage = run(train, setup_of(replace(config, branch="local"), data=data, parents=parents), tmp_path / "l")
    parents["local"] = handed_on(stage, tmp_path, "l")
    _, third, _ = run(train, setup_of(replace(config, branch="fusion"), data=data, parents=parents), tmp_path / "f")
    for outcome in (first, second, third):
        assert outcome.metrics["val/auroc/signal"] > 0.8, [one.metrics for one in (first, second, third)]


def test_the_released_schedule_moves_the_fusion_alone(tmp_path: Path) -> None:
    method = train.build(
        setup_of(
            replace(
                TINY,
                branch="joint",
                schedule="milestones",
                milestones=(15, 30, 45),
                scheduled="fusion",
                lr=1e-8,
                fusion_lr_factor=1e5,
                epochs=50,
            )
        )
    )
    optimizer = method.optimizer()
    fusion = {id(p) for p in method.module.get_submodule("fusion").parameters()}
    seen: dict[int, tuple[float, float]] = {}
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    for epoch in (0, 14, 15, 30, 45, 49):
        step = epoch * method.steps_per_epoch
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * method.learning_rate_factor(step)
        method.before_step(step)
        rates = {id(p) in fusion: group["lr"] for group in optimizer.param_groups for p in group["params"]}
        seen[epoch] = (rates[True], rates[False])
    wanted = {0: 1e-3, 14: 1e-3, 15: 1e-4, 30: 1e-5, 45: 1e-6, 49: 1e-6}
    assert {epoch: pytest.approx((rate, 1e-8)) for epoch, rate in wanted.items()} == seen


def test_pictures_show_the_first_images(tmp_path: Path) -> None:
    method = built(tmp_path, "local", px=64, pictures_every_epochs=1)
    found = method.pictures(1)
    assert list(found) == ["val-1", "val-2", "val-3", "val-4"] == list(method.captions)
    assert all(one.dtype == np.uint8 and one.shape == (320, 960, 3) for one in found.values())
    assert built(tmp_path, "global").pictures(1)["val-1"].shape == (320, 640, 3)
    assert all(np.array_equal(one, method.pictures(2)[name]) for name, one in found.items())
    method.overlays(method.setup.data.rows("test").take(np.arange(2)))


# --- refusals -----------------------------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_in_a_sentence(tmp_path: Path) -> None:
    found = parents_of(tmp_path)
    other = handed_on(train.build(setup_of(TINY, seed=77)), tmp_path, "other")
    moco = Parent(files=found["global"].files, trainer="moco_cxr", config={})
    several = Parent(files=found["global"].files * 2, trainer="ag_cnn", config=found["global"].config)
    cases: list[tuple[dict[str, Any], dict[str, Parent], str]] = [
        ({"branch": "local"}, {}, r"write `after: \{global: <its phase>\}`"),
        ({"branch": "fusion"}, {"global": found["global"]}, r"write `after: \{global: <its phase>, local: <its phase>\}`"),
        ({"branch": "global"}, found, "takes no parent 'global'"),
        ({"branch": "local", "px": 64}, {"global": found["global"]}, "config.px: the parent 'global' has 32, this job 64: set px: 32"),
        ({"branch": "local", "pooling": "avg"}, {"global": found["global"]}, "set pooling: max"),
        ({"branch": "fusion", "patch_px": 64}, found, "config.patch_px: the parent 'local' has 0"),
        ({"branch": "fusion"}, {**found, "global": other}, "was trained on another global branch"),
        ({"branch": "local"}, {"global": moco}, "is a phase of moco_cxr"),
        ({"branch": "local"}, {"global": several}, "hands on 2 checkpoints"),
        ({"branch": "fusion"}, {"local": found["global"]}, "has no local branch: its branch is global"),
    ]  # fmt: skip
    for changes, parents, words in cases:
        with pytest.raises((Error, WeightsError), match=words):
            train.build(setup_of(replace(TINY, **changes), parents=parents))
    with pytest.raises(Error, match="'slim_vit' ends in tokens, and a heat map needs feature maps"):
        train.build(setup_of(replace(TINY, arch="slim_vit")))
    with pytest.raises(Error, match="'slim_swin' ends in tokens"):
        train.build(setup_of(replace(TINY, arch="slim_swin", px=64)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patch_px": 50}, "patch_px: 50 is no multiple of px"),
        ({"threshold": 1.5}, "threshold: is 1.5, and must be between 0 and 1"),
        ({"schedule": "milestones"}, "milestones: the schedule"),
        ({"patch": "wrapped_mosaic"}, "set channels: 3"),
        ({"branch": "local", "freeze": "nothing"}, "freeze: a patch hands no gradient back"),
        ({"loss_weights": (0.0, 0.0, 0.0)}, "loss_weights:"),
        ({"branch": "joint", "fusion_gradients": False, "loss_weights": (0.0, 1.0, 1.0)}, "give both a weight above 0"),
    ],
)
def test_a_config_that_means_nothing_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(TINY, **changes)


def test_presets_are_configs() -> None:
    declared = declaration_of("trainers.ag_cnn")
    for name in PRESETS:
        config: Config = declared.configured({key: value for key, (value, _) in PRESETS[name].items()})
        assert name == "release" or config.branch == "global"
    assert declared.roles == ("init", "global", "local")
