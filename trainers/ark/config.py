"""One network from many annotated sources: a student that learns each in turn, and a slow teacher that accrues (Ark, MICCAI 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from trainers.parts.bounds import positive, within

NAME = "ark"
VERSION = 1
STARTS = ("init",)
#: Whichever of the two is handed on has the plain names.
BY_SOURCE = ("student", "teacher")
EMBEDDINGS = ("backbone", "projector")
SAMPLE: Mapping[str, Any] = {
    "arch": "slim",
    "channels": 1,
    "px": 64,
    "projector_features": 64,
    "epochs": 3,
    "batch_size": 16,
    "drop_path": 0.0,
    "lr": 0.05,
    "warmup": 0.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What determines a pretraining on several sources."""

    arch: str = field(
        default="swin_base_patch4_window7_224", metadata={"doc": "`slim`, `slim_vit`, `slim_swin` (small), or any timm network"}
    )
    channels: Literal[1, 3] = field(default=1, metadata={"doc": "input channels; 3 repeats the grey image"})
    px: int = field(default=224, metadata={"doc": "side of the input in pixels"})
    init: str = field(default="random", metadata={"doc": "`random`, `imagenet`, a key of the cluster config's weights, or a file"})
    normalization: Literal["cxr", "imagenet", "half", "chestx-ray"] = field(
        default="cxr", metadata={"doc": "mean and sd that pixels are brought to"}
    )
    crop_pct: float = field(default=1.0, metadata={"doc": "px over the side that images are brought to: 0.875 is 224 of 256"})
    aspect: Literal["kept", "squashed"] = field(
        default="kept",
        metadata={"doc": "of an image that is predicted; squashed: brought to a square whatever its shape"},
    )
    val_views: Literal["centre", "ten_crop"] = field(
        default="centre", metadata={"doc": "ten_crop: the mean probability of corners, centre and the same five mirrored"}
    )
    test_views: Literal["centre", "ten_crop"] = field(default="centre", metadata={"doc": "the same, where a model is evaluated"})
    drop_path: float = field(default=0.1, metadata={"doc": "stochastic depth, where the network has it"})
    projector: Literal["none", "linear", "mlp"] = field(default="mlp", metadata={"doc": "between backbone and heads"})
    projector_features: int = field(default=1376, metadata={"doc": "length of an embedding; 1376 is that of Google's CXR foundation model"})
    mode: Literal["cyclic", "concurrent", "single_head"] = field(
        default="cyclic",
        metadata={
            "doc": "a pass over each source in turn, each with its head; all sources mixed in every batch; in turn with one head over all "
            "labels, shared by name"
        },
    )
    only: str = field(default="all", metadata={"doc": "the one source that is learnt from and validated, by card"})
    order: Literal["fixed", "shuffled"] = field(default="shuffled", metadata={"doc": "of the sources: as written, or anew in every cycle"})
    student_view: Literal["ark", "plus"] = field(
        default="ark", metadata={"doc": "as published (crops from .08, shift, scale, turn, light), or `cxr_plus` (crops from .6)"}
    )
    teacher_view: Literal["nearest", "bilinear", "whole"] = field(
        default="whole",
        metadata={"doc": "the student's geometry by nearest neighbour, as published, or bilinear, without its light; or the whole image"},
    )
    teacher_start: Literal["copy", "independent"] = field(
        default="copy", metadata={"doc": "the teacher starts as the student, or with a projector and heads of its own"}
    )
    teacher_mode: Literal["eval", "as_published"] = field(
        default="eval", metadata={"doc": "always in eval mode; as published with stochastic depth in the first cycle"}
    )
    ema: Literal["step", "pass", "step_as_released"] = field(
        default="step",
        metadata={
            "doc": "when the teacher follows: after every step or every pass; step_as_released: `--ema_mode iteration`, after every step "
            "by schedules that count passes of all steps"
        },
    )
    momentum: float = field(default=0.996, metadata={"doc": "of the teacher at the start; it rises to 1 along half a cosine"})
    consistency: float = field(
        default=0.5, metadata={"doc": "weight of the consistency loss at the end; it rises from 0 along half a cosine; 0 is off"}
    )
    loss: Literal["auto", "bce"] = field(
        default="auto", metadata={"doc": "cross-entropy over the classes of multi-class cards, or of each label by itself on all of them"}
    )
    uncertain: Literal["card", "ignore", "ones", "zeros", "lsr_ones", "lsr_zeros"] = field(
        default="card",
        metadata={"doc": "what training makes of uncertain labels, in place of the cards' policies; lsr: soft targets, fixed"},
    )
    uncertain_of: Mapping[str, str] = field(default_factory=dict, metadata={"doc": "the same for single sources, by card"})
    epochs: int = field(default=200, metadata={"doc": "cycles over the sources"})
    batch_size: int = field(default=200, metadata={"doc": "images a step, over all processes; the last partial batch of a pass is dropped"})
    micro_batch: int = field(default=0, metadata={"doc": "images a forward pass, gradients accumulated; 0 is the whole batch"})
    bn_images: int = field(default=0, metadata={"doc": "images a BatchNorm group of the student; 0 is all of a forward pass"})
    optimizer: Literal["adam", "adamw", "sgd"] = field(default="sgd", metadata={"doc": "sgd has momentum .9"})
    nesterov: bool = field(default=True, metadata={"doc": "of sgd's momentum"})
    lr: float = field(default=0.1, metadata={"doc": "initial learning rate"})
    weight_decay: float = field(default=0.0, metadata={"doc": "L2 (adam, sgd) or decoupled (adamw)"})
    decay_norms: bool = field(default=True, metadata={"doc": "whether normalisation layers and biases decay too"})
    schedule: Literal["cosine", "constant", "cosine_of_val_loss"] = field(
        default="cosine",
        metadata={"doc": "of the learning rate, by step; of_val_loss: as released, the validation loss for the number of the cycle"},
    )
    warmup: float = field(default=0.1, metadata={"doc": "share of all steps that rise linearly, with cosine or constant"})
    warmup_epochs: int = field(default=20, metadata={"doc": "cycles of the rise of cosine_of_val_loss"})
    warmup_lr: float = field(default=1e-6, metadata={"doc": "where the rise of cosine_of_val_loss starts"})
    min_lr: float = field(default=1e-5, metadata={"doc": "where cosine_of_val_loss ends"})
    grad_clip: float = field(default=0.0, metadata={"doc": "largest gradient norm; 0 is off"})
    precision: Literal["fp32", "bf16"] = field(default="fp32", metadata={"doc": "of the backbones; projectors, heads and losses are fp32"})
    export: Literal["teacher", "student"] = field(default="teacher", metadata={"doc": "which of the two is handed on and evaluated"})
    validated: Literal["both", "exported"] = field(
        default="both", metadata={"doc": "which networks predict validation: both, or only the one that is handed on"}
    )
    save_every_epochs: int = field(default=1, metadata={"doc": "how often validation is predicted and a checkpoint kept"})
    keep_best: int = field(default=1, metadata={"doc": "how many checkpoints are kept, by the pick's metric"})

    def __post_init__(self) -> None:
        positive(self, "lr")
        within(self, px=(8, inf), projector_features=(1, inf), epochs=(1, inf), batch_size=(1, inf), micro_batch=(0, inf))
        within(self, bn_images=(0, inf), save_every_epochs=(1, inf), warmup_epochs=(0, inf))
        within(self, momentum=(0, 1), consistency=(0, 1), drop_path=(0, 0.99), weight_decay=(0, inf), grad_clip=(0, inf))
        within(self, warmup=(0, 1), warmup_lr=(0, inf), min_lr=(0, inf))
        self._check_views()
        self._check_rate()
        for card, what in self.uncertain_of.items():
            if what not in UNCERTAIN:
                raise ValueError(f"uncertain_of.{card}: '{what}' is none of {', '.join(UNCERTAIN)}")

    def _check_views(self) -> None:
        within(self, crop_pct=(0.67, 1))
        if "ten_crop" in (self.val_views, self.test_views) and self.crop_pct == 1:
            name = "val_views" if self.val_views == "ten_crop" else "test_views"
            raise ValueError(f"{name}: ten crops of an image that is no larger than a view are the same: set crop_pct: 0.875")
        if self.teacher_view == "nearest" and self.student_view == "plus":
            raise ValueError("teacher_view: by nearest neighbour there are only views as published: set student_view: ark, or bilinear")

    def _check_rate(self) -> None:
        if self.nesterov and self.optimizer != "sgd":
            raise ValueError(f"nesterov: {self.optimizer} has no such momentum: set optimizer: sgd, or nesterov: false")
        if self.schedule == "cosine_of_val_loss" and self.save_every_epochs != 1:
            raise ValueError("schedule: the rate follows the validation loss of every cycle: set save_every_epochs: 1")
        if self.schedule == "cosine_of_val_loss" and self.export == "teacher" and self.validated == "exported":
            raise ValueError("validated: the rate follows the student's validation loss, which nobody measures: set validated: both")


#: What may be made of uncertain labels.
UNCERTAIN = ("card", "ignore", "ones", "zeros", "lsr_ones", "lsr_zeros")

#: Key -> (what the paper or its release does, our default, why). What is not here is as released.
DEPARTURES: Mapping[str, tuple[Any, Any, str]] = {
    "channels": (3, 1, "a grey image three times; with the same normalisation a stem summed over channels starts as the same function"),
    "init": ("imagenet", "random", "weights need a file; a sweep names its start"),
    "projector": ("linear by the README, an MLP by the name of the released file", "mlp", "as the file that is handed out"),
    "order": ("fixed", "shuffled", "with a fixed order the last source is always the freshest in what is handed on"),
    "teacher_view": ("nearest", "whole", "nearest neighbour comes of handing the image over as a mask; Ark+ shows the whole image"),
    "teacher_start": (
        "independent",
        "copy",
        "a random projector is a target that means nothing: after 6 updates 53 % of it are left, after 60 .2 %",
    ),
    "teacher_mode": (
        "as_published",
        "eval",
        "the released teacher has stochastic depth until the first test puts it into eval mode for good",
    ),
    "ema": ("pass", "step", "a pass over 200,000 images and one over 463 would be the same step of the teacher"),
    "momentum": (0.9, 0.996, "of steps, not of passes"),
    "loss": ("bce", "auto", "three classes that exclude each other are one softmax; Ark+ changed this too"),
    "uncertain": ("lsr_ones on CheXpert, ones on MIMIC", "card", "a policy is declared a card, where its source is named"),
    "lr": (0.3, 0.1, "0.3 is never reached: the released scheduler is handed the validation loss as the epoch (`cosine_of_val_loss`)"),
    "schedule": ("cosine_of_val_loss", "cosine", "the rate of the release is 1e-6 in the first cycle and then about lr * loss / 20"),
    "batch_size": ("200, and a pass ends with a partial batch", 200, "whole batches: the images left over change with the cycle"),
}
_PUBLISHED: Mapping[str, tuple[Any, str]] = {
    "channels": (3, "a grey image three times, as ImageNet's stem expects"),
    "normalization": ("imagenet", "its default"),
    "crop_pct": (0.875, "224 of 256"),
    "aspect": ("squashed", "validation and test resize to 256 x 256"),
    "val_views": ("centre", "the validation loss is of the centre"),
    "test_views": ("ten_crop", "tested by ten crops of 256 x 256"),
    "drop_path": (0.1, "of timm's Swin-B"),
    "projector_features": (1376, "the length of an embedding of Google's CXR foundation model"),
    "mode": ("cyclic", "a pass over each source in turn"),
    "order": ("fixed", "in the order of the command line"),
    "student_view": ("ark", "crops from .08, shift, scale, turn, light"),
    "teacher_view": ("nearest", "the student's geometry, as a mask"),
    "ema": ("pass", "`--ema_mode epoch`: once after every pass over a source"),
    "momentum": (0.9, "rising to 1"),
    "consistency": (0.5, "rising from 0, coupled with the momentum: 5 (m - .9)"),
    "loss": ("bce", "on every set, the three classes of RSNA included"),
    "uncertain": ("lsr_ones", "CheXpert's, drawn once; a sweep names MIMIC's, `uncertain_of: {mimic_cxr: ones}`"),
    "epochs": (200, "`--pretrain_epochs 200`"),
    "batch_size": (200, "`--batch_size 200`"),
    "optimizer": ("sgd", "`--opt sgd`"),
    "nesterov": (True, "what timm's `sgd` is"),
    "lr": (0.3, "`--lr 0.3`"),
    "weight_decay": (0.0, "its default"),
    "warmup": (0.1, "20 cycles of 200"),
    "grad_clip": (0.0, "none"),
    "precision": ("fp32", "no mixed precision"),
    "export": ("teacher", "the file that is handed out"),
}
#: Name -> key -> (value, why). `paper`: what it says, with the holes of its release mended; `release`: what the public code does; `plus`:
#: the changes of Ark+; `recommended`: what a careful group would run at the same compute.
PRESETS: Mapping[str, Mapping[str, tuple[Any, str]]] = {
    "paper": {
        **_PUBLISHED,
        "projector": ("linear", "its README's command"),
        "teacher_start": ("copy", "the teacher is what the student was, averaged"),
        "teacher_mode": ("eval", "a target without noise of its own"),
        "schedule": ("cosine", "what was meant: half a cosine after 20 cycles of warm-up"),
    },
    "release": {
        **_PUBLISHED,
        "projector": ("linear", "its README's command; the released file has an MLP"),
        "teacher_start": ("independent", "both are built on their own, from the same ImageNet file"),
        "teacher_mode": ("as_published", "stochastic depth until the test after the first cycle"),
        "schedule": ("cosine_of_val_loss", "the scheduler is handed the mean validation loss as the epoch"),
        "warmup_epochs": (20, "`--warmup-epochs 20`"),
        "warmup_lr": (1e-6, "its default, and the rate of the whole first cycle"),
        "min_lr": (1e-5, "its default"),
        "save_every_epochs": (1, "validation after every cycle drives the rate"),
        "validated": ("both", "the student's validation loss drives the rate"),
    },
    "plus": {
        **_PUBLISHED,
        "projector": ("mlp", "as the released file"),
        "teacher_start": ("independent", "as before"),
        "teacher_mode": ("as_published", "as before"),
        "teacher_view": ("whole", "the whole image, resized, and not the student's crop"),
        "loss": ("auto", "cross-entropy on sets of classes that exclude each other"),
        "batch_size": (50, "Swin-L at 768 pixels"),
        "epochs": (50, "by the name of its released file"),
        "schedule": ("cosine_of_val_loss", "as before"),
        "save_every_epochs": (1, "validation after every cycle drives the rate"),
        "validated": ("both", "the student's validation loss drives the rate"),
    },
    "recommended": {
        "channels": (1, "with the same normalisation a stem summed over channels starts as the same function, and costs less"),
        "normalization": ("cxr", "and the same when fine-tuning"),
        "projector": ("mlp", "as the released file"),
        "projector_features": (1376, "as published"),
        "mode": ("cyclic", "as published"),
        "order": ("shuffled", "with a fixed order the last source is always the freshest"),
        "student_view": ("plus", "crops of .08 leave most findings out"),
        "teacher_view": ("whole", "the teacher sees what the labels are about"),
        "teacher_start": ("copy", "a random projector is a target that means nothing"),
        "teacher_mode": ("eval", "a target without noise of its own"),
        "ema": ("step", "sources of any size move the teacher by their steps"),
        "momentum": (0.996, "of steps"),
        "consistency": (0.5, "as published"),
        "loss": ("auto", "classes that exclude each other are one softmax"),
        "uncertain": ("lsr_ones", "fixed by image and label; a sweep may name another for single sources"),
        "optimizer": ("sgd", "as published"),
        "nesterov": (True, "as published"),
        "lr": (0.1, "tune .03 to .3"),
        "schedule": ("cosine", "by step, after a warm-up"),
        "warmup": (0.05, "10 cycles of 200"),
        "grad_clip": (1.0, "transformers with sgd at this rate"),
        "precision": ("fp32", "bf16 where the hardware has it"),
        "export": ("teacher", "as published"),
    },
}
