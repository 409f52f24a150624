"""Fixtures of the report's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.orchestrator.report.made_run import Made


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Return an empty study in a temporary run root."""
    return Made(tmp_path)
