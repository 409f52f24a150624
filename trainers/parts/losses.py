"""Losses as functions of tensors, in float32 whatever the network computed in."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def masked_bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Return sum(M * BCE) / sum(M) over a batch, (B, L) each, with M = 1 where a target is not NaN; 0, with gradient 0, when M is empty.

    The sum runs over all labels of the batch at once, so a label that is rarely known weighs less (MoCo-CXR's fine-tuning).
    """
    known = ~targets.isnan()
    each = functional.binary_cross_entropy_with_logits(logits.float(), targets.float().nan_to_num(), reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def contrast(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Return the (B, 1 + K) logits of each query against its key (column 0) and the queue, over the temperature.

    `query` and `key` are (B, C), `queue` is (K, C), all of unit length (He et al. 2020, equation 1).
    """
    query, key, queue = query.float(), key.float(), queue.float()
    positive = (query * key).sum(1, keepdim=True)
    return torch.cat([positive, query @ queue.T], dim=1) / temperature


def info_nce(logits: Tensor) -> Tensor:
    """Return -mean log softmax of column 0 (He et al. 2020, equation 1)."""
    return functional.cross_entropy(logits.float(), torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def within_top(logits: Tensor, *ranks: int) -> tuple[Tensor, ...]:
    """Return for each rank how many rows have column 0 among their highest so many: ties, as in a collapsed encoder, count against it."""
    before = (logits[:, 1:] >= logits[:, :1]).sum(1)
    return tuple((before < rank).sum() for rank in ranks)
