"""AG-CNN (Guan et al. 2018): a network on the image, one on the region that it attends to, and a fusion of both; and its public code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from trainers.parts.bounds import positive, within

NAME = "ag_cnn"
VERSION = 1
STARTS = ("init", "init_local", "init_fusion")
#: A pretrained network, the global branch, and a model that has the local one.
ROLES = ("init", "global", "local")
SAMPLE: Mapping[str, Any] = {"arch": "slim", "px": 64, "patch_px": 0, "epochs": 2, "batch_size": 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What determines an AG-CNN, or one of its stages."""

    branch: Literal["global", "local", "fusion", "joint"] = field(
        default="global",
        metadata={
            "doc": "what is trained, and predicts: a stage on what its parents hand on, or all three at once, which predict by the fusion"
        },
    )
    arch: str = field(default="resnet50", metadata={"doc": "of both branches: `slim`, or any timm network with feature maps"})
    channels: Literal[1, 3] = field(default=3, metadata={"doc": "input channels; 3 repeats the grey image"})
    px: int = field(default=224, metadata={"doc": "side of what a branch sees, image and patch"})
    patch_px: int = field(
        default=0,
        metadata={
            "doc": "side of the view that a patch is cut from, a multiple of px: finer than what the global branch sees; 0 is what it sees"
        },
    )
    init: str = field(default="random", metadata={"doc": "`random`, `imagenet`, a key of the cluster config's weights, or a file"})
    init_local: str = field(
        default="random",
        metadata={
            "doc": "a file that the local branch starts from in place of `init`, such as the public code's; `random` is none",
            "before": "random",
        },
    )
    init_fusion: str = field(
        default="random",
        metadata={"doc": "the public code's file of its fusion, which needs classifiers: released; `random` is none", "before": "random"},
    )
    classifiers: Literal["new", "released"] = field(
        default="new",
        metadata={
            "doc": "released: branches take the classifiers of their files too, of the 14 findings of the public code, by name",
            "before": "new",
        },
    )
    local_init: Literal["global", "init"] = field(
        default="init", metadata={"doc": "what the local branch starts from: a copy of the global one, or `init`"}
    )
    freeze: Literal["all", "gradients", "nothing"] = field(
        default="all",
        metadata={"doc": "branches that a parent hands on: weights and BatchNorm stay; weights alone stay; or they train on"},
    )
    pooling: Literal["max", "avg", "lse"] = field(default="max", metadata={"doc": "how the last map becomes a vector"})
    lse_r: float = field(default=10.0, metadata={"doc": "of lse, log-mean-exp(r f) / r: towards 0 the mean, upwards the maximum"})
    no_finding: bool = field(default=False, metadata={"doc": "one output more, that no label is positive; it is learnt and never scored"})
    statistic: Literal["max", "l1", "l2", "sum"] = field(
        default="max", metadata={"doc": "how feature maps become a heat map: max|f|, their mean, L2, or the sum as released"}
    )
    upsampled: Literal["heat", "scaled", "levels", "mask"] = field(
        default="heat",
        metadata={"doc": "what is enlarged to px: the heat map before it is scaled to [0, 1]; after; as bytes (released); or the mask"},
    )
    thresholding: Literal["fixed", "otsu"] = field(default="fixed", metadata={"doc": "`threshold`, or Otsu's, image by image"})
    threshold: float = field(
        default=0.7, metadata={"doc": "of the heat map in [0, 1]: what is above it is in the mask; otsu does not read it"}
    )
    connectivity: Literal[4, 8] = field(default=8, metadata={"doc": "neighbours that connect a region"})
    inclusive: bool = field(
        default=True, metadata={"doc": "whether a box has the last row and column of its region; as released it has not"}
    )
    margin: float = field(default=0.0, metadata={"doc": "share of its sides that a box is widened by on each side"})
    min_side: float = field(default=0.0, metadata={"doc": "smallest side of a box, a share of px"})
    boxes: Literal["one", "per_class"] = field(
        default="one", metadata={"doc": "one box an image; or one a label, on maps weighted as that label's output is, and as many passes"}
    )
    patch: Literal["image", "wrapped_mosaic"] = field(
        default="image",
        metadata={
            "doc": "what a patch is cut from; wrapped_mosaic: as released, a tile of every third pixel whose normalised values wrap at 256"
        },
    )
    contrast: Literal["none", "factor", "autocontrast", "clahe"] = field(
        default="none", metadata={"doc": "how image and patch are brought out, both alike, before the patch is cut"}
    )
    contrast_factor: float = field(default=1.2, metadata={"doc": "of `factor`: on the distance from the image's mean"})
    labels: tuple[str, ...] = field(default=(), metadata={"doc": "labels to learn; none means all of the card"})
    augment: Literal["none", "crop", "cxr_paper", "cxr_plus", "resized_crop"] = field(
        default="cxr_plus", metadata={"doc": "how a training view is drawn, which image and patch share"}
    )
    crop_pct: float = field(
        default=1.0, metadata={"doc": "px over the side that validation and test images are brought to before their centre is cut"}
    )
    normalization: Literal["cxr", "imagenet", "half", "chestx-ray"] = field(
        default="imagenet", metadata={"doc": "mean and sd that pixels are brought to"}
    )
    loss_weights: tuple[float, float, float] = field(default=(1.0, 1.0, 1.0), metadata={"doc": "joint: of global, local and fusion"})
    fusion_gradients: bool = field(
        default=True, metadata={"doc": "joint: whether the loss of the fusion reaches into the branches; as released it does not"}
    )
    epochs: int = field(default=50, metadata={"doc": "passes over the training images"})
    batch_size: int = field(default=64, metadata={"doc": "images a step, over all processes"})
    bn_images: int = field(default=0, metadata={"doc": "images a BatchNorm group; 0 is all of a forward pass"})
    optimizer: Literal["adam", "adamw", "sgd"] = field(default="adamw", metadata={"doc": "sgd has momentum 0.9; adam couples weight decay"})
    lr: float = field(default=1e-4, metadata={"doc": "initial learning rate of the branches"})
    fusion_lr_factor: float = field(default=1.0, metadata={"doc": "what the fusion's rate is multiplied by"})
    weight_decay: float = field(default=0.05, metadata={"doc": "L2 (adam, sgd) or decoupled (adamw)"})
    decay_norms: bool = field(default=False, metadata={"doc": "whether normalisation layers and biases decay too"})
    schedule: Literal["milestones", "cosine", "constant"] = field(default="cosine", metadata={"doc": "of the learning rate, by step"})
    milestones: tuple[int, ...] = field(default=(), metadata={"doc": "epochs (from 0) at which the rate falls to a tenth"})
    scheduled: Literal["all", "fusion"] = field(default="all", metadata={"doc": "whose rate the schedule moves"})
    warmup: float = field(default=0.05, metadata={"doc": "share of all steps that rise linearly, with cosine or constant"})
    grad_clip: float = field(default=0.0, metadata={"doc": "largest gradient norm; 0 is off"})
    precision: Literal["fp32", "bf16"] = field(
        default="fp32", metadata={"doc": "of the networks; heat maps, losses and predictions are fp32"}
    )
    save_every_epochs: int = field(default=1, metadata={"doc": "how often validation is predicted and a checkpoint kept"})
    keep_best: int = field(default=1, metadata={"doc": "how many checkpoints are kept, by the pick's metric"})
    pictures_every_epochs: int = field(
        default=0,
        metadata={
            "doc": "how often heat map, mask and box over the first validation images are kept, and of test images in the end; 0 is never"
        },
    )

    def __post_init__(self) -> None:
        positive(self, "lr", "fusion_lr_factor", "lse_r", "contrast_factor")
        within(self, px=(32, inf), patch_px=(0, inf), epochs=(1, inf), batch_size=(1, inf), bn_images=(0, inf), save_every_epochs=(1, inf))
        within(self, threshold=(0, 1), margin=(0, 1), min_side=(0, 1), crop_pct=(0.67, 1), warmup=(0, 1), weight_decay=(0, inf))
        within(self, grad_clip=(0, inf), pictures_every_epochs=(0, inf))
        if self.patch_px % self.px:
            raise ValueError(f"patch_px: {self.patch_px} is no multiple of px ({self.px}): set {2 * self.px}, or 0 for px itself")
        if self.schedule == "milestones" and not self.milestones:
            raise ValueError("milestones: the schedule of that name needs the epochs at which the rate falls, such as [20]")
        if min(self.loss_weights) < 0 or not any(self.loss_weights):
            raise ValueError(f"loss_weights: {list(self.loss_weights)} are of global, local and fusion: none below 0, and one above")
        if self.branch == "local" and self.freeze == "nothing":
            raise ValueError(
                "freeze: a patch hands no gradient back, so a local branch trains no global one: set freeze: all, or gradients"
            )
        if self.branch == "joint" and not self.fusion_gradients and min(self.loss_weights[:2]) == 0:
            raise ValueError("loss_weights: without fusion_gradients a branch learns from its own loss alone: give both a weight above 0")
        self._check_released()
        if self.patch == "wrapped_mosaic":
            self._check_mosaic()

    def _check_released(self) -> None:
        if self.init_local != "random" and (self.branch == "global" or self.local_init == "global"):
            raise ValueError("init_local: names what a local branch starts from: set branch: local or joint, and local_init: init")
        if self.init_fusion != "random" and (self.branch not in ("fusion", "joint") or self.classifiers == "new"):
            raise ValueError("init_fusion: is the classifier of a fusion: set branch: fusion or joint, and classifiers: released")
        if self.classifiers == "released" and self.no_finding:
            raise ValueError("classifiers: as released have no output for no finding: set no_finding: false")

    def _check_mosaic(self) -> None:
        if self.channels != 3:
            raise ValueError("patch: wrapped_mosaic is laid out from three channels: set channels: 3")
        if self.patch_px > self.px:
            raise ValueError("patch: wrapped_mosaic is made of what the global branch sees: set patch_px: 0")


#: Key -> (what the paper does, our default, why). What is not here is as in the paper.
DEPARTURES: Mapping[str, tuple[Any, Any, str]] = {
    "init": ("imagenet", "random", "what a run starts from is named where the run is"),
    "no_finding": (True, False, "a label of the fourteen's absence adds nothing that they do not say; scored are fourteen either way"),
    "augment": ("resized_crop", "cxr_plus", "windows of 8 % of an image remove lesions; radiographs have a left and a right"),
    "optimizer": ("sgd", "adamw", "one rate for backbones old and new"),
    "lr": (0.01, 1e-4, "for AdamW; tune it in every arm"),
    "weight_decay": (1e-4, 0.05, "for decoupled decay"),
    "schedule": ("milestones", "cosine", "to 0 by step"),
    "warmup": (0.0, 0.05, "Adam's first steps are large"),
}
_PAPER: Mapping[str, tuple[Any, str]] = {
    "channels": (3, "a grey image three times, as ImageNet's stem expects"),
    "px": (224, "as there"),
    "patch_px": (0, "a patch is cut from the image that the network sees"),
    "contrast": ("none", "none"),
    "grad_clip": (0.0, "none"),
    "precision": ("fp32", "no mixed precision"),
    "boxes": ("one", "one region for all findings"),
}
#: Name -> key -> (value, why).
PRESETS: Mapping[str, Mapping[str, tuple[Any, str]]] = {
    "paper": {
        **_PAPER,
        "local_init": ("init", "by implication: the local branch is fine-tuned from ImageNet as the global one is"),
        "freeze": ("all", "weights are fixed; of BatchNorm's statistics it says nothing, and frozen is taken for frozen"),
        "pooling": ("max", "Pool5 is max pooling; vectors to fuse are taken after it"),
        "no_finding": (True, "15 outputs, and a mean over 14"),
        "statistic": ("max", "its main table; l1 and l2 are as good there"),
        "upsampled": ("heat", "not written down; its figure shows an enlarged map"),
        "thresholding": ("fixed", "one threshold"),
        "threshold": (0.7, "chosen on validation"),
        "connectivity": (8, "not written down"),
        "inclusive": (True, "the extreme coordinates of the region"),
        "margin": (0.0, "none"),
        "min_side": (0.0, "none"),
        "patch": ("image", "cut from the network's input"),
        "augment": ("resized_crop", "a window resized to 224, mirrored; the patch is cut from what it shows"),
        "crop_pct": (0.875, "224 of 256"),
        "normalization": ("imagenet", "its mean; that nothing is said of its spread is not taken for a spread of 1"),
        "batch_size": (64, "of stages II and III; its text has 126 for stage I on ResNet-50 and its table 128"),
        "optimizer": ("sgd", "momentum 0.9"),
        "lr": (0.01, "as there"),
        "weight_decay": (1e-4, "as there, on all weights"),
        "decay_norms": (True, "one group of weights"),
        "schedule": ("milestones", "a tenth after 20 epochs"),
        "milestones": ((20,), "as there"),
        "epochs": (50, "a stage"),
    },
    "release": {
        **_PAPER,
        "branch": ("joint", "one loop for all three"),
        "arch": ("densenet121", "the only one there"),
        "pooling": ("avg", "of a 7 x 7 map"),
        "no_finding": (False, "14 outputs"),
        "statistic": ("sum", "over channels after the last ReLU"),
        "upsampled": ("levels", "bytes, enlarged as bytes"),
        "thresholding": ("otsu", "image by image; the fixed 178 of 255 is commented out there"),
        "connectivity": (8, "as labelled there"),
        "inclusive": (False, "a slice without its last row and column"),
        "margin": (0.0, "none"),
        "min_side": (0.0, "none; an empty crop stops the program there, and is the whole image here"),
        "patch": ("wrapped_mosaic", "the image is reshaped where it should be transposed, cut at 1/3 and 2/3, and cast to bytes that wrap"),
        "local_init": ("init", "both branches start alike"),
        "augment": ("none", "training views are the centre of the image"),
        "crop_pct": (0.875, "224 of 256 at validation and test, and 224 of 224 in training"),
        "normalization": ("imagenet", "mean and spread"),
        "loss_weights": ((0.8, 0.1, 0.1), "which change little under Adam, as each loss reaches one part alone"),
        "fusion_gradients": (False, "its vectors are detached on their way"),
        "batch_size": (32, "as there"),
        "optimizer": ("adam", "its betas and epsilon are the defaults"),
        "lr": (1e-8, "of both branches, which came from a network trained on chest radiographs"),
        "fusion_lr_factor": (1e5, "1e-3 for the fusion"),
        "weight_decay": (1e-5, "coupled"),
        "decay_norms": (True, "one group of weights"),
        "schedule": ("milestones", "by the epoch in which it was stepped first (torch up to 1.0); later ones fall an epoch earlier"),
        "milestones": ((15, 30, 45), "of the fusion"),
        "scheduled": ("fusion", "the branches' schedulers multiply by 1"),
        "epochs": (50, "as there"),
    },
    "recommended": {
        "pooling": ("max", "as in the paper"),
        "no_finding": (False, "says nothing that the other outputs do not"),
        "statistic": ("max", "as in the paper"),
        "upsampled": ("heat", "scaled once it is as fine as it gets: the maximum of the map is 1"),
        "thresholding": ("fixed", "as in the paper"),
        "threshold": (0.7, "as in the paper"),
        "connectivity": (8, "regions that touch at a corner are one"),
        "inclusive": (True, "a region lies wholly in its box"),
        "margin": (0.05, "what surrounds a lesion tells it from anatomy"),
        "min_side": (0.25, "less is a few pixels enlarged"),
        "boxes": ("one", "one pass"),
        "patch": ("image", "what is there"),
        "local_init": ("global", "it knows radiographs"),
        "freeze": ("all", "frozen must be frozen"),
        "augment": ("cxr_plus", "no windows that leave lesions out, no mirror"),
        "optimizer": ("adamw", "decoupled decay"),
        "lr": (1e-4, "tune it in every arm"),
        "weight_decay": (0.05, "for decoupled decay"),
        "schedule": ("cosine", "to 0 by step"),
        "warmup": (0.05, "Adam's first steps are large"),
        "batch_size": (64, "as in the paper"),
        "grad_clip": (0.0, "none"),
        "precision": ("fp32", "bf16 where the hardware has it"),
    },
}
