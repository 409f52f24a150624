"""The three parts of an AG-CNN and how an image goes through them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainers.ag_cnn.config import Config
from trainers.ag_cnn.mosaic import wrapped_mosaic
from trainers.data.streams import key
from trainers.errors import Error
from trainers.parts import backbones, heads
from trainers.parts.attention import Attended, Attention, attend, attention_from, cut_out, enlarged, heat, heat_of_classes, scaled
from trainers.parts.inputs import Normalizer
from trainers.parts.pooling import Pooling, pool

GLOBAL, LOCAL, FUSION = "global", "local", "fusion"
#: Branch -> the parts that it predicts with.
PARTS = {GLOBAL: (GLOBAL,), LOCAL: (GLOBAL, LOCAL), FUSION: (GLOBAL, LOCAL, FUSION), "joint": (GLOBAL, LOCAL, FUSION)}
_HEAD = 7
_BACKBONES = {GLOBAL: 1, LOCAL: 2}


class Branch(nn.Module):
    """A network with feature maps, and a linear classifier on their pooled vector."""

    def __init__(self, backbone: nn.Module, features: int, outputs: int, config: Config, seed: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = heads.linear(features, outputs, seed=seed)
        self._pooling: Pooling = config.pooling
        self._r = config.lse_r

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (B, C, px, px) to feature maps (B, K, h, w) and their pooled vector (B, K) float32."""
        maps = self.backbone.forward_features(images)  # pyright: ignore[reportCallIssue]
        return maps, pool(maps, self._pooling, self._r)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What an AG-CNN makes of a batch."""

    #: Part -> logits (B, outputs) float32.
    logits: dict[str, Tensor]
    #: Heat maps (B, L, h, w) of the global branch, L 1 with one box an image; and what was attended to, of B x L of them.
    heats: Tensor
    attended: Attended | None
    #: Patches (B, L, C or 1, px, px) in levels from 0 to 255; None where there is no local branch.
    patches: Tensor | None


class AgCnn(nn.Module):
    """Views (B, 1, side, side) uint8 to logits of every part, side being that of the view that patches are cut from."""

    attention: Tensor

    def __init__(self, config: Config, outputs: int, seed: int) -> None:
        super().__init__()
        self.config, self.outputs = config, outputs
        self.parts = PARTS[config.branch]
        self._normalize = Normalizer(config.normalization, config.channels)
        for name in self.parts[:2]:
            self.add_module(name, _branch(config, outputs, seed, name))
        width = self.branch(GLOBAL).head.in_features
        if FUSION in self.parts:
            self.add_module(FUSION, heads.linear(2 * width, outputs, seed=key(seed, _HEAD, 2)))
        # With the weights, because a fusion takes it from its local branch, and whoever predicts has the weights alone.
        self.register_buffer("attention", attention_of(config).numbers())
        #: Parts that training leaves alone, and those of them whose BatchNorm goes on all the same.
        self.frozen: tuple[str, ...] = ()
        self.drifting: tuple[str, ...] = ()

    def branch(self, name: str) -> Branch:
        """Return a branch by name."""
        found = self.get_submodule(name)
        assert isinstance(found, Branch)
        return found

    @property
    def predicts(self) -> str:
        """Return the part that predicts: the last one that learns."""
        if self.config.branch != "joint":
            return self.parts[-1]
        return [name for name, weight in zip(self.parts, self.config.loss_weights, strict=True) if weight][-1]

    @property
    def how(self) -> Attention:
        """Return how boxes are found."""
        return attention_from(self.attention)

    def freeze(self, parts: tuple[str, ...], *, still: bool) -> None:
        """Leave parts as they are from now on; where not `still`, their BatchNorm statistics go on."""
        self.frozen, self.drifting = parts, () if still else parts
        for name in parts:
            self.get_submodule(name).requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> AgCnn:
        """Switch to training, where frozen parts stay in eval mode."""
        super().train(mode)
        for name in self.frozen:
            self.get_submodule(name).train(mode and name in self.drifting)
        return self

    def forward(self, views: Tensor) -> Seen:
        views = views.float()
        finer = views.shape[2] // self.config.px
        # An image is the mean of what patches are cut from, so both show the same, whatever was drawn.
        images = functional.avg_pool2d(views, finer) if finer > 1 else views
        normal = self._normalize(images)
        maps, pooled = self._through(GLOBAL, normal)
        with torch.autocast(views.device.type, enabled=False):
            logits = {GLOBAL: self.branch(GLOBAL).head(pooled)}
            heats = self._heats(maps.detach())
            if LOCAL not in self.parts:
                return Seen(logits=logits, heats=heats, attended=None, patches=None)
            attended = self.attended(heats)
            patches = self._patches(views, normal, attended)
        _, inner = self._through(LOCAL, self._normalize(patches) if patches.shape[1] == 1 else self._normal(patches))
        with torch.autocast(views.device.type, enabled=False):
            inner = inner.reshape(len(views), -1, inner.shape[1])
            logits[LOCAL] = _outputs(self.branch(LOCAL).head, inner)
            if FUSION in self.parts:
                joined = torch.cat([pooled[:, None].expand(-1, inner.shape[1], -1), inner], dim=2)
                joined = joined if self.config.fusion_gradients else joined.detach()
                head = self.get_submodule(FUSION)
                assert isinstance(head, nn.Linear)
                logits[FUSION] = _outputs(head, joined)
        return Seen(logits=logits, heats=heats, attended=attended, patches=patches.reshape(len(views), -1, *patches.shape[1:]))

    def attended(self, heats: Tensor) -> Attended:
        """Return where the network looks, of every heat map (B, L, h, w): B x L boxes in pixels of the input."""
        return attend(heats.flatten(0, 1), self.config.px, self.how)

    def large(self, heats: Tensor) -> Tensor:
        """Return heat maps (B, L, h, w) as they are looked at, (B, L, px, px) in [0, 1]."""
        return scaled(enlarged(heats.flatten(0, 1), self.config.px)).unflatten(0, heats.shape[:2])

    def _through(self, name: str, images: Tensor) -> tuple[Tensor, Tensor]:
        branch = self.branch(name)
        with torch.set_grad_enabled(torch.is_grad_enabled() and name not in self.frozen):
            return branch(images)

    def _heats(self, maps: Tensor) -> Tensor:
        how = self.how
        if not how.per_class:
            return heat(maps, how.statistic)[:, None]
        return heat_of_classes(maps, self.branch(GLOBAL).head.weight.detach(), how.statistic)

    def _patches(self, views: Tensor, normal: Tensor, attended: Attended) -> Tensor:
        config, many = self.config, len(attended.boxes) // len(views)
        if config.patch == "wrapped_mosaic":
            return wrapped_mosaic(normal.repeat_interleave(many, 0), attended.boxes, config.px)
        boxes = attended.boxes * (views.shape[2] / config.px)
        return cut_out(views.repeat_interleave(many, 0), boxes, config.px)

    def _normal(self, patches: Tensor) -> Tensor:
        """Normalise patches of three channels that differ."""
        parts = [self._normalize(patches[:, index : index + 1])[:, index : index + 1] for index in range(patches.shape[1])]
        return torch.cat(parts, dim=1).contiguous(memory_format=torch.channels_last)


def attention_of(config: Config) -> Attention:
    """Return how a config finds boxes."""
    names = ("statistic", "upsampled", "thresholding", "threshold", "connectivity", "inclusive", "margin", "min_side")
    values: dict[str, Any] = {name: getattr(config, name) for name in names}
    return Attention(**values, per_class=config.boxes == "per_class")


def _outputs(head: nn.Linear, vectors: Tensor) -> Tensor:
    """Return logits (B, L) of vectors (B, 1, d), or of a vector for each label, (B, L, d)."""
    if vectors.shape[1] == 1:
        return head(vectors[:, 0])
    return torch.einsum("bld,ld->bl", vectors, head.weight) + head.bias


def _branch(config: Config, outputs: int, seed: int, name: str) -> Branch:
    backbone = backbones.build(config.arch, config.channels, config.px, seed=key(seed, _BACKBONES[name]))
    return Branch(backbone, _features(backbone, config), outputs, config, key(seed, _HEAD, _BACKBONES[name] - 1))


@torch.no_grad()
def _features(backbone: nn.Module, config: Config) -> int:
    """Return the channels of the last map. Raises Error for a network that has none."""
    backbone.eval()
    maps = backbone.forward_features(torch.zeros(1, config.channels, config.px, config.px))  # pyright: ignore[reportCallIssue]
    backbone.train()
    if maps.dim() != 4 or maps.shape[2] != maps.shape[3]:
        raise Error(f"config.arch: '{config.arch}' ends in tokens, and a heat map needs feature maps: name a CNN, such as resnet50")
    return int(maps.shape[1])
