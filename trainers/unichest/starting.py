"""What a stage starts from: the network of a conquer parent, or a checkpoint as UniChest published it, every key accounted for.

The published file has `image_encoder`, `text_encoder` and `model`. Its tensors stand there under several names: the trunk twice, and the
one layer norm of all decoders once by itself and once in each. A fifth decoder and `logit_scale` are in it and used by nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from trainers.api import Setup
from trainers.errors import WeightsError
from trainers.released.files import open_weights
from trainers.unichest.network import Network
from trainers.weights import load_matching
from trainers.weights_sources import resolve_init

#: Values of the config that the network's shape follows from.
_SHAPE = ("arch", "channels", "width", "layers", "heads", "hidden", "last_activation", "contrast", "text", "vocabulary")
#: What hangs on the number of experts: drawn anew where the parent has another.
_OF_EXPERTS = ("queries.experts.", "queries.gate.", "queries.gate_projection.")
_UNUSED = ("decoder.layers.", "logit_scale")
#: The first convolution of a ResNet and of a DenseNet, whose input channels may be summed to one.
_STEMS = ("backbone.conv1", "backbone.features.conv0")
_TRUNK = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def follow(network: Network, setup: Setup) -> str:
    """Give divide the network of its conquer parent, and return a sentence. Raises WeightsError when it is another network."""
    parent, config = setup.parents["init"], setup.config
    if parent.trainer != "unichest" or parent.config.get("stage") != "conquer":
        raise WeightsError(
            f"config.stage: divide starts from conquer, and its parent is {parent.trainer} (stage {parent.config.get('stage', 'none')}): "
            "name a phase with stage: conquer under `after`"
        )
    if len(parent.files) != 1:
        raise WeightsError(f"the parent hands on {len(parent.files)} checkpoints, and a start is one: set pick.checkpoints to best")
    for name in _SHAPE:
        if name in parent.config and parent.config[name] != getattr(config, name):
            raise WeightsError(
                f"config.{name}: conquer has {parent.config[name]}, divide {getattr(config, name)}: set {name}: {parent.config[name]}"
            )
    state = load_file(parent.files[0])
    anew = parent.config.get("experts") != config.experts or parent.config.get("gate_width") != config.gate_width
    if anew:
        state = {name: value for name, value in state.items() if not name.startswith(_OF_EXPERTS)}
    allowed = tuple(f"{start}*" for start in _OF_EXPERTS) if anew else ()
    report = load_matching(network, state, allowed_missing=allowed, what=str(parent.files[0]), target="the network of divide")
    if config.projection_bias == "zero":
        # Conquer does not train it: a parent that drew it hands on what it drew.
        torch.nn.init.zeros_(network.queries["gate_projection"].bias)  # pyright: ignore[reportArgumentType]
    return report.sentence()


def read_released(network: Network, setup: Setup) -> str:
    """Give a network what a published checkpoint holds, and return a sentence. Raises WeightsError for a file that is none."""
    config = setup.config
    path = resolve_init(config.arch, config.init, setup.weights)
    if path is None:
        raise WeightsError(
            f"config.stage: {config.stage} starts from a conquer phase or from a published checkpoint: write `after: {{init: conquer}}`, "
            "or `init: <file>`"
        )
    state, unused = ours(open_weights(path).state, path, network)
    stem = next((stem for stem in _STEMS if f"{stem}.weight" in state), None)
    report = load_matching(network, state, allowed_missing=("scale",), adapt_stem=stem, what=str(path), target="the network")
    return f"{report.sentence()}; {unused} unused as published"


def ours(published: Mapping[str, Tensor], path: Path, network: Network) -> tuple[dict[str, Tensor], int]:
    """Return a published state dict under our names, and how many of its keys nobody uses. Raises WeightsError when an alias differs."""
    plain = {name.replace("module.", ""): value for name, value in published.items()}
    model = {name.removeprefix("model."): value for name, value in plain.items() if name.startswith("model.")}
    image = {name.removeprefix("image_encoder."): value for name, value in plain.items() if name.startswith("image_encoder.")}
    strange = [name for name in plain if not name.startswith(("model.", "image_encoder.", "text_encoder."))]
    if not model or not image or strange:
        what = f"has a key '{strange[0]}'" if strange else "has no model and image_encoder"
        raise WeightsError(f"{path}: {what}, and a checkpoint of UniChest has image_encoder, text_encoder and model: name another file")
    found = _image_encoder(image, path)
    model, unused = _without_aliases(model, path)
    experts = sorted({name.split(".")[0] for name in model if name.startswith("decoderV1_")})
    if len(experts) != network.config.experts:
        raise WeightsError(f"{path}: has {len(experts)} experts, config.experts is {network.config.experts}: set experts: {len(experts)}")
    found |= {
        f"queries.norm.{name.removeprefix('decoder_norm.')}": model.pop(name) for name in list(model) if name.startswith("decoder_norm.")
    }
    found |= {f"queries.gate.{name[len('gate_head.0.') :]}": model.pop(name) for name in list(model) if name.startswith("gate_head.0.")}
    found |= {
        f"queries.gate_projection.{name[len('cl_head.0.') :]}": model.pop(name) for name in list(model) if name.startswith("cl_head.0.")
    }
    found |= _stacked("main", ["decoderV1"], ["mlp_head"], model)
    found |= _stacked("experts", experts, [f"mlp_head_{index + 1}" for index in range(len(experts))], model)
    # What nobody took stays under its name, where a strict load names it.
    return {**found, **model}, unused


def _image_encoder(image: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return trunk and projection; the trunk's second copy has to be the first."""
    kind = "resnet" if any(name.startswith("resnet.") for name in image) else "densenet"
    short, copy = ("res", "res_features.") if kind == "resnet" else ("dense", "dense_features.")
    found: dict[str, Tensor] = {}
    for name, value in image.items():
        if name.startswith(f"{kind}."):
            inner = name.removeprefix(f"{kind}.")
            if inner.startswith(("fc.", "classifier.")):
                continue
            head, _, rest = inner.partition(".")
            if head not in (_TRUNK if kind == "resnet" else ("features",)):
                found[f"image_encoder.{name}"] = value
                continue
            _refuse_other(image, name, f"{copy}{_TRUNK[head]}.{rest}" if kind == "resnet" else f"{copy}{rest}", path)
            found[f"backbone.{inner}"] = value
        elif name.startswith((f"{short}_l1.", f"{short}_l2.")):
            which = "first" if "_l1." in name else "second"
            found[f"projection.{which}.{name.split('.', 1)[1]}"] = value
        elif not name.startswith(copy):
            found[f"image_encoder.{name}"] = value
    return found


def _refuse_other(state: Mapping[str, Tensor], name: str, alias: str, path: Path) -> None:
    if alias not in state or not torch.equal(state[name], state[alias]):
        what = "is missing" if alias not in state else f"is not what '{name}' is"
        raise WeightsError(f"{path}: '{alias}', a second name of one tensor, {what}: the file is damaged or of another program")


def _without_aliases(model: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Tensor], int]:
    """Return the query networks' tensors once each, without what nobody uses; aliases have to be equal."""
    kept: dict[str, Tensor] = {}
    unused = 0
    for name, value in model.items():
        if name.startswith(_UNUSED):
            unused += 1
        elif ".norm." in name and name.split(".")[0].startswith("decoder"):
            _refuse_other(model, f"decoder_norm.{name.split('.')[-1]}", name, path)
        else:
            kept[name] = value
    return kept, unused


def _stacked(ours_name: str, decoders: list[str], heads: list[str], model: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take the decoders and heads that stand for one stack of networks out of `model`; a name that one of them lacks is not taken."""
    found: dict[str, Tensor] = {}
    pairs = (
        [(f"{decoder}.", f"queries.{ours_name}.") for decoder in decoders],
        [(f"{head}.0.", f"queries.{ours_name}.head.") for head in heads],
    )
    for several in pairs:
        first = several[0][0]
        for inner in [name.removeprefix(first) for name in model if name.startswith(first)]:
            names = [f"{start}{inner}" for start, _ in several]
            if all(name in model for name in names):
                found[f"{several[0][1]}{inner}"] = torch.stack([model.pop(name) for name in names])
    return found
