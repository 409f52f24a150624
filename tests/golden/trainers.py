"""Stand-in declarations, so that golden sweeps expand to the same jobs whatever the trainers of the tree are doing.

Only what the grammar and the expansion look at is here: names, roles, starts and the fields of each config.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from jobs.catalog import Declaration


@dataclass(frozen=True, slots=True, kw_only=True)
class MocoCxrConfig:
    """Stand-in for contrastive pretraining."""

    arch: str = field(default="resnet18", metadata={"doc": "any timm network"})
    init: str = field(default="random", metadata={"doc": "`random`, `imagenet`, or a file"})
    images: Literal["real", "scrambled"] = "real"
    px: int = 320
    epochs: int = field(default=20, metadata={"doc": "passes over the training images"})
    batch_size: int = 16
    queue_size: int = 24576
    lr: float = field(default=1e-4, metadata={"doc": "initial learning rate"})
    momentum: Annotated[float, Field(gt=0, lt=1)] = 0.999
    momentum_end: float | None = None
    temperature: float = 0.2
    milestones: tuple[int, ...] = (12, 18)
    collapse_guard: bool = True
    precision: Literal["fp32", "bf16"] = "fp32"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationConfig:
    """Stand-in for fine-tuning and linear evaluation."""

    arch: str = "resnet18"
    init: str = "random"
    freeze: Literal["backbone", "nothing"] = "nothing"
    loss: Literal["binary_cross_entropy", "cross_entropy"] = "binary_cross_entropy"
    px: int = 320
    epochs: int = 50
    batch_size: int = 32
    lr: float = 3e-4
    weight_decay: float = 0.05
    labels: tuple[str, ...] = ()
    uncertain: Literal["card", "ignore", "ones", "zeros"] = field(default="card", metadata={"before": "card"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingProbeConfig:
    """Stand-in for a linear classifier on a table of vectors."""

    embeddings: str
    penalty: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ThumbnailConfig:
    """Stand-in for the floor."""

    side: int = 8
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ArkConfig:
    """Stand-in for a teacher that cycles through data sets."""

    arch: str = "swin_base_patch4_window7_224"
    init: str = "imagenet"
    cycles: int = 10
    lr: float = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class UniChestConfig:
    """Stand-in for two-stage training on several sources."""

    stage: Literal["conquer", "divide"] = "conquer"
    init: str = "imagenet"
    gate: Literal["learned", "equal"] = "learned"
    main_ratio: float = 1.0
    bias_ratio: float = 0.0
    moe_ratio: float = 0.0
    lr: float = 5e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class AgCnnConfig:
    """Stand-in for a global branch, a local branch and their fusion."""

    branch: Literal["global", "local", "fusion"] = "global"
    backbone: str = "resnet50"
    init: str = "imagenet"
    statistic: Literal["max", "l1", "l2"] = "max"
    threshold: float = 0.7
    lr: float = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentationConfig:
    """Stand-in for segmentation."""

    arch: str = "upernet_swin_base"
    init: str = "random"
    lr: float = 0.05
    epochs: int = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class SimMimConfig:
    """Stand-in for masked image modelling."""

    arch: str = "swin_base_patch4_window7_224"
    init: str = "imagenet"
    mask_ratio: float = 0.6
    epochs: int = 100


def _stand_in(name: str, config: type, **more: object) -> Declaration:
    return Declaration(name=name, version=1, config=config, package=f"tests.golden.{name}", **more)  # type: ignore[arg-type]


#: Presets, of which `plain` names what stands by default.
MOCO_PRESETS = {
    "plain": {"lr": (1e-4, "as it is"), "momentum": (0.999, "as it is")},
    "release": {"lr": (1e-4, "as released"), "collapse_guard": (False, "as released"), "milestones": ((12, 18, 24), "as released")},
    "recommended": {"lr": (1e-3, "with more warm-up"), "batch_size": (256, "more negatives")},
}
CLASSIFICATION_PRESETS = {
    "plain": {"lr": (3e-4, "as it is"), "uncertain": ("card", "as it is")},
    "release": {"lr": (1e-4, "as released"), "uncertain": ("ignore", "as released"), "weight_decay": (0, "as released")},
    "recommended": {"lr": (1e-3, "it may"), "epochs": (100, "it may")},
}
#: Every stand-in by name: the catalogue that golden sweeps are loaded and expanded with.
CATALOG: dict[str, Declaration] = {
    declaration.name: declaration
    for declaration in (
        _stand_in("ag_cnn", AgCnnConfig, starts=("init",), roles=("global", "local")),
        _stand_in("ark", ArkConfig, starts=("init",), embeddings=("backbone", "projector"), by_source=()),
        _stand_in(
            "classification",
            ClassificationConfig,
            starts=("init",),
            sample={"px": 64, "epochs": 2},
            presets=CLASSIFICATION_PRESETS,
            embeddings=("backbone",),
        ),
        _stand_in("embedding_probe", EmbeddingProbeConfig, starts=("embeddings",), needs=("embeddings",), roles=()),
        _stand_in(
            "moco_cxr",
            MocoCxrConfig,
            starts=("init",),
            labels=False,
            sample={"px": 64, "epochs": 2, "queue_size": 32, "lr": 1e-2},
            presets=MOCO_PRESETS,
        ),
        _stand_in("segmentation", SegmentationConfig, starts=("init",)),
        _stand_in("simmim", SimMimConfig, starts=("init",), labels=False),
        _stand_in("thumbnail", ThumbnailConfig, floor=True),
        _stand_in("unichest", UniChestConfig, starts=("init",), by_source=()),
    )
}
