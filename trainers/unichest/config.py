"""Findings asked by name from many sources: a query network that learns them all, then experts that a gate divides (UniChest, TMI 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from trainers.parts.bounds import positive, within

NAME = "unichest"
VERSION = 1
STARTS = ("init", "text", "vocabulary", "reports")
#: Files that a job of either stage reads, whatever it starts from, and prediction too.
NEEDS = ("text", "vocabulary", "reports")
#: One network is validated, on every source.
BY_SOURCE = ()
#: Any label of any card can be asked for: prediction is by prompt.
OPEN_LABELS = True
MONITORS = ("val/gate_separation",)
SAMPLE: Mapping[str, Any] = {
    "arch": "slim",
    "channels": 1,
    "px": 64,
    "width": 64,
    "hidden": 128,
    "layers": 2,
    "gate_width": 16,
    "epochs": 2,
    "batch_size": 16,
    "lr": 1e-3,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What determines a stage of UniChest."""

    stage: Literal["conquer", "divide", "released"] = field(
        default="conquer",
        metadata={
            "doc": "conquer: one query network on all sources; divide: the same with experts, from a conquer parent; released: a published "
            "checkpoint (`init`) as it is, nothing learnt"
        },
    )
    arch: str = field(default="resnet50", metadata={"doc": "`slim`, or any timm network"})
    channels: Literal[1, 3] = field(default=1, metadata={"doc": "input channels; 3 repeats the grey image"})
    px: int = field(default=512, metadata={"doc": "side of the input in pixels"})
    init: str = field(
        default="random",
        metadata={"doc": "`random`, `imagenet`, a key of the cluster config's weights, or a file; where released, UniChest's"},
    )
    normalization: Literal["cxr", "imagenet", "half", "chestx-ray"] = field(
        default="cxr", metadata={"doc": "mean and sd that pixels are brought to"}
    )
    aspect: Literal["kept", "squashed"] = field(
        default="squashed", metadata={"doc": "of an image that is predicted; kept: the centre square"}
    )
    last_activation: bool = field(
        default=True, metadata={"doc": "of DenseNets: the ReLU after the last norm, which the release leaves out"}
    )
    text: str = field(
        default="tiny",
        metadata={
            "doc": "weights of the frozen text encoder, a file or a key of the cluster config's weights; `tiny` is a small one of our own"
        },
    )
    vocabulary: str = field(default="", metadata={"doc": "its vocab.txt; empty with `tiny`"})
    text_pooling: Literal["pooler", "first"] = field(
        default="pooler", metadata={"doc": "BERT's pooled output, or its first token (ClinicalBERT)"}
    )
    text_mode: Literal["eval", "as_published"] = field(
        default="eval",
        metadata={"doc": "as_published: its dropout is on in training, so that prompts and texts are noisy, and none is kept"},
    )
    lowercase: bool = field(default=True, metadata={"doc": "whether texts are made lower case"})
    max_length: int = field(default=256, metadata={"doc": "pieces of a text; longer ones are cut"})
    texts: Literal["labels", "reports"] = field(
        default="labels",
        metadata={
            "doc": "what is said of an image: its positive labels; or its report where the card's reader knows of reports",
            "before": "labels",
        },
    )
    reports: str = field(
        default="", metadata={"doc": "a JSON file, {card: {image or study: report or entities}}, which goes before what `texts` says"}
    )
    without_positives: Literal["empty", "normal"] = field(
        default="empty", metadata={"doc": "the text of an image without a positive label: empty as published, or that of no finding"}
    )
    prompts: Literal["union", "card"] = field(
        default="union",
        metadata={"doc": "what a label is asked by when predicted: as in training, or by the card's own words as published"},
    )
    ask: Mapping[str, str] = field(default_factory=dict, metadata={"doc": "label -> the text that it is asked by, in place of the table's"})
    width: int = field(default=768, metadata={"doc": "features of tokens, prompts and query networks"})
    layers: int = field(default=4, metadata={"doc": "of a query network"})
    heads: int = field(default=4, metadata={"doc": "of attention"})
    hidden: int = field(default=1024, metadata={"doc": "between the two linear layers of a decoder layer"})
    dropout: float = field(default=0.1, metadata={"doc": "in the query networks"})
    local_ratio: float = field(default=1.0, metadata={"doc": "weight of attention to tokens"})
    global_ratio: float = field(default=0.4, metadata={"doc": "weight of attention to their mean"})
    experts: int = field(default=3, metadata={"doc": "query networks beside the main one"})
    gate: Literal["learned", "equal"] = field(default="learned", metadata={"doc": "equal: every expert has the same weight"})
    gate_width: int = field(default=32, metadata={"doc": "features of the gate's projection"})
    projection_bias: Literal["drawn", "zero"] = field(
        default="drawn",
        metadata={
            "doc": "of the gate's projection at its start: drawn as published, beside which weights of .02 make every cosine 1, so that "
            "a gate may not tell sources apart for epochs; or zero",
            "before": "drawn",
        },
    )
    main_ratio: float = field(default=1.0, metadata={"doc": "weight of the main network's probability"})
    bias_ratio: float = field(default=0.0, metadata={"doc": "weight of the experts' probability; the two add up to 1"})
    moe_ratio: float = field(default=0.0, metadata={"doc": "weight of the source-contrastive loss; 0 is off"})
    clip_ratio: float = field(default=1.0, metadata={"doc": "weight of the image-text contrastive loss; 0 is off"})
    conquer_experts: Literal["skipped", "zero_weight"] = field(
        default="skipped", metadata={"doc": "in conquer: not evaluated, or with weight 0 so that AdamW lets them decay"}
    )
    frozen: Literal["image", "image_weights", "all_but_experts"] = field(
        default="image",
        metadata={
            "doc": "in divide: the image encoder; its weights while BatchNorm drifts, as released; all but experts and gate, the paper"
        },
    )
    temperature: float = field(default=1.0, metadata={"doc": "of the source-contrastive loss"})
    source_loss: Literal["pairs", "samples"] = field(default="samples", metadata={"doc": "as released, or equation 6 of the paper"})
    source_similarity: Literal["cosine", "dot"] = field(default="cosine", metadata={"doc": "of two gates' projections"})
    contrast: Literal["as_published", "learnt"] = field(
        default="learnt",
        metadata={"doc": "image-text features as long as they are and a fixed scale of ln(1/.07); or of unit length, scale learnt"},
    )
    gather: bool = field(default=True, metadata={"doc": "whether images of all processes are contrasted, or as published a process's own"})
    gamma_negative: float = field(default=6.0, metadata={"doc": "focusing of the asymmetric loss on negatives"})
    gamma_positive: float = field(default=0.0, metadata={"doc": "the same on positives"})
    clip: float = field(default=0.05, metadata={"doc": "probability up to which a negative costs nothing"})
    reduction: Literal["sum", "per_image"] = field(
        default="per_image",
        metadata={"doc": "of the asymmetric loss: the sum, as published, or the mean over known labels, times their number"},
    )
    uncertain: Literal["card", "ignore", "ones", "zeros"] = field(
        default="card", metadata={"doc": "what training makes of uncertain labels, in place of what the cards say"}
    )
    augment: Literal["published", "cxr_plus", "none"] = field(
        default="published",
        metadata={"doc": "crops from .2, mirroring, light and RandAugment; or crops from .6, turned, without mirroring"},
    )
    fourier: Literal["off", "all", "low"] = field(
        default="low", metadata={"doc": "whether amplitudes of two images are mixed: of all frequencies as published, or of low ones"}
    )
    fourier_p: float = field(default=0.5, metadata={"doc": "share of batches that are mixed"})
    fourier_radius: float = field(default=0.1, metadata={"doc": "low: up to so many cycles a pixel"})
    epochs: int = field(default=30, metadata={"doc": "passes over all sources"})
    batch_size: int = field(default=32, metadata={"doc": "images a step, over all processes; the last partial batch is dropped"})
    bn_images: int = field(default=0, metadata={"doc": "images a BatchNorm group; 0 is all of a forward pass"})
    lr: float = field(default=1e-5, metadata={"doc": "learning rate of AdamW"})
    weight_decay: float = field(default=0.02, metadata={"doc": "decoupled; not on norms and biases"})
    schedule: Literal["cosine", "constant", "released"] = field(
        default="cosine", metadata={"doc": "by step; released: up in the first epoch by every 100 iterations, then half a cosine by epoch"}
    )
    warmup: float = field(default=0.0, metadata={"doc": "share of all steps that rise linearly, with cosine or constant"})
    min_lr: float = field(default=1e-6, metadata={"doc": "where `released` starts and ends"})
    grad_clip: float = field(default=0.0, metadata={"doc": "largest gradient norm; 0 is off"})
    precision: Literal["fp32", "bf16"] = field(
        default="fp32", metadata={"doc": "of encoders and query networks; probabilities and losses are fp32"}
    )
    save_every_epochs: int = field(default=1, metadata={"doc": "how often validation is predicted and a checkpoint kept"})
    keep_best: int = field(default=1, metadata={"doc": "how many checkpoints are kept, by the pick's metric"})
    pictures_every_epochs: int = field(
        default=0, metadata={"doc": "how often attention maps and gate weights are drawn; any number draws those of test images; 0 is off"}
    )

    def __post_init__(self) -> None:
        positive(self, "lr", "temperature", "fourier_radius")
        within(self, px=(8, inf), width=(1, inf), layers=(1, inf), heads=(1, inf), hidden=(1, inf), experts=(1, inf), gate_width=(1, inf))
        within(self, epochs=(1, inf), batch_size=(2, inf), bn_images=(0, inf), max_length=(4, inf), save_every_epochs=(1, inf))
        within(self, dropout=(0, 0.99), main_ratio=(0, 1), bias_ratio=(0, 1), moe_ratio=(0, inf), clip_ratio=(0, inf), fourier_p=(0, 1))
        within(self, clip=(0, 1), gamma_negative=(0, inf), gamma_positive=(0, inf), weight_decay=(0, inf), grad_clip=(0, inf))
        within(self, warmup=(0, 1), min_lr=(0, inf), local_ratio=(0, inf), global_ratio=(0, inf), pictures_every_epochs=(0, inf))
        self._check_stage()
        if self.width % self.heads:
            raise ValueError(f"heads: {self.width} features cannot be shared by {self.heads} heads: set one of {_divisors(self.width)}")
        if self.schedule == "released" and self.min_lr > self.lr:
            raise ValueError(f"min_lr: is {self.min_lr:g}, and the rate falls to it from lr {self.lr:g}: lower it")

    def _check_stage(self) -> None:
        if abs(self.main_ratio + self.bias_ratio - 1) > 1e-9:
            raise ValueError(
                f"bias_ratio: {self.main_ratio:g} + {self.bias_ratio:g} is not 1, so that what is predicted is no probability: set "
                f"bias_ratio: {1 - self.main_ratio:g}"
            )
        if self.stage == "conquer" and self.bias_ratio > 0:
            raise ValueError("bias_ratio: in conquer there are no experts yet: set main_ratio: 1 and bias_ratio: 0, or stage: divide")
        if self.stage == "conquer" and self.moe_ratio > 0:
            raise ValueError("moe_ratio: in conquer there is no gate yet: set moe_ratio: 0, or stage: divide")
        if self.stage == "divide" and self.bias_ratio == 0:
            raise ValueError("bias_ratio: in divide the experts have a share: set main_ratio: 0.5 and bias_ratio: 0.5")
        if self.gate == "equal" and self.moe_ratio > 0:
            raise ValueError("moe_ratio: with gate: equal there is nothing that could tell sources apart: set moe_ratio: 0")

    @property
    def keeps_experts(self) -> bool:
        """Tell whether experts are evaluated in training."""
        return self.stage != "conquer" or self.conquer_experts == "zero_weight"


def _divisors(width: int) -> str:
    return ", ".join(str(heads) for heads in range(1, min(width, 16) + 1) if width % heads == 0)


#: Key -> (what the paper or its release does, our default, why). What is not here is as released.
DEPARTURES: Mapping[str, tuple[Any, Any, str]] = {
    "channels": (3, 1, "a grey image three times; with the same normalisation a stem summed over channels starts as the same function"),
    "init": ("imagenet", "random", "weights need a file; a sweep names its start"),
    "text": ("KAD's knowledge encoder", "tiny", "weights need a file; the small one lets everything run, and knows nothing of medicine"),
    "text_mode": ("as_published", "eval", "the release puts the frozen encoder into train mode, so that every prompt is noisy in training"),
    "texts": ("reports of MIMIC-CXR, as entities", "labels", "reports need files that few sources have; a sweep asks for them"),
    "conquer_experts": ("evaluated only with --finetune, and then used anyway: it stops", "skipped", "decay alone would change them"),
    "frozen": ("image_weights; all but the experts in the paper", "image", "BatchNorm that drifts under frozen weights is an accident"),
    "source_loss": ("pairs; samples in the paper", "samples", "equation 6, with cosine"),
    "contrast": (
        "as_published",
        "learnt",
        "features as long as they are, times ln(1/.07) where CLIP has exp, tie the loss to their length",
    ),
    "gather": (False, True, "the number of GPUs would be in the result"),
    "reduction": ("sum", "per_image", "a sum over batch and labels swamps the two losses that are means"),
    "fourier": ("all", "low", "a look lies in low frequencies; the rest is texture that findings have too"),
    "lr": ("5e-5 in the release, 1e-5 in the paper", 1e-5, "the paper"),
    "epochs": ("100 in the release, 30 and 20 in the paper", 30, "the paper"),
    "schedule": ("released", "cosine", "the release rises within its first epoch only, whatever 20 epochs of warm-up promise"),
}
_PUBLISHED: Mapping[str, tuple[Any, str]] = {
    "channels": (3, "a grey image three times, as ImageNet's stem expects"),
    "normalization": ("imagenet", "its mean and sd"),
    "px": (512, "`image_res: 512`"),
    "text_pooling": ("pooler", "`CLP_clinical`"),
    "text_mode": ("as_published", "`text_encoder.train()`: dropout on the frozen encoder"),
    "max_length": (256, "its default"),
    "without_positives": ("empty", "no positive label, no text"),
    "width": (768, "BERT's"),
    "layers": (4, "of each decoder"),
    "heads": (4, "its config"),
    "hidden": (1024, "its config"),
    "dropout": (0.1, "its config"),
    "local_ratio": (1.0, "`lam: [1.0, 0.4]`"),
    "global_ratio": (0.4, "`lam: [1.0, 0.4]`"),
    "experts": (3, "`--gate_num 3`"),
    "gate_width": (32, "`--high_dim 32`"),
    "projection_bias": ("drawn", "torch's own bias beside weights of N(0, .02)"),
    "clip_ratio": (1.0, "`--loss_ratio 1`"),
    "temperature": (1.0, "both"),
    "contrast": ("as_published", "a fixed ln(1/.07), features not normalised"),
    "gamma_negative": (6.0, "its asymmetric loss"),
    "gamma_positive": (0.0, "its asymmetric loss"),
    "clip": (0.05, "its asymmetric loss"),
    "reduction": ("sum", "over batch and labels"),
    "augment": ("published", "its transforms"),
    "fourier": ("all", "`--fourier True`"),
    "fourier_p": (0.5, "of batches"),
    "batch_size": (32, "one A100"),
    "weight_decay": (0.02, "its config"),
    "grad_clip": (0.0, "none"),
    "precision": ("fp32", "no mixed precision"),
}
#: Name -> key -> (value, why). `paper`: what it says, with the holes of its release mended; `release`: what the public code does or was
#: meant to do; `recommended`: what a careful group would run at the same compute. Ratios and epochs of divide are a phase's own.
PRESETS: Mapping[str, Mapping[str, tuple[Any, str]]] = {
    "paper": {
        **_PUBLISHED,
        "text_mode": ("eval", "frozen is frozen"),
        "frozen": ("all_but_experts", "only the experts' networks learn in divide"),
        "source_loss": ("samples", "equation 6"),
        "source_similarity": ("dot", "equation 6: no normalisation is written"),
        "lr": (1e-5, "its section on implementation"),
        "epochs": (30, "30 of conquer; set 20 in divide"),
        "schedule": ("cosine", "cosine"),
    },
    "release": {
        **_PUBLISHED,
        "conquer_experts": ("skipped", "as the code is written; as shipped it stops there"),
        "frozen": ("image_weights", "`requires_grad = False`, and `image_encoder.train()`"),
        "source_loss": ("pairs", "its double loop"),
        "source_similarity": ("cosine", "normalised before"),
        "gather": (False, "`ClipLoss()` with a world of 1"),
        "prompts": ("card", "lists of its test"),
        "lr": (5e-5, "its config"),
        "epochs": (100, "its config, for both stages"),
        "schedule": ("released", "timm's cosine with `warmup_prefix`, by every 100 iterations of the first epoch"),
        "min_lr": (1e-6, "its config"),
    },
    "recommended": {
        "channels": (1, "with the same normalisation a stem summed over channels starts as the same function, and costs less"),
        "normalization": ("cxr", "and the same when fine-tuning"),
        "text_mode": ("eval", "frozen is frozen"),
        "without_positives": ("empty", "as published"),
        "conquer_experts": ("skipped", "decay alone would change them"),
        "frozen": ("image", "weights and BatchNorm"),
        "source_loss": ("samples", "equation 6"),
        "source_similarity": ("cosine", "so that the temperature has a meaning"),
        "projection_bias": ("zero", "a gate that starts where every cosine is 1 has next to no gradient; which seeds left that was luck"),
        "contrast": ("learnt", "unit length, and a scale of at most 100 (CLIP)"),
        "gather": (True, "the number of GPUs is not in the result"),
        "reduction": ("per_image", "the mean over known labels, times their number"),
        "augment": ("published", "as stated"),
        "fourier": ("low", "a look lies in low frequencies"),
        "fourier_p": (0.5, "as published"),
        "lr": (1e-5, "the paper's; tune 1e-5 to 1e-4"),
        "epochs": (30, "30 of conquer; set 20 in divide"),
        "schedule": ("cosine", "by step"),
        "warmup": (0.05, "of all steps"),
        "grad_clip": (1.0, "attention at a start of small weights"),
        "prompts": ("union", "asked as it was learnt"),
    },
}
