"""How each program writes its weights, one row a format: how it is recognised, what is taken, what is dropped and whose it is.

Sources of the names: the public code of MoCo (v1 to v3), MoCo-CXR, DINO, MAE, BEiT, MoBY, SimMIM, Ark, UniChest and
BenchmarkTransformersSegmentation. Patterns are those of the shell (`fnmatch`), over names without the prefixes of wrappers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

OURS = "cxr-orchestrator"
MOCO = "moco"
FINETUNED = "moco_cxr_finetuned"
LITE0 = "efficientnet_pytorch"
UPERNET = "upernet"
PLAIN = "plain"
#: What a head is for: a method's projection, or labels. A head whose file does not say may be either.
PROJECTION, CLASSIFIER = "projection", "classifier"
#: Heads of classifiers in files of no method: torchvision and timm, and the package that MoCo-CXR took its ResNets from.
HEADS = ("fc", "classifier", "last_linear", "head.fc", "head")
#: Entries of a file that hold a state dict each, where it has several: the first says whose file it is. Names then begin with the entry.
SEVERAL = (("teacher", "student", "state_dict"), ("image_encoder", "text_encoder", "model"))

Tables = Literal["geometric", "bicubic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One network of a file: what stands in front of its names, and what it is called where another one is taken."""

    prefix: str
    called: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """What a program writes."""

    kind: str
    #: What people call it.
    title: str
    #: Beginnings of names: of each group, the file has one at least.
    signs: tuple[tuple[str, ...], ...] = ()
    #: What may be asked for -> where it stands; the first is taken where nobody asks. One that is called "" is the only one.
    parts: Mapping[str, Part] = field(default_factory=lambda: {"": Part(prefix="", called="backbone")})
    #: What keys beside the parts belong to -> how they begin.
    beside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: What keys inside a part belong to that no backbone has -> their patterns, below the part's prefix.
    inside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: What the head is called inside a part; None where the network's own name for it counts.
    heads: tuple[str, ...] | None = ()
    head_role: str = CLASSIFIER
    #: One table that all blocks share -> the table that each block of a network has.
    shared: Mapping[str, str] = field(default_factory=dict)
    #: How relative-position tables become those of another window.
    tables: Tables = "geometric"
    #: A norm after the blocks -> the norm after pooling that takes its place in some networks and is then left as built.
    norms: Mapping[str, str] = field(default_factory=dict)
    #: Whether timm may translate its makers' names (`checkpoint_filter_fn` of the architecture).
    by_timm: bool = False


_ONE_TABLE = {"rel_pos_bias.relative_position_bias_table": "blocks.*.attn.relative_position_bias_table"}
_NORM_BEFORE_POOLING = {"norm.*": "fc_norm.*"}
_OF_ARK = {"projector": ("projector.*",), "task heads": ("omni_heads.*",), "unused ImageNet head": ("head.*",)}

#: Every format, in the order in which a file is held against them.
FORMATS: tuple[Format, ...] = (
    Format(
        kind="unichest",
        title="a checkpoint of UniChest (ResNet)",
        signs=(("image_encoder.resnet.",),),
        parts={"": Part(prefix="image_encoder.resnet.", called="image encoder")},
        beside={
            "the same trunk again": ("image_encoder.res_features.",),
            "projection": ("image_encoder.res_l1.", "image_encoder.res_l2."),
            "text encoder": ("text_encoder.",),
            "query decoders": ("model.",),
        },
        inside={"unused ImageNet head": ("fc.*",)},
    ),
    Format(
        kind="unichest_densenet",
        title="a checkpoint of UniChest (DenseNet)",
        signs=(("image_encoder.densenet.",),),
        parts={"": Part(prefix="image_encoder.densenet.", called="image encoder")},
        beside={
            "the same trunk again": ("image_encoder.dense_features.",),
            "projection": ("image_encoder.dense_l1.", "image_encoder.dense_l2."),
            "text encoder": ("text_encoder.",),
            "query decoders": ("model.",),
        },
        inside={"unused ImageNet head": ("classifier.*",)},
    ),
    Format(
        kind="dino",
        title="a pretraining checkpoint of DINO",
        signs=(("teacher.backbone.", "student.backbone."),),
        parts={
            "teacher": Part(prefix="teacher.backbone.", called="teacher"),
            "student": Part(prefix="student.backbone.", called="student"),
        },
        beside={"projection heads": ("teacher.head.", "student.head.")},
        norms=_NORM_BEFORE_POOLING,
    ),
    Format(
        kind="ark",
        title="a training checkpoint of Ark",
        signs=(("teacher.omni_heads.", "teacher.projector."),),
        parts={"teacher": Part(prefix="teacher.", called="teacher"), "student": Part(prefix="state_dict.", called="student")},
        inside=_OF_ARK,
        tables="bicubic",
    ),
    Format(
        kind="ark_teacher",
        title="a teacher that Ark released",
        signs=(("omni_heads.",),),
        parts={"teacher": Part(prefix="", called="teacher")},
        inside=_OF_ARK,
        tables="bicubic",
    ),
    Format(
        kind="moco_v3",
        title="a pretraining checkpoint of MoCo v3",
        signs=(("base_encoder.", "momentum_encoder."),),
        parts={
            "base": Part(prefix="base_encoder.", called="base encoder"),
            "momentum": Part(prefix="momentum_encoder.", called="momentum encoder"),
        },
        beside={"predictor": ("predictor.",)},
        inside={"projection head": ("head.*", "fc.*")},
        norms=_NORM_BEFORE_POOLING,
    ),
    Format(
        kind="moby",
        title="a pretraining checkpoint of MoBY",
        signs=(("encoder.",), ("encoder_k.",)),
        parts={
            "query": Part(prefix="encoder.", called="query encoder"),
            "key": Part(prefix="encoder_k.", called="key encoder"),
        },
        beside={"projectors": ("projector.", "projector_k."), "predictor": ("predictor.",), "queue": ("queue",)},
        tables="bicubic",
    ),
    Format(
        kind=MOCO,
        title="a pretraining checkpoint of MoCo",
        signs=(("encoder_q.", "encoder_k."),),
        parts={
            "query": Part(prefix="encoder_q.", called="query encoder"),
            "key": Part(prefix="encoder_k.", called="key encoder"),
        },
        beside={"queue": ("queue",)},
        heads=("fc", "classifier"),
        head_role=PROJECTION,
    ),
    Format(
        kind="simmim",
        title="a pretraining checkpoint of SimMIM",
        signs=(("encoder.mask_token",),),
        parts={"": Part(prefix="encoder.", called="encoder")},
        beside={"decoder": ("decoder.",)},
        inside={"mask token": ("mask_token",)},
        shared=_ONE_TABLE,
        norms=_NORM_BEFORE_POOLING,
    ),
    Format(
        kind=UPERNET,
        title="a segmentation checkpoint of BenchmarkTransformersSegmentation",
        signs=(("backbone.",), ("PPN.",), ("FPN.",)),
        parts={"": Part(prefix="backbone.", called="backbone")},
        beside={"decoder": ("PPN.", "FPN.", "head.")},
        tables="bicubic",
    ),
    Format(
        kind=OURS,
        title="a checkpoint of this project",
        signs=(("backbone.",),),
        parts={"": Part(prefix="backbone.", called="backbone")},
        beside={
            "head": ("head.",),
            "projector": ("projector.",),
            "heads by source": ("heads.",),
            "query networks": ("queries.", "projection.", "scale"),
        },
        head_role="",
        norms=_NORM_BEFORE_POOLING,
    ),
    Format(
        kind=FINETUNED,
        title="a fine-tuned checkpoint of MoCo-CXR",
        signs=(("model.",),),
        parts={"": Part(prefix="model.", called="backbone")},
        beside={"head": ("fc.",)},
        heads=HEADS,
    ),
    Format(
        kind="chexnet",
        title="a checkpoint of a CheXNet (arnoweng and its copies)",
        signs=(("densenet121.features.",),),
        parts={"": Part(prefix="densenet121.", called="backbone")},
        heads=("classifier",),
    ),
    Format(
        kind="mae",
        title="a pretraining checkpoint of MAE, with its decoder",
        signs=(("decoder_blocks.",), ("mask_token",)),
        beside={"decoder": ("decoder_",), "mask token": ("mask_token",)},
        norms=_NORM_BEFORE_POOLING,
    ),
    Format(
        kind="beit",
        title="a pretraining checkpoint of BEiT",
        signs=(("lm_head.",), ("mask_token",)),
        beside={"token head": ("lm_head.",), "mask token": ("mask_token",), "second token head": ("cls_pt_layers.",)},
        shared=_ONE_TABLE,
        norms=_NORM_BEFORE_POOLING,
    ),
    Format(
        kind=LITE0,
        title="a network of the package efficientnet_pytorch",
        signs=(("_conv_stem.weight",),),
        heads=("_fc",),
    ),
    Format(
        kind=PLAIN,
        title="a plain network (torchvision or timm)",
        # Of ViTs of ImageNet-21k, in timm before 0.8 and in JAX: trained with the head, and left out by today's networks. VGG has others.
        inside={"layer in front of the head": ("pre_logits.fc.*",)},
        heads=None,
        norms=_NORM_BEFORE_POOLING,
        by_timm=True,
    ),
)  # fmt: skip
#: By kind.
BY_KIND: Mapping[str, Format] = {one.kind: one for one in FORMATS}
#: Every part that any format has a name for.
PART_NAMES: tuple[str, ...] = tuple(dict.fromkeys(name for one in FORMATS for name in one.parts if name))
