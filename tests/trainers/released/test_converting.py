"""Weights go from format to format bit for bit and compute the same features, or are refused and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors import safe_open
from torch import nn

from tests.trainers.released import made_files
from tests.trainers.released.made_files import equal
from trainers import weights
from trainers.parts import backbones
from trainers.released import targets
from trainers.released.converting import Conversion, Options, convert

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
TIMM = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "densenet121": "densenet121",
    "mnasnet1_0": "mnasnet_100",
    "mnasnet0_5": "mnasnet_050",
}


def converted(path: Path, to: str, **others: Any) -> Conversion:
    return convert(path, Options(to=to, **others))


def in_torchvision(file: Path, arch: str) -> nn.Module:
    """Load a file as a person does who knows torchvision alone: strictly, the head taken off."""
    module = made_files.replace_head(made_files.network(arch, seed=99), arch, nn.Identity())
    module.load_state_dict(torch.load(file, weights_only=True), strict=True)
    return module


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """One ResNet-18 as MoCo-CXR published it, written by the torch of its day."""
    path = tmp_path_factory.mktemp("published") / "r8w-00001.pth.tar"
    query, _ = made_files.moco(path, "resnet18", old=True)
    return path, query


@pytest.mark.parametrize(
    ("arch", "mlp", "by"),
    [
        ("resnet18", True, "moco_cxr"),
        ("resnet50", True, "facebook"),
        ("resnet18", False, "facebook"),
        ("densenet121", False, "moco_cxr"),
        ("mnasnet1_0", True, "moco_cxr"),
        ("mnasnet0_5", False, "moco_cxr"),
    ],
)
def test_a_pretraining_checkpoint_becomes_torchvisions_network(tmp_path: Path, arch: str, mlp: bool, by: str) -> None:
    path = tmp_path / "checkpoint_0019.pth.tar"
    query, state = made_files.moco(path, arch, mlp=mlp, by=by)
    done = converted(path, "torchvision")
    assert done.out == str(tmp_path / "checkpoint_0019.torchvision.pth")
    module = in_torchvision(Path(done.out), arch)
    assert equal(module.state_dict(), made_files.backbone_state(arch, query))
    wanted = made_files.features(arch, query, IMAGES)
    with torch.no_grad():
        assert torch.allclose(module(IMAGES), wanted, atol=1e-6, rtol=0)
    # Every key of the file is accounted for once, under its own name.
    gone = [key for keys in done.dropped.values() for key in keys]
    assert sorted([*done.used, *gone]) == sorted(state)
    assert {what: len(keys) for what, keys in done.dropped.items()} == {
        "head": 4 if mlp else 2, "key encoder": sum("encoder_k" in name for name in state), "queue": 2,
    }  # fmt: skip
    assert done.left_behind == ("epoch", "arch", "optimizer")
    assert (done.adapted, done.filled, done.difference) == ((), (), 0.0)


@pytest.mark.parametrize("arch", ["resnet18", "mnasnet1_0"])
def test_timms_network_and_ours_compute_what_the_original_does(tmp_path: Path, arch: str) -> None:
    path = tmp_path / "w.pth.tar"
    query, _ = made_files.moco(path, arch)
    wanted = made_files.features(arch, query, IMAGES)
    plain = timm.create_model(TIMM[arch], num_classes=0).eval()
    plain.load_state_dict(weights.read(Path(converted(path, "timm").out)), strict=True)
    ours = backbones.build(TIMM[arch], 3, 64, seed=4).eval()
    weights.load_backbone(ours, Path(converted(path, "cxr").out), TIMM[arch])
    with torch.no_grad():
        assert torch.allclose(plain(IMAGES), wanted, atol=1e-6, rtol=0)
        assert torch.allclose(ours(IMAGES), wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("arch", ["resnet18", "mnasnet1_0"])
def test_a_classifier_goes_round_every_format_and_comes_back_bit_for_bit(tmp_path: Path, arch: str) -> None:
    path = tmp_path / "w.pth"
    start = made_files.network(arch).state_dict()
    torch.save(start, path)
    for to in ("timm", "cxr", "torchvision"):
        done = converted(path, to, keep_head=True, out=tmp_path / f"{to}{targets.suffix_of(to)}")
        path = Path(done.out)
        assert (done.dropped, done.adapted, done.filled) == ({}, (), ())
    assert equal(weights.read(path), dict(start))
    module = made_files.network(arch, seed=99)
    module.load_state_dict(torch.load(path, weights_only=True), strict=True)


@pytest.mark.parametrize("mlp", [True, False])
def test_our_pretraining_goes_to_the_released_format_and_back_with_its_projection(tmp_path: Path, mlp: bool) -> None:
    backbone = backbones.build("mnasnet_050", 3, None, seed=1)
    head = made_files.projection("mnasnet0_5", mlp=mlp)
    start = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    start |= {f"head.{name}": value for name, value in head.state_dict().items()}
    torch.save(start, tmp_path / "ours.pth")
    told = {"trainer": "moco_cxr", "arch": "mnasnet_050", "epoch": 7}
    done = convert(tmp_path / "ours.pth", Options(to="moco_cxr", keep_head=True), told)
    content = torch.load(done.out, weights_only=True)
    assert (content["arch"], content["epoch"], content["cxr_orchestrator"]["head_role"]) == ("mnasnet0_5", 7, "projection")
    assert all(name.startswith("module.encoder_q.") for name in content["state_dict"])
    back = converted(Path(done.out), "cxr", keep_head=True)
    assert equal(weights.read(Path(back.out)), start)
    again = converted(Path(back.out), "moco_cxr", keep_head=True, out=tmp_path / "again.pth.tar")
    assert equal(weights.read(Path(again.out)), weights.read(Path(done.out)))


def test_what_is_written_for_moco_is_taken_by_the_code_that_reads_it(published: tuple[Path, nn.Module], tmp_path: Path) -> None:
    """The linear probe of both programs: keep the query encoder without its head, strip the prefix, look at what is missing."""
    path, query = published
    for to in ("moco_cxr", "facebook_moco"):
        done = converted(path, to, keep_head=True, out=tmp_path / f"{to}.pth.tar")
        state = torch.load(done.out, weights_only=True)["state_dict"]
        for name in list(state):
            if name.startswith("module.encoder_q") and not name.startswith("module.encoder_q.fc"):
                state[name[len("module.encoder_q.") :]] = state[name]
            del state[name]
        module = made_files.network("resnet18", seed=9)
        found = module.load_state_dict(state, strict=False)
        assert (set(found.missing_keys), found.unexpected_keys) == ({"fc.weight", "fc.bias"}, [])
        assert equal(made_files.backbone_state("resnet18", module), made_files.backbone_state("resnet18", query))


@pytest.mark.parametrize("arch", ["resnet18", "mnasnet1_0"])
def test_a_fine_tuned_checkpoint_gives_the_network_with_the_heads_of_its_tasks(tmp_path: Path, arch: str) -> None:
    path = tmp_path / "iter_8192.pth.tar"
    tuned = made_files.finetuned(path, arch)
    done = converted(path, "torchvision", keep_head=True)
    assert done.arch == TIMM[arch]
    unused = tuple(f"module.model.last_linear.{leaf}" for leaf in ("weight", "bias")) if arch == "resnet18" else ()
    assert done.dropped.get("unused ImageNet head", ()) == unused
    found, wanted = weights.read(Path(done.out)), tuned.state_dict()
    if arch == "mnasnet1_0":
        wanted = {name.replace("classifier.", "classifier.1."): value for name, value in wanted.items()}
    assert equal(found, dict(wanted))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_no_part_of_a_name(tmp_path: Path, prefix: str) -> None:
    """The linear probe's checkpoint is a plain network under DistributedDataParallel; torch.compile adds a prefix of its own."""
    start = made_files.network("mnasnet0_5").state_dict()
    torch.save(
        {"state_dict": {f"{prefix}{name}": value for name, value in start.items()}, "best_acc1": torch.tensor(81.0)}, tmp_path / "w.pth"
    )
    done = converted(tmp_path / "w.pth", "torchvision", keep_head=True)
    assert equal(weights.read(Path(done.out)), dict(start))
    assert done.used[f"{prefix}layers.0.weight"] == "layers.0.weight"


def test_torchvisions_dropout_in_front_of_a_head_is_no_layer(tmp_path: Path) -> None:
    """Without ImageNet weights and without mlp MoCo-CXR keeps torchvision's own head, of 128 outputs, behind its Dropout."""
    path = tmp_path / "w.pth.tar"
    _, state = made_files.moco(path, "mnasnet0_5", mlp=False)
    moved = {name.replace("classifier.", "classifier.1."): value for name, value in state.items()}
    torch.save({"state_dict": moved, "arch": "mnasnet0_5"}, path)
    done = converted(path, "moco_cxr", keep_head=True)
    assert done.used["module.encoder_q.classifier.1.weight"] == "module.encoder_q.classifier.weight"
    assert equal(weights.read(Path(done.out)), {name: value for name, value in state.items() if "encoder_q" in name})


def test_a_tag_of_timm_names_weights_and_no_other_network(published: tuple[Path, nn.Module], tmp_path: Path) -> None:
    assert converted(published[0], "torchvision", arch="resnet18.a1_in1k", out=tmp_path / "w.pth").arch == "resnet18"


def test_the_key_encoder_can_be_had_and_is_another_network(published: tuple[Path, nn.Module], tmp_path: Path) -> None:
    path, query = published
    done = converted(path, "torchvision", part="key", out=tmp_path / "key.pth")
    key = made_files.network("resnet18", seed=1)
    found = weights.read(tmp_path / "key.pth")
    assert equal(found, made_files.backbone_state("resnet18", key))
    assert not equal(found, made_files.backbone_state("resnet18", query))
    assert set(done.dropped) == {"head", "query encoder", "queue"}
    assert all(name.startswith("module.encoder_k.") for name in done.used)


def test_three_channels_become_one_and_one_becomes_three(published: tuple[Path, nn.Module], tmp_path: Path) -> None:
    path, query = published
    one = converted(path, "cxr", channels=1, out=tmp_path / "grey.safetensors")
    assert (one.channels, one.adapted) == (1, ("conv1.weight 3 -> 1 input channels",))
    assert any("summed into one" in note and "normalised all three by one mean and sd" in note for note in one.notes)
    grey = IMAGES[:, :1]
    ours = backbones.build("resnet18", 1, 64).eval()
    weights.load_backbone(ours, tmp_path / "grey.safetensors", "resnet18")
    wanted = made_files.features("resnet18", query, grey.repeat(1, 3, 1, 1))
    with torch.no_grad():
        assert torch.allclose(ours(grey), wanted, atol=1e-4 * float(wanted.abs().max()))
    # torchvision's networks see three channels, so that is what they get unless it is asked otherwise.
    three = converted(tmp_path / "grey.safetensors", "torchvision", out=tmp_path / "three.pth")
    assert three.adapted == ("conv1.weight 1 -> 3 input channels",)
    stem, summed = (
        weights.read(tmp_path / "three.pth")["conv1.weight"],
        weights.read(tmp_path / "grey.safetensors")["backbone.conv1.weight"],
    )
    assert torch.equal(stem, (summed.repeat(1, 3, 1, 1) / 3))
    alone = converted(tmp_path / "grey.safetensors", "torchvision", channels=1, out=tmp_path / "one.pth")
    assert (alone.adapted, tuple(weights.read(tmp_path / "one.pth")["conv1.weight"].shape)) == ((), (64, 1, 7, 7))


def test_safetensors_say_where_they_come_from_and_equal_inputs_give_equal_bytes(published: tuple[Path, nn.Module], tmp_path: Path) -> None:
    path, _ = published
    first = converted(path, "timm", out=tmp_path / "a.safetensors")
    second = converted(path, "timm", out=tmp_path / "b.safetensors")
    assert first.sha256 == second.sha256
    with safe_open(first.out, "pt") as file:
        said = json.loads(file.metadata()["cxr_orchestrator"])
    assert said["source_sha256"] == first.source_sha256
    assert (said["source_name"], said["source_format"], said["arch"], said["part"]) == ("r8w-00001.pth.tar", "moco", "resnet18", "query")
    assert said["dropped"] == {"head": 4, "key encoder": 124, "queue": 2}


def test_torchvisions_weights_in_safetensors(published: tuple[Path, nn.Module], tmp_path: Path) -> None:
    path, query = published
    converted(path, "torchvision", out=tmp_path / "w.safetensors")
    assert equal(weights.read(tmp_path / "w.safetensors"), made_files.backbone_state("resnet18", query))


def test_imagenet_weights_of_before_2018_lack_counters_and_have_dots(tmp_path: Path) -> None:
    """torchvision's file of DenseNet-121: `norm.1` for `norm1`, and no counters."""
    start = made_files.network("densenet121").state_dict()
    old = {
        name.replace("norm1", "norm.1").replace("norm2", "norm.2").replace("conv1.", "conv.1.").replace("conv2.", "conv.2.")
        if "denselayer" in name
        else name: value
        for name, value in start.items()
        if not name.endswith("num_batches_tracked")
    }
    torch.save(old, tmp_path / "densenet121.pth")
    done = converted(tmp_path / "densenet121.pth", "timm", keep_head=True)
    assert len(done.filled) == 121 and set(done.used) == set(old)
    found = weights.read(Path(done.out))
    kept = {name: value for name, value in found.items() if not name.endswith("num_batches_tracked")}
    assert equal(kept, {name: value for name, value in start.items() if name in kept})


def test_half_precision_is_said(tmp_path: Path) -> None:
    torch.save(made_files.network("mnasnet0_5").half().state_dict(), tmp_path / "half.pth")
    done = converted(tmp_path / "half.pth", "timm")
    assert done.adapted == ("float16 -> float32",)
    assert weights.read(Path(done.out))["conv_stem.weight"].dtype == torch.float32


def test_made_networks_tell_images_apart() -> None:
    """What compares features here would otherwise compare nothing: with statistics that do not fit, every image looks the same."""
    for arch in ("mnasnet0_5", "mnasnet1_0", "resnet18"):
        assert made_files.features(arch, made_files.network(arch), IMAGES).std(0).mean() > 0.05
