"""The next batch, made by one background thread while the model works on this one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Prefetch(Generic[Item]):
    """Iterate over what another iterable gives, `depth` items ahead, in the same order.

    Use it as a context manager: leaving it ends the thread, whatever was the reason. An exception of the source is raised where its item
    would have come. Only for sources that are pure: a thread shares the process's global generators with the step that runs beside it.
    """

    def __init__(self, source: Iterable[Item], depth: int = 1) -> None:
        self._source = source
        self._ready: queue.Queue[tuple[str, Item | BaseException | None]] = queue.Queue(maxsize=depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)

    def __enter__(self) -> Prefetch[Item]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closed.set()
        # The thread may wait for a place in the queue: make one.
        while self._thread.is_alive():
            try:
                self._ready.get(timeout=0.05)
            except queue.Empty:
                continue
        self._thread.join()

    def __iter__(self) -> Iterator[Item]:
        while True:
            kind, value = self._ready.get()
            if kind == "end":
                return
            if kind == "error":
                assert isinstance(value, BaseException)
                raise value
            yield value  # pyright: ignore[reportReturnType]

    def _work(self) -> None:
        try:
            for item in self._source:
                self._ready.put(("item", item))
                if self._closed.is_set():
                    return
        except BaseException as error:
            self._ready.put(("error", error))
        else:
            self._ready.put(("end", None))
