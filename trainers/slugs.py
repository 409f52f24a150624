"""Names as they stand in a metric. Standard library only: what chooses on metrics needs no numpy."""

from __future__ import annotations

import re


def slug(name: str) -> str:
    """Return a name as it stands in a metric: lower case, everything but letters and digits an underscore."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def auroc_of(label: str) -> str:
    """Return the name of the validation metric of one label."""
    return f"val/auroc/{slug(label)}"
