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


def masked_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of -sum(y log softmax(z)) over images of one known class, (B, K) each; 0, with gradient 0, when there is none.

    `targets` are ones and zeros; an image that has not exactly one 1, or has a NaN, counts for nothing.
    """
    known = of_one_class(targets)
    each = -(functional.log_softmax(logits.float(), dim=1) * targets.float().nan_to_num()).sum(1)
    return (each * known).sum() / known.sum().clamp(min=1)


def of_one_class(targets: Tensor) -> Tensor:
    """Tell of each row (B, K) whether it is of exactly one class."""
    return ((targets == 1).sum(1) == 1) & ((targets == 0).sum(1) == targets.shape[1] - 1)


def log_odds(logits: Tensor) -> Tensor:
    """Return log p - log(1 - p) of p = softmax(logits), (B, K) float32: z_k - log sum exp of the others.

    A sigmoid of it is p again, so that a class is scored, ranked, averaged and given a threshold as a label that stands alone is.
    """
    z = logits.float()
    others = z.unsqueeze(1).expand(-1, z.shape[1], -1).masked_fill(torch.eye(z.shape[1], dtype=torch.bool, device=z.device), -torch.inf)
    return z - others.logsumexp(2)


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
