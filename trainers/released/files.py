"""A weights file, opened: its tensors under their names, and the plain values beside them. Nothing in a file is ever executed."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from trainers.errors import WeightsError
from trainers.released import jax_vit
from trainers.released.published import SEVERAL

State = dict[str, Tensor]

SAFETENSORS, ZIPPED, PICKLED, ARRAYS = "safetensors", "torch (zip)", "torch (before 1.6)", "NumPy (npz of JAX)"
#: Where a checkpoint file keeps its state dict, the first that is there.
_ENTRIES = ("state_dict", "model", "model_state", "model_state_dict")
#: How torch's archives and pickles begin: of any other bytes the unpickler says what it says of forbidden objects.
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_ZIP = b"PK"
_FORBIDDEN = re.compile(r"Unsupported (?:global: GLOBAL|class) ([\w.]+)")
#: Numbers of NumPy, which training code writes as metrics beside its weights: values, not code. Files name them by NumPy 1 and 2.
_SCALAR: Any = np._core.multiarray.scalar  # type: ignore[attr-defined]
_NUMBERS: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")),
]
#: Settings of command lines and of yacs, which training code writes beside its weights. They become plain dicts; neither class is built.
_SETTINGS: list[Any] = [(OrderedDict, "argparse.Namespace"), (OrderedDict, "yacs.config.CfgNode")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What a weights file holds."""

    path: Path
    container: str
    state: State
    #: The entries of the file that hold its state dicts; none when the file is one. Of several, names begin with the entry.
    entries: tuple[str, ...] = ()
    #: Plain values beside the state dict, by name.
    beside: Mapping[str, Any] = field(default_factory=dict)
    #: Names inside the state dict that hold no tensor.
    without_tensor: tuple[str, ...] = ()


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_weights(path: Path) -> Opened:
    """Open a weights file, recognised by its content and not by its name. Raises WeightsError when it is none, or is damaged."""
    try:
        with path.open("rb") as file:
            beginning = file.read(9)
    except FileNotFoundError:
        raise WeightsError(f"{path}: there is no such weights file; correct the path") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); name a weights file") from None
    if beginning[:2] == _ZIP and _holds_arrays(path):
        return _of_arrays(path)
    if beginning[:2] == _ZIP or beginning[:2] in _PICKLES:
        return _of_torch(path, ZIPPED if beginning[:2] == _ZIP else PICKLED)
    if beginning[8:] == b"{":
        return _of_safetensors(path)
    raise _damaged(path)


def _of_safetensors(path: Path) -> Opened:
    content = path.read_bytes()
    try:
        state = load_safetensors(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    # Damaged bytes fail in whatever place they reach.
    except Exception:
        raise _damaged(path) from None
    if not state:
        raise _empty(path)
    # `format` says that tensors are torch's, which is known here.
    beside = {name: value for name, value in metadata.items() if name != "format"}
    return Opened(path=path, container=SAFETENSORS, state=state, beside=beside)


def _of_torch(path: Path, container: str) -> Opened:
    try:
        # A file and not its name, of which torch would take `.safetensors` for more than the content says.
        with path.open("rb") as file, warnings.catch_warnings(), torch.serialization.safe_globals([*_NUMBERS, *_SETTINGS]):
            warnings.simplefilter("ignore")
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, str(error)) from None
    except MemoryError:
        raise
    # Damaged bytes fail in whatever place they reach: struct.error, EOFError, KeyError, RuntimeError and others.
    except Exception:
        raise _damaged(path) from None
    if not isinstance(loaded, Mapping):
        raise _empty(path)
    entries = _entries(loaded)
    inner: Mapping[Any, Any] = loaded
    if len(entries) == 1 and entries[0] in _ENTRIES:
        inner = loaded[entries[0]]
    elif entries:
        inner = {f"{entry}.{name}": value for entry in entries for name, value in loaded[entry].items()}
    state = {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
    if not state:
        raise _empty(path)
    others = {str(name): value for name, value in inner.items() if not isinstance(value, Tensor)}
    if not entries:
        return Opened(path=path, container=container, state=state, beside=others)
    beside = {str(name): value for name, value in loaded.items() if name not in entries}
    return Opened(path=path, container=container, state=state, entries=entries, beside=beside, without_tensor=tuple(others))


def _of_arrays(path: Path) -> Opened:
    """Open a ViT that JAX code wrote, its arrays as timm's tensors; arrays of objects, which are pickles, are refused."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = archive.files
            arrays = {name: archive[name] for name in names} if jax_vit.SIGN in names else {}
    except MemoryError:
        raise
    # Damaged bytes fail in whatever place they reach.
    except Exception:
        raise _damaged(path) from None
    strange = [name for name, value in arrays.items() if not np.issubdtype(value.dtype, np.floating)]
    if not arrays or strange:
        what = f"an array of {arrays[strange[0]].dtype} ({strange[0]})" if strange else f"no '{jax_vit.SIGN}'"
        raise WeightsError(
            f"{path}: an archive of NumPy with {what}; of these, ViTs of google-research/vision_transformer are read: take timm's file"
        )
    return Opened(path=path, container=ARRAYS, state=jax_vit.translated(arrays))


def _entries(loaded: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return which entries of a file are state dicts: those of a method that writes several, else the first that is known."""
    for group in SEVERAL:
        if _is_state(loaded.get(group[0])):
            return tuple(entry for entry in group if _is_state(loaded.get(entry)))
    return next(((name,) for name in _ENTRIES if isinstance(loaded.get(name), Mapping)), ())


def _is_state(value: object) -> bool:
    return isinstance(value, Mapping) and any(isinstance(one, Tensor) for one in value.values())


def _refused(path: Path, said: str) -> WeightsError:
    """Say why the unpickler, which builds tensors and plain values alone, stopped."""
    found = _FORBIDDEN.search(said)
    if found is not None:
        return WeightsError(
            f"{path}: holds Python objects ({found[1]}), which are not loaded, because a file that builds objects can run code; "
            "where you trust it, save its state_dict alone with torch.save(model.state_dict(), ...) and give that file"
        )
    if "Unsupported operand" in said:
        return WeightsError(
            f"{path}: is damaged, or a pickle that torch.save did not write; fetch it again, or save it with torch.save(state_dict, ...)"
        )
    return _damaged(path)


def _damaged(path: Path) -> WeightsError:
    return WeightsError(f"{path}: cannot be read as weights (damaged, or another format); fetch or write the file again")


def _holds_arrays(path: Path) -> bool:
    """Tell an archive of NumPy (`.npz`)."""
    try:
        with zipfile.ZipFile(path) as archive:
            return bool(names := archive.namelist()) and all(name.endswith(".npy") for name in names)
    # Damaged archives fail in their own ways.
    except Exception:
        return False


def _empty(path: Path) -> WeightsError:
    return WeightsError(f"{path}: holds no state dict; save one with torch.save(model.state_dict(), ...)")
