"""Files of AG-CNN's public code, made here in its format from torchvision's DenseNet: taken whole, by label, or refused by name."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.ag_cnn.made_lesions import TINY, made_lesions, setup_of
from tests.trainers.released import made_files
from trainers.ag_cnn import train
from trainers.ag_cnn.config import Config
from trainers.errors import WeightsError

#: In another order than the public code's, and one under the name that cards of ChestX-ray14 give it.
LABELS = ("nodule", "pleural_effusion")
ROWS = [5, 2]
CONFIG: Any = replace(
    TINY,
    branch="joint",
    arch="densenet121",
    channels=3,
    px=64,
    pooling="avg",
    statistic="sum",
    classifiers="released",
    normalization="half",
)


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    """Return two DenseNets of 14 outputs and a fusion."""
    made: dict[str, nn.Module] = {}
    for seed, name in enumerate(("global", "local")):
        made[name] = made_files.replace_head(made_files.network("densenet121", seed=seed), "densenet121", nn.Linear(1024, 14))
    torch.manual_seed(7)
    return {**made, "fusion": nn.Linear(2048, 14)}


def old_names(name: str) -> str:
    """Return a DenseNet's key as torchvision wrote it before 2018."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name)


def public_files(networks: dict[str, nn.Module], folder: Path) -> dict[str, str]:
    """Write the three files as the public code does: bare, one from several GPUs, one as its CheXNet start has it."""
    state = {name: network.state_dict() for name, network in networks.items()}
    files: dict[str, dict[str, Tensor] | dict[str, dict[str, Tensor]]] = {
        "Global": {f"module.{old_names(name)}": value for name, value in state["global"].items()},
        "Local": {
            "state_dict": {
                f"module.densenet121.{old_names(name)}".replace("classifier.", "classifier.0."): value
                for name, value in state["local"].items()
                if not name.endswith("num_batches_tracked")
            }
        },
        "Fusion": {f"fc.{name}": value for name, value in state["fusion"].items()},
    }
    for name, content in files.items():
        torch.save(content, folder / f"AG_CNN_{name}_epoch_1.pkl")
    assert any("norm.1." in name for name in files["Global"]) and any("conv.2." in name for name in files["Global"])
    return {
        key: str(folder / f"AG_CNN_{name}_epoch_1.pkl")
        for key, name in (("init", "Global"), ("init_local", "Local"), ("init_fusion", "Fusion"))
    }


def built(config: Config, labels: tuple[str, ...] = LABELS) -> train.AgCnnTraining:
    return train.build(setup_of(config, data=made_lesions(n=24, sizes=(16, 4), names=labels), labels=labels))


def test_public_files_predict_as_they_did(networks: dict[str, nn.Module], tmp_path: Path) -> None:
    method = built(replace(CONFIG, **public_files(networks, tmp_path)))
    module = method.module.eval()
    views = next(iter(method.batches(0)))["views"][:4]
    with torch.no_grad():
        seen = module(views)
        assert seen.patches is not None
        normal, inner = module._normalize(views.float()), module._normalize(seen.patches[:, 0])
        vectors = [made_files.features("densenet121", networks[name], images) for name, images in (("global", normal), ("local", inner))]
        for name, vector in zip(("global", "local"), vectors, strict=True):
            head: Any = networks[name].classifier
            torch.testing.assert_close(seen.logits[name], head(vector)[:, ROWS], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(seen.logits["fusion"], networks["fusion"](torch.cat(vectors, 1))[:, ROWS], rtol=1e-3, atol=1e-3)
        # The heat map is the sum over the channels of the last maps, behind their ReLU.
        maps: Any = networks["global"].features
        torch.testing.assert_close(seen.heats[:, 0], maps(normal).relu().sum(1), rtol=1e-3, atol=1e-2)


def test_what_is_no_public_file_is_refused_by_its_key(networks: dict[str, nn.Module], tmp_path: Path) -> None:
    files = public_files(networks, tmp_path)
    first = torch.load(files["init"], weights_only=True)
    fusion = torch.load(files["init_fusion"], weights_only=True)
    key = next(name for name in first if "denselayer2.norm.1.weight" in name)
    bad: list[tuple[str, dict[str, Tensor], str]] = [
        ("init", {**first, "module.features.denseblock9.weight": first[key]}, r"features\.denseblock9\.weight"),
        ("init", {name: value for name, value in first.items() if name != key}, r"denselayer2\.norm1\.weight"),
        ("init", {**first, "module.classifier.weight": torch.zeros(15, 1024)}, r"weight \(15, 1024\).* a file of 14 findings"),
        ("init_fusion", {**fusion, "fc1.weight": fusion["fc.weight"]}, r"has a key 'fc1\.weight'"),
        ("init_fusion", {"fc.weight": fusion["fc.weight"][:, :1024], "fc.bias": fusion["fc.bias"]}, r"weight \(14, 1024\)"),
        ("init_fusion", {"fc.weight": fusion["fc.weight"]}, r"has weight \(14, 2048\), and the public code's has .*bias"),
    ]
    for at, (name, state, words) in enumerate(bad):
        torch.save(state, tmp_path / f"bad{at}.pkl")
        config = replace(CONFIG, **{**files, name: str(tmp_path / f"bad{at}.pkl")})
        with pytest.raises(WeightsError, match=words) as caught:
            built(config)
        assert f"bad{at}.pkl" in str(caught.value)
    with pytest.raises(WeightsError, match="has no output 'signal': leave that label out"):
        built(replace(CONFIG, **files), ("signal", "nodule"))
    with pytest.raises(WeightsError, match="there is no file"):
        built(replace(CONFIG, **{**files, "init_local": str(tmp_path / "nowhere.pkl")}))


def test_a_backbone_alone_leaves_the_classifier_as_it_is_built(networks: dict[str, nn.Module], tmp_path: Path) -> None:
    files = public_files(networks, tmp_path)
    config = replace(CONFIG, branch="global", classifiers="new", init=files["init"])
    method = built(config, ("signal", "noise"))
    untrained = built(replace(config, init="random"), ("signal", "noise"))
    ours = method.module.branch("global")
    assert torch.equal(ours.head.weight, untrained.module.branch("global").head.weight)
    weight: Any = networks["global"].features
    assert torch.equal(ours.backbone.get_parameter("features.conv0.weight"), weight.conv0.weight)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"branch": "global", "init_local": "x.pkl"}, "init_local: names what a local branch"),
        ({"local_init": "global", "init_local": "x.pkl"}, "set branch: local or joint, and local_init: init"),
        ({"classifiers": "new", "init_fusion": "x.pkl"}, "init_fusion: is the classifier of a fusion"),
        ({"branch": "local", "init_fusion": "x.pkl"}, "set branch: fusion or joint"),
        ({"no_finding": True}, "set no_finding: false"),
    ],
)
def test_a_config_that_means_nothing_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(CONFIG, **changes)
