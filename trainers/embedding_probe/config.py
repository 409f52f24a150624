"""A linear classifier on a table of embeddings: image ids, and a vector for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from trainers.parts.bounds import positive, within

NAME = "embedding_probe"
VERSION = 1
STARTS = ("embeddings",)
#: Prediction reads the table too: the images of a test split have their vectors in it.
NEEDS = ("embeddings",)
ROLES = ()
EMBEDDINGS = ()
SAMPLE: Mapping[str, Any] = {"epochs": 3, "batch_size": 64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What determines a linear classifier on vectors."""

    embeddings: str = field(metadata={"doc": "the table, parquet, csv or npz: a file, or a key of the cluster config's weights"})
    id_column: str = field(default="", metadata={"doc": "its column of image ids; by default `image`, `image_id`, `id`, ..."})
    solver: Literal["lbfgs", "adam"] = field(default="lbfgs", metadata={"doc": "logistic regression solved, or gradient steps"})
    penalties: tuple[float, ...] = field(
        default=(0.1, 1.0, 10.0, 100.0, 1000.0), metadata={"doc": "lbfgs: L2 penalties (1 / C) of which validation picks one a label"}
    )
    penalty: float = field(default=1.0, metadata={"doc": "lbfgs: the L2 penalty without a validation split"})
    labels: tuple[str, ...] = field(default=(), metadata={"doc": "labels to learn; none means all of the card"})
    uncertain: Literal["card", "ignore", "ones", "zeros"] = field(
        default="card", metadata={"doc": "what training makes of uncertain labels, in place of what the card says"}
    )
    epochs: int = field(default=100, metadata={"doc": "adam: passes over the training vectors"})
    batch_size: int = field(default=512, metadata={"doc": "adam: images a step; the last of an epoch takes those that are left"})
    lr: float = field(default=1e-3, metadata={"doc": "adam: learning rate of the first epoch"})
    lr_end: float = field(default=0.0, metadata={"doc": "adam: the rate that a half cosine leads to, epoch by epoch"})
    lr_epochs: int = field(default=0, metadata={"doc": "adam: epochs of that half cosine; 0 is all"})
    save_every_epochs: int = field(default=1, metadata={"doc": "adam: how often validation is predicted and a checkpoint kept"})
    keep_best: int = field(default=1, metadata={"doc": "adam: how many checkpoints are kept, by the pick's metric"})

    def __post_init__(self) -> None:
        positive(self, "penalty", "lr")
        within(self, epochs=(1, inf), batch_size=(1, inf), lr_end=(0, inf), lr_epochs=(0, inf), save_every_epochs=(1, inf))
        if not self.penalties or min(self.penalties) <= 0:
            raise ValueError(f"penalties: {list(self.penalties)} must name at least one, all above 0")


#: Key -> (what Ark+'s linear probe does, our default, why).
DEPARTURES: Mapping[str, tuple[Any, Any, str]] = {
    "solver": ("adam", "lbfgs", "one solution whatever the seed and the order, with the penalty chosen on validation"),
    "lr": (1e-4, 1e-3, "with a rate that falls"),
    "lr_end": (1.0, 0.0, "the scheduler's minimum lies above the rate, so the released rate rises, to 0.0241 in the last epoch"),
    "lr_epochs": (1000, 0, "its half cosine is ten times as long as the training"),
    "keep_best": (
        "the best epoch on the test set",
        1,
        "the best on validation: a choice on the test set is no estimate, and cannot be made",
    ),
}
#: Name -> key -> (value, why).
PRESETS: Mapping[str, Mapping[str, tuple[Any, str]]] = {
    "release": {
        "solver": ("adam", "gradient steps in double precision"),
        "epochs": (100, "as released"),
        "batch_size": (512, "as released"),
        "lr": (1e-4, "as released"),
        "lr_end": (1.0, "`eta_min=1` lies above the rate: it rises, to 0.0241 in the last epoch"),
        "lr_epochs": (1000, "`T_max=1000`"),
        "save_every_epochs": (1, "every epoch is a candidate; the release chooses on the test set, a pick here on validation"),
        "keep_best": (1, "the best"),
    },
    "recommended": {
        "solver": ("lbfgs", "one solution whatever the seed and the order"),
        "penalties": ((0.1, 1.0, 10.0, 100.0, 1000.0), "validation picks one a label: many features and few labels need a strong one"),
        "uncertain": ("card", "a policy is declared a card, where its source is named"),
    },
}
