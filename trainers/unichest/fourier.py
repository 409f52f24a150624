"""Mixing amplitudes of two images: another source's look on an image that keeps its own structure, which lies in the phase."""

from __future__ import annotations

import torch
from torch import Tensor


def mix_amplitude(images: Tensor, partners: Tensor, share: Tensor, *, radius: float | None = None) -> Tensor:
    """Return Re IFFT2((s |F| + (1 - s) |G|) exp(i arg F)) of images F and their partners G, (B, c, h, w), with a share s of each, (B,).

    `radius` mixes only frequencies up to so many cycles a pixel (at most .5 along an axis), in which an image's overall look lies; None
    mixes all, as released (UniChest, `engine/train.py`).
    """
    own, other = torch.fft.fft2(images.float()), torch.fft.fft2(partners.float())
    amplitude = own.abs()
    s = share.float().view(-1, 1, 1, 1)
    mixed = s * amplitude + (1 - s) * other.abs()
    if radius is not None:
        high, wide = images.shape[-2:]
        rows, columns = (torch.fft.fftfreq(side, device=images.device) for side in (high, wide))
        low = torch.hypot(rows[:, None], columns[None, :]) <= radius
        mixed = torch.where(low, mixed, amplitude)
    return torch.fft.ifft2(torch.polar(mixed, own.angle())).real
