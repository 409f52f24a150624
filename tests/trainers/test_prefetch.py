"""The next batch from a thread: same order, same exceptions, nothing left running."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from trainers.prefetch import Prefetch


def running() -> list[str]:
    """Return the names of prefetching threads that live."""
    return [thread.name for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("depth", [1, 3])
def test_items_come_in_order(depth: int) -> None:
    with Prefetch(iter(range(20)), depth) as ready:
        assert list(ready) == list(range(20))
    assert running() == []


def test_it_is_ahead_by_its_depth_and_no_further() -> None:
    made: list[int] = []
    ahead = threading.Semaphore(0)

    def source() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            ahead.release()
            yield number

    with Prefetch(source(), depth=1) as ready:
        items = iter(ready)
        assert next(items) == 0
        for _ in range(3):  # Number 0 is taken, 1 lies ready, 2 waits for its place; there it stops.
            assert ahead.acquire(timeout=10)
        assert not ahead.acquire(timeout=0.1)
        assert made == [0, 1, 2]
    assert running() == []
    assert len(made) <= 4


def test_an_exception_comes_where_its_item_would_have_come() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("no second item")

    with Prefetch(source()) as ready:
        items = iter(ready)
        assert next(items) == 1
        with pytest.raises(ValueError, match="no second item"):
            next(items)
    assert running() == []


def test_leaving_early_or_by_an_exception_ends_the_thread() -> None:
    for count in range(4):
        with pytest.raises(KeyError), Prefetch(iter(range(1000))) as ready:
            for number in ready:
                if number == count:
                    raise KeyError(number)
        assert running() == []


def test_leaving_before_the_first_item_ends_the_thread() -> None:
    with Prefetch(iter(range(1000))):
        pass
    assert running() == []
