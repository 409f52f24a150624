"""What the name of a weights file says: MoCo-CXR's published names, its job names, facebookresearch's names, numbered checkpoints.

The published names are `<model><start>-<lr>`: `r8` ResNet-18, `r5` ResNet-50, `d1` DenseNet-121, `mn` MNASNet; `w` started from ImageNet,
`o` did not; the digits are the learning rate without its dot (`00001` is 0.0001). Job names are `<model><start><lr><batch>` with the
learning rate as mantissa, `n`, exponent (`r8w1n416`: 1e-4, batches of 16).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_MODELS: Mapping[str, str] = {"r8": "resnet18", "r5": "resnet50", "d1": "densenet121", "mn": "mnasnet_100"}
_TITLES: Mapping[str, str] = {"r8": "ResNet-18", "r5": "ResNet-50", "d1": "DenseNet-121", "mn": "MNASNet (by its letters)"}
_SUFFIX = re.compile(r"(\.pth|\.pt|\.tar|\.pkl|\.bin|\.safetensors)+$")
_PUBLISHED = re.compile(r"(r8|r5|d1|mn)([won]?)-(0\d+)(?:-v(\d+))?")
_JOB = re.compile(r"(r8|r5|d1|mn)([wo])([1-9])n(\d)(\d+)(?:_.*)?")
_FACEBOOK = re.compile(r"moco_v([12])_(\d+)ep_pretrain")
_NUMBERED = re.compile(r"checkpoint_(\d{4,})")
_EXAMPLES = re.compile(r"iter_(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a file name says; None, 0 or empty where it says nothing of it."""

    says: str
    arch: str = ""
    #: Whether training started from ImageNet weights, which the content of a file cannot show.
    imagenet: bool | None = None
    lr: float | None = None
    batch_size: int = 0
    epoch: int = 0
    #: Whether the projection head has a hidden layer.
    mlp: bool | None = None

    def as_json(self) -> dict[str, object]:
        """Return what the name says as plain values."""
        return {name: getattr(self, name) for name in ("says", "arch", "imagenet", "lr", "batch_size", "epoch", "mlp")}


def decode(file_name: str) -> Named | None:
    """Return what a file name says, or None when it is none of the names that are known."""
    stem = _SUFFIX.sub("", file_name)
    if match := _PUBLISHED.fullmatch(stem):
        model, start, digits, version = match.groups()
        lr = float(f"{digits[0]}.{digits[1:]}")
        words = [_TITLES[model], _START[start], f"lr {lr:g}", *([f"version {version}"] if version else [])]
        return Named(says=f"published by MoCo-CXR: {', '.join(words)}", arch=_MODELS[model], imagenet=_IMAGENET[start], lr=lr)
    if match := _JOB.fullmatch(stem):
        model, start, mantissa, exponent, batch = match.groups()
        lr = float(f"{mantissa}e-{exponent}")
        words = [_TITLES[model], _START[start], f"lr {lr:g}", f"batches of {batch}"]
        return Named(
            says=f"a job of MoCo-CXR: {', '.join(words)}", arch=_MODELS[model], imagenet=_IMAGENET[start], lr=lr, batch_size=int(batch)
        )
    if match := _FACEBOOK.fullmatch(stem):
        version, epochs = match.groups()
        says = f"published by facebookresearch: MoCo v{version}, ResNet-50, {epochs} epochs of ImageNet without labels"
        return Named(says=says, arch="resnet50", epoch=int(epochs), mlp=version == "2")
    if match := _NUMBERED.fullmatch(stem):
        # The number in the name counts epochs from 0, the one in the file from 1.
        return Named(says=f"MoCo's checkpoint after epoch {int(match[1]) + 1}", epoch=int(match[1]) + 1)
    if match := _EXAMPLES.fullmatch(stem):
        return Named(says=f"a fine-tuned checkpoint of MoCo-CXR after {int(match[1]):,} examples")
    return None


#: `mnn` is among the published names and in no naming rule: what its third letter says of the start is not known.
_START: Mapping[str, str] = {"w": "from ImageNet", "o": "not from ImageNet", "n": "start not known", "": "start not said"}
_IMAGENET: Mapping[str, bool | None] = {"w": True, "o": False, "n": None, "": None}
