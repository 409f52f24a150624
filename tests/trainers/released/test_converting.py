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
from trainers.errors import WeightsError
from trainers.parts import backbones
from trainers.released import targets
from trainers.released.converting import Conversion, Options, convert
from trainers.released.files import open_weights

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


def refusal(path: Path, to: str, told: dict[str, Any] | None = None, **others: Any) -> str:
    """Return what a conversion is refused with, having seen that it left the folder as it was."""
    before = {one.name: one.stat().st_mtime_ns for one in path.parent.iterdir()}
    with pytest.raises(WeightsError) as found:
        convert(path, Options(to=to, **others), told)
    assert "\n" not in str(found.value)
    assert {one.name: one.stat().st_mtime_ns for one in path.parent.iterdir()} == before
    return str(found.value)


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


# --- refusals -----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A small network of torchvision's."""
    path = tmp_path / "small.pth"
    torch.save(made_files.network("mnasnet0_5").state_dict(), path)
    return path


def changed(path: Path, **entries: Any) -> Path:
    """Write a file again with entries added, or taken out where they are None."""
    state = dict(torch.load(path, weights_only=True)) | {name.replace("__", "."): value for name, value in entries.items()}
    out = path.with_name("changed.pth")
    torch.save({name: value for name, value in state.items() if value is not None}, out)
    return out


def test_another_architecture_is_refused_with_the_right_one(published: tuple[Path, nn.Module], small: Path) -> None:
    said = refusal(published[0], "torchvision", arch="resnet34")
    assert "does not fit arch 'resnet34': keys missing:" in said and "layer1.2.conv1.weight" in said
    assert said.endswith("its keys and shapes are those of 'resnet18': give that architecture")
    said = refusal(small, "timm", arch="mnasnet_100")
    assert "of another shape" in said and "conv_stem.weight (16, 3, 3, 3) for (32, 3, 3, 3)" in said
    assert "did you mean resnet18" in refusal(small, "timm", arch="resnet81") or "timm knows no such network" in refusal(
        small, "timm", arch="resnet81"
    )


def test_missing_and_extra_keys_are_refused_by_name(small: Path) -> None:
    missing = changed(small, layers__14__weight=None)
    assert "of no architecture that is known here: type --arch" in refusal(missing, "timm")
    assert "keys missing: 1 (conv_head.weight)" in refusal(missing, "timm", arch="mnasnet0_5")
    extra = changed(small, layers__99__weight=torch.zeros(1))
    assert "keys unexpected: 1 (layers.99.weight)" in refusal(extra, "timm", arch="mnasnet0_5")


def test_a_stranger_beside_the_encoders_is_refused_by_name(tmp_path: Path) -> None:
    _, state = made_files.moco(tmp_path / "w.pth.tar", "mnasnet0_5")
    torch.save({"state_dict": {**state, "module.predictor.weight": torch.zeros(2, 2)}, "arch": "mnasnet0_5"}, tmp_path / "w.pth.tar")
    assert "keys unexpected: 1 (predictor.weight)" in refusal(tmp_path / "w.pth.tar", "timm", arch="mnasnet0_5")


def test_made_networks_tell_images_apart() -> None:
    """What compares features here would otherwise compare nothing: with statistics that do not fit, every image looks the same."""
    for arch in ("mnasnet0_5", "mnasnet1_0", "resnet18"):
        assert made_files.features(arch, made_files.network(arch), IMAGES).std(0).mean() > 0.05


def test_two_keys_of_one_name_are_refused(small: Path) -> None:
    state = torch.load(small, weights_only=True)
    torch.save({**state, "module.layers.0.weight": state["layers.0.weight"]}, small.with_name("changed.pth"))
    assert "two keys are 'layers.0.weight'" in refusal(small.with_name("changed.pth"), "timm")
    torch.save(
        {**{f"backbone.{name}": value for name, value in state.items()}, "layers.0.weight": torch.zeros(1)}, small.with_name("changed.pth")
    )
    assert "with and without 'backbone.'" in refusal(small.with_name("changed.pth"), "timm")


def test_values_that_are_not_finite_are_refused(small: Path) -> None:
    bad = changed(small, layers__1__bias=torch.full((16,), float("nan")))
    assert "values that are not finite in bn1.bias; take" in refusal(bad, "timm")
    bad = changed(small, classifier__1__bias=torch.full((1000,), float("inf")))
    assert "values that are not finite in bias; take" in refusal(bad, "timm", keep_head=True)
    assert convert(bad, Options(to="timm")).dropped == {"head": ("classifier.1.weight", "classifier.1.bias")}


def test_a_state_dict_with_something_else_in_it_is_refused(small: Path) -> None:
    torch.save({"state_dict": {**torch.load(small, weights_only=True), "_extra_state": 3}}, small.with_name("changed.pth"))
    assert "values that are no tensors (_extra_state)" in refusal(small.with_name("changed.pth"), "timm")


@pytest.mark.parametrize(
    ("to", "others", "said"),
    [
        ("torchvison", {}, "--to torchvison: no such format; did you mean 'torchvision'?"),
        ("onnx", {}, "--to onnx: no such format; it is one of torchvision, timm"),
        ("timm", {"part": "key"}, "only checkpoints of MoCo have a key encoder, and this is a plain network"),
        ("timm", {"part": "both"}, "--part both: is query or key"),
        ("timm", {"channels": 2}, "--channels 2: is 1 or 3"),
        ("facebook_moco", {}, "networks whose head is called fc, and mnasnet_050 is none: --to moco_cxr"),
        ("moco_cxr", {"keep_head": True}, "the head of this file is a classifier"),
        ("torchvision", {"out": Path("w.safetensors")}, "loads no state dict without a version"),
        ("timm", {"out": Path("w.onnx")}, "is named *.safetensors or *.pth"),
        ("cxr", {"out": Path("w.pth")}, "a file for --to cxr is named *.safetensors"),
        ("timm", {"out": Path("no/such/folder/w.pth")}, "there is no folder no/such/folder"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(
    small: Path, to: str, others: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small.parent)
    assert said in refusal(small, to, **others)


def test_nothing_is_written_over_without_being_asked(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    converted(small, "timm", out=out)
    with pytest.raises(WeightsError, match="is there already; type --overwrite"):
        converted(small, "timm", out=out)
    converted(small, "timm", out=out, overwrite=True)
    with pytest.raises(WeightsError, match="is the file that is read"):
        converted(out, "timm", out=out, overwrite=True)
    with pytest.raises(WeightsError, match="there is no such weights file"):
        converted(tmp_path / "none.pth", "timm", out=out, overwrite=True)


def test_an_mlp_head_has_no_place_in_a_plain_network(published: tuple[Path, nn.Module]) -> None:
    assert "has a place for one layer, and this head has a hidden one" in refusal(published[0], "torchvision", keep_head=True)


def test_a_network_of_ours_has_no_other_name(tmp_path: Path) -> None:
    torch.save({f"backbone.{name}": value for name, value in backbones.build("slim", 1, None).state_dict().items()}, tmp_path / "w.pth")
    assert "timm has no slim" in refusal(tmp_path / "w.pth", "timm")
    assert "torchvision has no slim" in refusal(tmp_path / "w.pth", "torchvision")
    assert "has no head" in refusal(tmp_path / "w.pth", "cxr", keep_head=True)
    done = converted(tmp_path / "w.pth", "cxr")
    assert (done.arch, done.channels) == ("slim", 1)


def test_a_file_whose_reader_would_compute_something_else_is_not_kept(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers of one shape are exchanged on the way: every strict load passes, and only the features tell."""
    true = targets.named_for

    def exchanged(*arguments: Any) -> dict[str, tuple[str, str]]:
        found = true(*arguments)
        one, other = "blocks.2.1.conv_dw.weight", "blocks.2.2.conv_dw.weight"
        return {**found, one: found[other], other: found[one]}

    monkeypatch.setattr(targets, "named_for", exchanged)
    assert "computes other features" in refusal(small, "timm")


def test_a_disk_that_fills_up_leaves_nothing(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(made: targets.Made, file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(targets, "write", full)
    assert "No space left on device" in refusal(small, "timm")


def test_a_file_that_reads_back_otherwise_is_not_kept(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true = targets.write

    def flipped(made: targets.Made, file: Path) -> None:
        true(made, file)
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(bytes(content))

    monkeypatch.setattr(targets, "write", flipped)
    assert "reads back as something else" in refusal(small, "timm")


def test_what_is_opened_again_is_what_was_made(small: Path, tmp_path: Path) -> None:
    done = converted(small, "timm", out=tmp_path / "out.pth", keep_head=True)
    assert open_weights(Path(done.out)).beside == {}
    plain = timm.create_model("mnasnet_050")
    plain.load_state_dict(torch.load(done.out, weights_only=True), strict=True)
