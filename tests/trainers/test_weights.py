"""Weights load whole or are refused with their keys; published formats are understood; what is written is whole."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from tests.trainers.made_data import LABELS, made_access
from tests.trainers.released import made_files
from trainers import weights
from trainers.api import Setup
from trainers.classification import train as classification
from trainers.classification.config import Config as ClassificationConfig
from trainers.errors import WeightsError
from trainers.moco_cxr import train as moco_cxr
from trainers.moco_cxr.config import Config as MocoConfig
from trainers.parts import backbones
from trainers.released import names
from trainers.weights import KeyReport, fingerprint, load_backbone, load_matching
from trainers.weights_sources import resolve_init


def _moco_checkpoint(path: Path, *, arch: str = "resnet18", channels: int = 3, head: str = "fc", hidden: bool = True) -> nn.Module:
    """Write a checkpoint as MoCo-CXR's release does, and return the query encoder's backbone."""
    backbone = backbones.build(arch, channels, 64, seed=3)
    width = backbones.width(backbone)
    query = {f"module.encoder_q.{name}": value for name, value in backbone.state_dict().items()}
    layers = {"0": (width, width), "2": (128, width)} if hidden else {"": (128, width)}
    for layer, shape in layers.items():
        prefix = ".".join(part for part in (f"module.encoder_q.{head}", layer) if part)
        query |= {f"{prefix}.weight": torch.zeros(shape), f"{prefix}.bias": torch.zeros(shape[0])}
    slow = {name.replace("encoder_q", "encoder_k"): value * 0 for name, value in query.items()}
    queue = {"module.queue": torch.zeros(128, 8), "module.queue_ptr": torch.zeros(1)}
    content = {"epoch": 20, "arch": arch, "state_dict": {**query, **slow, **queue}, "optimizer": {"state": {}, "param_groups": []}}
    torch.save(content, path)
    return backbone


def test_a_published_moco_checkpoint_gives_its_query_encoder(tmp_path: Path) -> None:
    made = _moco_checkpoint(tmp_path / "moco.pth.tar")
    backbone = backbones.build("resnet18", 3, 64, seed=4)
    report = load_backbone(backbone, tmp_path / "moco.pth.tar", "resnet18")
    assert fingerprint(backbone) == fingerprint(made)
    assert report.kind == "moco"
    assert set(report.loaded) == set(backbone.state_dict())
    assert {name.split(".")[0] for name in report.dropped} == {"encoder_q", "encoder_k", "queue", "queue_ptr"}
    assert report.owners == {"head": 4, "key encoder": 124, "queue": 2}
    assert "(4 head, 124 key encoder, 2 queue)" in report.sentence()
    assert [name for name in report.dropped if name.startswith("encoder_q")] == [
        f"encoder_q.fc.{layer}.{leaf}" for layer in (0, 2) for leaf in ("weight", "bias")
    ]
    assert report.missing == () and report.adapted == ()


@pytest.mark.parametrize("hidden", [True, False])
def test_a_densenets_projection_never_lands_in_the_task_head(tmp_path: Path, hidden: bool) -> None:
    made = _moco_checkpoint(tmp_path / "moco.pth.tar", arch="densenet121", head="classifier", hidden=hidden)
    backbone = backbones.build("densenet121", 3, 64, seed=4)
    report = load_backbone(backbone, tmp_path / "moco.pth.tar", "densenet121")
    assert fingerprint(backbone) == fingerprint(made)
    assert any(name.startswith("encoder_q.classifier") for name in report.dropped)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("arch", ["mnasnet_050", "resnet18"])
def test_released_files_given_as_a_start_are_loaded_whole_and_their_report_is_logged(
    tmp_path: Path, arch: str, channels: int, caplog: pytest.LogCaptureFixture
) -> None:
    """`init: <file>` and `weights: {published: <file>}` of both trainers, for a file under torchvision's names."""
    theirs = names.TORCHVISION[arch]
    query, _ = made_files.moco(tmp_path / "r8w-00001.pth.tar", theirs, old=True)
    for method, config in (
        (classification, ClassificationConfig(arch=arch, channels=channels, px=32, init=str(tmp_path / "r8w-00001.pth.tar"))),
        (moco_cxr, MocoConfig(arch=arch, channels=channels, px=32, init="published", batch_size=8, queue_size=16)),
    ):
        caplog.clear()
        known = {"published": tmp_path / "r8w-00001.pth.tar"}
        with caplog.at_level("INFO"):
            built = method.build(Setup(config=config, seed=1, data=made_access(), labels=LABELS, weights=known, device=torch.device("cpu")))
        stem, image = built.module.backbone, torch.randn(2, channels, 64, 64)
        wanted = made_files.features(theirs, query, image.repeat(1, 3 // channels, 1, 1))
        with torch.no_grad():
            assert torch.allclose(stem.eval()(image), wanted, atol=1e-4 * float(wanted.abs().max()))
        assert built.report is not None and built.report.missing == ()
        assert f"r8w-00001.pth.tar (moco, query): {len(stem.state_dict())} loaded" in caplog.text
        assert ("input channels" in caplog.text) == (channels == 1)


def test_a_fine_tuned_checkpoint_of_moco_cxr_is_a_start(tmp_path: Path) -> None:
    tuned = made_files.finetuned(tmp_path / "best.pth.tar", "resnet18")
    backbone = backbones.build("resnet18", 3, 64, seed=4)
    report = load_backbone(backbone, tmp_path / "best.pth.tar", "resnet18")
    assert made_files.equal(dict(backbone.state_dict()), made_files.backbone_state("resnet18", tuned))
    assert report.owners == {"head": 2, "unused ImageNet head": 2}


def test_a_head_that_collides_is_refused(tmp_path: Path) -> None:
    _moco_checkpoint(tmp_path / "moco.pth.tar", hidden=False)
    state = weights.read(tmp_path / "moco.pth.tar")
    query = {name.removeprefix("module.encoder_q."): value for name, value in state.items() if "encoder_q" in name}
    with pytest.raises(WeightsError, match=r"of another shape: 2 \(fc.weight \(128, 512\) for \(14, 512\), fc.bias"):
        load_matching(timm.create_model("resnet18", num_classes=14), query)


def test_three_input_channels_become_one_that_sees_the_same(tmp_path: Path) -> None:
    made = _moco_checkpoint(tmp_path / "moco.pth.tar").eval()
    grey = backbones.build("resnet18", 1, 64).eval()
    report = load_backbone(grey, tmp_path / "moco.pth.tar", "resnet18")
    image = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        assert torch.allclose(grey(image), made(image.repeat(1, 3, 1, 1)), atol=1e-4)
    assert report.adapted == ("conv1.weight 3 -> 1 input channels",)


def test_one_input_channel_becomes_three_that_see_the_same() -> None:
    one, three = backbones.build("slim", 1, 64, seed=1).eval(), backbones.build("slim", 3, 64, seed=2).eval()
    load_matching(three, one.state_dict(), adapt_stem="conv1")
    image = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        assert torch.allclose(three(image.repeat(1, 3, 1, 1)), one(image), atol=1e-5)


def test_channels_are_not_adapted_without_a_word() -> None:
    with pytest.raises(WeightsError, match=r"of another shape: 1 \(conv1.weight \(64, 1, 7, 7\) for \(64, 3, 7, 7\)\)"):
        load_matching(backbones.build("slim", 3, 64), backbones.build("slim", 1, 64).state_dict())


def test_our_own_checkpoint_gives_its_backbone_and_only_a_head_may_be_left_over(tmp_path: Path) -> None:
    made = backbones.build("slim", 1, 64, seed=1)
    state = {f"backbone.{name}": value.contiguous() for name, value in made.state_dict().items()}
    save_file({**state, "head.weight": torch.zeros(2, 192)}, tmp_path / "a.safetensors")
    save_file({**state, "decoder.weight": torch.zeros(2, 192)}, tmp_path / "b.safetensors")
    backbone = backbones.build("slim", 1, 64, seed=2)
    report = load_backbone(backbone, tmp_path / "a.safetensors", "slim")
    assert fingerprint(backbone) == fingerprint(made)
    assert (report.kind, report.dropped) == ("cxr-orchestrator", ("head.weight",))
    with pytest.raises(WeightsError, match=r"unexpected: 1 \(decoder.weight\)"):
        load_backbone(backbone, tmp_path / "b.safetensors", "slim")


def test_another_architecture_is_refused_in_one_sentence_and_nothing_is_loaded(tmp_path: Path) -> None:
    _moco_checkpoint(tmp_path / "moco.pth.tar", arch="resnet34")
    backbone = backbones.build("resnet18", 3, 64, seed=1)
    before = fingerprint(backbone)
    with pytest.raises(
        WeightsError, match=r"does not fit arch 'resnet18': keys .*unexpected: .*layer1.2.*\).*those of 'resnet34': give that"
    ) as found:
        load_backbone(backbone, tmp_path / "moco.pth.tar", "resnet18")
    assert "\n" not in str(found.value)
    assert fingerprint(backbone) == before


def test_missing_and_unexpected_keys_pass_only_as_declared() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    state = {"0.weight": torch.ones(2, 2), "0.bias": torch.ones(2), "extra": torch.ones(1)}
    for allowed in ({}, {"allowed_missing": ("1.*",)}, {"allowed_unexpected": ("extra",)}):
        with pytest.raises(WeightsError):
            load_matching(module, state, **allowed)
    report = load_matching(module, state, allowed_missing=("1.*",), allowed_unexpected=("extra",), what="it")
    assert report == KeyReport(source="it", loaded=("0.weight", "0.bias"), missing=("1.weight", "1.bias"), dropped=("extra",))
    assert (module[0].weight == 1).all()


def test_renaming_drops_and_moves_keys() -> None:
    module = nn.Linear(2, 2)
    state = {"old.weight": torch.ones(2, 2), "old.bias": torch.zeros(2), "queue": torch.zeros(1)}
    report = load_matching(module, state, rename=lambda name: None if name == "queue" else name.removeprefix("old."))
    assert report.dropped == ("queue",)
    assert (module.weight == 1).all()


@pytest.mark.parametrize("arch", ["swin_tiny_patch4_window7_224", "vit_tiny_patch16_224", "resnet18"])
def test_a_plain_file_of_timm_loads_and_its_classifier_is_dropped(tmp_path: Path, arch: str) -> None:
    made = timm.create_model(arch, num_classes=5, in_chans=3)
    torch.save(
        {name: value for name, value in made.state_dict().items() if not name.endswith("num_batches_tracked")}, tmp_path / "plain.pth"
    )
    backbone = backbones.build(arch, 1, None)
    report = load_backbone(backbone, tmp_path / "plain.pth", arch)
    assert len(report.dropped) == 2
    assert len(report.adapted) == 1
    ours, theirs = dict(backbone.named_parameters()), dict(made.named_parameters())
    assert sum(torch.equal(value, theirs[name]) for name, value in ours.items()) == len(ours) - 1


@pytest.mark.needs("lite0")
def test_the_wheel_of_lite0_matches_every_key() -> None:
    path = resolve_init("tf_efficientnet_lite0", "imagenet", {})
    assert path is not None
    backbone = backbones.build("tf_efficientnet_lite0", 3, 224, seed=0)
    report = load_backbone(backbone, path, "tf_efficientnet_lite0")
    assert report.kind == "efficientnet_pytorch"
    assert report.missing == ()
    assert set(report.loaded) == set(backbone.state_dict())
    assert set(report.dropped) == {"_fc.weight", "_fc.bias"}
    classifier, state = timm.create_model("tf_efficientnet_lite0", pretrained=False), weights.read(path)
    renamed = names.to_timm(state, classifier.state_dict())
    assert load_matching(classifier, state, rename=renamed.get).missing == ()
