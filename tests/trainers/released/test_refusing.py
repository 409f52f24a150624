"""A conversion that would not be whole is refused in a sentence, and nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from tests.trainers.released import made_files
from trainers.errors import WeightsError
from trainers.parts import backbones
from trainers.released import targets
from trainers.released.converting import Conversion, Options, convert
from trainers.released.files import open_weights


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


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """One ResNet-18 as MoCo-CXR published it, written by the torch of its day."""
    path = tmp_path_factory.mktemp("published") / "r8w-00001.pth.tar"
    query, _ = made_files.moco(path, "resnet18", old=True)
    return path, query


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
        ("timm", {"part": "key"}, "there is no part 'key' in a plain network (torchvision or timm), which has one network: leave it out"),
        ("timm", {"part": "both"}, "there is no part 'both' in a plain network"),
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
