"""Feature pyramids: maps of four strides from any timm network that hands on its intermediate features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import timm.models
import torch
from timm.layers import LayerNorm2d  # pyright: ignore[reportPrivateImportUsage]
from torch import Tensor, nn
from torch.nn import functional

from trainers.errors import Error

LEVELS = 4


class Pyramid(Protocol):
    """A network whose forward pass gives maps (B, channels[i], h_i, w_i), fine to coarse."""

    channels: tuple[int, ...]
    #: Whether maps are the unnormalised ones of a transformer.
    normed: bool

    def __call__(self, images: Tensor) -> list[Tensor]: ...


class Stages(nn.Module):
    """The last map of each of the four last stages of a hierarchical network (ResNet, ConvNeXt, Swin): strides 4 to 32 as a rule."""

    def __init__(self, backbone: nn.Module, px: int) -> None:
        super().__init__()
        self.backbone = backbone
        self._indices = _stages(backbone)
        # A network without BatchNorm is a transformer, or built as one.
        self.normed = not any(isinstance(part, nn.BatchNorm2d) for part in backbone.modules())
        self.channels = _widths(self, backbone, px)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images (B, channels, px, px) to maps, fine to coarse."""
        return self.backbone.forward_intermediates(images, indices=self._indices, intermediates_only=True)  # pyright: ignore[reportCallIssue]


class Merged(nn.Module):
    """Maps of a Swin after each stage and its patch merging, not normalised: 28, 14, 7 and 7 of 224 pixels.

    The map at stride 4 and the last LayerNorm are left out, as in BenchmarkTransformersSegmentation (`upernet_swin_transformer.py` 607).
    """

    normed = True

    def __init__(self, backbone: nn.Module, px: int) -> None:
        super().__init__()
        if not isinstance(backbone, timm.models.SwinTransformer):
            raise Error(
                "config.decoder: upernet_published takes the maps of a Swin after its patch merging: set arch to one, or decoder: upernet"
            )
        self.backbone: timm.models.SwinTransformer = backbone
        self.channels = _widths(self, backbone, px)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images (B, channels, px, px) to maps, fine to coarse."""
        found: list[Tensor] = []
        here = self.backbone.patch_embed(images)
        for index, stage in enumerate(self.backbone.layers):
            if index:
                # In timm a stage starts with the merging that the released code ends the stage before with.
                here = stage.get_submodule("downsample")(here)
                found.append(here)
            here = stage.get_submodule("blocks")(here)
        return [one.permute(0, 3, 1, 2).contiguous() for one in (*found, here)]


class Columns(nn.Module):
    """Four maps from the last one of a network of one stride (ViT): twice and once finer, as it is, coarser (ViTDet, Li et al. 2022)."""

    normed = True

    def __init__(self, backbone: nn.Module, px: int) -> None:
        super().__init__()
        self.backbone = backbone
        (width,) = _widths(self, backbone, px)
        self.finer = nn.ModuleList(
            [
                nn.Sequential(_up(width), LayerNorm2d(width), nn.GELU(), _up(width)),
                _up(width),
            ]
        )
        self.channels = (width,) * LEVELS

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images (B, channels, px, px) to maps, fine to coarse."""
        last = _last(self.backbone, images)
        return [*(up(last) for up in self.finer), last, functional.max_pool2d(last, 2)]


def pyramid_of(backbone: nn.Module, arch: str, px: int, *, merged: bool, seed: int) -> Stages | Merged | Columns:
    """Return a pyramid over a network; what it adds is a function of the seed. Raises Error for a network that has no maps."""
    if merged:
        return Merged(backbone, px)
    if not hasattr(backbone, "forward_intermediates"):
        raise Error(f"config.arch: '{arch}' hands on no intermediate features (timm's forward_intermediates), which a decoder needs")
    strides = [int(stage["reduction"]) for stage in backbone.feature_info]  # pyright: ignore[reportGeneralTypeIssues]
    if len(set(strides)) >= LEVELS:
        return Stages(backbone, px)
    if len(set(strides)) > 1:
        raise Error(f"config.arch: '{arch}' has maps of strides {sorted(set(strides))}, and a pyramid takes {LEVELS} of them or one")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Columns(backbone, px)


def _stages(backbone: nn.Module) -> list[int]:
    """Return which intermediate features are the last of each of the four coarsest strides."""
    strides = [int(stage["reduction"]) for stage in backbone.feature_info]  # pyright: ignore[reportGeneralTypeIssues]
    last = {stride: index for index, stride in enumerate(strides)}
    return [last[stride] for stride in sorted(last)[-LEVELS:]]


def _last(backbone: nn.Module, images: Tensor) -> Tensor:
    return backbone.forward_intermediates(images, indices=1, intermediates_only=True)[0]  # pyright: ignore[reportCallIssue]


def _up(width: int) -> nn.Module:
    return nn.ConvTranspose2d(width, width, 2, stride=2)


@torch.no_grad()
def _widths(pyramid: nn.Module, backbone: nn.Module, px: int) -> tuple[int, ...]:
    """Return the channels of a pyramid's maps, from a pass of one black image; statistics stay as they are."""
    stem = next(part for part in backbone.modules() if isinstance(part, nn.Conv2d))
    training = backbone.training
    backbone.eval()
    black = torch.zeros(1, stem.in_channels, px, px)
    maps: Sequence[Tensor] = [_last(backbone, black)] if isinstance(pyramid, Columns) else pyramid(black)
    backbone.train(training)
    return tuple(int(one.shape[1]) for one in maps)
