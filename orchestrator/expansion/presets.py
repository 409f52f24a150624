"""Presets: what a name that a phase gives, or that an axis goes through, sets below the phase's own config."""

from __future__ import annotations

from collections.abc import Mapping

from jobs.catalog import Declaration
from jobs.spec import Json
from orchestrator.expansion.forms import form_of
from orchestrator.model import Phase

_EPOCH = "epoch:"
#: Config key of how many checkpoints are kept by the pick's metric.
RETENTION = "keep_best"


def preset_values(declaration: Declaration, name: str) -> dict[str, Json]:
    """Return what a preset of a trainer sets, in the form in which configs are hashed. Raises KeyError for a name it does not have."""
    form = form_of(declaration.config)
    return {key: form.canonical(key, value) for key, (value, _) in declaration.presets[name].items()}


def laid_below(declaration: Declaration, phase: Phase, name: str) -> dict[str, Json]:
    """Return what a preset sets in a phase: nothing that the phase's config says itself."""
    values = preset_values(declaration, name)
    if phase.hand_on.startswith(_EPOCH):
        # An epoch that is handed on by its number has to be kept, whatever a preset keeps.
        values.pop(RETENTION, None)
    return {key: value for key, value in values.items() if key not in phase.config}


def beside_own(declaration: Declaration, phase: Phase) -> Mapping[str, Json]:
    """Return what the preset that stands beside a phase's trainer sets; nothing without one."""
    return {} if phase.preset is None else laid_below(declaration, phase, phase.preset)
