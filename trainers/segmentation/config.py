"""Segmentation of structures: UPerNet (Xiao et al. 2018) on any timm feature pyramid, and BenchmarkTransformersSegmentation's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from trainers.parts.bounds import positive, within

NAME = "segmentation"
VERSION = 2
STARTS = ("init",)
TASKS = ("segmentation",)
#: Metrics of validation masks at the working size: the first counts images that have the structure, the second all.
MONITORS = ("val/dice", "val/dice_as_published", "val/dice_pooled", "val/loss", "val/dice/<label>")
SAMPLE: Mapping[str, Any] = {"arch": "slim", "px": 64, "width": 32, "epochs": 3, "batch_size": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What determines a segmentation."""

    arch: str = field(default="swin_base_patch4_window7_224", metadata={"doc": "`slim`, or any timm network with intermediate features"})
    channels: Literal[1, 3] = field(default=3, metadata={"doc": "input channels; 3 repeats the grey image"})
    px: int = field(default=224, metadata={"doc": "side of the square that the whole image is brought to"})
    init: str = field(default="random", metadata={"doc": "`random`, `imagenet`, a key of the cluster config's weights, or a file"})
    decoder: Literal["upernet", "upernet_published"] = field(
        default="upernet",
        metadata={"doc": "`upernet`: cumulative top-down over strides 4 to 32; the published one has no stride 4, on Swin alone"},
    )
    width: int = field(default=256, metadata={"doc": "channels of the decoder; the published one takes those of its finest map"})
    labels: tuple[str, ...] = field(default=(), metadata={"doc": "structures to learn; none means all of the card"})
    masks: Literal["coverage", "published"] = field(
        default="coverage",
        metadata={"doc": "how masks are made small: by area, or bytes added and all above 0 marked, about a pixel wider"},
    )
    loss: Literal["dice", "dice_bce"] = field(
        default="dice_bce", metadata={"doc": "soft Dice of the whole batch, with or without cross-entropy"}
    )
    augment: Literal["none", "joint", "published", "published_2022"] = field(
        default="joint", metadata={"doc": "how image and masks are drawn together; published ones take masks by the nearest pixel"}
    )
    augment_validation: bool = field(default=False, metadata={"doc": "whether validation is augmented too, which makes its numbers random"})
    normalization: Literal["cxr", "imagenet", "half"] = field(
        default="imagenet", metadata={"doc": "mean and sd that pixels are brought to"}
    )
    drop_path: float = field(default=0.1, metadata={"doc": "stochastic depth, where the network has it"})
    epochs: int = field(default=200, metadata={"doc": "passes over the training images"})
    batch_size: int = field(default=16, metadata={"doc": "images a step, over all processes"})
    last_batch: Literal["keep", "drop"] = field(default="keep", metadata={"doc": "what becomes of the images that fill no whole batch"})
    bn_images: int = field(default=0, metadata={"doc": "images a BatchNorm group; 0 is all of a forward pass"})
    optimizer: Literal["adamw", "sgd"] = field(default="adamw", metadata={"doc": "sgd has momentum 0.9"})
    lr: float = field(default=1e-4, metadata={"doc": "initial learning rate of the backbone"})
    decoder_lr_factor: float = field(default=10.0, metadata={"doc": "what the decoder's rate is multiplied by"})
    layer_decay: float = field(default=1.0, metadata={"doc": "what the rate is multiplied by a layer down from the decoder"})
    weight_decay: float = field(default=0.05, metadata={"doc": "L2 (sgd) or decoupled (adamw)"})
    decay_norms: bool = field(default=False, metadata={"doc": "whether normalisation layers and biases decay too"})
    schedule: Literal["cosine", "published", "constant"] = field(
        default="cosine", metadata={"doc": "by step; `published` by epoch, with 20 of warm-up of which the first has a rate of 0"}
    )
    warmup: float = field(
        default=0.05, metadata={"doc": "share of all steps that rise linearly, where the schedule is not the published one"}
    )
    grad_clip: float = field(default=1.0, metadata={"doc": "largest gradient norm; 0 is off"})
    precision: Literal["fp32", "bf16"] = field(default="fp32", metadata={"doc": "of the network; losses and counts are fp32"})
    score_at: Literal["file", "input"] = field(
        default="file", metadata={"doc": "whether test masks are compared as fine as they are on disk, or as squares of `px`"}
    )
    save_every_epochs: int = field(default=1, metadata={"doc": "how often validation is predicted and a checkpoint kept"})
    patience: int = field(
        default=0,
        metadata={"doc": "a run ends after so many looks at validation, and one more, with no better `stop_on` in a row; 0 is off"},
    )
    stop_on: str = field(default="val/loss", metadata={"doc": "what patience goes by: `val/loss`, less is better, or `val/dice`, more is"})
    keep_best: int = field(default=1, metadata={"doc": "how many checkpoints are kept, by the pick's metric"})
    pictures_every_epochs: int = field(
        default=0,
        metadata={"doc": "how often outlines over the first validation images are kept, and of test images in the end; 0 is never"},
    )

    def __post_init__(self) -> None:
        positive(self, "lr", "decoder_lr_factor", "layer_decay")
        within(self, px=(32, inf), width=(1, inf), epochs=(1, inf), batch_size=(1, inf), bn_images=(0, inf), save_every_epochs=(1, inf))
        within(self, pictures_every_epochs=(0, inf), patience=(0, inf))
        within(self, drop_path=(0, 0.99), warmup=(0, 1), weight_decay=(0, inf), grad_clip=(0, inf), layer_decay=(0, 1))
        if self.decoder == "upernet_published" and "swin" not in self.arch:
            raise ValueError(f"decoder: upernet_published takes the maps of a Swin, and arch is '{self.arch}': set decoder: upernet")
        if self.patience and self.stop_on not in MONITORS and not self.stop_on.startswith("val/dice/"):
            raise ValueError(f"stop_on: no '{self.stop_on}' is measured: name one of {', '.join(MONITORS[:-1])}")


#: Key -> (what the published code does, our default, why). What is not here is as published.
DEPARTURES: Mapping[str, tuple[Any, Any, str]] = {
    "decoder": ("upernet_published", "upernet", "the published one drops the map at stride 4 and adds no sum to another"),
    "masks": ("published", "coverage", "bytes that wrap, and edges marked whole, make masks about a pixel wider"),
    "loss": ("dice", "dice_bce", "Dice alone has no gradient to speak of where a batch has no mask"),
    "augment": ("published", "joint", "masks by interpolation keep their part of a pixel"),
    "optimizer": ("sgd", "adamw", "what transformers are fine-tuned with"),
    "lr": (0.05, 1e-4, "for AdamW; the decoder, which is new, moves ten times as fast"),
    "decoder_lr_factor": (1.0, 10.0, "the backbone was pretrained and the decoder was not"),
    "weight_decay": (0.0, 0.05, "for decoupled decay"),
    "schedule": ("published", "cosine", "its first epoch has a rate of 0 and moves BatchNorm's statistics alone"),
    "warmup": ("20 epochs", 0.05, "a share of the steps, whatever their number"),
    "grad_clip": (0.0, 1.0, "early steps of a new decoder are large"),
    "score_at": ("input", "file", "at 224 pixels a boundary is some ten pixels of the file wide"),
    "batch_size": (32, 16, "more steps where a set has a hundred images"),
    "precision": ("fp32, and fp16 at the test", "fp32", "one precision in training and at the test"),
}
_SWIN = "swin_base_patch4_window7_224"
_PUBLISHED: Mapping[str, tuple[Any, str]] = {
    "arch": (_SWIN, "the only one there"),
    "channels": (3, "a grey image three times"),
    "px": (224, "as there"),
    "decoder": ("upernet_published", "maps after merging, no cumulative sums, one shared smoothing"),
    "loss": ("dice", "of the whole batch, smoothed by 1"),
    "augment": ("published", "the one of its last commit"),
    "normalization": ("imagenet", "its default"),
    "drop_path": (0.1, "as its backbone is built"),
    "batch_size": (32, "its default"),
    "last_batch": ("keep", "a loader that drops nothing; a last batch of one image stopped it, and does not stop this"),
    "optimizer": ("sgd", "momentum 0.9 without Nesterov, one rate for all"),
    "decoder_lr_factor": (1.0, "one parameter group"),
    "weight_decay": (0.0, "none"),
    "schedule": ("published", "by epoch, the first at a rate of 0"),
    "grad_clip": (0.0, "none"),
    "precision": ("fp32", "in training; its test ran in fp16, which has no counterpart here"),
    "score_at": ("input", "at 224 pixels"),
}
#: Name -> key -> (value, why). The poster behind `paper` states no rates; those of the README's command stand in both.
PRESETS: Mapping[str, Mapping[str, tuple[Any, str]]] = {
    "paper": {
        **_PUBLISHED,
        "masks": ("coverage", "what a mask of a left and a right half is taken for"),
        "lr": (0.05, "the README's command"),
        "epochs": (500, "the README's command"),
        "patience": (50, "the README's command"),
    },
    "release": {
        **_PUBLISHED,
        "masks": ("published", "bytes added with wrap-around, all above 0 marked"),
        "lr": (0.05, "the README's command; its default is 1e-3"),
        "epochs": (500, "the README's command; its default is 200"),
        "patience": (50, "the README's command, which counts one more; its default is 20"),
    },
    "recommended": {
        "decoder": ("upernet", "the standard one: cumulative, with the map at stride 4"),
        "width": (256, "half of the original's, at a fifth of its cost"),
        "masks": ("coverage", "what was drawn, no more"),
        "loss": ("dice_bce", "has a gradient where a batch has no mask"),
        "augment": ("joint", "image and mask by one geometry, both interpolated"),
        "augment_validation": (False, "a checkpoint is chosen by numbers that are no lottery"),
        "optimizer": ("adamw", "what transformers are fine-tuned with"),
        "lr": (1e-4, "of the backbone; tune it in every arm"),
        "decoder_lr_factor": (10.0, "the decoder is new"),
        "weight_decay": (0.05, "for decoupled decay"),
        "schedule": ("cosine", "to 0 by step"),
        "warmup": (0.05, "Adam's first steps are large"),
        "grad_clip": (1.0, "early steps of a new decoder are large"),
        "score_at": ("file", "as fine as the masks were drawn"),
        "precision": ("fp32", "bf16 where the hardware has it"),
    },
}
