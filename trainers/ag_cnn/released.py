"""Files of AG-CNN's public code: two DenseNets with classifiers of 14 findings, and the layer that joins them; every key accounted for.

Ien001/AG-CNN writes bare state dicts of `features.*` and `classifier.*`, and of `fc.*` for the fusion; what it starts from has CheXNet's
`densenet121.` in front, a classifier inside a Sequential, and the names of DenseNets from before 2018.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from trainers.ag_cnn.config import STARTS
from trainers.ag_cnn.network import Branch
from trainers.api import Setup
from trainers.errors import WeightsError
from trainers.parts import backbones
from trainers.released.files import open_weights
from trainers.released.formats import split, unwrapped
from trainers.weights import heads_of, load_backbone
from trainers.weights_sources import STAND_IN, resolve_init

#: The outputs of the public code, in its order. Cards of ChestX-ray14 call the third one a pleural effusion.
FINDINGS = (
    ("atelectasis",), ("cardiomegaly",), ("effusion", "pleural_effusion"), ("infiltration",), ("mass",), ("nodule",), ("pneumonia",),
    ("pneumothorax",), ("consolidation",), ("edema",), ("emphysema",), ("fibrosis",), ("pleural_thickening",), ("hernia",),
)  # fmt: skip
_ROW = {name: row for row, names in enumerate(FINDINGS) for name in names}


def file_of(setup: Setup, key: str) -> Path | None:
    """Return the file that a key of the config names, None where there is none. Raises WeightsError when it is not there."""
    value = getattr(setup.config, key)
    if value == STAND_IN:
        return None
    if key in setup.weights:
        return resolve_init(setup.config.arch, str(setup.weights[key]))
    return resolve_init(setup.config.arch, value, {name: path for name, path in setup.weights.items() if name not in STARTS})


def start_branch(branch: Branch, setup: Setup, path: Path, labels: tuple[str, ...]) -> str:
    """Give a branch the network of a file, and its classifier where the config asks for it; return a sentence.

    Raises WeightsError naming the keys that do not fit.
    """
    report = load_backbone(branch.backbone, path, setup.config.arch)
    if setup.config.classifiers == "new":
        return report.sentence()
    head = split(open_weights(path).state, heads=heads_of(branch.backbone)).head
    # A classifier that stands in a Sequential, in front of its sigmoid, is numbered there.
    layer = {name.removeprefix("0."): value for name, value in head.items()}
    _take_rows(branch.head, layer, f"{path}: its classifier", labels)
    return f"{report.sentence()}; its classifier of {', '.join(labels)}"


def start_fusion(layer: nn.Linear, path: Path, labels: tuple[str, ...]) -> str:
    """Give the fusion what a file has under `fc.`, and nothing else; return a sentence. Raises WeightsError naming strange keys."""
    state = unwrapped(open_weights(path).state)
    if strange := [name for name in state if name not in ("fc.weight", "fc.bias")]:
        raise WeightsError(f"{path}: has a key '{strange[0]}', and a fusion as released has fc.weight and fc.bias alone: name its file")
    _take_rows(layer, {name.removeprefix("fc."): value for name, value in state.items()}, f"{path}: its layer", labels)
    return f"the fusion of {path.name}, of {', '.join(labels)}"


def _take_rows(layer: nn.Linear, found: dict[str, Tensor], what: str, labels: tuple[str, ...]) -> None:
    """Give a layer of these labels the rows of theirs, by name. Raises WeightsError."""
    wanted = {"weight": (len(FINDINGS), layer.in_features), "bias": (len(FINDINGS),)}
    shapes = {name: tuple(value.shape) for name, value in found.items()}
    if shapes != wanted:
        has = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "nothing"
        asked = ", ".join(f"{name} {shape}" for name, shape in wanted.items())
        raise WeightsError(f"{what} has {has}, and the public code's has {asked}: name a file of 14 findings, or set classifiers: new")
    if unknown := [name for name in labels if name not in _ROW]:
        raise WeightsError(f"{what} has no output '{unknown[0]}': leave that label out under `labels`, or set classifiers: new")
    rows = torch.tensor([_ROW[name] for name in labels])
    with torch.no_grad():
        layer.weight.copy_(found["weight"][rows])
        layer.bias.copy_(found["bias"][rows])


def start(branch: Branch, setup: Setup, key: str, labels: tuple[str, ...]) -> str:
    """Give a branch what its config's key names; return a sentence, empty for a random start."""
    named = key != "init" or setup.config.classifiers == "released"
    path = file_of(setup, key) if named and "init" not in setup.parents else None
    if path is not None:
        return start_branch(branch, setup, path, labels)
    if key != "init":
        return ""
    report = backbones.start(branch.backbone, setup)
    return "" if report is None else report.sentence()
