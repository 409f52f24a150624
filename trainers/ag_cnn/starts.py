"""What the branches of an AG-CNN start from: a pretrained network, each other, or what the stages before hand on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainers.ag_cnn import released
from trainers.ag_cnn.config import NAME, Config
from trainers.ag_cnn.network import FUSION, GLOBAL, LOCAL, AgCnn
from trainers.api import Parent, Setup
from trainers.errors import Error, WeightsError
from trainers.weights import load_matching, read
from trainers.weights_sources import RANDOM

_LOG = logging.getLogger(__name__)
#: What a branch must share with the stage that it comes from, and what a local branch must besides, or it sees other images there.
_ALIKE = ("arch", "channels", "px", "pooling", "lse_r", "normalization", "no_finding", "contrast", "contrast_factor", "labels")
_PATCHES = ("patch_px", "patch")
_WANTED: Mapping[str, str] = {
    LOCAL: "config.branch: local looks where a trained global branch does: write `after: {global: <its phase>}`",
    FUSION: "config.branch: fusion joins two trained branches: write `after: {global: <its phase>, local: <its phase>}`",
}


def start(module: AgCnn, setup: Setup, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Give every part its start and return the branches that a parent handed on. Raises Error or WeightsError when they do not fit."""
    config: Config = setup.config
    handed = _states(setup)
    for role, state in handed.items():
        _take(module, GLOBAL, state, role, setup.parents[role])
    if LOCAL in handed:
        _take(module, LOCAL, handed[LOCAL], LOCAL, setup.parents[LOCAL])
        module.attention.copy_(handed[LOCAL]["attention"])
    taken = tuple(name for name, there in ((GLOBAL, bool(handed)), (LOCAL, LOCAL in handed)) if there)
    for name in module.parts[:2]:
        if name in taken:
            continue
        if name == LOCAL and config.local_init == GLOBAL:
            module.branch(LOCAL).load_state_dict(module.branch(GLOBAL).state_dict())
            continue
        key = "init_local" if name == LOCAL and config.init_local != RANDOM else "init"
        if said := released.start(module.branch(name), setup, key, labels):
            _LOG.info("%s branch: %s", name, said)
    if FUSION in module.parts and config.init_fusion != RANDOM and (path := released.file_of(setup, "init_fusion")) is not None:
        layer = module.get_submodule(FUSION)
        assert isinstance(layer, nn.Linear)
        _LOG.info("%s", released.start_fusion(layer, path, labels))
    return taken


def _states(setup: Setup) -> dict[str, Mapping[str, Tensor]]:
    """Return what parents hand on, by role; of two that both have the global branch it is one and the same."""
    config: Config = setup.config
    roles = [role for role in (GLOBAL, LOCAL) if role in setup.parents]
    if config.branch == GLOBAL and roles:
        raise Error(f"config.branch: global is the first stage and takes no parent '{roles[0]}': name a pretrained network by `init`")
    if (config.branch == LOCAL and roles != [GLOBAL]) or (config.branch == FUSION and LOCAL not in roles):
        raise Error(_WANTED[config.branch])
    states = {role: _state(setup.parents[role], role) for role in roles}
    if len(states) == 2:
        one, other = ({k: v for k, v in states[role].items() if k.startswith(f"{GLOBAL}.")} for role in roles)
        if one.keys() != other.keys() or not all(torch.equal(one[name], other[name]) for name in one):
            raise WeightsError(
                "the local branch was trained on another global branch than the parent 'global' hands on: name the phase that it follows, "
                "or leave `global` out, as the parent 'local' has it too"
            )
    return states


def _state(parent: Parent, role: str) -> Mapping[str, Tensor]:
    if parent.trainer != NAME:
        raise WeightsError(f"the parent '{role}' is a phase of {parent.trainer}, and must be one of {NAME}; a pretrained network is `init`")
    if len(parent.files) != 1:
        raise WeightsError(
            f"the parent '{role}' hands on {len(parent.files)} checkpoints, and a start is one: set pick.checkpoints to best"
        )
    return read(parent.files[0])


def _take(module: AgCnn, name: str, state: Mapping[str, Tensor], role: str, parent: Parent) -> None:
    """Load a branch whole. Raises Error naming a key of the config where the parent saw other images or has another network."""
    for key in (*_ALIKE, *(_PATCHES if role == LOCAL else ())):
        theirs, ours = parent.config.get(key), getattr(module.config, key)
        if theirs is not None and _plain(theirs) != _plain(ours):
            raise Error(f"config.{key}: the parent '{role}' has {theirs}, this job {ours}: set {key}: {theirs}")
    own = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
    if not own:
        raise WeightsError(f"the parent '{role}' has no {name} branch: its branch is {parent.config.get('branch')}")
    load_matching(module.branch(name), own, what=f"the {name} branch of the parent '{role}'", target=f"arch '{module.config.arch}'")


def _plain(value: Any) -> Any:
    """Return a value as it compares: files have lists where a config may have tuples."""
    return tuple(value) if isinstance(value, list | tuple) else value
