"""Query networks: transformer decoders that ask an image one question a prompt, several of them run together.

A layer is pre-norm: attention among prompts, attention from prompts to image tokens, and two linear layers. The second also asks the mean
of the tokens, by the same weights (UniChest, `transformer_decoder.py`). G networks, B images, C prompts, N tokens, d features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainers.data.streams import key

#: Standard deviation of the weights that a network starts with.
START = 0.02


class Stacked(nn.Module):
    """G linear layers side by side: (G, B, M, in) to (G, B, M, out)."""

    def __init__(self, count: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, outputs, inputs))
        self.bias = nn.Parameter(torch.empty(count, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Apply each layer to its own input."""
        count, outputs, inputs = self.weight.shape
        flat = x.reshape(count, -1, inputs)
        return torch.baddbmm(self.bias[:, None], flat, self.weight.transpose(1, 2)).view(*x.shape[:-1], outputs)


class StackedNorm(nn.Module):
    """G layer norms side by side."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(count, width))
        self.bias = nn.Parameter(torch.zeros(count, width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (G, B, M, d) over d."""
        return functional.layer_norm(x, x.shape[-1:]) * self.weight[:, None, None] + self.bias[:, None, None]


class Attention(nn.Module):
    """G multi-head attentions side by side, with the weights of nn.MultiheadAttention."""

    def __init__(self, count: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(count, 3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(count, 3 * width))
        self.out_proj = Stacked(count, width, width)

    def _projected(self, x: Tensor, part: int) -> Tensor:
        """Project (G, B, M, d), or (B, M, d) that all networks share, to a query (0), key (1) or value (2), (G, B, heads, M, d / heads)."""
        count, width = len(self.in_proj_weight), self.in_proj_weight.shape[2]
        weight, bias = (one[:, part * width : (part + 1) * width] for one in (self.in_proj_weight, self.in_proj_bias))
        if x.dim() == 3:
            shared = functional.linear(x, weight.reshape(-1, width), bias.reshape(-1))
            found = shared.view(*x.shape[:2], count, self.heads, -1)
            return found.permute(2, 0, 3, 1, 4)
        flat = torch.baddbmm(bias[:, None], x.reshape(count, -1, width), weight.transpose(1, 2))
        return flat.view(*x.shape[:3], self.heads, -1).transpose(2, 3)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        """Attend from (G, B, C, d) to a memory (G, B, N, d), or (B, N, d) that all networks share; return (G, B, C, d)."""
        q, k, v = self._projected(queries, 0), self._projected(memory, 1), self._projected(memory, 2)
        p = self.dropout if self.training else 0.0
        # The fused kernels take four dimensions.
        found = functional.scaled_dot_product_attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), dropout_p=p)
        return self._joined(found.view(*q.shape))

    def of_one(self, memory: Tensor, count: int) -> Tensor:
        """Attend to a memory of one token (B, 1, d) by `count` queries: softmax over one key is 1, whatever the query, up to dropout."""
        v = self._projected(memory, 2)
        if not self.training or self.dropout == 0:
            return self._joined(v).expand(-1, -1, count, -1)
        kept = functional.dropout(v.new_ones(*v.shape[:3], count, 1), self.dropout)
        return self._joined(kept * v)

    def weights(self, queries: Tensor, memory: Tensor) -> Tensor:
        """Return how much each query looks at each token, the mean over heads, (G, B, C, N)."""
        q, k = self._projected(queries, 0).float(), self._projected(memory, 1).float()
        return (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1).mean(2)

    def _joined(self, found: Tensor) -> Tensor:
        return self.out_proj(found.transpose(2, 3).flatten(3))


class Layer(nn.Module):
    """One decoder layer of G networks."""

    def __init__(self, count: int, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(count, width, heads, dropout)
        self.multihead_attn = Attention(count, width, heads, dropout)
        self.linear1, self.linear2 = Stacked(count, width, hidden), Stacked(count, hidden, width)
        self.norm1, self.norm2, self.norm3 = (StackedNorm(count, width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, local: float, overall: float) -> Tensor:
        """Return (G, B, C, d) of prompts x and a memory (B, N, d) that all networks share; of one token its plain attention alone."""
        y = self.norm1(x)
        x = x + self.dropout(self.self_attn(y, y))
        y = self.norm2(x)
        if memory.shape[1] == 1:
            seen = self.multihead_attn.of_one(memory, y.shape[2])
        else:
            seen = local * self.multihead_attn(y, memory)
            if overall:
                seen = seen + overall * self.multihead_attn.of_one(memory.mean(1, keepdim=True), y.shape[2])
        x = x + self.dropout(seen)
        hidden = self.dropout(self.linear1(self.norm3(x)).relu())
        return x + self.dropout(self.linear2(hidden))


class QueryNetworks(nn.Module):
    """G query networks of one shape, each with a head of its own: prompts (C, d) and a memory (B, N, d) to logits (G, B, C) float32."""

    def __init__(self, count: int, *, width: int, heads: int, hidden: int, layers: int, dropout: float, seed: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(count, width, heads, hidden, dropout) for _ in range(layers))
        self.head = Stacked(count, width, 1)
        self.dropout = nn.Dropout(dropout)
        for index in range(count):
            self._start(index, key(seed, index))

    @torch.no_grad()
    def _start(self, index: int, seed: int) -> None:
        """Draw one network as published: matrices N(0, .02), biases of linear layers as torch has them, those of attention 0."""
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, Attention):
                module.in_proj_weight[index].normal_(0.0, START, generator=generator)
                module.out_proj.weight[index].normal_(0.0, START, generator=generator)
                module.out_proj.bias[index].zero_()
        attention = {id(module.out_proj) for module in self.modules() if isinstance(module, Attention)}
        for module in self.modules():
            if isinstance(module, Stacked) and id(module) not in attention:
                bound = 1 / math.sqrt(module.weight.shape[2])
                module.weight[index].normal_(0.0, START, generator=generator)
                module.bias[index].uniform_(-bound, bound, generator=generator)

    def forward(self, prompts: Tensor, memory: Tensor, norm: nn.Module, *, local: float, overall: float) -> Tensor:
        """Ask each image of a normalised memory each normalised prompt; `norm` is the layer norm that all networks share at their end."""
        x = self._asked(prompts, memory)
        for layer in self.layers:
            x = layer(x, memory, local, overall)
        x = self.dropout(norm(x))
        with torch.autocast(x.device.type, enabled=False):
            return self.head(x.float()).squeeze(-1)

    def attention(self, prompts: Tensor, memory: Tensor, *, local: float, overall: float) -> Tensor:
        """Return how much each prompt looks at each token in the last layer, (G, B, C, N)."""
        x = self._asked(prompts, memory)
        for layer in self.layers[:-1]:
            x = layer(x, memory, local, overall)
        last = self.layers[-1]
        assert isinstance(last, Layer)
        y = last.norm1(x)
        x = x + last.dropout(last.self_attn(y, y))
        return last.multihead_attn.weights(last.norm2(x), memory)

    def _asked(self, prompts: Tensor, memory: Tensor) -> Tensor:
        return prompts.expand(len(self.head.weight), len(memory), *prompts.shape)
