"""Weights load whole or are refused with their keys; published formats are understood; what is written is whole."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from trainers import weights
from trainers.errors import WeightsError
from trainers.parts import backbones
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
        WeightsError, match=r"does not fit arch 'resnet18': keys .*unexpected: .*layer1.2.*\); give the architecture"
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
    assert set(report.dropped) == {"classifier.weight", "classifier.bias"}
    classifier = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    kept, _ = weights.backbone_state(weights.read(path), tuple(classifier.state_dict()))
    assert load_matching(classifier, kept).missing == ()


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 torn"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as found:
        weights.read(path)
    assert str(found.value).startswith(str(path)) and "\n" not in str(found.value)


def test_objects_and_empty_files_are_refused(tmp_path: Path) -> None:
    torch.save({"args": Path("x"), "model": {"weight": torch.zeros(1)}}, tmp_path / "objects.pth")
    with pytest.raises(WeightsError, match="holds Python objects"):
        weights.read(tmp_path / "objects.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(WeightsError, match="holds no state dict"):
        weights.read(tmp_path / "empty.pth")
    with pytest.raises(WeightsError, match="there is no such weights file"):
        weights.read(tmp_path / "none.pth")


def test_inspect_says_what_a_file_holds(tmp_path: Path) -> None:
    made = _moco_checkpoint(tmp_path / "moco.pth.tar")
    found = weights.inspect(tmp_path / "moco.pth.tar").as_json()
    assert (found["kind"], found["arch"], found["epoch"]) == ("moco", "resnet18", 20)
    assert found["groups"]["queue"] == 1
    assert found["groups"]["encoder_q"] == len(made.state_dict()) + 4
    assert found["stem"] == "module.encoder_q.conv1.weight (64, 3, 7, 7)"
    assert len(found["sha256"]) == 64


@pytest.mark.parametrize("name", ["out.safetensors", "out.pth"])
def test_convert_writes_a_plain_state_that_timm_loads_strictly(tmp_path: Path, name: str) -> None:
    made = _moco_checkpoint(tmp_path / "moco.pth.tar")
    report = weights.convert(tmp_path / "moco.pth.tar", tmp_path / name, arch="resnet18")
    plain = timm.create_model("resnet18", num_classes=0)
    plain.load_state_dict(weights.read(tmp_path / name), strict=True)
    assert fingerprint(plain) == fingerprint(made)
    assert "120 loaded" in report.sentence()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["moco.pth.tar", name])


def test_convert_refuses_another_architecture_and_another_format(tmp_path: Path) -> None:
    _moco_checkpoint(tmp_path / "moco.pth.tar")
    with pytest.raises(WeightsError, match="does not fit arch 'resnet34'"):
        weights.convert(tmp_path / "moco.pth.tar", tmp_path / "out.pth", arch="resnet34")
    with pytest.raises(WeightsError, match=r"ends in \.safetensors or \.pth"):
        weights.convert(tmp_path / "moco.pth.tar", tmp_path / "out.onnx", arch="resnet18")
    assert [path.name for path in tmp_path.iterdir()] == ["moco.pth.tar"]
