"""As `node/sitecustomize.py`, which comes after this one in the path, and without numpy: submitit can do without, and starts faster."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

sys.modules["numpy"] = None  # type: ignore[assignment]
runpy.run_path(str(Path(__file__).parents[1] / "node" / "sitecustomize.py"))
