"""A backbone, a projector, and a linear head for each source on what is projected."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainers.parts.inputs import Normalizer

#: The one head of `mode: single_head`.
ALL = "all"


class Network(nn.Module):
    """Views (B, 1, px, px) uint8 to embeddings (B, E) float32, and these to logits of a source."""

    def __init__(self, backbone: nn.Module, projector: nn.Module, heads: Mapping[str, nn.Linear], normalize: Normalizer) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector
        self.heads = nn.ModuleDict(dict(heads))
        self._normalize = normalize

    def features(self, views: Tensor) -> Tensor:
        """Return pooled features before the projector, (B, d) float32."""
        return self.backbone(self._normalize(views)).float()

    def embed(self, views: Tensor) -> Tensor:
        """Return projected embeddings, (B, E) float32."""
        features = self.features(views)
        with torch.autocast(views.device.type, enabled=False):
            return self.projector(features)

    def logits(self, embedding: Tensor, head: str) -> Tensor:
        """Return the logits of a head, (B, its labels) float32: in bfloat16 many scores would be tied."""
        with torch.autocast(embedding.device.type, enabled=False):
            return self.heads[head](embedding)


def projector(features: int, outputs: int, *, kind: str, seed: int) -> nn.Module:
    """Build a projector: nothing, `linear`, or `mlp` (Linear(d, E), ReLU, Linear(E, E): 1,894,752 parameters more at E = 1376)."""
    if kind == "none":
        return nn.Identity()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = nn.Linear(features, outputs)
        return first if kind == "linear" else nn.Sequential(first, nn.ReLU(), nn.Linear(outputs, outputs))


def head(features: int, outputs: int, *, seed: int) -> nn.Linear:
    """Build a linear head with torch's own start, as published."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(features, outputs)
