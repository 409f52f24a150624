"""UniChest's three losses, in float32 whatever the network computed in. B images, C prompts, d features, W of the gate's projection."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

#: ln(1 / .07), which the release multiplies by as it is and SimCLR's kind takes to the power of e.
RELEASED_SCALE = math.log(1 / 0.07)
#: The largest scale that is learnt (CLIP, Radford et al. 2021, section 2.5).
LARGEST_SCALE = 100.0
_LEAST = 1e-8
Form = Literal["pairs", "samples"]
Similarity = Literal["cosine", "dot"]


def asymmetric(
    probabilities: Tensor, targets: Tensor, *, gamma_negative: float = 6.0, gamma_positive: float = 0.0, clip: float = 0.05
) -> Tensor:
    """Return the asymmetric loss of each entry, (B, C), 0 where a target is NaN (Ridnik et al. 2021, equations 5 to 7).

    Of probabilities p: -[y ln max(p, 1e-8) + (1 - y) ln max(q, 1e-8)] (1 - p_t)^gamma with q = min(1 - p + clip, 1); the weight has no
    gradient, and a negative with p <= clip costs nothing.
    """
    p = probabilities.float()
    known = ~targets.isnan()
    y = targets.float().nan_to_num()
    q = (1 - p + clip).clamp(max=1) if clip > 0 else 1 - p
    cost = y * p.clamp(min=_LEAST).log() + (1 - y) * q.clamp(min=_LEAST).log()
    with torch.no_grad():
        right = p * y + q * (1 - y)
        weight = (1 - right).clamp(min=0).pow(gamma_positive * y + gamma_negative * (1 - y))
    return torch.where(known, -cost * weight, torch.zeros_like(cost))


def contrastive(images: Tensor, texts: Tensor, scale: Tensor | float = RELEASED_SCALE, *, normalised: bool = False) -> Tensor:
    """Return half the cross-entropy of images against texts and of texts against images, (B, d) each, row i belonging to row i.

    As released the features are as long as they are; `normalised` makes them of unit length (CLIP).
    """
    images, texts = images.float(), texts.float()
    if normalised:
        images, texts = functional.normalize(images, dim=1), functional.normalize(texts, dim=1)
    logits = scale * images @ texts.T
    own = torch.arange(len(images), device=images.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def source_contrast(
    projected: Tensor, sources: Tensor, *, temperature: float = 1.0, form: Form = "pairs", similarity: Similarity = "cosine"
) -> Tensor:
    """Return how badly gates of one source lie together, (B, W) and (B,); 0, with gradient 0, when no two are of one source.

    `pairs` is the release: the mean over ordered pairs of one source of -log of the pair's share of all but the image itself. `samples`
    is equation 6: the mean over images of -log of the share of all their partners together. They agree where each has one partner.
    """
    h = projected.float()
    if similarity == "cosine":
        h = functional.normalize(h, dim=1)
    itself = torch.eye(len(h), dtype=torch.bool, device=h.device)
    scores = (h @ h.T / temperature).masked_fill(itself, -torch.inf)
    partners = (sources[:, None] == sources[None, :]) & ~itself
    total = scores.logsumexp(1)
    if form == "pairs":
        # The image itself has -inf, times 0 is NaN: it is left out before it is summed.
        each = torch.where(partners, total[:, None] - scores, torch.zeros_like(scores))
        return each.sum() / partners.sum().clamp(min=1)
    has = partners.any(1)
    # Rows without a partner would be -inf, whose gradient is NaN even where it is not taken.
    together = scores.masked_fill(~partners & has[:, None], -torch.inf).masked_fill(itself, -torch.inf)
    together = torch.where(has[:, None], together, torch.zeros_like(together)).logsumexp(1)
    return torch.where(has, total - together, torch.zeros_like(total)).sum() / has.sum().clamp(min=1)
