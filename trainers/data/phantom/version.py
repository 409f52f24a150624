"""The version of the generator, which stands in every fingerprint of made data."""

from __future__ import annotations

#: Raised whenever any made image or label changes; a change needs a decision record with all arms before and after.
VERSION = 1
