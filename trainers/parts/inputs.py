"""From uint8 views to what a network takes, on the device that it runs on."""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.data.transforms import channel_statistics


class Normalizer:
    """Turn uint8 views (B, 1, h, w) into float32 (B, channels, h, w): over 255, minus the mean, over the sd, a channel at a time."""

    def __init__(self, name: str, channels: int) -> None:
        mean, spread = channel_statistics(name, channels)
        self._scale = [1 / (255 * one) for one in spread]
        self._shift = [-m / s for m, s in zip(mean, spread, strict=True)]

    def __call__(self, views: Tensor) -> Tensor:
        scale = torch.tensor(self._scale, device=views.device).view(1, -1, 1, 1)
        shift = torch.tensor(self._shift, device=views.device).view(1, -1, 1, 1)
        return torch.addcmul(shift, views.float(), scale).contiguous(memory_format=torch.channels_last)
