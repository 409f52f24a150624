"""The memory of MoCo: the last K keys, oldest replaced first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Queue:
    """A ring of the last `size` keys, (size, dim) float32.

    `whole_batches` refuses a batch that does not divide `size`, as the published code does; otherwise a batch wraps around the end.
    """

    def __init__(self, size: int, dim: int, *, device: torch.device | None = None, whole_batches: bool = False) -> None:
        self.size = size
        self.whole_batches = whole_batches
        self.keys = torch.zeros(size, dim, dtype=torch.float32, device=device)
        #: Where the next key goes, and how many keys were ever pushed.
        self.pointer = 0
        self.pushed = 0

    @property
    def is_full(self) -> bool:
        """Tell whether every place holds a key."""
        return self.pushed >= self.size

    @torch.no_grad()
    def fill_random(self, seed: int) -> None:
        """Fill with random directions on the unit sphere (the published initial queue)."""
        draws = torch.randn(self.keys.shape, generator=torch.Generator().manual_seed(seed))
        self.keys.copy_(torch.nn.functional.normalize(draws, dim=1))
        self.pointer, self.pushed = 0, self.size

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Replace the oldest keys by `keys`, (B, dim), in order. Raises ValueError when B does not fit as declared."""
        count = len(keys)
        if count > self.size:
            raise ValueError(f"{count} keys do not fit a queue of {self.size}")
        if self.whole_batches and self.size % count:
            raise ValueError(f"a queue of {self.size} is not a whole number of batches of {count}")
        keys = keys.detach().to(self.keys)
        first = min(count, self.size - self.pointer)
        self.keys[self.pointer : self.pointer + first] = keys[:first]
        self.keys[: count - first] = keys[first:]
        self.pointer = (self.pointer + count) % self.size
        self.pushed += count

    def ordered(self) -> Tensor:
        """Return the keys from the oldest to the newest; those pushed so far while the queue is not full."""
        if not self.is_full:
            return self.keys[: self.pointer]
        return torch.cat([self.keys[self.pointer :], self.keys[: self.pointer]])

    def state_dict(self) -> dict[str, Any]:
        """Return what exact resume needs."""
        return {"keys": self.keys, "pointer": self.pointer, "pushed": self.pushed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.keys.copy_(state["keys"])
        self.pointer, self.pushed = int(state["pointer"]), int(state["pushed"])
