"""Checkpoints of BenchmarkTransformersSegmentation: a Swin under `backbone.`, and its UPerNet under `PPN.`, `FPN.` and `head.`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from trainers.errors import WeightsError
from trainers.released.formats import unwrapped
from trainers.weights import KeyReport, load_matching, read

_DECODER = ("PPN.", "FPN.", "head.")
_HEAD = "head."
#: One convolution that all levels share, which a state dict lists under a name for each.
_SHARED = "FPN.smooth_conv."


def start_decoder(decoder: nn.Module, path: Path) -> KeyReport:
    """Give the published decoder that of a file, every key accounted for.

    A head for another number of structures is declared: the file's is dropped, and the decoder's is left as built. Raises WeightsError for
    any other key or shape, and for a shared convolution that is not the same under all its names.
    """
    state = {name: value for name, value in unwrapped(read(path)).items() if name.startswith(_DECODER)}
    _refuse_unshared(state, path)
    own = decoder.state_dict()
    other = [name for name, value in state.items() if name.startswith(_HEAD) and name in own and own[name].shape != value.shape]
    patterns = (f"{_HEAD}*",) if other else ()
    kept = {name: value for name, value in state.items() if not (other and name.startswith(_HEAD))}
    report = load_matching(decoder, kept, allowed_missing=patterns, what=str(path), target="decoder 'upernet_published'")
    dropped = tuple(name for name in state if name not in kept)
    owners = {"head of another number of structures": len(dropped)} if dropped else {}
    return KeyReport(source=report.source, kind="upernet", loaded=report.loaded, dropped=dropped, owners=owners, missing=report.missing)


def _refuse_unshared(state: dict[str, Tensor], path: Path) -> None:
    for leaf in ("weight", "bias"):
        same = [value for name, value in state.items() if name.startswith(_SHARED) and name.endswith(f".{leaf}")]
        if any(not torch.equal(one, same[0]) for one in same):
            raise WeightsError(
                f"{path}: {_SHARED}*.{leaf} is one convolution under several names, and here they differ: it is of another decoder"
            )
