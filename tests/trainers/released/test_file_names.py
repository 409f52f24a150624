"""What names of weights files say: those of MoCo-CXR's release and its jobs, of facebookresearch, of numbered checkpoints."""

from __future__ import annotations

import pytest

from trainers.released.file_names import decode


@pytest.mark.parametrize(
    ("name", "arch", "imagenet", "lr"),
    [
        ("mnn-00001.pth.tar", "mnasnet_100", None, 1e-4),
        ("r8w-00001.pth.tar", "resnet18", True, 1e-4),
        ("r8w-00001-v2.pth.tar", "resnet18", True, 1e-4),
        ("r8w-0001.pth.tar", "resnet18", True, 1e-3),
        ("r8w-001.pth.tar", "resnet18", True, 1e-2),
        ("r5w-00001.pth.tar", "resnet50", True, 1e-4),
        ("d1w-00001.pth.tar", "densenet121", True, 1e-4),
        ("d1w-00001.safetensors", "densenet121", True, 1e-4),
    ],
)
def test_the_published_names(name: str, arch: str, imagenet: bool | None, lr: float) -> None:
    found = decode(name)
    assert found is not None
    assert (found.arch, found.imagenet, found.lr) == (arch, imagenet, pytest.approx(lr, rel=1e-12))
    assert found.says.startswith("published by MoCo-CXR")
    assert ("version 2" in found.says) == ("-v2" in name)


@pytest.mark.parametrize(
    ("name", "arch", "imagenet", "lr", "batch"),
    [
        ("r8w1n416", "resnet18", True, 1e-4, 16),
        ("r8o5n524.pth.tar", "resnet18", False, 5e-5, 24),
        ("d1w1n224_20200710h12", "densenet121", True, 1e-2, 24),
        ("r5o5n416.pth", "resnet50", False, 5e-4, 16),
    ],
)
def test_the_names_of_jobs(name: str, arch: str, imagenet: bool, lr: float, batch: int) -> None:
    found = decode(name)
    assert found is not None
    assert (found.arch, found.imagenet, found.lr, found.batch_size) == (arch, imagenet, pytest.approx(lr), batch)


def test_names_of_facebookresearch_and_numbers() -> None:
    found = decode("moco_v1_200ep_pretrain.pth.tar")
    assert found is not None and (found.arch, found.epoch, found.mlp) == ("resnet50", 200, False)
    found = decode("moco_v2_800ep_pretrain.pth.tar")
    assert found is not None and (found.epoch, found.mlp) == (800, True)
    found = decode("checkpoint_0019.pth.tar")
    assert found is not None and found.epoch == 20
    found = decode("iter_8192.pth.tar")
    assert found is not None and "8,192 examples" in found.says


@pytest.mark.parametrize(
    "name", ["model.pth", "r9w-00001.pth", "r8w-1.pth", "r8w1n4", "resnet18-f37072fd.pth", "r8w-00001x.pth", ".pth", ""]
)
def test_other_names_say_nothing(name: str) -> None:
    assert decode(name) is None
