"""The two small protocols between a method and what runs it, and what a method is given.

A method lives in `trainers/<name>/` as two files:

- `config.py`, torch-free: `NAME`, `VERSION`, `Config` (a frozen dataclass of plain values with defaults), and optionally
  `STARTS`, `ROLES`, `DEPARTURES`, `PRESETS`, `SAMPLE`, `MONITORS`, `BY_SOURCE` (see `jobs.catalog.Declaration`).
- `train.py`: `build(setup: Setup) -> Trainer | Solver`, readable top to bottom.

A `Trainer` is a gradient method that `trainers.loop.fit` drives; a `Solver` is one that is fitted at once (a closed form, a full-batch
solver). Both predict, and both hand their weights over as a state dict.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from trainers.version import LOOP_VERSION as LOOP_VERSION

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from trainers.data.access import Access, Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """Weights that another job hands on."""

    #: One or several checkpoint files (`.safetensors`); several when a pick keeps an ensemble (`checkpoints: all`).
    files: tuple[Path, ...]
    #: The resolved config and the trainer of the job that wrote them.
    trainer: str
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a card that a method learns from says of an image: its labels, in order, and the `task` of the card."""

    labels: tuple[str, ...]
    task: str = "multilabel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """All that a method is given."""

    config: Any
    seed: int
    #: The data that this stage may open, by split; images and labels come from here and from nowhere else.
    data: Access
    #: All sources in the sweep's order, `data` first, for a method that learns from several.
    sources: tuple[Access, ...] = ()
    #: Upstream weights by role (`init` when the sweep names no role).
    parents: Mapping[str, Parent] = field(default_factory=dict)
    #: External weight files by config key (`init`), already checked against their sha256.
    weights: Mapping[str, Path] = field(default_factory=dict)
    device: torch.device
    #: True when the method is built to predict from weights that the caller loads afterwards.
    predict_only: bool = False
    #: Labels the method must output, in order (predict-only: those of the training run).
    labels: tuple[str, ...] = ()
    #: The sources that the method learns from, by card, in the sweep's order (predict-only: those of the training run, as far as its
    #: result names them).
    learnt_from: Mapping[str, Source] = field(default_factory=dict)
    #: Which of several heads predicts (predict-only): `auto` is the card's own, and on another card the mean of all that have a label;
    #: `mean` is that mean on every card; else the head of a source.
    heads: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Predictions for rows of a split: `logits` is float32 (rows, labels); NaN is never allowed."""

    rows: Rows
    logits: np.ndarray
    labels: tuple[str, ...]
    #: True when the labels are the classes of one softmax: the sigmoids of a row add up to 1.
    exclusive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlaps:
    """What predicted masks share with the true ones, for rows of a split. The masks themselves stay with the method.

    Arrays are (rows, structures); a pair whose structure is not annotated counts nowhere (`known` is False).
    """

    rows: Rows
    structures: tuple[str, ...]
    known: np.ndarray  # bool
    #: Pixels in both masks, in the predicted one and in the true one, int64.
    intersection: np.ndarray
    predicted: np.ndarray
    true: np.ndarray
    #: 95 % Hausdorff distance, NaN where a mask is empty; None where nobody measured it.
    hd95: np.ndarray | None = None
    #: Of each image, in the unit of `hd95`: (rows,).
    diagonal: np.ndarray | None = None
    #: The training loss in eval mode, mean over images; None where nobody measured it.
    loss: float | None = None


#: What a method says of rows: a score for each label, or what it drew of each structure.
Predicted: TypeAlias = Scores | Overlaps
#: What it says of validation: of a method that learns from several sources, of each by itself, by name.
Validated: TypeAlias = Predicted | Mapping[str, Scores]


@runtime_checkable
class Trainer(Protocol):
    """A method that is trained by gradient steps. The loop owns device, precision, accumulation, stop, cadence and resume.

    Config keys the loop reads (a method that lacks one gets the default): `epochs`, `batch_size`, `precision` (`fp32` | `bf16`),
    `grad_clip` (0 is off), `save_every_epochs` (1), `save_every_steps` (0 is off), `log_every_steps` (10), `keep_best` (1; negative keeps
    all), `micro_batch` (0 is the whole batch), `bn_images`, `pictures_every_epochs` (0 is off), `patience` (0 is off), `stop_on`. Optional
    attributes it honours: see `trainers.loop`.
    """

    #: Everything that has weights or buffers; moved to the device by the loop, its `state_dict` is what is exported.
    module: nn.Module
    steps_per_epoch: int

    def optimizer(self) -> torch.optim.Optimizer:
        """Make the optimizer over `module`'s trainable parameters. Called once, after `module` is on the device."""
        ...

    def learning_rate_factor(self, step: int) -> float:
        """Return what every group's initial lr is multiplied by at global step `step` (from 0)."""
        ...

    def batches(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """Yield the batches of an epoch in order, from batch `start`; a pure function of (seed, epoch), the same in every process."""
        ...

    def loss(self, batch: Any) -> dict[str, Tensor]:
        """Return `loss` (a scalar to minimise) and scalars to log."""
        ...

    def after_step(self, step: int) -> None:
        """Do what follows an optimizer step (momentum updates that come after it)."""
        ...

    def after_epoch(self, epoch: int) -> dict[str, float]:
        """Return extra metrics of the epoch, named `train/...` or `val/...`. May raise `Collapsed`."""
        ...

    def validate(self) -> Validated | None:
        """Predict the validation split in eval mode; None when the method predicts no labels or there is no such split.

        A method that learns from several sources predicts each by itself, by card; a further network of it under `<card>/<network>`.
        """
        ...

    def predict(self, rows: Rows) -> Predicted:
        """Predict rows in eval mode, in their order, dropping none."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return state besides `module` and the optimizer that exact resume needs (plain values and tensors)."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


@runtime_checkable
class Solver(Protocol):
    """A method that is fitted at once."""

    module: nn.Module

    def solve(self) -> dict[str, float]:
        """Fit `module` and return metrics to log."""
        ...

    def validate(self) -> Predicted | None:
        """Predict the validation split; None when there is none."""
        ...

    def predict(self, rows: Rows) -> Predicted:
        """Predict rows, in their order, dropping none."""
        ...


class Host(Protocol):
    """What the loop may ask of the world. `jobs` implements it over files; tests implement it in ten lines."""

    #: Where checkpoints of this job live; the loop writes through `jobs`' store only by the two methods below.
    def log(self, step: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record metrics at a step."""
        ...

    def should_stop(self) -> bool:
        """Tell whether a signal asked to save and stop at the next step."""
        ...

    def latest_state(self) -> Path | None:
        """Return the newest intact resume file, or None."""
        ...

    def save_state(self, step: int, epoch: int, write: WriteFile) -> None:
        """Keep a resume file (last and previous are kept). `write(path)` writes it; the host makes it atomic and durable."""
        ...

    def keep(self, name: str, metrics: Mapping[str, float], files: Mapping[str, WriteFile], info: Mapping[str, Any]) -> None:
        """Keep a finished checkpoint under a name (`epoch-0003`), with its metrics and files by suffix (`safetensors`, `parquet`)."""
        ...

    def keep_pictures(self, epoch: int, pictures: Mapping[str, bytes]) -> None:
        """Keep PNG files by name, of an epoch counted from 1; made again, they take the place of themselves."""
        ...


class WriteFile(Protocol):
    """Write a file at a path."""

    def __call__(self, path: Path) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What `fit` returns: whether it finished, and final metrics."""

    finished: bool
    step: int
    epoch: int
    metrics: Mapping[str, float] = field(default_factory=dict)
