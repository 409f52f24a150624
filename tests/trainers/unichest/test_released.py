"""A checkpoint in UniChest's published layout, aliases included, made here of torch's own modules: the released one cannot be had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from tests.trainers.unichest.made_sources import TINY, run, setup_of
from tests.trainers.unichest.test_network import Plain
from trainers.api import Solver
from trainers.errors import WeightsError
from trainers.unichest import train
from trainers.unichest.config import Config

RELEASED = replace(
    TINY,
    stage="released",
    arch="resnet18",
    channels=3,
    width=16,
    hidden=24,
    layers=2,
    main_ratio=0.5,
    bias_ratio=0.5,
    contrast="as_published",
)
_CHILDREN = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")


class Published(nn.Module):
    """The network as the release lays it out; a trunk of ResNet-18 in place of ResNet-50, or torchvision's DenseNet-121."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, dense = config.width, config.arch == "densenet121"
        trunk = torchvision.models.densenet121(weights=None) if dense else timm.create_model("resnet18", pretrained=False, num_classes=1000)
        features = 1024 if dense else 512
        self.dense = dense
        self.trunk, self.l1, self.l2 = trunk, nn.Linear(features, features), nn.Linear(features, width)
        self.norm = nn.LayerNorm(width)
        names = ("decoder", "decoderV1", "decoderV1_1", "decoderV1_2", "decoderV1_3")
        self.decoders = nn.ModuleDict({name: Plain(width, config.heads, config.hidden, config.layers) for name in names})
        self.gate, self.projection = nn.Linear(width, 3), nn.Linear(3, config.gate_width)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for value in self.parameters():
                value.normal_(0.0, 0.05, generator=generator)

    def checkpoint(self) -> dict[str, Any]:
        """Return what the release saves."""
        trunk = self.trunk.state_dict()
        long, short = ("densenet", "dense") if self.dense else ("resnet", "res")
        image = {f"{long}.{name}": value for name, value in trunk.items()}
        for name, value in trunk.items():
            head, _, rest = name.partition(".")
            if head not in ("fc", "classifier"):
                image[f"dense_features.{rest}" if self.dense else f"res_features.{_CHILDREN.index(head)}.{rest}"] = value
        for name, layer in ((f"{short}_l1", self.l1), (f"{short}_l2", self.l2)):
            image |= {f"{name}.{inner}": value for inner, value in layer.state_dict().items()}
        model: dict[str, Tensor] = {"logit_scale": torch.tensor(2.0)}
        model |= {f"decoder_norm.{name}": value for name, value in self.norm.state_dict().items()}
        for name, decoder in self.decoders.items():
            assert isinstance(decoder, Plain)
            model |= {f"{name}.layers.{inner}": value for inner, value in decoder.layers.state_dict().items()}
            model |= {f"{name}.norm.{inner}": value for inner, value in self.norm.state_dict().items()}
            if name != "decoder":
                head = name.replace("decoderV1", "mlp_head")
                model |= {f"{head}.0.{inner}": value for inner, value in decoder.head.state_dict().items()}
        for name, layer in (("gate_head", self.gate), ("cl_head", self.projection)):
            model |= {f"{name}.0.{inner}": value for inner, value in layer.state_dict().items()}
        text = {"bert_model.pooler.dense.bias": torch.zeros(4)}
        return {"model": model, "image_encoder": image, "text_encoder": text, "optimizer": {}, "lr_scheduler": {}, "config": {}, "epoch": 7}

    def forward(self, pixels: Tensor, prompts: Tensor) -> Tensor:
        """Return probabilities as the formulas of the paper say."""
        # The release reads torchvision's `features`, which end before DenseNet's last ReLU.
        trunk: Any = self.trunk
        found = trunk.features(pixels) if self.dense else trunk.forward_features(pixels)
        features = found.flatten(2).transpose(1, 2)
        memory, asked = self.norm(self.l2(self.l1(features).relu())), self.norm(prompts)
        scores = [decoder(asked, memory, self.norm, 1.0, 0.4).sigmoid() for name, decoder in self.decoders.items() if name != "decoder"]
        weights = self.gate(memory.mean(1)).softmax(1)
        return 0.5 * scores[0] + 0.5 * sum(weights[:, k, None] * scores[k + 1] for k in range(3))


def saved(
    folder: Path, change: Callable[[dict[str, Any]], None] = lambda content: None, config: Config = RELEASED
) -> tuple[Path, Published]:
    published = Published(config).eval()
    content = published.checkpoint()
    change(content)
    torch.save(content, folder / "best_valid.pt")
    return folder / "best_valid.pt", published


def test_a_published_checkpoint_gives_the_published_probabilities(tmp_path: Path) -> None:
    file, published = saved(tmp_path)
    setup = setup_of(RELEASED, weights={"init": file})
    host, outcome, method = run(setup, tmp_path / "run")
    assert isinstance(method, Solver) and outcome.finished and "val/mean_auroc" in outcome.metrics and host.digests
    views = torch.randint(0, 256, (3, 1, 32, 32), dtype=torch.uint8)
    pixels = method.module.pixels(views)
    prompts = method.encoder.encode(["edema", "nodule"])
    method.module.eval()
    with torch.no_grad():
        found = method.module.answer(method.module.tokens(pixels), prompts).probabilities
        expected = published(pixels, prompts)
    assert torch.allclose(found, expected, atol=1e-5)


DENSE = replace(RELEASED, arch="densenet121", last_activation=False)


@pytest.mark.parametrize("channels", [3, 1])
def test_a_published_densenet_gives_the_published_probabilities(tmp_path: Path, channels: int) -> None:
    file, published = saved(tmp_path, config=DENSE)
    method = train.build(setup_of(replace(DENSE, channels=channels, stage="divide", normalization="half"), weights={"init": file}))
    views = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    pixels, prompts = method.module.pixels(views), method.encoder.encode(["edema", "nodule"])
    method.module.eval()
    with torch.no_grad():
        found = method.module.answer(method.module.tokens(pixels), prompts).probabilities
        expected = published(pixels.expand(-1, 3, -1, -1), prompts)
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_published_densenet_that_is_not_whole_is_refused_by_name(tmp_path: Path) -> None:
    file, _ = saved(tmp_path, _drop("image_encoder", "dense_features.denseblock2.denselayer3.conv1.weight"), config=DENSE)
    with pytest.raises(
        WeightsError, match=r"'dense_features\.denseblock2\.denselayer3\.conv1\.weight', a second name of one tensor, is missing"
    ):
        train.build(setup_of(DENSE, weights={"init": file}))
    file, _ = saved(tmp_path, _add("image_encoder", "densenet.stranger"), config=DENSE)
    with pytest.raises(WeightsError, match=r"unexpected: 1 .image_encoder\.densenet\.stranger."):
        train.build(setup_of(DENSE, weights={"init": file}))


def test_divide_may_start_from_a_published_checkpoint(tmp_path: Path) -> None:
    file, published = saved(tmp_path)
    config = replace(RELEASED, stage="divide", moe_ratio=1.0)
    method = train.build(setup_of(config, weights={"init": file}))
    head = method.module.state_dict()["queries.experts.head.weight"]
    assert torch.equal(head[2], published.decoders["decoderV1_3"].head.weight)  # type: ignore[arg-type, union-attr]


def _drop(entry: str, name: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content[entry].pop(name)


def _add(entry: str, name: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content[entry].update({name: torch.ones(2)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop("model", "decoderV1_2.layers.1.linear1.weight"), "missing: 1 .queries.experts.layers.1.linear1.weight.; unexpected: 2"),
        (_add("model", "stranger"), "unexpected: 1 .stranger."),
        (_add("image_encoder", "stranger"), "unexpected: 1 .image_encoder.stranger."),
        (_drop("image_encoder", "res_l2.bias"), "missing: 1 .projection.second.bias."),
        (_drop("image_encoder", "res_features.0.weight"), "'res_features.0.weight', a second name of one tensor, is missing"),
        (_add("model", "decoderV1_1.norm.bias"), "'decoderV1_1.norm.bias', a second name of one tensor, is not what"),
        (lambda content: content.pop("model"), "has no model and image_encoder|a checkpoint of UniChest has image_encoder"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_whole_is_refused_by_name(tmp_path: Path, change: Any, message: str) -> None:
    file, _ = saved(tmp_path, change)
    with pytest.raises(WeightsError, match=message):
        train.build(setup_of(RELEASED, weights={"init": file}))


def test_the_number_of_experts_is_the_files(tmp_path: Path) -> None:
    file, _ = saved(tmp_path)
    with pytest.raises(WeightsError, match=r"has 3 experts, config\.experts is 4: set experts: 3"):
        train.build(setup_of(replace(RELEASED, experts=4), weights={"init": file}))
    with pytest.raises(WeightsError, match="released starts from a conquer phase or from a published checkpoint"):
        train.build(setup_of(RELEASED))
