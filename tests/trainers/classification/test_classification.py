"""Classification: it learns, a frozen backbone is frozen, and a start is loaded whole or refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.trainers.made_data import made_access
from tests.trainers.made_host import run
from trainers.api import Parent, Setup, Solver, Trainer
from trainers.classification import config as declaration
from trainers.classification import train
from trainers.classification.config import Config
from trainers.data.access import Access
from trainers.errors import Error, WeightsError
from trainers.parts import backbones, labels
from trainers.parts.metrics import measure
from trainers.weights import fingerprint, load_matching, read

TINY = Config(arch="slim", px=32, epochs=8, batch_size=16, lr=2e-3, augment="none")
PROBE = replace(TINY, freeze="backbone")


def _data(**changes: Any) -> Access:
    return made_access(**{"n": 160, "sizes": (96, 48), **changes})


def _setup(config: Config, *, seed: int = 0, **changes: Any) -> Setup:
    return Setup(**{"config": config, "seed": seed, "data": _data(), "device": torch.device("cpu"), **changes})


def _parent(folder: Path, **state: torch.Tensor) -> Parent:
    """Write what a pretraining hands on."""
    backbone = {f"backbone.{name}": value.contiguous() for name, value in backbones.build("slim", 1, 32, seed=77).state_dict().items()}
    save_file({**backbone, "head.0.weight": torch.zeros(3, 3), **state}, folder / "parent.safetensors")
    return Parent(files=(folder / "parent.safetensors",), trainer="moco_cxr", config={"arch": "slim", "channels": 1})


def test_fine_tuning_learns_a_planted_signal_and_not_the_noise(tmp_path: Path) -> None:
    setup = _setup(TINY, data=_data(flaws=True))
    host, outcome, trainer = run(train, setup, tmp_path)
    assert isinstance(trainer, Trainer) and not isinstance(trainer, Solver)
    assert outcome.metrics["val/auroc/signal"] > 0.9
    assert host.values("epoch/loss")[-1] < host.values("epoch/loss")[0]
    assert measure(trainer.predict(setup.data.rows("test")), prefix="test")["test/auroc/signal"] > 0.9


@pytest.mark.parametrize("config", [PROBE, replace(PROBE, solver="sgd", lr=0.05, epochs=10)])
def test_a_linear_classifier_on_random_features_finds_the_signal(tmp_path: Path, config: Config) -> None:
    _, outcome, method = run(train, _setup(config), tmp_path)
    assert isinstance(method, Solver) == (config.solver == "lbfgs")
    assert outcome.metrics["val/auroc/signal"] > 0.7


@pytest.mark.parametrize("config", [TINY, PROBE, replace(PROBE, solver="sgd")])
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, config: Config) -> None:
    short = replace(config, epochs=2)
    first, second, other = (
        run(train, _setup(short, seed=seed), tmp_path / name)[0].digests for seed, name in ((1, "a"), (1, "b"), (2, "c"))
    )
    assert first == second != other


@pytest.mark.parametrize("config", [TINY, replace(TINY, precision="bf16"), replace(PROBE, solver="sgd")])
def test_a_stopped_run_goes_on_to_the_same_bytes(tmp_path: Path, config: Config) -> None:
    config = replace(config, epochs=2, augment="cxr_plus")
    whole, _, _ = run(train, _setup(config), tmp_path / "whole")
    _, outcome, _ = run(train, _setup(config), tmp_path / "cut", stop_after=5)
    assert not outcome.finished
    resumed, _, _ = run(train, _setup(config), tmp_path / "cut")
    assert resumed.digests["epoch-0002"] == whole.digests["epoch-0002"]


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_a_frozen_backbone_keeps_every_byte_batchnorm_included(tmp_path: Path, solver: Any) -> None:
    config = replace(PROBE, solver=solver, epochs=2)
    before = fingerprint(train.build(_setup(config)).module.backbone)
    _, _, method = run(train, _setup(config), tmp_path)
    assert fingerprint(method.module.backbone) == before
    method.module.train()
    assert not any(part.training for part in method.module.backbone.modules())
    assert not any(p.requires_grad for p in method.module.backbone.parameters())


def test_without_freezing_the_running_statistics_move(tmp_path: Path) -> None:
    config = replace(TINY, epochs=1)
    before = train.build(_setup(config)).module.backbone.state_dict()["bn1.running_mean"].clone()
    _, _, method = run(train, _setup(config), tmp_path)
    assert not torch.equal(method.module.backbone.state_dict()["bn1.running_mean"], before)


def test_a_backbone_that_moves_although_frozen_is_our_fault_and_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.Classifier, "train", lambda self, mode=True: torch.nn.Module.train(self, mode))
    with pytest.raises(RuntimeError, match="frozen backbone changed"):
        run(train, _setup(replace(PROBE, solver="sgd", epochs=1)), tmp_path)


def test_with_gradients_off_alone_parameters_stay_and_statistics_drift(tmp_path: Path) -> None:
    config = replace(TINY, freeze="gradients", epochs=2)
    before = train.build(_setup(config)).module.backbone
    host, _, method = run(train, _setup(config), tmp_path)
    assert isinstance(method, train.FineTuning)
    backbone = method.module.backbone
    for (name, old), (_, new) in zip(before.named_parameters(), backbone.named_parameters(), strict=True):
        assert torch.equal(old, new), name
    moved = [name for name, old in before.named_buffers() if not torch.equal(old, backbone.get_buffer(name))]
    assert moved == [name for name, _ in before.named_buffers()]
    assert host.values("epoch/loss")[-1] < host.values("epoch/loss")[0]
    # What is predicted follows the statistics: the same head on the backbone as it was gives other scores.
    rows = _data().rows("val")
    after = method.predict(rows).logits.copy()
    backbone.load_state_dict(before.state_dict())
    assert not np.allclose(after, method.predict(rows).logits)


def test_a_parameter_that_moves_although_its_gradient_is_off_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nudge(self: train.FineTuning, step: int) -> None:
        next(self.module.backbone.parameters()).data.add_(1e-3)

    monkeypatch.setattr(train.FineTuning, "after_step", nudge)
    with pytest.raises(RuntimeError, match="frozen backbone changed"):
        run(train, _setup(replace(TINY, freeze="gradients", epochs=1)), tmp_path)


@pytest.mark.parametrize(("uncertain", "expected"), [("card", np.nan), ("ignore", np.nan), ("ones", 1.0), ("zeros", 0.0)])
def test_uncertain_labels_are_what_the_config_says_and_scores_leave_them_out(uncertain: Any, expected: float) -> None:
    trainer = train.build(_setup(replace(TINY, uncertain=uncertain), data=_data(flaws=True)))
    assert isinstance(trainer, train.FineTuning)
    rows = trainer.setup.data.rows("train")
    plain = train.build(_setup(TINY, data=_data(flaws=True)))
    assert isinstance(plain, train.FineTuning)
    unsure = rows.labels == -1
    assert unsure.any()
    np.testing.assert_array_equal(trainer._targets[unsure], np.full(int(unsure.sum()), expected, np.float32))
    np.testing.assert_array_equal(trainer._targets[~unsure], plain._targets[~unsure])
    measured = labels.measured(rows, trainer.setup, trainer.labels)
    assert np.isnan(measured[unsure]).all()


def test_the_config_comes_before_a_cards_policy_for_one_label() -> None:
    data = _data(flaws=True)
    setup = _setup(replace(TINY, uncertain="zeros"), data=data)
    data.policies |= {"uncertain": "ignore", "uncertain/noise": "ones"}
    rows = data.rows("train")
    learnt = labels.learnt(rows, setup, ("signal", "noise"))
    assert (learnt[rows.labels == -1] == 0).all()
    kept = labels.learnt(rows, replace(setup, config=TINY), ("signal", "noise"))
    assert (kept[rows.labels == -1] == 1).all()


def test_checkpoints_come_by_images_seen(tmp_path: Path) -> None:
    config = replace(TINY, epochs=2, save_every_examples=64)
    host, _, _ = run(train, _setup(config), tmp_path)
    # 96 images are 6 steps of 16 an epoch: looked at after 64 and 128 of 192 images.
    assert list(host.digests) == ["examples-0000000064", "examples-0000000128"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"save_every_examples": 24}, r"save_every_examples: 24 is no multiple of batch_size \(16\)"),
        ({"schedule": "milestones"}, "milestones: the schedule of that name needs"),
    ],
)
def test_what_cannot_be_is_said_when_planned(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(TINY, **changes)


def test_the_rate_falls_to_a_tenth_at_each_milestone() -> None:
    trainer = train.build(_setup(replace(TINY, schedule="milestones", milestones=(2, 5))))
    assert isinstance(trainer, train.FineTuning)
    factors = [trainer.learning_rate_factor(step) for step in range(48)]
    assert factors == pytest.approx([1.0] * 12 + [0.1] * 18 + [0.01] * 18)


def test_a_child_starts_from_its_parents_backbone_strictly(tmp_path: Path) -> None:
    parent = _parent(tmp_path)
    method = train.build(_setup(PROBE, parents={"init": parent}))
    assert fingerprint(method.module.backbone) == fingerprint(backbones.build("slim", 1, 32, seed=77))
    assert method.report is not None
    assert method.report.dropped == ("head.0.weight",)
    with pytest.raises(WeightsError, match=r"unexpected: 1 \(decoder.weight\)"):
        train.build(_setup(PROBE, parents={"init": _parent(tmp_path, **{"decoder.weight": torch.zeros(1)})}))


def test_a_parent_comes_before_the_configs_own_start(tmp_path: Path) -> None:
    method = train.build(_setup(replace(PROBE, init="imagenet"), parents={"init": _parent(tmp_path)}))
    assert fingerprint(method.module.backbone) == fingerprint(backbones.build("slim", 1, 32, seed=77))


@pytest.mark.parametrize(
    ("config", "files", "sentence"),
    [
        (replace(PROBE, arch="resnet18"), 1, "config.arch: the moco_cxr parent has slim, this job resnet18: set arch: slim"),
        (replace(PROBE, channels=3), 1, "config.channels: the moco_cxr parent has 1, this job 3"),
        (PROBE, 2, "the parent hands on 2 checkpoints"),
    ],
)
def test_a_parent_that_does_not_fit_is_refused(tmp_path: Path, config: Config, files: int, sentence: str) -> None:
    parent = _parent(tmp_path)
    parent = Parent(files=parent.files * files, trainer=parent.trainer, config=parent.config)
    with pytest.raises(WeightsError, match=sentence):
        train.build(_setup(config, parents={"init": parent}))


def test_a_file_given_to_the_job_is_its_start(tmp_path: Path) -> None:
    made = backbones.build("slim", 3, 32, seed=9)
    torch.save(made.state_dict(), tmp_path / "w.pth")
    method = train.build(_setup(PROBE, weights={"init": tmp_path / "w.pth"}))
    assert method.report is not None
    assert method.report.adapted == ("conv1.weight 3 -> 1 input channels",)


def test_a_stand_in_is_one_fixed_network_for_every_seed() -> None:
    first, second = (train.build(_setup(replace(PROBE, init="stand_in"), seed=seed)) for seed in (1, 2))
    assert fingerprint(first.module.backbone) == fingerprint(second.module.backbone)
    assert fingerprint(first.module.backbone) != fingerprint(train.build(_setup(PROBE, seed=1)).module.backbone)


@pytest.mark.parametrize("changes", [{"penalties": ()}, {"penalties": (1.0, 0.0)}, {"lr": 0.0}, {"layer_decay": 1.5}, {"epochs": 0}])
def test_settings_that_no_data_can_meet_are_refused_when_planned(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        replace(TINY, **changes)


def test_all_arms_of_a_seed_start_from_the_same_random_weights() -> None:
    tuned, probe = train.build(_setup(TINY, seed=4)), train.build(_setup(PROBE, seed=4))
    assert fingerprint(tuned.module) == fingerprint(probe.module)
    assert fingerprint(tuned.module) != fingerprint(train.build(_setup(TINY, seed=5)).module)


def test_weights_come_back_for_prediction_without_training_rows_or_a_start(tmp_path: Path) -> None:
    setup = _setup(replace(PROBE, init="/no/such/file"), weights={"init": _file(tmp_path)})
    run(train, setup, tmp_path)
    scores = train.build(setup)
    load_matching(scores.module, read(tmp_path / "epoch-0001.safetensors"))
    fresh = _setup(replace(PROBE, init="/no/such/file"), predict_only=True, labels=("signal", "noise"))
    method = train.build(fresh)
    load_matching(method.module, read(tmp_path / "epoch-0001.safetensors"))
    assert np.array_equal(method.predict(fresh.data.rows("test")).logits, scores.predict(setup.data.rows("test")).logits)
    assert set(fresh.data.opened) == {"test"}


def _file(folder: Path) -> Path:
    torch.save(backbones.build("slim", 1, 32, seed=9).state_dict(), folder / "w.pth")
    return folder / "w.pth"


def test_every_row_is_predicted_in_order_whatever_the_batch() -> None:
    setup = _setup(replace(PROBE, batch_size=7))
    method = train.build(setup)
    rows = setup.data.rows("test")
    scores = method.predict(rows)
    assert scores.logits.shape == (len(rows), 2)
    assert scores.logits.dtype == np.float32
    backwards = rows.take(np.arange(len(rows))[::-1])
    assert np.allclose(method.predict(backwards).logits[::-1], scores.logits, atol=1e-5)
    assert method.module.training


def test_an_empty_split_predicts_nothing() -> None:
    setup = _setup(PROBE)
    rows = setup.data.rows("test")
    assert train.build(setup).predict(rows.take(np.arange(0))).logits.shape == (0, 2)


def test_a_batch_of_unknown_labels_moves_nothing_and_weighs_nothing() -> None:
    trainer = train.build(_setup(TINY))
    assert isinstance(trainer, train.FineTuning)
    batch = next(iter(trainer.batches(0)))
    out = trainer.loss({**batch, "targets": torch.full_like(batch["targets"], torch.nan)})
    out["loss"].backward()
    assert out["loss"].item() == 0
    assert out["weight"] == 0
    assert all(p.grad is None or not p.grad.any() for p in trainer.module.parameters())


def test_batches_are_whole_cover_the_draw_and_are_pure() -> None:
    trainer = train.build(_setup(replace(TINY, batch_size=20, augment="cxr_plus")))
    assert isinstance(trainer, train.FineTuning)
    assert trainer.steps_per_epoch == 4
    first, again, later = list(trainer.batches(0)), list(trainer.batches(0)), list(trainer.batches(1))
    assert [len(batch["views"]) for batch in first] == [20] * 4
    assert all(torch.equal(a["views"], b["views"]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0]["views"], later[0]["views"])
    assert torch.equal(next(iter(trainer.batches(0, start=3)))["targets"].nan_to_num(), first[3]["targets"].nan_to_num())


def test_a_draw_smaller_than_a_batch_is_one_batch(tmp_path: Path) -> None:
    setup = _setup(replace(TINY, batch_size=64, epochs=1), data=_data(sizes=(10, 20)))
    _, outcome, _ = run(train, setup, tmp_path)
    assert outcome.step == 1


def test_an_empty_draw_is_refused() -> None:
    with pytest.raises(Error, match="no training images in this draw"):
        train.build(_setup(TINY, data=_data(sizes=(0, 20))))


def test_without_validation_the_one_penalty_is_used(tmp_path: Path) -> None:
    setup = _setup(replace(PROBE, penalty=3.0), data=_data(val=False))
    host, _, _ = run(train, setup, tmp_path)
    assert host.values("train/penalty/signal") == [3.0]


def test_the_rate_rises_and_falls_or_stays() -> None:
    trainer = train.build(_setup(replace(TINY, warmup=0.25)))
    assert isinstance(trainer, train.FineTuning)
    factors = [trainer.learning_rate_factor(step) for step in range(48)]
    assert max(factors) == factors[12] == 1.0
    assert factors[0] == pytest.approx(1 / 12)
    assert factors[-1] < 0.01
    constant = train.build(_setup(replace(TINY, warmup=0.0, schedule="constant")))
    assert isinstance(constant, train.FineTuning)
    assert {constant.learning_rate_factor(step) for step in range(48)} == {1.0}


def test_what_departs_from_the_release_is_what_the_declaration_says() -> None:
    config = Config()
    for name, (theirs, ours, why) in declaration.DEPARTURES.items():
        assert getattr(config, name) == ours, name
        assert theirs != ours and why
    assert all(hasattr(config, name) for name in declaration.SAMPLE)
