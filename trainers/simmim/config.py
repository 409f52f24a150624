"""Masked image modelling on chest radiographs, without labels (Xie et al., SimMIM, CVPR 2022; Ma et al., DART 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from trainers.parts.bounds import positive, within

NAME = "simmim"
VERSION = 1
STARTS = ("init",)
LABELS = False
#: What it measures on validation images, by the key that turns it on; neighbours and probe read their labels, the reconstruction does not.
MONITORS: Mapping[str, str] = {
    "val/reconstruction": "validate_images",
    **dict.fromkeys(
        ("val/knn/auroc_macro", "val/knn/auroc/<label>", "val/probe/auroc_macro", "val/probe/auroc/<label>"), "watch_every_epochs"
    ),
}
SAMPLE: Mapping[str, Any] = {
    "arch": "slim_swin",
    "px": 64,
    "window": None,
    "mask_patch": 16,
    "epochs": 2,
    "batch_size": 16,
    "lr": 1e-3,
    "lr_images": 0,
    "warmup": 0.1,
    "collapse_guard": False,
    "pictures_every_epochs": 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What determines a pretraining."""

    arch: str = field(default="swin_base_patch4_window7_224", metadata={"doc": "`slim_swin`, `slim_vit`, or any Swin or ViT of timm"})
    channels: Literal[1, 3] = field(default=1, metadata={"doc": "input and target channels; 3 repeats the grey image"})
    px: int = field(default=192, metadata={"doc": "side of a view in pixels"})
    window: int | None = field(default=6, metadata={"doc": "side of a window of attention of a Swin, in tokens; none: the network's own"})
    init: str = field(default="random", metadata={"doc": "`random`, `imagenet`, a key of the cluster config's weights, or a file"})
    augment: Literal["none", "simmim", "simmim_flip"] = field(
        default="simmim", metadata={"doc": "a window of two thirds to all of the image; flip: mirrored in half of the cases"}
    )
    normalization: Literal["cxr", "imagenet", "half"] = field(
        default="cxr", metadata={"doc": "mean and sd that pixels are brought to, those of the target too"}
    )
    drop_path: float = field(default=0.0, metadata={"doc": "stochastic depth"})
    mask_patch: int = field(default=32, metadata={"doc": "side of a masked square in pixels"})
    mask_ratio: float = field(default=0.6, metadata={"doc": "share of squares that are masked, rounded up to a whole one"})
    collapse_guard: bool = field(default=True, metadata={"doc": "end as COLLAPSED when half of the steps have not beaten a constant image"})
    epochs: int = field(default=100, metadata={"doc": "passes over the training images"})
    batch_size: int = field(default=2048, metadata={"doc": "images a step, over all processes; the last partial batch is dropped"})
    micro_batch: int = field(default=0, metadata={"doc": "images a forward pass, gradients accumulated; 0 is the whole batch"})
    lr: float = field(default=2e-4, metadata={"doc": "learning rate of a batch of `lr_images`; a larger batch has more, in proportion"})
    lr_images: int = field(default=512, metadata={"doc": "the batch that lr, warmup_lr and min_lr are stated for; 0: that of the run"})
    warmup: float = field(default=0.1, metadata={"doc": "share of all steps that rise linearly"})
    warmup_lr: float = field(default=1e-6, metadata={"doc": "where the rise starts, for `lr_images`"})
    min_lr: float = field(default=1e-5, metadata={"doc": "where the cosine ends, for `lr_images`"})
    schedule: Literal["cosine", "cosine_released", "milestones", "constant"] = field(
        default="cosine",
        metadata={"doc": "after the rise, by step; released: counted from the first step and not from the end of the rise, a step behind"},
    )
    milestones: tuple[int, ...] = field(default=(), metadata={"doc": "epochs (from 0) at which the rate falls to a tenth"})
    weight_decay: float = field(default=0.05, metadata={"doc": "decoupled; not of scales, biases, tables of positions, the mask token"})
    grad_clip: float = field(default=5.0, metadata={"doc": "largest gradient norm; 0 is off"})
    precision: Literal["fp32", "bf16"] = field(default="fp32", metadata={"doc": "of the network; the loss is always fp32"})
    save_every_epochs: int = field(default=1, metadata={"doc": "how often a checkpoint is kept"})
    keep_best: int = field(default=1, metadata={"doc": "how many checkpoints a monitor keeps besides the last"})
    validate_images: int = field(
        default=512, metadata={"doc": "the first so many validation images are reconstructed with fixed masks when a checkpoint is kept"}
    )
    pictures_every_epochs: int = field(
        default=0, metadata={"doc": "how often, and at the end, four fixed images are shown with their reconstructions; 0: never"}
    )
    watch_every_epochs: int = field(
        default=0,
        metadata={"doc": "how often, and at the end, neighbours (20) and a linear probe tell validation labels by the features; 0: never"},
    )
    watch_images: int = field(
        default=500, metadata={"doc": "images to look at then, up to half of them of validation, the others of training"}
    )

    def __post_init__(self) -> None:
        positive(self, "lr", "mask_ratio")
        within(self, px=(8, inf), window=(1, inf), mask_patch=(1, inf), mask_ratio=(0, 1), drop_path=(0, 0.99), epochs=(1, inf))
        within(self, batch_size=(1, inf), micro_batch=(0, inf), lr_images=(0, inf), warmup=(0, 1), warmup_lr=(0, inf), min_lr=(0, inf))
        within(self, weight_decay=(0, inf), grad_clip=(0, inf), save_every_epochs=(1, inf), validate_images=(0, inf))
        within(self, watch_every_epochs=(0, inf), watch_images=(40, inf), pictures_every_epochs=(0, inf))
        if self.px % self.mask_patch:
            raise ValueError(f"mask_patch: squares of {self.mask_patch} px do not tile a view of {self.px}: set one that divides px")
        if self.mask_ratio == 1:
            raise ValueError("mask_ratio: is 1, which leaves nothing to look at: set it below 1, 0.6 as published")
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr: the rate would rise to {self.min_lr:g} from lr {self.lr:g}: set min_lr: {self.lr / 20:g}")
        if self.milestones and self.schedule != "milestones":
            raise ValueError(f"milestones: schedule '{self.schedule}' reads none: set schedule: milestones")
        if self.watch_every_epochs % self.save_every_epochs:
            raise ValueError(
                f"watch_every_epochs: {self.watch_every_epochs} is no multiple of save_every_epochs ({self.save_every_epochs}), so that "
                f"what is watched could not be picked; set it to {self.save_every_epochs} or a multiple, or to 0"
            )


#: Key -> (what the paper or its release does, our default, why). What is not here is as released.
DEPARTURES: Mapping[str, tuple[Any, Any, str]] = {
    "channels": (3, 1, "a grey image three times is three equal targets; one is the same loss for less"),
    "init": ("random or ImageNet's SimMIM", "random", "weights need a file; a sweep names its start"),
    "augment": ("simmim_flip", "simmim", "a mirrored chest has its heart on the right"),
    "normalization": ("imagenet", "cxr", "the target is the normalised image: its spread is the unit of the loss"),
    "schedule": ("cosine_released", "cosine", "counted from the first step the cosine has a jump where the rise ends"),
    "collapse_guard": (False, True, "an encoder that learns no more than the mean of a view is a failed run, not a weak one"),
    "precision": ("apex O1 (float16)", "fp32", "bf16 where the hardware has it"),
    "batch_size": ("128 on each of 16 GPUs", 2048, "the same batch, over all processes"),
}
_PUBLISHED: Mapping[str, tuple[Any, str]] = {
    "px": (192, "SimMIM's; classifiers at 224 then have their tables of positions stretched from 6 to 7"),
    "window": (6, "divides 48 tokens of 4 pixels, and goes with 192"),
    "channels": (3, "a grey image three times, as ImageNet's weights expect"),
    "augment": ("simmim_flip", "a window of 0.67 to 1, mirrored in half of the cases"),
    "normalization": ("imagenet", "its own mean and sd, also of the target"),
    "mask_patch": (32, "as SimMIM: 36 squares of a view of 192"),
    "mask_ratio": (0.6, "22 of 36 squares"),
    "epochs": (100, "Ma et al.; SimMIM has 800 on ImageNet"),
    "batch_size": (2048, "128 on each of 16 GPUs"),
    "lr": (2e-4, "for 512 images, so 8e-4"),
    "lr_images": (512, "its rule"),
    "warmup": (0.1, "10 of 100 epochs"),
    "warmup_lr": (1e-6, "for 512 images"),
    "min_lr": (1e-5, "for 512 images"),
    "weight_decay": (0.05, "decoupled"),
    "grad_clip": (5.0, "as Swin"),
    "precision": ("bf16", "in place of apex O1, which is float16 with loss scaling"),
}
#: Name -> key -> (value, why). `paper`: SimMIM's settings, which Ma et al. say they kept; `release`: what SimMIM's code does, on which they
#: built and whose own code they did not release; `recommended`: what a careful group would run at the same compute.
PRESETS: Mapping[str, Mapping[str, tuple[Any, str]]] = {
    "paper": {
        **_PUBLISHED,
        "schedule": ("cosine", "linear rise, then a cosine"),
        "collapse_guard": (True, "ends a run that learns nothing, and changes no run that does"),
    },
    "release": {
        **_PUBLISHED,
        "schedule": ("cosine_released", "timm's of its day: no step is counted off for the rise, and the rate is a step behind"),
        "collapse_guard": (False, "nothing looks"),
    },
    "recommended": {
        **_PUBLISHED,
        "channels": (1, "one grey target: the same loss, and a stem for one channel is summed from ImageNet's"),
        "augment": ("simmim", "no flip, which mirrors left and right"),
        "normalization": ("cxr", "the target is in units of a radiograph's own spread, and fine-tuning takes the same"),
        "schedule": ("cosine", "linear rise, then a cosine without a jump"),
        "warmup": (0.05, "five epochs of 100; AdamW's first steps are large"),
        "collapse_guard": (True, "an encoder that learns no more than the mean of a view is a failed run, not a weak one"),
    },
}
