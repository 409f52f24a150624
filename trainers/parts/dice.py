"""The soft Dice loss of a batch of masks, alone or beside cross-entropy."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor, distributed
from torch.nn import functional

MaskLoss: TypeAlias = Literal["dice", "dice_bce"]


def mask_loss(logits: Tensor, targets: Tensor, known: Tensor, kind: MaskLoss, *, smooth: float = 1.0, shared: bool = True) -> Tensor:
    """Return the loss of a batch: soft Dice, or its sum with the mean cross-entropy of pixels.

    `logits` and `targets` (in [0, 1]) are (B, L, h, w); `known` (B, L) bool says which structures are annotated in which image, and the
    rest counts in nothing. Dice is the mean over structures of 1 - (2 sum p y + s) / (sum p + sum y + s), p the sigmoid of a logit, with
    sums over all pixels of all images of the batch (Milletari et al. 2016; smoothed and over the batch as in
    BenchmarkTransformersSegmentation, `utils.py` 114-118). Where processes share a batch, sums are those of all of them, and so is the
    loss; its gradient is such that the loop's mean over images makes it that of the whole batch. `shared=False` is for a batch that every
    process has whole.
    """
    logits, weight = logits.float(), known.float()
    p, y = logits.sigmoid(), targets.float()
    parts = [(p * y).sum((2, 3)), p.sum((2, 3)), y.sum((2, 3)), torch.ones_like(weight)]
    if kind == "dice_bce":
        parts.append(functional.binary_cross_entropy_with_logits(logits, y, reduction="none").mean((2, 3)))
    sums = torch.stack([(part * weight).sum(0) for part in parts])
    if shared and distributed.is_available() and distributed.is_initialized():
        sums = _of_all(sums, len(logits))
    both, predicted, true, annotated = sums[:4]
    seen = (annotated > 0).float()
    dice = 1 - (2 * both + smooth) / (predicted + true + smooth)
    loss = (dice * seen).sum() / seen.sum().clamp(min=1)
    return loss if kind == "dice" else loss + sums[4].sum() / annotated.sum().clamp(min=1)


def _of_all(sums: Tensor, images: int) -> Tensor:
    """Return sums over all processes, whose gradient is that of this one's part times what the loop will divide it by."""
    total = torch.cat([sums.detach().flatten(), sums.new_tensor([float(images)])])
    distributed.all_reduce(total)
    # The loop weighs each process's gradient by its share of the images, and a sum takes each whole.
    return total[:-1].view_as(sums) + (sums - sums.detach()) * (total[-1] / images)
