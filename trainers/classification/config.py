"""Multi-label classification of radiographs: fine-tuning, or a linear classifier on frozen features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from trainers.classification.benchmark_presets import BENCHMARK_PRESETS
from trainers.parts.bounds import positive, within

NAME = "classification"
VERSION = 2
STARTS = ("init",)
EMBEDDINGS = ("backbone",)
SAMPLE: Mapping[str, Any] = {"arch": "slim", "px": 64, "epochs": 3, "batch_size": 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What determines a classifier."""

    arch: str = field(default="resnet18", metadata={"doc": "`slim`, `slim_vit`, `slim_swin` (small), or any timm network"})
    channels: Literal[1, 3] = field(default=1, metadata={"doc": "input channels; 3 repeats the grey image"})
    px: int = field(default=320, metadata={"doc": "side of the input in pixels"})
    init: str = field(default="random", metadata={"doc": "`random`, `imagenet`, a key of the cluster's `weights` or a file, with `#part`"})
    pool: Literal["arch", "avg"] = field(
        default="arch",
        metadata={
            "doc": "how the last features become one vector: as the network does, or the mean of a ViT's patches and a norm behind it, "
            "as MAE is fine-tuned",
            "before": "arch",
        },
    )
    freeze: Literal["backbone", "gradients", "nothing"] = field(
        default="nothing",
        metadata={"doc": "`backbone` keeps weights and BatchNorm fixed; `gradients` weights alone, and BatchNorm goes on adapting"},
    )
    solver: Literal["lbfgs", "sgd"] = field(
        default="lbfgs", metadata={"doc": "with a frozen backbone: logistic regression on features, or gradient steps; else ignored"}
    )
    packed: bool = field(
        default=False,
        metadata={
            "doc": "with a frozen backbone: features of whole splits, computed once for all jobs on them, and all labels solved together",
            "before": False,
        },
    )
    penalties: tuple[float, ...] = field(
        default=(0.1, 1.0, 10.0, 100.0, 1000.0), metadata={"doc": "lbfgs: L2 penalties (1 / C) of which validation picks one a label"}
    )
    penalty: float = field(default=1.0, metadata={"doc": "lbfgs: the L2 penalty without a validation split"})
    labels: tuple[str, ...] = field(default=(), metadata={"doc": "labels to learn; none means all of the card"})
    loss: Literal["auto", "bce", "cross_entropy"] = field(
        default="auto",
        metadata={
            "doc": "cross-entropy of each label by itself (bce), or of classes that exclude each other (a softmax; lbfgs fits one against "
            "the rest all the same); auto: by the task of the card",
            "before": "auto",
            # A plan writes it into the job, so that jobs on such cards from before keep their ids and their loss.
            "by_task": {"multiclass": "cross_entropy"},
        },
    )
    uncertain: Literal["card", "ignore", "ones", "zeros", "lsr_ones", "lsr_zeros"] = field(
        default="card",
        metadata={
            "doc": "what training makes of uncertain labels, in place of what the card says; lsr: soft, in [0.55, 0.85] or [0, 0.3]",
            "before": "card",
        },
    )
    soft_targets: Literal["fixed", "every_epoch"] = field(
        default="fixed",
        metadata={"doc": "a soft target is one of its image and label, or drawn anew in every epoch and by the seed", "before": "fixed"},
    )
    augment: Literal["none", "crop", "cxr_paper", "cxr_paper_exact", "cxr_plus", "benchmark", "benchmark_exact", "benchmark_plus"] = field(
        default="cxr_plus", metadata={"doc": "how a training view is drawn; exact: as torchvision does, to the pixel"}
    )
    crop_pct: float = field(
        default=1.0,
        metadata={"doc": "px over the side that images are brought to before a view is cut: 0.875 is 224 of 256", "before": 1.0},
    )
    aspect: Literal["kept", "squashed"] = field(
        default="kept",
        metadata={
            "doc": "of an image of which validation or test see a view; squashed: brought to a square whatever its shape",
            "before": "kept",
        },
    )
    test_views: Literal["centre", "ten_crop"] = field(
        default="centre",
        metadata={
            "doc": "ten_crop: the mean probability of corners, centre and the same five mirrored, where a model is evaluated",
            "before": "centre",
        },
    )
    normalization: Literal["cxr", "imagenet", "half", "chestx-ray"] = field(
        default="cxr", metadata={"doc": "mean and sd that pixels are brought to"}
    )
    drop_path: float = field(default=0.0, metadata={"doc": "stochastic depth, where the network has it"})
    epochs: int = field(default=50, metadata={"doc": "passes over the training images"})
    batch_size: int = field(default=32, metadata={"doc": "images a step, over all processes"})
    micro_batch: int = field(default=0, metadata={"doc": "images a forward pass, gradients accumulated; 0 is the whole batch"})
    bn_images: int = field(default=0, metadata={"doc": "images a BatchNorm group; 0 is all of a forward pass"})
    optimizer: Literal["adam", "adamw", "sgd"] = field(default="adamw", metadata={"doc": "adam couples weight decay, adamw does not"})
    nesterov: bool = field(default=False, metadata={"doc": "of sgd's momentum of 0.9", "before": False})
    lr: float = field(default=3e-4, metadata={"doc": "initial learning rate of the backbone"})
    head_lr_factor: float = field(default=1.0, metadata={"doc": "what the head's rate is multiplied by"})
    layer_decay: float = field(default=1.0, metadata={"doc": "what the rate is multiplied by a layer down from the head"})
    weight_decay: float = field(default=0.05, metadata={"doc": "L2 (adam, sgd) or decoupled (adamw)"})
    decay_norms: bool = field(default=False, metadata={"doc": "whether normalisation layers and biases decay too"})
    schedule: Literal["milestones", "cosine", "constant", "cosine_by_epoch", "cosine_of_val_loss"] = field(
        default="cosine",
        metadata={
            "doc": "of the learning rate, by step; by_epoch: constant within an epoch; of_val_loss: as released, the validation loss taken "
            "for the number of the epoch, which keeps the rate about where it starts"
        },
    )
    milestones: tuple[int, ...] = field(
        default=(), metadata={"doc": "epochs (from 0) at which the rate falls to a tenth, with schedule milestones", "before": ()}
    )
    warmup: float = field(default=0.05, metadata={"doc": "share of all steps that rise linearly, with cosine or constant"})
    warmup_epochs: int = field(default=0, metadata={"doc": "epochs of the rise with cosine_by_epoch and cosine_of_val_loss", "before": 0})
    warmup_lr: float = field(default=1e-6, metadata={"doc": "where that rise starts", "before": 1e-6})
    min_lr: float = field(default=0.0, metadata={"doc": "where these two schedules end", "before": 0.0})
    grad_clip: float = field(default=0.0, metadata={"doc": "largest gradient norm; 0 is off"})
    precision: Literal["fp32", "bf16"] = field(default="fp32", metadata={"doc": "of the network; losses and predictions are fp32"})
    save_every_epochs: int = field(default=1, metadata={"doc": "how often validation is predicted and a checkpoint kept"})
    save_every_examples: int = field(
        default=0,
        metadata={
            "doc": "the same by images seen, before the step that follows: the state after the last step is never looked at; 0 is off",
            "before": 0,
        },
    )
    keep_best: int = field(default=1, metadata={"doc": "how many checkpoints are kept, by the pick's metric"})
    patience: int = field(
        default=0, metadata={"doc": "training ends after one look at validation more than this without a better one; 0: never", "before": 0}
    )
    stop_on: str = field(
        default="val/loss", metadata={"doc": "the metric that has to get better: a loss downwards, others upwards", "before": "val/loss"}
    )

    def __post_init__(self) -> None:
        positive(self, "lr", "head_lr_factor", "layer_decay", "penalty")
        within(
            self, px=(8, inf), epochs=(1, inf), batch_size=(1, inf), micro_batch=(0, inf), bn_images=(0, inf), save_every_epochs=(1, inf)
        )
        within(self, save_every_examples=(0, inf))
        if self.save_every_examples % self.batch_size:
            raise ValueError(f"save_every_examples: {self.save_every_examples} is no multiple of batch_size ({self.batch_size}); set one")
        if self.schedule == "milestones" and not self.milestones:
            raise ValueError("milestones: the schedule of that name needs the epochs at which the rate falls, such as [30, 40]")
        within(self, drop_path=(0, 0.99), warmup=(0, 1), weight_decay=(0, inf), grad_clip=(0, inf), layer_decay=(0, 1))
        if self.packed and self.freeze != "backbone":
            raise ValueError("packed: features are computed once, so the backbone has to stay as it is: set freeze: backbone")
        if self.packed and self.solver == "sgd" and self.augment != "none":
            raise ValueError("packed: features are computed once, so views cannot be drawn anew in every epoch: set augment: none")
        self._check_views()
        self._check_rate()
        if not self.penalties or min(self.penalties) <= 0:
            raise ValueError(f"penalties: {list(self.penalties)} must name at least one, all above 0")

    def _check_views(self) -> None:
        within(self, crop_pct=(0.67, 1))
        if self.test_views == "ten_crop" and self.crop_pct == 1:
            raise ValueError("test_views: ten crops of an image that is no larger than a view are the same: set crop_pct: 0.875")
        if self.packed and (self.crop_pct, self.aspect, self.test_views) != (1, "kept", "centre"):
            raise ValueError("packed: features are of centre squares: set crop_pct: 1, aspect: kept and test_views: centre")

    def _check_rate(self) -> None:
        within(self, warmup_epochs=(0, inf), warmup_lr=(0, inf), min_lr=(0, inf), patience=(0, inf))
        if self.nesterov and self.optimizer != "sgd":
            raise ValueError(f"nesterov: {self.optimizer} has no such momentum: set optimizer: sgd, or nesterov: false")
        by_look = [name for name, on in (("patience", self.patience), ("schedule", self.schedule == "cosine_of_val_loss")) if on]
        if by_look and self.save_every_examples:
            raise ValueError(f"{by_look[0]}: goes by looks at validation at the end of epochs: set save_every_examples: 0")
        if self.schedule == "cosine_of_val_loss" and self.save_every_epochs != 1:
            raise ValueError("schedule: the rate follows the validation loss of every epoch: set save_every_epochs: 1")
        if self.patience and not self.stop_on.startswith("val/"):
            raise ValueError(f"stop_on: '{self.stop_on}' is measured on no validation image: name one such as val/loss or val/auroc_macro")


#: Key -> (what MoCo-CXR's fine-tuning does, our default, why). What is not here is as released.
DEPARTURES: Mapping[str, tuple[Any, Any, str]] = {
    "channels": (3, 1, "a grey image three times"),
    "arch": ("densenet121 or resnet18", "resnet18", "the smaller of the two"),
    "freeze": (
        "gradients",
        "nothing",
        "in its linear protocol; `backbone` keeps BatchNorm in eval mode: frozen must be frozen",
    ),
    "solver": ("sgd", "lbfgs", "one solution whatever the seed and the order; features once instead of every epoch"),
    "normalization": ("imagenet", "cxr", "a frozen backbone must see the statistics that it was pretrained with"),
    "augment": ("crop", "cxr_plus", "with few labels an un-augmented network learns them by heart"),
    "optimizer": ("adam", "adamw", "decoupled decay"),
    "lr": (1e-4, 3e-4, "with a cosine and a warm-up; tune it in every arm"),
    "weight_decay": (0.0, 0.05, "for decoupled decay"),
    "schedule": ("constant", "cosine", "the released schedulers are never stepped"),
    "warmup": (0.0, 0.05, "Adam's first steps are large"),
    "batch_size": (16, 32, "steadier BatchNorm"),
    "save_every_epochs": ("`save_every_examples: 8192`, up to ten kept", 1, "the released grid may miss the last"),
    "init": ("imagenet even for 'scratch' ResNets", "random", "from scratch must be from scratch"),
}
#: Name -> key -> (value, why): MoCo-CXR's evaluation, and the benchmark of transformers. `freeze` of the first three is that of MoCo-CXR's
#: linear protocol; end to end is `freeze: nothing`.
PRESETS: Mapping[str, Mapping[str, tuple[Any, str]]] = {
    "paper": {
        "channels": (3, "a grey image three times, as ImageNet's stem expects"),
        "freeze": ("backbone", "a linear classifier on frozen features"),
        "solver": ("sgd", "trained by gradient steps"),
        "augment": ("crop", "resized to the short side, and a square of it"),
        "normalization": ("cxr", "that of the pretraining"),
        "uncertain": ("ignore", "masked out of the loss, as released"),
        "optimizer": ("adam", "as released"),
        "lr": (1e-4, "as released, one for every arm"),
        "weight_decay": (0.0, "as released"),
        "schedule": ("constant", "as released"),
        "warmup": (0.0, "as released"),
        "batch_size": (16, "as released"),
        "save_every_epochs": (1, "every epoch is a candidate"),
        "save_every_examples": (0, "by epoch"),
        "keep_best": (1, "the best on validation"),
        "grad_clip": (0.0, "none"),
        "precision": ("fp32", "no mixed precision"),
    },
    "release": {
        "channels": (3, "a grey image three times, as ImageNet's stem expects"),
        "freeze": (
            "gradients",
            "gradients are off and BatchNorm is in train mode: its statistics drift, and 'linear' is not frozen",
        ),
        "solver": ("sgd", "trained by gradient steps"),
        "augment": ("crop", "every other augmentation has probability 0"),
        "normalization": ("imagenet", "not that of the pretraining: frozen features see another scale"),
        "optimizer": ("adam", "its default"),
        "lr": (1e-4, "its default"),
        "weight_decay": (0.0, "its default"),
        "schedule": ("constant", "its schedulers are never stepped"),
        "warmup": (0.0, "none"),
        "batch_size": (16, "its default"),
        "uncertain": ("ignore", "masked in its tables; its folders of images take them as positive: `ones`"),
        "save_every_examples": (8192, "looked at before the step, so that the last state is missed"),
        "keep_best": (10, "`--max_ckpts`; the mean of their probabilities is tested (`pick: {checkpoints: all}`)"),
        "grad_clip": (0.0, "none"),
        "precision": ("fp32", "no mixed precision"),
    },
    "recommended": {
        "channels": (1, "with the same normalisation a stem summed over channels starts as the same function, and costs less"),
        "freeze": ("backbone", "and BatchNorm in eval mode: frozen must be frozen"),
        "solver": ("lbfgs", "one solution whatever the seed and the order; features once instead of every epoch"),
        "augment": ("cxr_plus", "with few labels an un-augmented network learns them by heart"),
        "normalization": ("cxr", "a frozen backbone must see the statistics that it was pretrained with"),
        "uncertain": ("card", "a policy is declared a card, where its source is named"),
        "optimizer": ("adamw", "decoupled decay"),
        "lr": (3e-4, "with a cosine and a warm-up; tune it in every arm"),
        "layer_decay": (0.75, "lower layers were pretrained and move less"),
        "weight_decay": (0.05, "for decoupled decay"),
        "schedule": ("cosine", "to 0 by step"),
        "warmup": (0.05, "Adam's first steps are large"),
        "batch_size": (32, "steadier BatchNorm"),
        "save_every_epochs": (1, "the last one is never missed"),
        "save_every_examples": (0, "by epoch"),
        "keep_best": (1, "the best on validation"),
        "grad_clip": (0.0, "not needed at this rate"),
        "precision": ("fp32", "bf16 where the hardware has it"),
    },
    **BENCHMARK_PRESETS,
}
