"""Fixtures of the data tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainers.data.layouts import write_chexpert


@pytest.fixture
def chexpert(tmp_path: Path) -> Path:
    """Return the root of a small data set in CheXpert's layout."""
    return write_chexpert(tmp_path / "CheXpert-v1.0-small")
