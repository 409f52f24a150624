"""An image encoder to tokens, the query networks on them, and the gate that weighs the experts.

B images, N tokens of d features, C prompts, E experts, W features of the gate's projection.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainers.data.streams import key
from trainers.parts import backbones
from trainers.parts.inputs import Normalizer
from trainers.unichest.config import Config
from trainers.unichest.losses import LARGEST_SCALE, RELEASED_SCALE
from trainers.unichest.queries import START, QueryNetworks

_MAIN, _EXPERTS, _GATE, _PROJECTION = range(1, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the query networks say of images or texts."""

    main: Tensor  # (B, C) logits
    experts: Tensor | None  # (E, B, C) logits
    gate: Tensor  # (B, E), rows add up to 1
    main_ratio: float
    bias_ratio: float

    @property
    def probabilities(self) -> Tensor:
        """Return main_ratio sigma(s_1) + bias_ratio sum_k w_k sigma(s_k), (B, C) float32: probabilities are mixed, not logits."""
        found = self.main_ratio * self.main.sigmoid()
        if self.experts is None:
            return found
        return found + self.bias_ratio * torch.einsum("be,ebc->bc", self.gate, self.experts.sigmoid())

    @property
    def logits(self) -> Tensor:
        """Return the log odds of the probabilities, (B, C) float32, exact where these round to 0 or 1."""
        if self.experts is None or self.bias_ratio == 0:
            return self.main
        scores = torch.cat([self.main[None], self.experts]).double()
        shares = torch.cat([self.main_ratio * torch.ones_like(self.gate[:, :1]), self.bias_ratio * self.gate], 1).double()
        log_shares = shares.T.clamp(min=1e-300).log()[:, :, None]
        yes, no = ((log_shares + functional.logsigmoid(sign * scores)).logsumexp(0) for sign in (1, -1))
        return (yes - no).float()


class Network(nn.Module):
    """Views (B, 1, px, px) uint8, or what was made of them, to tokens, and tokens and prompts to answers."""

    def __init__(self, config: Config, *, seed: int, backbone_seed: int) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbones.build(config.arch, config.channels, config.px, seed=backbone_seed)
        if not config.last_activation:
            _drop_last_activation(self.backbone)
        self._features = backbones.width(self.backbone)
        width = config.width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key(seed, _PROJECTION))
            first, second = nn.Linear(self._features, self._features), nn.Linear(self._features, width)
            self.projection = nn.ModuleDict({"first": first, "second": second})
            torch.manual_seed(key(seed, _GATE))
            gate, gate_projection = nn.Linear(width, config.experts), nn.Linear(config.experts, config.gate_width)
        for linear in (gate, gate_projection):
            nn.init.normal_(linear.weight, 0.0, START, generator=torch.Generator().manual_seed(key(seed, _GATE, linear.out_features)))
        if config.projection_bias == "zero":
            nn.init.zeros_(gate_projection.bias)
        shape = {"width": width, "heads": config.heads, "hidden": config.hidden, "layers": config.layers, "dropout": config.dropout}
        self.queries = nn.ModuleDict(
            {
                "norm": nn.LayerNorm(width),
                "main": QueryNetworks(1, **shape, seed=key(seed, _MAIN)),
                "experts": QueryNetworks(config.experts, **shape, seed=key(seed, _EXPERTS)),
                "gate": gate,
                "gate_projection": gate_projection,
            }
        )
        #: Logarithm of the contrastive scale, where it is learnt.
        self.scale = nn.Parameter(torch.tensor(RELEASED_SCALE)) if config.contrast == "learnt" else None
        self._normalize = Normalizer(config.normalization, config.channels)
        self._freeze()

    # --- what is frozen ------------------------------------------------------------------------------------------------------------------

    @property
    def frozen(self) -> list[nn.Module]:
        """Return the parts that have no gradient: in Divide what `frozen` of the config says."""
        if self.config.stage != "divide":
            return []
        encoder: list[nn.Module] = [self.backbone, self.projection]
        return [*encoder, self.queries["norm"], self.queries["main"]] if self.config.frozen == "all_but_experts" else encoder

    def _freeze(self) -> None:
        for part in self.frozen:
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> Network:
        """Set the mode; what is frozen stays in eval mode, but the encoder of the release, whose BatchNorm drifts."""
        super().train(mode)
        for part in self.frozen:
            part.train(mode and self.config.frozen == "image_weights")
        return self

    # --- images --------------------------------------------------------------------------------------------------------------------------

    def pixels(self, views: Tensor) -> Tensor:
        """Return views as the backbone takes them, (B, channels, px, px) float32."""
        return self._normalize(views)

    def tokens(self, pixels: Tensor) -> Tensor:
        """Return image tokens, (B, N, d): a linear layer, ReLU and a linear layer on every place of the feature map."""
        features = self.backbone.forward_features(pixels)  # pyright: ignore[reportCallIssue]
        places = self.places(features)
        return self.projection["second"](self.projection["first"](places).relu())

    def places(self, features: Tensor) -> Tensor:
        """Return a feature map, or what a transformer hands on, as (B, N, features), rows first, without tokens of no place."""
        if features.dim() == 3:
            return features[:, getattr(self.backbone, "num_prefix_tokens", 0) :]
        return features.flatten(2).transpose(1, 2) if features.shape[1] == self._features else features.flatten(1, 2)

    # --- answers -------------------------------------------------------------------------------------------------------------------------

    def answer(self, tokens: Tensor, prompts: Tensor, *, with_experts: bool = True) -> Answers:
        """Ask images, or texts as one token each, (B, N, d), every prompt, (C, d)."""
        config = self.config
        asked, memory = self.queries["norm"](prompts), self.queries["norm"](tokens)
        ask = {"norm": self.queries["norm"], "local": config.local_ratio, "overall": config.global_ratio}
        main = self.queries["main"](asked, memory, **ask)[0]
        experts = self.queries["experts"](asked, memory, **ask) if with_experts else None
        return Answers(main=main, experts=experts, gate=self.weigh(memory), main_ratio=config.main_ratio, bias_ratio=config.bias_ratio)

    def weigh(self, memory: Tensor) -> Tensor:
        """Return the weight of each expert for a normalised memory, (B, E): a softmax, or as much for each (`gate: equal`)."""
        with torch.autocast(memory.device.type, enabled=False):
            logits = self.queries["gate"](memory.float().mean(1))
            return logits.softmax(1) if self.config.gate == "learned" else torch.full_like(logits, 1 / logits.shape[1])

    def project(self, gate: Tensor) -> Tensor:
        """Return the projection of gates that sources are told apart by, (B, W)."""
        with torch.autocast(gate.device.type, enabled=False):
            return self.queries["gate_projection"](gate)

    def contrastive_scale(self) -> Tensor | float:
        """Return what similarities are multiplied by: ln(1 / .07) as released, or what is learnt, at most 100."""
        return RELEASED_SCALE if self.scale is None else self.scale.exp().clamp(max=LARGEST_SCALE)

    def looks(self, pixels: Tensor, prompts: Tensor) -> Tensor:
        """Return where the main network looks for each prompt, (B, C, side, side) of the token grid; a row each adds up to 1."""
        config = self.config
        memory = self.queries["norm"](self.tokens(pixels))
        main = self.queries["main"]
        assert isinstance(main, QueryNetworks)
        where = main.attention(self.queries["norm"](prompts), memory, local=config.local_ratio, overall=config.global_ratio)[0]
        side = math.isqrt(where.shape[-1])
        return where.reshape(*where.shape[:2], side, side)


def _drop_last_activation(backbone: nn.Module) -> None:
    """Take the ReLU after a DenseNet's last norm away, as the release reads torchvision's features."""
    norms = [part for part in backbone.modules() if hasattr(part, "act") and isinstance(part, nn.BatchNorm2d)]
    if not norms:
        raise ValueError("last_activation: only networks that end in a norm with an activation, such as densenet121, can do without it")
    norms[-1].act = nn.Identity()
