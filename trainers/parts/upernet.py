"""UPerNet decoders (Xiao et al. 2018): from a pyramid of feature maps to logits of masks.

`UPerNet` is the standard one; `PublishedUPerNet` is that of BenchmarkTransformersSegmentation, parameter for parameter, with its names.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.layers import LayerNorm2d  # pyright: ignore[reportPrivateImportUsage]
from torch import Tensor, nn
from torch.nn import functional


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm2d that takes one value a channel in training too: one image, pooled to 1 x 1, has no variance.

    Such a batch is normalised by the running statistics, and leaves them as they are; torch's own stops there.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, h, w)."""
        if self.training and input.numel() == self.num_features:
            return functional.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


def _conv(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    """Return a convolution without bias, BatchNorm and ReLU."""
    return [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), BatchNorm(outputs), nn.ReLU(inplace=True)]


def _resized(maps: Tensor, like: Tensor, *, align: bool) -> Tensor:
    return functional.interpolate(maps, size=like.shape[2:], mode="bilinear", align_corners=align)


class _Pooling(nn.Module):
    """Pyramid pooling (Zhao et al. 2017): means over grids of `bins`, each brought to `width` channels, beside the map itself."""

    def __init__(self, channels: int, width: int, outputs: int, bins: Sequence[int], *, dropout: float, align: bool) -> None:
        super().__init__()
        self._align = align
        self.stages = nn.ModuleList(nn.Sequential(nn.AdaptiveAvgPool2d(size), *_conv(channels, width, 1)) for size in bins)
        last = [nn.Dropout2d(dropout)] if dropout else []
        self.bottleneck = nn.Sequential(*_conv(channels + len(bins) * width, outputs, 3), *last)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, channels, h, w) to (B, outputs, h, w)."""
        return self.bottleneck(torch.cat([maps, *(_resized(stage(maps), maps, align=self._align) for stage in self.stages)], 1))


class UPerNet(nn.Module):
    """The standard decoder: pyramid pooling on the coarsest map, a cumulative top-down path over all, logits at the finest.

    `channels` are those of the maps, fine to coarse. `normed` puts a LayerNorm over channels before each map, for features of
    transformers, which are not normalised themselves.
    """

    def __init__(self, channels: Sequence[int], structures: int, *, width: int, normed: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(LayerNorm2d(count) if normed else nn.Identity() for count in channels)
        self.pooling = _Pooling(channels[-1], width, width, (1, 2, 3, 6), dropout=0.0, align=False)
        self.lateral = nn.ModuleList(nn.Sequential(*_conv(count, width, 1)) for count in channels[:-1])
        self.smooth = nn.ModuleList(nn.Sequential(*_conv(width, width, 3)) for _ in channels[:-1])
        self.fusion = nn.Sequential(*_conv(len(channels) * width, width, 3), nn.Dropout2d(0.1))
        self.head = nn.Conv2d(width, structures, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map a pyramid, fine to coarse, to logits (B, structures, h, w) at the size of its finest map."""
        normed = [norm(one) for norm, one in zip(self.norms, maps, strict=True)]
        levels = [lateral(one) for lateral, one in zip(self.lateral, normed[:-1], strict=True)] + [self.pooling(normed[-1])]
        for index in reversed(range(len(levels) - 1)):
            levels[index] = levels[index] + _resized(levels[index + 1], levels[index], align=False)
        out = [smooth(one) for smooth, one in zip(self.smooth, levels[:-1], strict=True)] + [levels[-1]]
        return self.head(self.fusion(torch.cat([out[0], *(_resized(one, out[0], align=False) for one in out[1:])], 1)))


class _PublishedFusion(nn.Module):
    """Each map with the next coarser one added, as it came and not as it was summed, smoothed by one convolution that all share."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        width = channels[0]
        self.conv1x1 = nn.ModuleList(nn.Conv2d(count, width, 1) for count in channels[1:])
        # One module under three names, as its state dict has it.
        self.smooth_conv = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1)] * (len(channels) - 1))
        self.conv_fusion = nn.Sequential(*_conv(len(channels) * width, width, 3))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        level = [maps[0], *(conv(one) for conv, one in zip(self.conv1x1, maps[1:], strict=True))]
        pairs = zip(self.smooth_conv, level[:-1], level[1:], strict=True)
        out = [smooth(_resized(coarser, finer, align=True) + finer) for smooth, finer, coarser in pairs] + [level[-1]]
        return self.conv_fusion(torch.cat([out[0], *(_resized(one, out[0], align=True) for one in out[1:])], 1))


class PublishedUPerNet(nn.Module):
    """The decoder of BenchmarkTransformersSegmentation (`upernet_swin_transformer.py` 788-874), with its names.

    Takes the maps of `Merged`: those of a Swin after each stage and its patch merging, so none at stride 4. The finest is taken as it is,
    and its channels are the decoder's: 256 for Swin-B, whose decoder has 23,535,361 parameters with one structure.
    """

    def __init__(self, channels: Sequence[int], structures: int) -> None:
        super().__init__()
        self.PPN = _Pooling(channels[-1], channels[-1] // 4, channels[-1], (1, 2, 4, 6), dropout=0.1, align=True)
        self.FPN = _PublishedFusion(channels)
        self.head = nn.Conv2d(channels[0], structures, 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map a pyramid, fine to coarse, to logits (B, structures, h, w) at the size of its finest map."""
        return self.head(self.FPN([*maps[:-1], self.PPN(maps[-1])]))
