"""What the loop reads of a method's config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from trainers.errors import Error
from trainers.precision import PRECISIONS

_FROM_0 = ("bn_images", "pictures_every_epochs", "patience")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The loop's part of a config; a method that lacks a key gets the default here."""

    epochs: int = 1
    #: Images a step over all processes. Only a reference here: a step takes what `batches` yields.
    batch_size: int = 0
    precision: str = "fp32"
    #: The largest norm of all gradients together; 0 is off.
    grad_clip: float = 0.0
    #: How often a resume file is saved, validation is predicted and a checkpoint kept; the last epoch always is.
    save_every_epochs: int = 1
    #: Validation is predicted and a checkpoint kept before a step by which so many images more were seen, `batch_size` a step, instead of
    #: by epoch: the state after the last step is never looked at. 0 is off.
    save_every_examples: int = 0
    #: Resume files between these; 0 is none.
    save_every_steps: int = 0
    log_every_steps: int = 10
    #: How many checkpoints a monitor keeps besides the last; negative keeps all, monitor or not.
    keep_best: int = 1
    #: Images a forward pass on one process, gradients accumulated; 0 is all of its share.
    micro_batch: int = 0
    #: Images a BatchNorm group in training; 0 is all of a forward pass.
    bn_images: int = 0
    #: How often, and after the last epoch, a method's pictures are asked for; 0 is never.
    pictures_every_epochs: int = 0
    #: A run ends after so many looks at validation, and one more, that were no better than the best; 0 is never.
    patience: int = 0
    #: The metric that is no better.
    stop_on: str = "val/loss"

    def __post_init__(self) -> None:
        for name in ("epochs", "save_every_epochs", "log_every_steps", "grad_clip", "save_every_steps", "micro_batch", *_FROM_0):
            low = 1 if name in ("epochs", "save_every_epochs", "log_every_steps") else 0
            if getattr(self, name) < low:
                raise Error(f"config.{name}: {getattr(self, name)} is too small, set it to {low} or more")
        if self.precision not in PRECISIONS:
            raise Error(f"config.precision: '{self.precision}' is not known, set one of {', '.join(PRECISIONS)}")
        if self.save_every_examples < 0 or (
            self.save_every_examples and (not self.batch_size or self.save_every_examples % self.batch_size)
        ):
            raise Error(
                f"config.save_every_examples: {self.save_every_examples} is no multiple of batch_size ({self.batch_size}), set one that is"
            )
        if self.patience and self.save_every_examples:
            raise Error("config.patience: counts looks at validation by epoch, set save_every_examples: 0, or patience: 0")
        if self.bn_images and self.micro_batch % self.bn_images:
            raise Error(f"config.micro_batch: {self.micro_batch} is no multiple of bn_images ({self.bn_images}), set one that is")

    @classmethod
    def of(cls, config: Any) -> Settings:
        """Read the settings from a config, a dataclass or a mapping. Raises Error on a value that cannot be."""
        names = [field.name for field in fields(cls)]
        if isinstance(config, Mapping):
            return cls(**{name: config[name] for name in names if name in config})
        return cls(**{name: getattr(config, name) for name in names if hasattr(config, name)})
