"""The no-network floor: logistic regression on an 8x8 thumbnail, the file's shape, mean and sd."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from trainers.parts.bounds import positive, within

NAME = "thumbnail"
VERSION = 2
FLOOR = True
SAMPLE: Mapping[str, Any] = {"px": 64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What determines a floor."""

    features: tuple[Literal["thumbnail", "shape", "intensity"], ...] = field(
        default=("thumbnail", "shape", "intensity"), metadata={"doc": "grey levels; height, width, aspect of the file; mean and sd"}
    )
    side: int = field(default=8, metadata={"doc": "side of the thumbnail in pixels"})
    px: int = field(default=64, metadata={"doc": "short side of the images that thumbnails are made of"})
    labels: tuple[str, ...] = field(default=(), metadata={"doc": "labels to learn; none means all of the card"})
    penalties: tuple[float, ...] = field(
        default=(0.1, 1.0, 10.0, 100.0, 1000.0), metadata={"doc": "L2 penalties (1 / C) of which validation chooses one a label"}
    )
    penalty: float = field(default=1.0, metadata={"doc": "the L2 penalty where there is no validation split"})

    def __post_init__(self) -> None:
        positive(self, "penalty")
        within(self, side=(1, self.px), px=(8, inf))
        if not self.features:
            raise ValueError("features: name at least one of thumbnail, shape, intensity")
        if not self.penalties or min(self.penalties) <= 0:
            raise ValueError(f"penalties: {list(self.penalties)} must name at least one, all above 0")
