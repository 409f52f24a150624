"""Which layouts made data can be written in: a module of `layouts` each; a card names its own by its reader, or by `made.layout`."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from trainers.errors import DataError

#: The layout that was first, and stands in no fingerprint.
CHEXPERT = "chexpert"
_LAYOUTS = f"{__name__.rpartition('.')[0]}.layouts"


def has_layout(name: str) -> bool:
    """Tell whether made data can be written in a layout."""
    return name.isidentifier() and importlib.util.find_spec(f"{_LAYOUTS}.{name}") is not None


def layout_named(name: str) -> ModuleType:
    """Return the module of a layout: `write(folder, parameters)` returns how many images were written, and the label files.

    Raises DataError when there is none.
    """
    if not has_layout(name):
        raise DataError(f"made data cannot be written in a layout '{name}': there is no module {_LAYOUTS}.{name}")
    return importlib.import_module(f"{_LAYOUTS}.{name}")
