"""The network: a Swin or ViT whose hidden tokens are replaced by a learnt one, and one layer that turns features into pixels."""

from __future__ import annotations

import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from trainers.errors import Error
from trainers.parts.inputs import Normalizer
from trainers.simmim.masking import Masking

#: Parameters that do not decay whatever their shape (SimMIM's `no_weight_decay` and its keywords).
_UNDECAYED = ("relative_position_bias_table", "pos_embed", "cls_token", "reg_token", "mask_token")


class Rebuilder(nn.Module):
    """The mask token (1, 1, width), and features (B, d, h, w) to pixels (B, channels, h * stride, w * stride): SimMIM's one-layer head."""

    def __init__(self, *, token_width: int, width: int, stride: int, channels: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, token_width), std=0.02))
            self.decoder = nn.Conv2d(width, stride**2 * channels, 1)
        self.shuffle = nn.PixelShuffle(stride)

    def forward(self, features: Tensor) -> Tensor:
        return self.shuffle(self.decoder(features))


class MaskedAutoencoder(nn.Module):
    """Views (B, 1, px, px) uint8 and hidden squares to the normalised views and what the network makes of the hidden ones."""

    def __init__(self, backbone: nn.Module, head: Rebuilder, normalize: Normalizer, masking: Masking) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.masking = masking
        self._normalize = normalize

    def features(self, views: Tensor) -> Tensor:
        """Return what the backbone hands on of whole views, (B, d) float32."""
        return self.backbone(self._normalize(views)).float()

    def forward(self, views: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the target and the reconstruction, (B, channels, px, px) each; `hidden` is (B, cells, cells)."""
        target = self._normalize(views)
        tokens = self.backbone.patch_embed(target)  # pyright: ignore[reportCallIssue]
        here = self.masking.of_tokens(hidden).reshape(tokens.shape[:-1]).unsqueeze(-1)
        tokens = torch.where(here, self.head.mask_token.to(tokens.dtype).reshape([1] * (tokens.dim() - 1) + [-1]), tokens)
        return target, self.head(self._encoded(tokens))

    def _encoded(self, tokens: Tensor) -> Tensor:
        """Return features (B, d, h, w) of tokens, (B, H, W, D) of a Swin or (B, N, D) of a ViT."""
        net = self.backbone
        if isinstance(net, VisionTransformer):
            x = net.norm(net.blocks(net.norm_pre(net.patch_drop(net._pos_embed(tokens)))))[:, net.num_prefix_tokens :]
            side = round(x.shape[1] ** 0.5)
            return x.transpose(1, 2).reshape(len(x), -1, side, side)
        return net.norm(net.layers(tokens)).permute(0, 3, 1, 2).contiguous()  # pyright: ignore[reportCallIssue]


def strides(backbone: nn.Module, arch: str) -> tuple[int, int]:
    """Return the pixels on a side of a token and of a feature. Raises Error for a network whose tokens cannot be masked."""
    if not isinstance(backbone, (SwinTransformer, SwinTransformerV2, VisionTransformer)):
        raise Error(
            f"config.arch: '{arch}' is no Swin and no ViT of timm, so it has no tokens to mask: set one such as "
            "swin_base_patch4_window7_224, vit_base_patch16_224, slim_swin or slim_vit"
        )
    high, wide = (int(side) for side in backbone.patch_embed.patch_size)  # pyright: ignore[reportGeneralTypeIssues, reportArgumentType]
    if high != wide:
        raise Error(f"config.arch: '{arch}' has patches of {high} x {wide} pixels, and squares are masked: set one with square patches")
    return high, high * 2 ** (len(backbone.layers) - 1) if not isinstance(backbone, VisionTransformer) else high


def token_width(backbone: nn.Module) -> int:
    """Return the width of a token after patches were embedded."""
    return int(backbone.embed_dim)  # pyright: ignore[reportArgumentType]


def groups(module: nn.Module, lr: float, weight_decay: float) -> list[dict[str, object]]:
    """Return parameter groups: matrices and kernels decay; scales, biases, positions and the mask token do not."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    kept = {name for name, p in named if p.ndim <= 1 or name.endswith(".bias") or any(word in name for word in _UNDECAYED)}
    return [
        {"params": [p for name, p in named if name not in kept], "lr": lr, "weight_decay": weight_decay},
        {"params": [p for name, p in named if name in kept], "lr": lr, "weight_decay": 0.0},
    ]
