"""Machine code is kept where something may be written, and its absence is never an error."""

from __future__ import annotations

import errno
import importlib
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from orchestrator.report.stats import bootstrap

pytestmark = pytest.mark.needs("numba")


def double(value: int) -> int:
    """Return twice a number: something small to compile."""
    return 2 * value


@pytest.fixture
def compiled() -> Any:
    """Return the compiled kernels; they are imported when a test runs, not when it is found."""
    return importlib.import_module("orchestrator.report.stats.compiled")


@pytest.fixture
def caching() -> Any:
    """Return what keeps numba's machine code."""
    return importlib.import_module("numba.core.caching")


def test_both_know_the_same_width_of_a_tile(compiled: Any) -> None:
    assert compiled.LANES == bootstrap.LANES


def test_where_nothing_may_be_written_it_is_compiled_for_one_process(compiled: Any, caching: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator"):
        compiled.numba.njit(cache=True)(double)
    assert compiled.compiled(compiled.types.int64, compiled.types.int64)(double)(21) == 42


def test_a_full_disk_is_no_error(compiled: Any, caching: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", full)
    assert compiled.compiled(compiled.types.int64, compiled.types.int64)(double)(4) == 8


def test_what_one_process_compiled_the_next_one_reads(compiled: Any, tmp_path: Path) -> None:
    (tmp_path / "kept.py").write_text("def triple(value):\n    return 3 * value\n", encoding="utf-8")
    hits: list[int] = []
    for name in ("first", "second"):
        spec = importlib.util.spec_from_file_location(name, tmp_path / "kept.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        triple: Any = compiled.compiled(compiled.types.int64, compiled.types.int64)(module.triple)
        assert triple(5) == 15
        hits.append(sum(triple.stats.cache_hits.values()))
    assert hits == [0, 1]
    assert list((tmp_path / "__pycache__").glob("*.nbc"))
