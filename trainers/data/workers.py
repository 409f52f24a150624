"""Threads that draw views side by side: a view is a pure function of its place, so their number changes no byte."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

#: Fewer items than this for each thread cost more to hand out than they gain.
_LEAST = 4
_pool: ThreadPoolExecutor | None = None
_count = 1


def set_workers(count: int) -> None:
    """Draw with this many threads from now on: a job's `resources.cpus`. One draws in the calling thread."""
    global _pool, _count
    if count == _count:
        return
    if _pool is not None:
        _pool.shutdown(wait=True)
    _pool = ThreadPoolExecutor(count, thread_name_prefix="views") if count > 1 else None
    _count = count


def spread(work: Callable[[slice], None], items: int) -> None:
    """Call `work` on slices that cover `items` things, side by side; raise what the first slice that failed raised."""
    parts = min(_count, items // _LEAST)
    if _pool is None or parts < 2:
        work(slice(0, items))
        return
    bounds = [items * index // parts for index in range(parts + 1)]
    waiting = [_pool.submit(work, slice(low, high)) for low, high in pairwise(bounds)]
    failed = [error for one in waiting if (error := one.exception()) is not None]
    if failed:
        raise failed[0]
