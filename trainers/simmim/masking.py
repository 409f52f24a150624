"""Which squares of a view are masked, how tokens and pixels follow from them, and the loss over what is hidden."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainers.data.streams import uniform

#: Masks come from the same streams as views, which are numbered from 0.
_MASK_VIEW = 0x6D
#: What the loss divides by besides the number of hidden pixels (Xie et al. 2022, their code).
_EPSILON = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Masking:
    """Squares of a view: how many there are on a side, how many are hidden, and how many tokens one is."""

    cells: int
    hidden: int
    #: Tokens on a side of a square; pixels on a side of a token.
    tokens: int
    token_px: int

    @classmethod
    def of(cls, px: int, patch: int, ratio: float, token_px: int) -> Masking:
        """Divide a view of `px` pixels, tokens having `token_px`; the share is rounded up to a whole square (SimMIM: 22 of 36)."""
        cells = px // patch
        return cls(cells=cells, hidden=math.ceil(ratio * cells**2), tokens=patch // token_px, token_px=token_px)

    def drawn(self, positions: np.ndarray, *, seed: int, epoch: int) -> Tensor:
        """Return which squares of each image are hidden, bool (n, cells, cells): a function of (seed, epoch, position) alone.

        A uniform permutation is the order of so many independent numbers; equal ones, which 53 bits hardly have, go by their place.
        """
        count = self.cells**2
        draws = uniform(count, seed=seed, epoch=epoch, positions=positions, view=_MASK_VIEW)
        hidden = np.zeros((len(draws), count), dtype=bool)
        np.put_along_axis(hidden, np.argsort(draws, axis=1, kind="stable")[:, : self.hidden], True, axis=1)
        return torch.from_numpy(hidden.reshape(-1, self.cells, self.cells))

    def of_tokens(self, hidden: Tensor) -> Tensor:
        """Return which tokens are hidden, bool (n, h, w), from squares (n, cells, cells)."""
        return _enlarged(hidden, self.tokens)

    def of_pixels(self, hidden: Tensor) -> Tensor:
        """Return which pixels are hidden, bool (n, 1, px, px)."""
        return _enlarged(hidden, self.tokens * self.token_px).unsqueeze(1)

    def facts(self) -> dict[str, int]:
        """Return what a result says of masks."""
        whole, hidden = self.cells**2, self.hidden
        return {"squares": whole, "masked": hidden, "tokens": whole * self.tokens**2, "masked_tokens": hidden * self.tokens**2}


def _enlarged(grid: Tensor, times: int) -> Tensor:
    count, height, width = grid.shape
    return grid[:, :, None, :, None].expand(count, height, times, width, times).reshape(count, height * times, width * times)


def masked_l1(target: Tensor, rebuilt: Tensor, hidden: Tensor) -> Tensor:
    """Return sum(|x - y| M) / (sum(M) + 1e-5) / channels over a batch, in float32 (Xie et al. 2022, section 3.4 and their code).

    `target` and `rebuilt` are (B, C, h, w), `hidden` is M, (B, 1, h, w).
    """
    weight = hidden.float()
    gap = (target.float() - rebuilt.float()).abs()
    return (gap * weight).sum() / (weight.sum() + _EPSILON) / target.shape[1]


def each_l1(target: Tensor, rebuilt: Tensor, hidden: Tensor) -> Tensor:
    """Return the same of every image by itself, (B,)."""
    weight = hidden.float()
    gap = ((target.float() - rebuilt.float()).abs() * weight).sum((1, 2, 3))
    return gap / (weight.sum((1, 2, 3)) + _EPSILON) / target.shape[1]


def constant_l1(target: Tensor, hidden: Tensor) -> Tensor:
    """Return what somebody pays who learnt nothing, (B,): each image's mean over what is not hidden, or 0 where that is nearer."""
    seen = (~hidden).float()
    mean = (target.float() * seen).sum((2, 3), keepdim=True) / seen.sum((2, 3), keepdim=True).clamp_min(1.0)
    return torch.minimum(each_l1(target, mean, hidden), each_l1(target, torch.zeros_like(mean), hidden))
