"""Momentum contrast on chest radiographs, without labels (Sowrirajan et al., MIDL 2021; He et al. 2020; Chen et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from trainers.parts.bounds import positive, within

NAME = "moco_cxr"
VERSION = 1
STARTS = ("init",)
LABELS = False
#: What it writes with `watch_every_epochs`, by the key that turns it on. All of it is measured on validation labels.
MONITORS: Mapping[str, str] = dict.fromkeys(
    ("val/knn/auroc_macro", "val/knn/auroc/<label>", "val/probe/auroc_macro", "val/probe/auroc/<label>"), "watch_every_epochs"
)
SAMPLE: Mapping[str, Any] = {
    "arch": "slim",
    "px": 64,
    "epochs": 2,
    "batch_size": 16,
    "queue_size": 32,
    "optimizer": "adamw",
    "lr": 1e-3,
    "schedule": "cosine",
    "momentum": 0.99,
    "collapse_guard": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What determines a pretraining."""

    arch: str = field(default="resnet18", metadata={"doc": "`slim`, `slim_vit`, `slim_swin` (small), or any timm network"})
    channels: Literal[1, 3] = field(default=1, metadata={"doc": "input channels; 3 repeats the grey image"})
    px: int = field(default=320, metadata={"doc": "side of a view in pixels"})
    init: str = field(default="random", metadata={"doc": "`random`, `imagenet`, a key of the cluster's `weights` or a file, with `#part`"})
    images: Literal["real", "scrambled"] = field(default="real", metadata={"doc": "`scrambled`: phase-scrambled copies, the control"})
    augment: Literal["none", "crop", "cxr_paper", "cxr_paper_exact", "cxr_plus"] = field(
        default="cxr_paper", metadata={"doc": "how a view is drawn; exact: as torchvision does, to the pixel"}
    )
    normalization: Literal["cxr", "imagenet", "half"] = field(default="cxr", metadata={"doc": "mean and sd that pixels are brought to"})
    drop_path: float = field(default=0.0, metadata={"doc": "stochastic depth, where the network has it"})
    dim: int = field(default=128, metadata={"doc": "length of a key"})
    mlp_head: bool = field(default=True, metadata={"doc": "a hidden layer in the projection (MoCo v2), or none (v1)"})
    temperature: float = field(default=0.2, metadata={"doc": "what logits are divided by"})
    queue_size: int = field(default=24576, metadata={"doc": "keys in the queue; at most the training images, better a quarter of them"})
    queue_init: Literal["real", "random"] = field(default="real", metadata={"doc": "what the queue holds before step 1: keys or noise"})
    momentum: float = field(default=0.999, metadata={"doc": "of the key encoder"})
    momentum_end: float | None = field(default=None, metadata={"doc": "momentum at the last step, by half a cosine; none: constant"})
    key_bn_groups: int = field(default=2, metadata={"doc": "shuffled sub-batches that the key encoder normalises alone; 1 is the leak"})
    shuffle: Literal["within", "across", "apart"] = field(
        default="within",
        metadata={
            "doc": "which images a key may be normalised with: of its query's BatchNorm group, of the whole batch (several GPUs, as "
            "published), or of as many other groups as there are",
            "before": "within",
        },
    )
    collapse_guard: bool = field(default=True, metadata={"doc": "end as COLLAPSED when nothing is learnt after 5 % of the steps"})
    epochs: int = field(default=20, metadata={"doc": "passes over the training images"})
    batch_size: int = field(default=16, metadata={"doc": "images a step, over all processes; the last partial batch is dropped"})
    micro_batch: int = field(default=0, metadata={"doc": "images a forward pass, gradients accumulated; 0 is the whole batch"})
    bn_images: int = field(default=0, metadata={"doc": "images a BatchNorm group of the query encoder; 0 is all of a forward pass"})
    optimizer: Literal["adam", "adamw", "sgd"] = field(default="adam", metadata={"doc": "adam couples weight decay, adamw does not"})
    lr: float = field(default=1e-4, metadata={"doc": "initial learning rate"})
    weight_decay: float = field(default=1e-4, metadata={"doc": "L2 (adam, sgd) or decoupled (adamw)"})
    decay_norms: bool = field(default=True, metadata={"doc": "whether normalisation layers and biases decay too"})
    schedule: Literal["milestones", "cosine", "constant"] = field(default="milestones", metadata={"doc": "of the learning rate"})
    milestones: tuple[int, ...] = field(default=(12, 18, 24), metadata={"doc": "epochs (from 0) at which the rate falls to a tenth"})
    warmup: float = field(default=0.0, metadata={"doc": "share of all steps that rise linearly, with cosine or constant"})
    grad_clip: float = field(default=0.0, metadata={"doc": "largest gradient norm; 0 is off"})
    precision: Literal["fp32", "bf16"] = field(default="fp32", metadata={"doc": "of the encoders; keys, logits and queue are always fp32"})
    save_every_epochs: int = field(default=1, metadata={"doc": "how often a checkpoint is kept"})
    keep_best: int = field(default=1, metadata={"doc": "how many checkpoints a monitor keeps; pretraining has none, the last is kept"})

    watch_every_epochs: int = field(
        default=0,
        metadata={
            "doc": "how often, and at the end, neighbours (20) and a linear probe tell validation labels by the features; 0: never",
            "before": 0,
        },
    )
    watch_images: int = field(
        default=500, metadata={"doc": "images to look at then, up to half of them of validation, the others of training", "before": 500}
    )

    def __post_init__(self) -> None:
        positive(self, "temperature", "lr")
        within(self, watch_every_epochs=(0, inf), watch_images=(40, inf))
        if self.watch_every_epochs % self.save_every_epochs:
            raise ValueError(
                f"watch_every_epochs: {self.watch_every_epochs} is no multiple of save_every_epochs ({self.save_every_epochs}), so that "
                f"what is watched could not be picked; set it to {self.save_every_epochs} or a multiple, or to 0"
            )
        within(self, px=(8, inf), dim=(1, inf), epochs=(1, inf), batch_size=(2, inf), micro_batch=(0, inf), bn_images=(0, inf))
        within(self, momentum=(0, 1), momentum_end=(0, 1), drop_path=(0, 0.99), warmup=(0, 1), weight_decay=(0, inf), grad_clip=(0, inf))
        within(self, key_bn_groups=(1, inf), queue_size=(1, inf), save_every_epochs=(1, inf))
        if self.queue_size < self.batch_size:
            raise ValueError(
                f"queue_size: {self.queue_size} cannot take a batch of {self.batch_size} keys; set it to {self.batch_size} or more"
            )
        if self.shuffle != "within" and self.micro_batch:
            raise ValueError(
                f"shuffle: '{self.shuffle}' takes keys from the whole batch before the first loss, so that it cannot be cut: set "
                "micro_batch to 0, and use a smaller batch_size or more GPUs"
            )
        if self.shuffle == "apart" and not self.bn_images:
            raise ValueError(
                "shuffle: 'apart' keeps keys apart from the BatchNorm groups of queries: say how large these are, bn_images: 8"
            )
        together = self.bn_images or self.micro_batch or self.batch_size
        if self.key_bn_groups > 1 and together // self.key_bn_groups < 2:
            raise ValueError(
                f"key_bn_groups: {self.key_bn_groups} sub-batches of {together} images leave BatchNorm less than 2 each; lower it"
            )


#: Key -> (what the paper or its release does, our default, why). What is not here is as released.
DEPARTURES: Mapping[str, tuple[Any, Any, str]] = {
    "channels": (3, 1, "a grey image three times; with the same normalisation a stem summed over channels starts as the same function"),
    "init": ("imagenet", "random", "weights need a file; a sweep names its start"),
    "queue_init": ("random", "real", "a queue of noise is told apart without learning anything and can end in collapse"),
    "key_bn_groups": (
        1,
        2,
        "on one device shuffled BatchNorm only reorders: statistics of the batch give the key away. Halves give away less, and "
        "`shuffle: apart` nothing",
    ),
    "collapse_guard": (False, True, "a collapsed encoder is a failed run, not a weak one"),
    "augment": (
        "flip, turn by nearest neighbour, crop",
        "cxr_paper",
        "the same in one bilinear warp a view; nearest neighbour adds steps of a pixel",
    ),
    "keep_best": ("every epoch kept", 1, "20 checkpoints a run, of which one is used: the last"),
}
#: Name -> key -> (value, why). `paper`: what it says, with the holes of its release mended; `release`: what the public code does;
#: `recommended`: what a careful group would run at the same compute.
PRESETS: Mapping[str, Mapping[str, tuple[Any, str]]] = {
    "paper": {
        "channels": (3, "a grey image three times, as ImageNet's stem expects"),
        "augment": ("cxr_paper", "flip, turns of up to 10 degrees and a crop; jitter and blur mean nothing on a grey image"),
        "normalization": ("cxr", "mean 0.5020, sd 0.0856 of CheXpert"),
        "dim": (128, "as MoCo"),
        "mlp_head": (True, "MoCo v2's projection"),
        "temperature": (0.2, "as its jobs set it"),
        "queue_size": (24576, "the release's default"),
        "queue_init": ("random", "as MoCo: noise of unit length"),
        "momentum": (0.999, "as MoCo"),
        "momentum_end": (None, "constant, as MoCo"),
        "key_bn_groups": (2, "what shuffled BatchNorm is for: the statistics of the keys are not those of their queries"),
        "collapse_guard": (True, "ends a run that learns nothing, and changes no run that does"),
        "epochs": (20, "for learning rates up to 1e-4; 35 for 1e-2"),
        "batch_size": (16, "as its public job"),
        "optimizer": ("adam", "with L2 in the gradient"),
        "lr": (1e-4, "of 1e-5, 1e-4 and 1e-2; five times as much without ImageNet weights"),
        "weight_decay": (1e-4, "coupled, on every parameter"),
        "decay_norms": (True, "no parameter is left out"),
        "schedule": ("milestones", "a tenth at each"),
        "milestones": ((12, 18, 24), "whatever the number of epochs"),
        "grad_clip": (0.0, "none"),
        "precision": ("fp32", "no mixed precision"),
    },
    "release": {
        "channels": (3, "a grey image three times, as ImageNet's stem expects"),
        "augment": ("cxr_paper_exact", "pixel for pixel as torchvision draws it: turned by nearest neighbour, with black corners"),
        "normalization": ("cxr", "mean 0.5020, sd 0.0856 of CheXpert; fine-tuning then uses those of ImageNet"),
        "dim": (128, "as MoCo"),
        "mlp_head": (True, "`--mlp`"),
        "temperature": (0.2, "`--moco-t 0.2`; the default of the code is 0.07"),
        "queue_size": (24576, "its default"),
        "queue_init": ("random", "noise of unit length"),
        "momentum": (0.999, "its default"),
        "momentum_end": (None, "constant"),
        "key_bn_groups": (1, "every released run had one GPU, where shuffling only reorders: the leak stays"),
        "collapse_guard": (False, "nothing looks"),
        "epochs": (20, "its default"),
        "batch_size": (16, "its public job; its generator says 24"),
        "optimizer": ("adam", "with L2 in the gradient"),
        "lr": (1e-4, "its public job"),
        "weight_decay": (1e-4, "coupled, on every parameter, BatchNorm and biases too"),
        "decay_norms": (True, "no parameter is left out"),
        "schedule": ("milestones", "a tenth at each"),
        "milestones": ((12, 18, 24), "whatever the number of epochs"),
        "grad_clip": (0.0, "none"),
        "precision": ("fp32", "no mixed precision"),
    },
    "recommended": {
        "channels": (1, "with the same normalisation a stem summed over channels starts as the same function, and costs less"),
        "augment": ("cxr_plus", "crops and intensity; no flip, which mirrors left and right"),
        "normalization": ("cxr", "and the same when fine-tuning"),
        "dim": (128, "as MoCo"),
        "mlp_head": (True, "MoCo v2's projection"),
        "temperature": (0.2, "as MoCo v2"),
        "queue_size": (16384, "at most a quarter of the images, or an image meets its own old key"),
        "queue_init": ("real", "a queue of noise is told apart without learning anything and can end in collapse"),
        "momentum": (0.996, "0.99 below 10,000 steps"),
        "momentum_end": (1.0, "rising by half a cosine"),
        "bn_images": (32, "statistics of 32 images, however many processes there are"),
        "key_bn_groups": (4, "eight images a group of keys, each from another group of queries"),
        "shuffle": ("apart", "no other image is in the groups of a query and of its key: nothing is given away (decision 13)"),
        "collapse_guard": (True, "a collapsed encoder is a failed run, not a weak one"),
        "epochs": (20, "the paper's compute"),
        "batch_size": (256, "more negatives of the same age"),
        "optimizer": ("adamw", "decoupled decay"),
        "lr": (1e-3, "tune 3e-4 to 3e-3"),
        "weight_decay": (0.05, "for decoupled decay"),
        "decay_norms": (False, "scales and biases need no shrinking"),
        "schedule": ("cosine", "milestones 12 and 18 halt short runs"),
        "warmup": (0.05, "Adam's first steps are large"),
        "grad_clip": (0.0, "not needed at this rate"),
        "precision": ("fp32", "bf16 where the hardware has it; the keys stay fp32 either way"),
    },
}
