"""Position embeddings of one grid as those of another, and relative-position tables of one window as those of another."""

from __future__ import annotations

from collections import Counter
from math import isqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline
from timm.layers import resample_abs_pos_embed  # pyright: ignore[reportPrivateImportUsage]
from torch import Tensor, nn
from torch.nn import functional

from trainers.released.files import State
from trainers.released.published import Tables

EMBEDDING, TABLE = "pos_embed", "relative_position_bias_table"
#: Where SimMIM's bisection for the ratio of its geometric positions begins and when it ends.
_RATIO, _NEAR = (1.01, 1.5), 1e-6


def is_position(name: str) -> bool:
    """Tell a tensor whose size follows from the size of the input or of a window."""
    return name.rsplit(".", 1)[-1] in (EMBEDDING, TABLE)


def adapted(state: State, network: nn.Module, tables: Tables) -> tuple[State, tuple[str, ...]]:
    """Return a state dict whose positions have the sizes of a network, and a sentence for what was changed.

    Embeddings are resized as timm does (bicubic, antialiased); tables as `geometric` or `bicubic` say. What cannot be told apart
    (a grid or a window that is no square in the file, other widths) stays as it is, and a strict load refuses it.
    """
    own = network.state_dict()
    found = dict(state)
    said: list[str] = []
    windows: Counter[tuple[int, int]] = Counter()
    for name, value in state.items():
        if name not in own or own[name].shape == value.shape or own[name].shape[-1] != value.shape[-1]:
            continue
        if name == EMBEDDING and (side := _side_of_grid(value, network)):
            grid: tuple[int, int] = network.patch_embed.grid_size  # type: ignore[assignment, union-attr]
            found[name] = resample_abs_pos_embed(value, list(grid), [side, side], num_prefix_tokens=_prefix_tokens(network))
            said.append(f"{name} {side}x{side} -> {grid[0]}x{grid[1]} patches (bicubic)")
        elif name.endswith(f".{TABLE}") and (windowed := _window(name, value, own[name], network)):
            before, after, extra = windowed
            found[name] = table_of_window(value, before, after, extra, tables)
            windows[(before, max(after))] += 1
    said += [
        f"{count} relative-position table{'s' if count > 1 else ''}, window {before} -> {after} ({tables})"
        for (before, after), count in windows.items()
    ]
    return found, tuple(said)


def _prefix_tokens(network: nn.Module) -> int:
    return int(getattr(network, "num_prefix_tokens", 0))


def _side_of_grid(value: Tensor, network: nn.Module) -> int:
    """Return the side of the square grid of a file's embedding (1, tokens, width); 0 when it has none."""
    if value.dim() != 3 or not hasattr(getattr(network, "patch_embed", None), "grid_size"):
        return 0
    patches = value.shape[1] - _prefix_tokens(network)
    side = isqrt(max(patches, 0))
    return side if side * side == patches else 0


def _window(name: str, value: Tensor, own: Tensor, network: nn.Module) -> tuple[int, tuple[int, int], int] | None:
    """Return the window of a file's table, the network's, and how many rows are for tokens that are no patches; None when it has none."""
    module: Any = network.get_submodule(name.rsplit(".", 1)[0])
    after = getattr(module, "window_size", None)
    if value.dim() != 2 or not isinstance(after, tuple):
        return None
    extra = own.shape[0] - (2 * after[0] - 1) * (2 * after[1] - 1)
    side = isqrt(max(value.shape[0] - extra, 0))
    return ((side + 1) // 2, after, extra) if side % 2 and side * side == value.shape[0] - extra else None


def table_of_window(table: Tensor, before: int, after: tuple[int, int], extra: int, method: Tables) -> Tensor:
    """Return a table ((2 before - 1)^2 + extra, heads) as one of another window.

    `geometric` is SimMIM's and BEiT's: known offsets stand at 0, 1, 1 + q, 1 + q + q^2, ..., so that near ones keep their places and the
    farthest comes to the edge of the new window, and a cubic spline is read off at whole numbers (SimMIM, `utils.py`). `bicubic` is
    Microsoft's for Swin and what the benchmark's segmentation does. The last `extra` rows stay.
    """
    source, sides = 2 * before - 1, (2 * after[0] - 1, 2 * after[1] - 1)
    patches, rest = table[: source * source].float(), table[source * source :]
    heads = patches.T.reshape(-1, source, source)
    if method == "bicubic":
        made = functional.interpolate(heads[None], size=sides, mode="bicubic", align_corners=False)[0]
    else:
        made = torch.from_numpy(np.stack([_geometric(head.numpy(), sides) for head in heads]))
    # In the order in which a table of a file lies in memory, heads last.
    return torch.cat([made.reshape(len(heads), -1).T.to(table.dtype), rest]).contiguous()


def _geometric(head: NDArray[np.float32], sides: tuple[int, int]) -> NDArray[np.float32]:
    source = len(head)
    if source == 1:
        return np.full(sides, head[0, 0], np.float32)
    rows, columns = (offsets(source, side) for side in sides)
    wanted = [np.arange(-(side // 2), side // 2 + 1, dtype=np.float64) for side in sides]
    order = min(3, source - 1)
    return RectBivariateSpline(rows, columns, head, kx=order, ky=order, s=0)(wanted[0], wanted[1]).astype(np.float32)


def offsets(source: int, target: int) -> NDArray[np.float64]:
    """Return where the `source` offsets of a table stand among `target`: sums of powers of one ratio, found as SimMIM finds it."""
    steps = np.cumsum(ratio(source, target) ** np.arange(source // 2))
    return np.concatenate([-steps[::-1], [0.0], steps])


def ratio(source: int, target: int) -> float:
    """Return q with 1 + q + ... + q^(source // 2 - 1) = target // 2, by bisection on [1.01, 1.5] to 1e-6."""
    left, right = _RATIO
    q = left
    while right - left > _NEAR:
        q = (left + right) / 2
        reached = (1 - q ** (source // 2)) / (1 - q)
        left, right = (left, q) if reached > target // 2 else (q, right)
    return q
