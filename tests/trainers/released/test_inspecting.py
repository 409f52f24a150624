"""What a file is told to be, and where its name and its content disagree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainers.released import made_files
from trainers.parts import backbones, heads
from trainers.released import architectures, formats, published
from trainers.released.converting import Options, convert
from trainers.released.inspecting import Summary, inspect
from trainers.released.names import TORCHVISION, to_timm, to_torchvision


def of_moco(folder: Path, name: str, arch: str = "mnasnet0_5", **others: Any) -> Summary:
    made_files.moco(folder / name, arch, **others)
    return inspect(folder / name)


def test_a_published_checkpoint(tmp_path: Path) -> None:
    query, state = made_files.moco(tmp_path / "r8w-00001.pth.tar", "resnet18", old=True)
    found = inspect(tmp_path / "r8w-00001.pth.tar")
    assert (found.kind, found.written_by, found.arch, found.stated_arch) == ("moco", "MoCo-CXR", ("resnet18",), "resnet18")
    assert (found.epoch, found.lr, found.channels) == (20, 1e-6, 3)
    assert found.head is not None and (found.head.role, found.head.mlp, found.head.layers) == ("projection", True, ((512, 512), (512, 128)))
    assert found.parts == {"query encoder": 120, "head": 4, "key encoder": 124, "queue": 2}
    assert found.tensors == len(state) == sum(found.parts.values())
    backbone = [value for name, value in query.named_parameters() if not name.startswith("fc.")]
    assert found.backbone_parameters == sum(value.numel() for value in backbone)
    assert found.beside == ("epoch", "arch", "optimizer")
    assert found.name is not None and found.name.imagenet is True
    assert found.disagreements == ()
    assert json.loads(json.dumps(found.as_json()))["head"]["mlp"] is True


@pytest.mark.parametrize(
    ("name", "others", "said"),
    [
        ("r8w-00001.pth.tar", {}, ["the name says resnet18, the shapes are those of mnasnet_050"]),
        ("checkpoint_0007.pth.tar", {}, ["the name says epoch 8, the file epoch 20"]),
        ("checkpoint_0019.pth.tar", {}, []),
        ("moco_v1_20ep_pretrain.pth.tar", {"arch": "resnet50"}, ["the name says a head without a hidden layer, the file's is one with"]),
        ("moco_v2_20ep_pretrain.pth.tar", {"arch": "resnet50"}, []),
        ("other.pth.tar", {}, []),
    ],
)
def test_names_that_say_something_else(tmp_path: Path, name: str, others: dict[str, Any], said: list[str]) -> None:
    found = of_moco(tmp_path, name, **others)
    assert len(found.disagreements) == len(said)
    assert all(one.startswith(start) for one, start in zip(found.disagreements, said, strict=True))


@pytest.mark.parametrize(
    ("epoch", "lr", "agrees"),
    [
        (20, 1e-6, True),  # two drops, at 12 and at 18
        (13, 1e-5, True),
        (12, 1e-4, True),
        (35, 1e-7, True),
        (20, 9.8e-5, True),  # a quarter of a cosine
        (20, 1e-3, False),
        (20, 1e-5, False),
        (12, 1e-6, False),
    ],
)
def test_a_learning_rate_of_the_name_is_held_against_the_schedule(epoch: int, lr: float, agrees: bool, tmp_path: Path) -> None:
    torch.save(
        {**_empty("resnet18"), "epoch": epoch, "optimizer": {"state": {}, "param_groups": [{"lr": lr}]}}, tmp_path / "r8w-00001.pth.tar"
    )
    found = inspect(tmp_path / "r8w-00001.pth.tar")
    assert found.lr == lr
    assert (found.disagreements == ()) == agrees


def _empty(arch: str) -> dict[str, Any]:
    """Return a checkpoint with the query encoder alone, of zeros."""
    state = {f"module.encoder_q.{name}": torch.zeros(shape) for name, shape in architectures.shapes_of(arch).items()}
    return {"arch": arch, "state_dict": state}


def test_a_file_that_says_another_architecture_than_it_has(tmp_path: Path) -> None:
    torch.save({**_empty("resnet18"), "arch": "resnet50"}, tmp_path / "w.pth.tar")
    assert inspect(tmp_path / "w.pth.tar").disagreements == ("the file says resnet50, its shapes are those of resnet18",)


@pytest.mark.parametrize(
    ("by", "queue", "memory", "author"),
    [
        ("resnet18", 24576, "exp_avg", "MoCo-CXR"),
        ("resnet18", 65536, "momentum_buffer", "facebookresearch"),
        ("resnet18", 65536, "exp_avg", ""),
        ("resnet18", 4096, "exp_avg", ""),
    ],
)
def test_whose_code_wrote_a_file_is_said_where_everything_agrees(tmp_path: Path, by: str, queue: int, memory: str, author: str) -> None:
    content = _empty(by)
    content["state_dict"]["module.queue"] = torch.zeros(1, queue).expand(128, -1)
    content["optimizer"] = {"state": {0: {memory: torch.zeros(1)}}, "param_groups": [{"lr": 1e-4}]}
    torch.save(content, tmp_path / "w.pth.tar")
    assert inspect(tmp_path / "w.pth.tar").written_by == author


def test_a_fine_tuned_checkpoint(tmp_path: Path) -> None:
    made_files.finetuned(tmp_path / "iter_8192.pth.tar", "resnet18", ("Edema", "Fracture", "Pneumonia"))
    found = inspect(tmp_path / "iter_8192.pth.tar")
    assert (found.kind, found.arch, found.stated_arch, found.epoch, found.lr) == (published.FINETUNED, ("resnet18",), "ResNet18", 3, 1e-4)
    assert found.head is not None and (found.head.role, found.head.layers) == ("classifier", ((512, 3),))
    assert found.parts == {"backbone": 120, "head": 2, "unused ImageNet head": 2}


def test_our_checkpoint_is_known_by_its_job(tmp_path: Path) -> None:
    module = torch.nn.Module()
    module.backbone = backbones.build("slim", 1, None)
    module.head = heads.linear(192, 5)
    torch.save(module.state_dict(), tmp_path / "epoch-0003.safetensors")
    assert inspect(tmp_path / "epoch-0003.safetensors").as_json()["head"]["role"] == ""
    found = inspect(tmp_path / "epoch-0003.safetensors", {"trainer": "classification", "arch": "slim", "lr": 0.01, "epoch": 3})
    assert (found.kind, found.arch, found.epoch, found.lr, found.channels) == (published.OURS, ("slim",), 3, 0.01, 1)
    assert found.head is not None and found.head.role == "classifier"


def test_a_converted_file_says_what_it_was_made_from(tmp_path: Path) -> None:
    made_files.moco(tmp_path / "w.pth.tar", "mnasnet0_5")
    done = convert(tmp_path / "w.pth.tar", Options(to="cxr", part="key"))
    found = inspect(Path(done.out))
    assert (found.made_from["source_sha256"], found.made_from["part"], found.stated_arch) == (done.source_sha256, "key", "mnasnet_050")
    assert found.beside == ()


def test_values_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.tensor([[float("inf")]]), "conv1.weight": torch.ones(1, 3, 1, 1)}, tmp_path / "w.pth")
    found = inspect(tmp_path / "w.pth")
    assert (found.not_finite, found.arch) == (1, ())


@pytest.mark.parametrize("arch", sorted([*TORCHVISION, "slim", "tf_efficientnet_lite0", "vit_tiny_patch16_224", "convnext_tiny"]))
@pytest.mark.parametrize("prefix", ["", "module.encoder_q.", "backbone."])
def test_every_architecture_is_told_from_its_shapes_alone(arch: str, prefix: str) -> None:
    state = {f"{prefix}{name}": torch.empty(shape, device="meta") for name, shape in architectures.shapes_of(arch).items()}
    assert architectures.recognise(formats.split(state)) == (arch,)


@pytest.mark.parametrize("arch", ["mnasnet_100", "mnasnet_050"])
def test_names_of_torchvision_go_there_and_back(arch: str) -> None:
    own = dict(made_files.network(TORCHVISION[arch]).state_dict())
    inside = {name: value for name, value in own.items() if not name.startswith("classifier")}
    there = to_timm(inside, ())
    assert set(there.values()) == set(backbones.build(arch, 3, None).state_dict())
    back = to_torchvision(there.values(), arch)
    assert [back[there[name]] for name in inside] == list(inside)
