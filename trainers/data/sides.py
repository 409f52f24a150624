"""How large images are before a view is cut out of them; standard library only, for what prepares them."""

from __future__ import annotations

import math


def side_of(px: int, crop_pct: float) -> int:
    """Return the short side that images are brought to for views of `px`, as timm's `crop_pct` says: 256 for 224 at 0.875."""
    return math.floor(px / crop_pct + 1e-9)
